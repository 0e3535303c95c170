// SPDX-License-Identifier: Apache-2.0
// Vocabularies: text to token ids and back. Byte-level BPE (GPT-2 family), SentencePiece BPE with byte fallback (Llama family),
// Unigram (T5) and WordPiece (BERT).
#ifndef GRAFT_RUNTIME_TEXT_VOCAB_H
#define GRAFT_RUNTIME_TEXT_VOCAB_H

#include "loaders/gguf.h"

enum { GRAFT_NO_TOKEN = -1 };

struct graft_vocab;

// Read tokenizer.ggml.* of a file. Refuses an unknown tokenizer.ggml.model or tokenizer.ggml.pre by name (listing what is
// supported), merges that name unknown tokens, token_type or scores arrays shorter than tokens, NaN scores, BOS/EOS out of
// range, no tokens.
// Everything is copied: the file may be closed afterwards. Memory: class HOST.
GRAFT_MUST_CHECK enum graft_status graft_vocab_create(struct graft_ctx *ctx, struct graft_vocab **out,
                                                      const struct graft_gguf *gguf);
void graft_vocab_destroy(struct graft_vocab **vocab);

struct graft_tokenize_options {
    bool special; // text like <|im_start|> becomes its control token; otherwise it stays plain text
    // Put BOS in front if the file asks for it (tokenizer.ggml.add_bos_token, or the family's default). T5 and BERT: also EOS
    // or [SEP] behind (add_eos_token, add_sep_token; by default yes).
    bool bos;
};

// Tokenize text (any bytes; invalid UTF-8 is replaced by U+FFFD as the reference tokenizers do).
// ids: room for `capacity`; *count gets the number of ids the text has, also when that is more than capacity (then the first
// `capacity` are written and GRAFT_E_LIMIT is returned). Time linear in length (n log n). Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_vocab_tokenize(const struct graft_vocab *vocab, const char *text, uint64_t length,
                                                        struct graft_tokenize_options options, int32_t *ids, uint64_t capacity,
                                                        uint64_t *count);
// Bytes of one token as they appear in output text ("Ġthe" -> " the", "<0x0A>" -> "\n"); control tokens give their name if
// `special`, nothing otherwise. *length gets the number of bytes; a view valid as long as the vocabulary. Out of range:
// GRAFT_E_ARGUMENT.
// A token may hold part of a UTF-8 character: join tokens before showing them.
GRAFT_MUST_CHECK enum graft_status graft_vocab_piece(const struct graft_vocab *vocab, int32_t id, bool special,
                                                     const char **out, uint64_t *length);
// Whole sequences: as graft_vocab_piece joined, with the family's rule for the leading space (SentencePiece drops the first
// one). text: room for capacity bytes (no NUL); *length as *count above.
GRAFT_MUST_CHECK enum graft_status graft_vocab_detokenize(const struct graft_vocab *vocab, const int32_t *ids, uint64_t count,
                                                          bool special, char *text, uint64_t capacity, uint64_t *length);

uint32_t graft_vocab_size(const struct graft_vocab *vocab);
// GRAFT_NO_TOKEN if the file has none.
int32_t graft_vocab_bos(const struct graft_vocab *vocab);
int32_t graft_vocab_eos(const struct graft_vocab *vocab);
// Ends a turn: eos, eot, eom of the metadata, and control tokens whose text is one of the known ends of turn (<|im_end|>,
// <|eot_id|>, <|end|>, <|endoftext|>, <end_of_turn>, </s> ...).
bool graft_vocab_is_end(const struct graft_vocab *vocab, int32_t id);
bool graft_vocab_is_control(const struct graft_vocab *vocab, int32_t id);
// Id of a token by its exact stored text; GRAFT_NO_TOKEN if absent.
int32_t graft_vocab_find(const struct graft_vocab *vocab, const char *text, uint64_t length);

#endif
