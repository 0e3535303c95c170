// SPDX-License-Identifier: Apache-2.0
#include "runtime/session/stream.h"

#include <string.h>

#include "platform/bytes.h"

enum { CHARACTER = 3, CLEANED = 3 }; // bytes of an unfinished character at most; bytes of U+FFFD

bool graft_stream_shows(const struct graft_stream *stream, int32_t token)
{
    for (uint32_t i = 0; i < stream->n_shown_tokens; i++) {
        if (stream->shown[i] == token) {
            return true;
        }
    }
    return false;
}

static enum graft_status longest_piece(const struct graft_vocab *vocab, uint64_t *out)
{
    *out = 0;
    for (uint32_t id = 0; id < graft_vocab_size(vocab); id++) {
        const char *text;
        uint64_t length;
        GRAFT_TRY(graft_vocab_piece(vocab, (int32_t)id, true, &text, &length));
        *out = length > *out ? length : *out;
    }
    return GRAFT_OK;
}

// Does the family drop a leading space? Ask it, with the first token that has one.
static enum graft_status drops_leading_space(const struct graft_vocab *vocab, bool *out)
{
    *out = false;
    for (uint32_t id = 0; id < graft_vocab_size(vocab); id++) {
        const char *text;
        uint64_t length, joined = 0;
        GRAFT_TRY(graft_vocab_piece(vocab, (int32_t)id, false, &text, &length));
        if (length > 1 && length < 64 && text[0] == ' ') {
            char room[64];
            int32_t one = (int32_t)id;
            GRAFT_TRY(graft_vocab_detokenize(vocab, &one, 1, false, room, sizeof room, &joined));
            *out = joined + 1 == length;
            break;
        }
    }
    return GRAFT_OK;
}

enum graft_status graft_stream_vocabulary(const struct graft_vocab *vocab, uint64_t *longest, bool *drops_space)
{
    GRAFT_TRY(longest_piece(vocab, longest));
    return drops_leading_space(vocab, drops_space);
}

enum graft_status graft_stream_create(struct graft_ctx *ctx, struct graft_stream **out, const struct graft_vocab *vocab,
                                      uint64_t longest, bool drops_space)
{
    struct graft_stream *stream;
    *out = NULL;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &stream, 1, "text of an answer"));
    stream->ctx = ctx;
    stream->vocab = vocab;
    stream->drops_space = drops_space;
    uint64_t bytes = longest + CHARACTER;
    enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &stream->bytes, bytes, "text of an answer");
    status = status != GRAFT_OK
                 ? status
                 : GRAFT_NEW(ctx, GRAFT_MEM_HOST, &stream->text, CLEANED * bytes + GRAFT_MAX_STOP_BYTES, "text of an answer");
    if (status != GRAFT_OK) {
        graft_stream_destroy(&stream);
        return status;
    }
    *out = stream;
    return GRAFT_OK;
}

void graft_stream_destroy(struct graft_stream **stream)
{
    if (!stream || !*stream) {
        return;
    }
    GRAFT_FREE((*stream)->ctx, &(*stream)->bytes);
    GRAFT_FREE((*stream)->ctx, &(*stream)->text);
    GRAFT_FREE((*stream)->ctx, stream);
}

enum graft_status graft_stream_check(const char *const *stops, uint32_t n_stops)
{
    if (n_stops > GRAFT_MAX_STOPS) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u stop texts, at most %d are allowed", n_stops, GRAFT_MAX_STOPS);
    }
    for (uint32_t i = 0; i < n_stops; i++) {
        size_t length = stops[i] ? strlen(stops[i]) : 0;
        if (length == 0 || length > GRAFT_MAX_STOP_BYTES) {
            return graft_fail(GRAFT_E_ARGUMENT, "stop text %u has %zu bytes, allowed are 1 to %d", i + 1, length,
                              GRAFT_MAX_STOP_BYTES);
        }
    }
    return GRAFT_OK;
}

void graft_stream_begin(struct graft_stream *stream, const char *const *stops, uint32_t n_stops)
{
    for (uint32_t i = 0; i < n_stops; i++) {
        stream->stop_lengths[i] = (uint32_t)strlen(stops[i]);
        memcpy(stream->stops[i], stops[i], stream->stop_lengths[i]);
    }
    stream->n_stops = n_stops;
    stream->n_shown_tokens = 0;
    stream->n_partial = 0;
    stream->n_shown = stream->n_text = 0;
    stream->first = true;
}

void graft_stream_show(struct graft_stream *stream, const int32_t *tokens, uint32_t count)
{
    stream->n_shown_tokens = count;
    if (count) {
        memcpy(stream->shown, tokens, count * sizeof *tokens);
    }
}

// Where the first stop text begins that is in the text; n_text if there is none.
static uint64_t find_stop(const struct graft_stream *stream)
{
    for (uint64_t at = 0; at < stream->n_text; at++) {
        for (uint32_t i = 0; i < stream->n_stops; i++) {
            uint32_t length = stream->stop_lengths[i];
            if (length <= stream->n_text - at && memcmp(stream->text + at, stream->stops[i], length) == 0) {
                return at;
            }
        }
    }
    return stream->n_text;
}

// Bytes at the end that may be the beginning of a stop text.
static uint64_t held_back(const struct graft_stream *stream)
{
    uint64_t held = 0;
    for (uint32_t i = 0; i < stream->n_stops; i++) {
        for (uint64_t n = stream->stop_lengths[i] - 1; n > held; n--) {
            if (n <= stream->n_text && memcmp(stream->text + stream->n_text - n, stream->stops[i], (size_t)n) == 0) {
                held = n;
            }
        }
    }
    return held;
}

enum graft_status graft_stream_push(struct graft_stream *stream, int32_t token, const char **text, size_t *length,
                                    bool *stopped)
{
    const char *piece = "";
    uint64_t bytes = 0;
    *text = stream->text;
    *length = 0;
    *stopped = false;
    if (stream->vocab) {
        GRAFT_TRY(graft_vocab_piece(stream->vocab, token, graft_stream_shows(stream, token), &piece, &bytes));
    }
    if (stream->first && stream->drops_space && bytes && *piece == ' ') {
        piece++;
        bytes--;
    }
    stream->first = false;
    stream->n_text -= stream->n_shown; // what was shown goes
    memmove(stream->text, stream->text + stream->n_shown, (size_t)stream->n_text);
    memcpy(stream->bytes + stream->n_partial, piece, (size_t)bytes);
    uint64_t have = stream->n_partial + bytes;
    stream->n_text += graft_utf8_clean(stream->bytes, have, stream->text + stream->n_text, &stream->n_partial);
    memmove(stream->bytes, stream->bytes + (have - stream->n_partial), stream->n_partial);
    uint64_t stop = find_stop(stream);
    *stopped = stop < stream->n_text;
    stream->n_text = stop;
    stream->n_shown = *stopped ? stop : stream->n_text - held_back(stream);
    *length = (size_t)stream->n_shown;
    return GRAFT_OK;
}

void graft_stream_end(struct graft_stream *stream, const char **text, size_t *length)
{
    uint64_t end = stream->n_text;
    end += graft_utf8_clean(stream->bytes, stream->n_partial, stream->text + end, NULL);
    *text = stream->text + stream->n_shown;
    *length = (size_t)(end - stream->n_shown);
    stream->n_partial = 0;
    stream->n_shown = stream->n_text = 0;
}
