// SPDX-License-Identifier: Apache-2.0
// graft/chat.h: sampling, and conversations: messages in, text out.
#ifndef GRAFT_CHAT_H
#define GRAFT_CHAT_H

#include "graft/model.h"

#ifdef __cplusplus
extern "C" {
#endif

// Added to the logit of a token before everything else; -INFINITY forbids it.
struct graft_logit_bias {
    int32_t id;
    float bias;
};

// Zero means default in every field; what the default is stands beside it. Greedy when temperature < 0: then only what changes
// logits counts (biases, penalties, DRY). Probabilities are those of what the step before left.
struct graft_sampling {
    size_t size;             // sizeof(struct graft_sampling)
    float temperature;       // 0 = 0.8; negative = greedy: always the most likely token
    uint32_t top_k;          // 0 = 40; UINT32_MAX = off
    float top_p;             // 0 = 0.95; 1 = off. Nucleus sampling (Holtzman 2020)
    float min_p;             // 0 = 0.05; negative = off
    float repeat_penalty;    // 0 = 1 (off). Logits of recent tokens: divided if positive, multiplied if negative (Keskar 2019)
    float presence_penalty;  // subtracted once from recent tokens; 0 = off
    float frequency_penalty; // subtracted per occurrence; 0 = off
    uint32_t penalty_window; // how many recent tokens count; 0 = 64
    uint64_t seed;           // 0 = a new one each time

    // Locally typical sampling (Meister 2022): the tokens of a surprise nearest to the entropy that sum to typical_p.
    float typical_p; // 0 = 1 (off)
    // Logits below max - n standard deviations are dropped (Tang 2024), over all of the vocabulary.
    float top_n_sigma; // 0 = off
    // Exclude top choices (p-e-w 2024): with this probability all tokens of xtc_threshold or more but the least likely of them.
    float xtc_probability; // 0 = off
    float xtc_threshold;   // 0 = 0.1

    // "Don't repeat yourself" (p-e-w 2024): a token that would continue a repetition of n tokens loses
    // multiplier * base^(n - allowed_length) if n >= allowed_length.
    float dry_multiplier;        // 0 = off
    float dry_base;              // 0 = 1.75
    uint32_t dry_allowed_length; // 0 = 2
    uint32_t dry_window;         // how many recent tokens are looked at; 0 = 1024
    const int32_t *dry_breakers; // tokens no repetition goes across, copied; NULL in a chat: those with a line end : " or *
    uint32_t n_dry_breakers;

    // Mirostat (Basu 2021) replaces all filters: the surprise of what is drawn is steered towards tau bits.
    uint32_t mirostat;  // 0 = off; 1, 2: the versions
    float mirostat_tau; // 0 = 5
    float mirostat_eta; // learning rate; 0 = 0.1

    const struct graft_logit_bias *biases; // copied
    uint32_t n_biases;
};

struct graft_sampler;
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_sampler_create(struct graft_ctx *ctx, struct graft_sampler **out,
                                                                  const struct graft_sampling *sampling, uint32_t n_vocab);
GRAFT_API void graft_sampler_destroy(struct graft_sampler **sampler);
// True if the settings need the whole logit row instead of 64 candidates: biases, penalties and DRY can lift or push any token,
// top-n-sigma and mirostat are about all of them, and top-k may be larger. Typical, top-p, min-p and XTC see what top-k leaves.
GRAFT_API bool graft_sampler_wants_logits(const struct graft_sampler *sampler);
// Choose from candidates sorted by logit downwards (all of the vocabulary's when graft_sampler_wants_logits). Order: biases,
// penalties, DRY; top-n-sigma, top-k, typical, top-p, min-p, XTC; temperature, draw - or, with mirostat, temperature, mirostat,
// draw. The array is used as scratch. Deterministic for a seed. Errors: GRAFT_E_ARGUMENT (none), GRAFT_E_NOT_FINITE (NaN
// or +infinity; -infinity is a token that never comes).
GRAFT_MUST_CHECK GRAFT_API enum graft_status
graft_sampler_choose(struct graft_sampler *sampler, struct graft_candidate *candidates, uint32_t count, int32_t *out);
// Tell the sampler a token was taken (or is part of the prompt), for the penalties and DRY.
GRAFT_API void graft_sampler_accept(struct graft_sampler *sampler, int32_t token);
// The seed in use.
GRAFT_API uint64_t graft_sampler_seed(const struct graft_sampler *sampler);

struct graft_chat_params {
    size_t size;                    // sizeof(struct graft_chat_params)
    const char *system;             // system prompt; NULL = what the template does without one
    const char *template_text;      // another chat template than the file's; NULL = the file's
    struct graft_sampling sampling; // sampling.size may stay 0 here: the fields count all the same
    uint32_t max_tokens;            // of one answer; 0 = until the context is full
    bool raw;                       // no template: text goes in as it is, special tokens in it are tokens
    // Prompt lookup as in graft/engine.h: tokens are guessed from the conversation's own text; answers are those without.
    bool no_speculation;   // never guess
    uint32_t draft_tokens; // most guesses at a time; 0 = 10, at most 16
    // When the context is full: go on, without the oldest half of what stands behind the system prompt (graft_seq_shift), and
    // leave the oldest questions and answers out of the next prompt, down to half the context, if the conversation has outgrown
    // it. graft_chat_history has them all the same. raw: the first page of 32 tokens is kept. An answer then ends only by
    // itself or by max_tokens, and graft_chat_next takes memory when it shifts.
    bool context_shift;
};

struct graft_chat;
// A conversation on a sequence of its own. Errors: GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_UNSUPPORTED (no chat template and not
// raw).
// Thread-safety: one thread at a time, except graft_chat_cancel.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_create(struct graft_model *model, struct graft_chat **out,
                                                               const struct graft_chat_params *params);
