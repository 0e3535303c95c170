// SPDX-License-Identifier: Apache-2.0
// SentencePiece BPE: joins by score, U+2581 for spaces, bytes for what has no token.
// Source: Kudo and Richardson 2018; the GGUF specification's model "llama".
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/vocab_private.h"

#define SPACE_MARK "\xe2\x96\x81" // U+2581
enum { SPACE_MARK_BYTES = 3 };

// A float as an unsigned number that falls when the float rises, so that the highest score is the lowest priority value.
// +0 and -0 compare equal as scores and must do so here.
static uint32_t score_priority(float score)
{
    uint32_t bits;
    score = score == 0.0f ? 0.0f : score;
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : 0x7fffffffu - bits;
}

bool graft_spm_pair(const struct graft_vocab *vocab, const char *text, const struct graft_symbol *left,
                    const struct graft_symbol *right, uint32_t *priority, int32_t *id)
{
    *id = graft_vocab_find_plain(vocab, text + left->start, left->bytes + right->bytes);
    if (*id == GRAFT_NO_TOKEN) {
        return false;
    }
    *priority = score_priority(vocab->tokens[*id].score);
    return true;
}

// Bytes of a text that has no token: byte tokens, or one unknown token where there are none.
void graft_spm_put_bytes(struct graft_tokenizing *work, const char *text, uint32_t length)
{
    const struct graft_vocab *vocab = work->vocab;
    bool unknown = false;
    for (uint32_t i = 0; i < length; i++) {
        int32_t id = vocab->byte_token[(uint8_t)text[i]];
        if (id != GRAFT_NO_TOKEN) {
            graft_tokenizing_put(work, id);
        } else if (!unknown && vocab->unknown != GRAFT_NO_TOKEN) {
            graft_tokenizing_put(work, vocab->unknown);
            unknown = true;
        }
    }
}

// Text as the vocabulary spells it, into work->scratch.
static enum graft_status mark_spaces(struct graft_tokenizing *work, const char *text, uint64_t length, bool prefix,
                                     uint64_t *bytes)
{
    uint64_t spaces = prefix;
    for (uint64_t i = 0; i < length; i++) {
        spaces += text[i] == ' ';
    }
    uint64_t room = length + SPACE_MARK_BYTES * spaces + 1; // length is at most 3 * GRAFT_TOKENIZE_MAX_BYTES
    if (room > work->scratch_room) {
        GRAFT_FREE(work->vocab->ctx, &work->scratch);
        work->scratch_room = 0;
        GRAFT_TRY(GRAFT_NEW(work->vocab->ctx, GRAFT_MEM_HOST, &work->scratch, room, "text with marked spaces"));
        work->scratch_room = room;
    }
    uint64_t at = 0;
    if (prefix) {
        memcpy(work->scratch, SPACE_MARK, SPACE_MARK_BYTES);
        at = SPACE_MARK_BYTES;
    }
    for (uint64_t i = 0; i < length; i++) {
        if (text[i] == ' ') {
            memcpy(work->scratch + at, SPACE_MARK, SPACE_MARK_BYTES);
            at += SPACE_MARK_BYTES;
        } else {
            work->scratch[at++] = text[i];
        }
    }
    *bytes = at;
    return GRAFT_OK;
}

enum graft_status graft_spm_tokenize(struct graft_tokenizing *work, const char *text, uint64_t length, bool first)
{
    const struct graft_vocab *vocab = work->vocab;
    uint64_t bytes;
    GRAFT_TRY(mark_spaces(work, text, length, first && vocab->add_space_prefix, &bytes));
    const char *marked = work->scratch;
    uint64_t characters = 0;
    for (uint64_t i = 0; i < bytes; i++) {
        characters += ((uint8_t)marked[i] & 0xc0) != 0x80;
    }
    GRAFT_TRY(graft_tokenizing_reserve(work, characters));
    uint64_t count = 0;
    for (uint64_t i = 0; i < bytes;) {
        uint32_t character;
        uint32_t n = graft_utf8_decode(marked + i, &character);
        work->symbols[count++] =
            (struct graft_symbol){.start = (uint32_t)i, .bytes = n, .id = graft_vocab_find_plain(vocab, marked + i, n)};
        i += n;
    }
    graft_symbols_join(work, count, marked);
    for (uint32_t i = count ? 0 : UINT32_MAX; i != UINT32_MAX; i = work->symbols[i].next) {
        const struct graft_symbol *symbol = &work->symbols[i];
        if (symbol->id != GRAFT_NO_TOKEN) {
            graft_tokenizing_put(work, symbol->id);
        } else {
            graft_spm_put_bytes(work, marked + symbol->start, symbol->bytes);
        }
    }
    return GRAFT_OK;
}
