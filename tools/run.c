// SPDX-License-Identifier: Apache-2.0
// graft run: opens the model, then one answer on standard output, or the conversation of chat.c.
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"
#include "tools/line.h"
#include "tools/tool.h"

// What the signal handler may touch: the chat that answers now, and whether it was told to stop already.
static struct graft_chat *volatile answering;
static volatile sig_atomic_t stopped;

static void on_interrupt(void)
{
    struct graft_chat *chat = answering;
    if (!chat || stopped) {
        line_restore_terminal();
        system_end_now(EXIT_INTERRUPTED);
    }
    stopped = 1;
    graft_chat_cancel(chat);
}

// A seed short enough to be typed again with -s.
static uint64_t fresh_seed(void)
{
    uint32_t seed = 0;
    if (!system_random(&seed) || seed == 0) {
        seed = (uint32_t)graft_clock_ns() | 1u;
    }
    return seed;
}

// "15+1.5", "15-inf": a token's id and what is added to its logit.
static bool parse_bias(const char *text, struct graft_logit_bias *out)
{
    char *end;
    long id = strtol(text, &end, 10);
    if (end == text || (*end != '+' && *end != '-') || id < 0 || id > INT32_MAX) {
        return false;
    }
    const char *number = end;
    out->id = (int32_t)id;
    out->bias = strtof(number, &end);
    return end != number && *end == 0;
}

static int biases_check(const struct options *o)
{
    struct graft_logit_bias bias;
    for (uint32_t i = 0; i < o->logit_biases.count; i++) {
        if (!parse_bias(o->logit_biases.values[i], &bias)) {
            return error_usage("--logit-bias wants a token's id and what is added to its logit", o->logit_biases.values[i],
                               "--logit-bias 15+1.5 --logit-bias 7-inf");
        }
    }
    return EXIT_GOOD;
}

// The library's zero means default, the command's zero is a value: off, or greedy for the temperature.
struct graft_sampling sampling_from(const struct options *o)
{
    static struct graft_logit_bias biases[OPTION_TEXTS_ITEMS]; // the library copies them
    uint32_t n_biases = 0;
    while (n_biases < o->logit_biases.count && parse_bias(o->logit_biases.values[n_biases], &biases[n_biases])) {
        n_biases++;
    }
    return (struct graft_sampling){
        .size = sizeof(struct graft_sampling),
        .temperature = o->temp <= 0 ? -1.0f : (float)o->temp,
        .top_k = o->top_k == 0 ? UINT32_MAX : (uint32_t)o->top_k,
        .top_p = o->top_p <= 0 ? 1e-6f : (float)o->top_p,
        .min_p = o->min_p <= 0 ? -1.0f : (float)o->min_p,
        .repeat_penalty = (float)o->repeat_penalty,
        .presence_penalty = (float)o->presence_penalty,
        .frequency_penalty = (float)o->frequency_penalty,
        .penalty_window = (uint32_t)o->penalty_window,
        .typical_p = (float)o->typical_p,
        .top_n_sigma = (float)o->top_n_sigma,
        .xtc_probability = (float)o->xtc_probability,
        .xtc_threshold = (float)o->xtc_threshold,
        .dry_multiplier = (float)o->dry_multiplier,
        .dry_base = (float)o->dry_base,
        .dry_allowed_length = (uint32_t)o->dry_allowed_length,
        .dry_window = (uint32_t)o->dry_window,
        .mirostat = (uint32_t)o->mirostat,
        .mirostat_tau = (float)o->mirostat_tau,
        .mirostat_eta = (float)o->mirostat_eta,
        .biases = biases,
        .n_biases = n_biases,
        .seed = o->seed <= 0 ? fresh_seed() : (uint64_t)o->seed,
    };
}