GRAFT_API void graft_chat_destroy(struct graft_chat **chat);

// Add a user's message and compute its prompt (what is already in the KV cache is reused). Errors: GRAFT_E_CONTEXT_FULL (the
// message is not kept), GRAFT_E_CANCELLED, those of graft_decode.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_send(struct graft_chat *chat, const char *text, size_t length);
// The next piece of the answer: whole UTF-8 characters, no NUL inside; *length 0 with *done true at the end. The piece is valid
// until the next call.
// Errors: GRAFT_E_CONTEXT_FULL (the answer so far is kept), GRAFT_E_CANCELLED, those of graft_decode. Allocates nothing.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_next(struct graft_chat *chat, const char **piece, size_t *length,
                                                             bool *done);
// Stop the answer within one token (from any thread, also from a signal handler).
GRAFT_API void graft_chat_cancel(struct graft_chat *chat);
// Forget all messages; the system prompt stays.
GRAFT_API void graft_chat_clear(struct graft_chat *chat);
// Take back the last answer and its question / only the answer, so that graft_chat_retry can make another.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_undo(struct graft_chat *chat);
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_retry(struct graft_chat *chat);
// Change sampling from the next answer on.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_set_sampling(struct graft_chat *chat,
                                                                     const struct graft_sampling *sampling);
// All messages as a JSON array of {role, content}, NUL-terminated; valid until the next call with this chat.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_history(struct graft_chat *chat, const char **json);

// Save the conversation with its cache, or go on with one that was saved: messages, tokens, keys and values, the state of the
// random generator. An answer that is still going on counts as ended. Sampling, grammar and max_tokens are those of the chat,
// not of the file; adapters must be set before, the same ones with the same weights. Errors: as graft_seq_save and
// graft_seq_restore; GRAFT_E_ARGUMENT (the one is raw, the other is not). After a failed restore the conversation is as before
// (its cache may have to be computed again).
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_save(struct graft_chat *chat, const char *path);
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_restore(struct graft_chat *chat, const char *path);

struct graft_chat_stats {
    uint32_t prompt_tokens;   // computed for the last message
    uint32_t reused_tokens;   // of its prompt that were in the KV cache already
    uint32_t answer_tokens;   // of the last answer so far
    uint64_t prompt_ns;       // time of prompt computation
    uint64_t answer_ns;       // time of generation
    uint64_t first_token_ns;  // from graft_chat_send to the first token
    uint32_t context_used, context_size;
    uint64_t seed;
    uint32_t recomputed_tokens; // of prompt_tokens: had been computed before the adapters were changed
    uint32_t draft_tokens, accepted_tokens; // guesses that were computed for the answer; those that came true
};
GRAFT_API void graft_chat_last_stats(const struct graft_chat *chat, struct graft_chat_stats *out);

#ifdef __cplusplus
}
#endif
#endif
