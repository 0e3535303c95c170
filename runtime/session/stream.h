// SPDX-License-Identifier: Apache-2.0
// An answer's tokens as text: whole UTF-8 characters, and texts that end it.
#ifndef GRAFT_RUNTIME_SESSION_STREAM_H
#define GRAFT_RUNTIME_SESSION_STREAM_H

#include "graft/engine.h"
#include "runtime/session/session.h"

struct graft_stream {
    struct graft_ctx *ctx;
    const struct graft_vocab *vocab; // NULL: there is no text
    bool drops_space;                // SentencePiece: the first token's leading space is not shown
    bool first;
    uint8_t *bytes; // unfinished character, and the next token
    uint32_t n_partial;
    char *text; // what is to be shown next, then what may begin a stop text
    uint64_t n_shown, n_text;
    char stops[GRAFT_MAX_STOPS][GRAFT_MAX_STOP_BYTES];
    uint32_t stop_lengths[GRAFT_MAX_STOPS], n_stops;
    int32_t shown[GRAFT_MAX_SHOWN]; // control tokens that are text
    uint32_t n_shown_tokens;
};

// What graft_stream_create needs to know of a vocabulary: bytes of the longest token; whether the first token's leading space
// is dropped. One pass over all tokens.
GRAFT_MUST_CHECK enum graft_status graft_stream_vocabulary(const struct graft_vocab *vocab, uint64_t *longest,
                                                           bool *drops_space);
// vocab may be NULL: there is no text then. Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK enum graft_status graft_stream_create(struct graft_ctx *ctx, struct graft_stream **out,
                                                       const struct graft_vocab *vocab, uint64_t longest, bool drops_space);
void graft_stream_destroy(struct graft_stream **stream);
// GRAFT_E_ARGUMENT if there are too many stop texts, empty or too long ones.
GRAFT_MUST_CHECK enum graft_status graft_stream_check(const char *const *stops, uint32_t n_stops);
// Begin another answer, with stop texts that were checked.
void graft_stream_begin(struct graft_stream *stream, const char *const *stops, uint32_t n_stops);
// Control tokens that are part of this answer's text, at most GRAFT_MAX_SHOWN; copied. graft_stream_begin forgets them.
void graft_stream_show(struct graft_stream *stream, const int32_t *tokens, uint32_t count);
bool graft_stream_shows(const struct graft_stream *stream, int32_t token);
// One token: *text gets what can be shown now, valid until the next call. *stopped: a stop text came; it and what is behind it
// are not shown. What may be its beginning is held back. Errors: those of graft_vocab_piece.
GRAFT_MUST_CHECK enum graft_status graft_stream_push(struct graft_stream *stream, int32_t token, const char **text,
                                                     size_t *length, bool *stopped);
// What is left at the end.
void graft_stream_end(struct graft_stream *stream, const char **text, size_t *length);

#endif