enum graft_status talk_start(struct talk *talk)
{
    const struct options *o = &talk->options;
    talk->sampling = sampling_from(o);
    struct graft_chat_params params = {
        .size = sizeof params,
        .system = talk->system,
        .context_shift = talk->options.context_shift,
        .template_text = talk->template_text,
        .sampling = talk->sampling,
        .max_tokens = o->predict <= 0 ? 0 : (uint32_t)o->predict,
        .raw = o->raw,
        .no_speculation = o->draft_max == 0,
        .draft_tokens = (uint32_t)o->draft_max,
    };
    if (talk->chat) {
        graft_chat_destroy(&talk->chat);
    }
    enum graft_status status = graft_chat_create(talk->session.model, &talk->chat, &params);
    if (status == GRAFT_OK && talk->grammar) {
        status = graft_chat_set_grammar(talk->chat, talk->grammar);
    }
    if (status == GRAFT_OK && talk->session.n_adapters) {
        struct graft_adapter_use uses[GRAFT_MAX_BLEND];
        uint32_t n = session_blend(&talk->session, uses);
        status = graft_chat_set_adapters(talk->chat, uses, n);
    }
    return status;
}

// Write the answer to standard output as it comes, or only keep it when there is a place to.
static enum graft_status talk_answer(struct talk *talk, struct text *keep, bool *interrupted)
{
    size_t capacity = 0;
    enum graft_status status = GRAFT_OK;
    for (bool done = false; !done && status == GRAFT_OK;) {
        const char *piece = NULL;
        size_t length = 0;
        status = graft_chat_next(talk->chat, &piece, &length, &done);
        if (status != GRAFT_OK || length == 0) {
            continue;
        }
        if (keep) {
            if (keep->length + length + 1 > capacity) {
                capacity = 2 * (keep->length + length + 1);
                keep->data = grow_memory(keep->data, capacity, 1);
            }
            memcpy(keep->data + keep->length, piece, length);
            keep->length += length;
            keep->data[keep->length] = 0;
        } else if (fwrite(piece, 1, length, stdout) != length || fflush(stdout) != 0) {
            return graft_chat_cancel(talk->chat), GRAFT_E_IO;
        }
    }
    *interrupted = status == GRAFT_E_CANCELLED || stopped;
    return status == GRAFT_E_CANCELLED ? GRAFT_OK : status;
}

// Ask, then answer; the interrupt key stops both.
enum graft_status talk_ask(struct talk *talk, const struct text *prompt, struct text *keep, bool *interrupted)
{
    stopped = 0;
    answering = talk->chat;
    enum graft_status status = graft_chat_send(talk->chat, prompt->data, prompt->length);
    if (status == GRAFT_OK) {
        status = talk_answer(talk, keep, interrupted);
    } else if (status == GRAFT_E_CANCELLED) {
        *interrupted = true;
        status = GRAFT_OK;
    }
    answering = NULL;
    return status;
}

enum graft_status talk_again(struct talk *talk, bool *interrupted)
{
    stopped = 0;
    answering = talk->chat;
    enum graft_status status = graft_chat_retry(talk->chat);
    if (status == GRAFT_OK) {
        status = talk_answer(talk, NULL, interrupted);
    }
    answering = NULL;
    return status;
}

static double per_second(uint64_t count, uint64_t ns)
{
    return ns ? (double)count * 1e9 / (double)ns : 0;
}

void talk_stats(const struct talk *talk, FILE *stream)
{
    struct graft_chat_stats s;
    struct graft_memory_use use;
    graft_chat_last_stats(talk->chat, &s);
    graft_ctx_memory(talk->session.ctx, &use);
    fprintf(stream, "prompt %" PRIu32 " tokens (%" PRIu32 " reused), %.1f tokens/s; answer %" PRIu32 " tokens, %.1f tokens/s\n",
            s.prompt_tokens, s.reused_tokens, per_second(s.prompt_tokens, s.prompt_ns), s.answer_tokens,
            per_second(s.answer_tokens, s.answer_ns));
    if (s.draft_tokens) {
        fprintf(stream, "guessed %" PRIu32 " tokens, of which %" PRIu32 " (%.0f %%) came true\n", s.draft_tokens,
                s.accepted_tokens, 100.0 * s.accepted_tokens / s.draft_tokens);
    }
    fprintf(stream,
            "first token %.2f s after the question; model opened in %.2f s; context %" PRIu32 " of %" PRIu32 "; seed %" PRIu64
            "\n",
            (double)s.first_token_ns * 1e-9, talk->load_seconds, s.context_used, s.context_size, s.seed);
    fprintf(stream, "memory %s, at most %s", bytes_text(use.used_bytes).text, bytes_text(use.peak_bytes).text);
    if (use.budget_bytes) {
        fprintf(stream, " of %s allowed", bytes_text(use.budget_bytes).text);
    }
    fprintf(stream, "; %s (%s)\n", talk->session.device_info.name, device_kind_name(talk->session.device_info.kind));
}

