// SPDX-License-Identifier: Apache-2.0
// Pre-tokenizers: the regular expressions, one list per family, that cut text into the pieces inside which byte-level BPE
// merges.
#ifndef GRAFT_RUNTIME_TEXT_PRETOKENIZE_H
#define GRAFT_RUNTIME_TEXT_PRETOKENIZE_H

#include "platform/ctx.h"

struct graft_pretokenizer;

// Compile the expressions of the family called `name` in tokenizer.ggml.pre. Errors: GRAFT_E_UNSUPPORTED (unknown name; the
// text lists the known ones), GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_INTERNAL (PCRE2 refused an expression). On failure *out
// is NULL. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_pretokenizer_create(struct graft_ctx *ctx, struct graft_pretokenizer **out,
                                                             const char *name, uint64_t length);
void graft_pretokenizer_destroy(struct graft_pretokenizer **pretokenizer);

// Emit the pieces of text[0..length), valid UTF-8, in order; joined they are the text. Each expression cuts the pieces left by
// the one before into matches and what stands between them. Stops at the first failure of `emit` and returns it.
// Time linear in length for every family. Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_LIMIT (PCRE2's own bounds).
// Thread-safety: safe, also with one pretokenizer on several threads.
GRAFT_MUST_CHECK enum graft_status graft_pretokenize(const struct graft_pretokenizer *pretokenizer, const char *text,
                                                     uint64_t length,
                                                     enum graft_status (*emit)(void *user, const char *piece, uint64_t length),
                                                     void *user);

// A piece that is a token as a whole becomes it without merging (Llama 3).
bool graft_pretokenizer_ignores_merges(const struct graft_pretokenizer *pretokenizer);
// Put BOS in front when the file does not say.
bool graft_pretokenizer_adds_bos(const struct graft_pretokenizer *pretokenizer);
// Text is brought to Unicode normalization form C first (Qwen2).
bool graft_pretokenizer_normalizes(const struct graft_pretokenizer *pretokenizer);

// Normalization form C of valid UTF-8 text (Unicode Standard Annex 15). *out gets memory from graft_alloc, or NULL if the text
// is in that form already by a quick look; *out_length its bytes. Linear in length. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_normalize_c(struct graft_ctx *ctx, const char *text, uint64_t length, char **out,
                                                     uint64_t *out_length);

#endif