// The grammar of --grammar or --json-schema.
static int grammar_read(struct talk *talk)
{
    const struct options *o = &talk->options;
    struct text text = {0};
    if (!o->grammar && !o->json_schema) {
        return EXIT_GOOD;
    }
    if (o->grammar && o->json_schema) {
        return error_usage("there are two grammars", "one of --grammar and --json-schema is taken",
                           "graft run --json-schema FILE");
    }
    const char *path = o->grammar ? o->grammar : o->json_schema;
    int code = text_read(path, &text);
    if (code == EXIT_GOOD) {
        struct graft_ctx *ctx = talk->session.ctx;
        enum graft_status status = o->grammar ? graft_grammar_create(ctx, &talk->grammar, text.data, text.length)
                                              : graft_grammar_from_schema(ctx, &talk->grammar, text.data, text.length);
        code = status == GRAFT_OK ? EXIT_GOOD : error_status(status, "the grammar cannot be used");
    }
    text_free(&text);
    return code;
}

static json_t *answer_json(const struct talk *talk, const struct text *answer, bool interrupted)
{
    struct graft_chat_stats s;
    struct graft_memory_use use;
    graft_chat_last_stats(talk->chat, &s);
    graft_ctx_memory(talk->session.ctx, &use);
    return json_pack("{s:o, s:b, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:s, s:o}", "text",
                     json_text(answer->data ? answer->data : "", answer->length), "interrupted", (int)interrupted,
                     "prompt_tokens", (json_int_t)s.prompt_tokens, "reused_tokens", (json_int_t)s.reused_tokens,
                     "answer_tokens", (json_int_t)s.answer_tokens, "draft_tokens", (json_int_t)s.draft_tokens,
                     "accepted_tokens", (json_int_t)s.accepted_tokens, "prompt_tokens_per_second",
                     per_second(s.prompt_tokens, s.prompt_ns), "answer_tokens_per_second",
                     per_second(s.answer_tokens, s.answer_ns), "first_token_seconds", (double)s.first_token_ns * 1e-9,
                     "context_used", (json_int_t)s.context_used, "context_size", (json_int_t)s.context_size, "seed",
                     (json_int_t)s.seed, "device", talk->session.device_info.name, "memory", json_memory(&use));
}

static int answer_once(struct talk *talk, const struct text *prompt)
{
    struct text answer = {0};
    bool interrupted = false;
    const bool json = talk->options.json;
    enum graft_status status = talk_ask(talk, prompt, json ? &answer : NULL, &interrupted);
    int code = EXIT_GOOD;
    if (!json && status != GRAFT_E_IO) {
        putchar('\n');
        fflush(stdout);
    }
    if (status == GRAFT_E_CONTEXT_FULL) {
        struct graft_chat_stats s;
        graft_chat_last_stats(talk->chat, &s);
        if (s.answer_tokens > 0) { // what came so far is an answer, only a shorter one
            note("the answer ends here because the context of %" PRIu32 " tokens is full; a larger one: -c", s.context_size);
            status = GRAFT_OK;
        }
    }
    if (status != GRAFT_OK) {
        code = error_status(status, "the prompt could not be answered");
    } else if (json) {
        code = print_json(answer_json(talk, &answer, interrupted));
    }
    if (status == GRAFT_OK && talk->options.stats && !json) {
        talk_stats(talk, stderr);
    }
    text_free(&answer);
    return code == EXIT_GOOD && interrupted ? EXIT_INTERRUPTED : code;
}

// The prompt of -p, -f, an operand or standard input. *chatting: there is none, and somebody is there to talk to.
static int prompt_read(struct options *o, struct text *out, bool *chatting)
{
    if (o->n_operands > 0 && !o->model) {
        o->model = o->operands[0];
        o->operands++;
        o->n_operands--;
    }
    int given = (o->prompt != NULL) + (o->file != NULL) + o->n_operands;
    if (given > 1) {
        return error_usage("there is more than one prompt", "one of -p, -f and PROMPT is taken",
                           "graft run -m MODEL -p \"one prompt\"");
    }
    const char *text = o->prompt ? o->prompt : o->n_operands ? o->operands[0] : NULL;
    if (text) {
        out->length = strlen(text);
        out->data = get_memory(out->length + 1, 1);
        memcpy(out->data, text, out->length);
        return EXIT_GOOD;
    }
    *chatting = !o->file && !o->json && system_is_terminal(stdin) && system_is_terminal(stdout);
    if (*chatting) {
        return EXIT_GOOD;
    }
    int code = text_read(o->file, out);
    if (code == EXIT_GOOD && !o->raw && out->length > 0 && out->data[out->length - 1] == '\n') {
        out->data[--out->length] = 0; // the line break at a file's end is not part of what is asked
    }
    return code;
}

// --session: go on with what the file holds, if it is there; and write it again.
static int restore_session(struct talk *talk)
{
    const char *path = talk->options.session_file;
    if (!path || !file_exists(path)) {
        return EXIT_GOOD;
    }
    enum graft_status status = graft_chat_restore(talk->chat, path);
    if (status != GRAFT_OK) {
        char what[PATH_BYTES + 64];
        snprintf(what, sizeof what, "session %s cannot be restored", path);
        return error_status(status, what);
    }
    struct graft_chat_stats s;
    graft_chat_last_stats(talk->chat, &s);
    note("%s: a conversation of %" PRIu32 " tokens goes on", path, s.context_used);
    return EXIT_GOOD;
}

static int save_session(struct talk *talk)
{
    const char *path = talk->options.session_file;
    enum graft_status status = path ? graft_chat_save(talk->chat, path) : GRAFT_OK;
    if (status != GRAFT_OK) {
        char what[PATH_BYTES + 64];
        snprintf(what, sizeof what, "session %s cannot be saved", path);
        return error_status(status, what);
    }
    return EXIT_GOOD;
}

int verb_RUN(const struct options *options)
{
    struct talk talk = {.options = *options};
    struct text prompt = {0}, template_text = {0};
    bool chatting = false;
    int code = prompt_read(&talk.options, &prompt, &chatting);
    if (code == EXIT_GOOD && !chatting && prompt.length == 0) {
        code =
            error_usage("there is nothing to answer", "the prompt is empty", "graft run -m MODEL -p \"Why is the sky blue?\"");
    }
    code = code == EXIT_GOOD ? biases_check(options) : code;
    if (code == EXIT_GOOD && options->template_file) {
        code = text_read(options->template_file, &template_text);
        talk.template_text = template_text.data;
    }
    if (code == EXIT_GOOD && options->raw && options->system) {
        note("with --raw there is no template, so the system prompt is not used");
    }
    uint64_t begin = graft_clock_ns();
    if (code == EXIT_GOOD) {
        if (chatting && talk.options.adapters.count && talk.options.n_seq < 2) {
            talk.options.n_seq = 2; // the conversation, and /compare beside it
        }
        code = session_model(&talk.session, &talk.options, NULL);
    }
    code = code == EXIT_GOOD ? grammar_read(&talk) : code;
    talk.load_seconds = (double)(graft_clock_ns() - begin) * 1e-9;
    if (code == EXIT_GOOD) {
        size_t length = options->system ? strlen(options->system) : 0;
        if (options->system) {
            talk.system = get_memory(length + 1, 1);
            memcpy(talk.system, options->system, length);
        }
        enum graft_status status = talk_start(&talk);
        if (status != GRAFT_OK) {
            code = error_status(status, "a conversation cannot be started");
        }
    }
    if (code == EXIT_GOOD) {
        system_on_interrupt(on_interrupt);
        code = restore_session(&talk);
        if (code == EXIT_GOOD) {
            code = chatting ? chat_loop(&talk) : answer_once(&talk, &prompt);
            int saved = save_session(&talk); // also after an answer that failed: what was said before is kept
            code = code == EXIT_GOOD ? saved : code;
        }
    }
    if (talk.chat) {
        graft_chat_destroy(&talk.chat);
    }
    free(talk.system);
    text_free(&template_text);
    text_free(&prompt);
    graft_grammar_destroy(&talk.grammar);
    session_close(&talk.session);
    return code;
}
