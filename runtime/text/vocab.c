// SPDX-License-Identifier: Apache-2.0
// Vocabularies: look-up, text to ids around special tokens, ids to text.
#include "runtime/text/vocab.h"

#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/vocab_private.h"

enum { BYTE_CHARS_BASE = 256, BYTE_CHARS = 68 }; // bytes without a printable form of their own: U+0100 to U+0143

// Bytes that stand for themselves in the byte-level alphabet: printable Latin-1 without the soft hyphen.
static bool is_own_char(uint32_t c)
{
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

uint32_t graft_byte_to_char(uint8_t byte)
{
    if (is_own_char(byte)) {
        return byte;
    }
    // The others are numbered in order: 0x00-0x20, 0x7f-0xa0, 0xad.
    return BYTE_CHARS_BASE + (byte <= 0x20 ? byte : byte <= 0xa0 ? byte - 0x7fu + 33u : 67u);
}

int graft_char_to_byte(uint32_t character)
{
    if (is_own_char(character)) {
        return (int)character;
    }
    if (character < BYTE_CHARS_BASE || character >= BYTE_CHARS_BASE + BYTE_CHARS) {
        return -1;
    }
    uint32_t n = character - BYTE_CHARS_BASE;
    return (int)(n <= 32 ? n : n < 67 ? n - 33u + 0x7fu : 0xadu);
}

uint32_t graft_utf8_decode(const char *text, uint32_t *character)
{
    const uint8_t *p = (const uint8_t *)text;
    if (p[0] < 0x80) {
        *character = p[0];
        return 1;
    }
    if (p[0] < 0xe0) {
        *character = (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
        return 2;
    }
    if (p[0] < 0xf0) {
        *character = (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
        return 3;
    }
    *character = (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
    return 4;
}

uint32_t graft_utf8_encode(uint32_t character, char out[4])
{
    if (character < 0x80) {
        out[0] = (char)character;
        return 1;
    }
    if (character < 0x800) {
        out[0] = (char)(0xc0 | character >> 6);
        out[1] = (char)(0x80 | (character & 0x3f));
        return 2;
    }
    if (character < 0x10000) {
        out[0] = (char)(0xe0 | character >> 12);
        out[1] = (char)(0x80 | (character >> 6 & 0x3f));
        out[2] = (char)(0x80 | (character & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | character >> 18);
    out[1] = (char)(0x80 | (character >> 12 & 0x3f));
    out[2] = (char)(0x80 | (character >> 6 & 0x3f));
    out[3] = (char)(0x80 | (character & 0x3f));
    return 4;
}

enum graft_status graft_vocab_create(struct graft_ctx *ctx, struct graft_vocab **out, const struct graft_gguf *gguf)
{
    *out = NULL;
    struct graft_vocab *vocab;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &vocab, 1, "a vocabulary"));
    vocab->ctx = ctx;
    enum graft_status status = graft_vocab_load(vocab, gguf);
    if (status != GRAFT_OK) {
        graft_vocab_destroy(&vocab);
        return status;
    }
    *out = vocab;
    return GRAFT_OK;
}

void graft_vocab_destroy(struct graft_vocab **vocab)
{
    struct graft_vocab *self = *vocab;
    if (!self) {
        return;
    }
    struct graft_ctx *ctx = self->ctx;
    graft_pretokenizer_destroy(&self->pretokenizer);
    GRAFT_FREE(ctx, &self->charsmap.bytes);
    GRAFT_FREE(ctx, &self->plain_lengths);
    GRAFT_FREE(ctx, &self->merges);
    GRAFT_FREE(ctx, &self->slots);
    GRAFT_FREE(ctx, &self->pieces);
    GRAFT_FREE(ctx, &self->texts);
    GRAFT_FREE(ctx, &self->tokens);
    GRAFT_FREE(ctx, vocab);
}

uint32_t graft_vocab_size(const struct graft_vocab *vocab)
{
    return vocab->n_tokens;
}

int32_t graft_vocab_bos(const struct graft_vocab *vocab)
{
    return vocab->bos;
}

int32_t graft_vocab_eos(const struct graft_vocab *vocab)
{
    return vocab->eos;
}

bool graft_vocab_is_end(const struct graft_vocab *vocab, int32_t id)
{
    return id >= 0 && (uint32_t)id < vocab->n_tokens && vocab->tokens[id].end;
}

bool graft_vocab_is_control(const struct graft_vocab *vocab, int32_t id)
{
    return id >= 0 && (uint32_t)id < vocab->n_tokens &&
           (vocab->tokens[id].type == GRAFT_TOKEN_CONTROL || vocab->tokens[id].type == GRAFT_TOKEN_UNKNOWN);
}

int32_t graft_vocab_find_hashed(const struct graft_vocab *vocab, const char *text, uint64_t length, uint64_t hash)
{
    uint64_t slot = graft_hash_mix(hash) & vocab->slot_mask;
    for (; vocab->slots[slot] != 0; slot = (slot + 1) & vocab->slot_mask) {
        const struct graft_token *token = &vocab->tokens[vocab->slots[slot] - 1];
        if (token->text_bytes == length && memcmp(vocab->texts + token->text, text, (size_t)length) == 0) {
            return (int32_t)(vocab->slots[slot] - 1);
        }
    }
    return GRAFT_NO_TOKEN;
}

int32_t graft_vocab_find(const struct graft_vocab *vocab, const char *text, uint64_t length)
{
    if (length == 0 || length > vocab->longest_token) {
        return GRAFT_NO_TOKEN;
    }
    uint64_t hash = GRAFT_HASH_START;
    for (uint64_t i = 0; i < length; i++) {
        hash = graft_hash_byte(hash, (uint8_t)text[i]);
    }
    return graft_vocab_find_hashed(vocab, text, length, hash);
}

int32_t graft_vocab_find_plain(const struct graft_vocab *vocab, const char *text, uint64_t length)
{
    int32_t id = graft_vocab_find(vocab, text, length);
    return id != GRAFT_NO_TOKEN && graft_vocab_is_plain(vocab, id) ? id : GRAFT_NO_TOKEN;
}

const struct graft_merge *graft_vocab_merge(const struct graft_vocab *vocab, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t slot = graft_hash_mix(pair * 0x9e3779b97f4a7c15u) & vocab->merge_mask;
    for (; vocab->merges[slot].left != GRAFT_NO_TOKEN; slot = (slot + 1) & vocab->merge_mask) {
        if (vocab->merges[slot].left == left && vocab->merges[slot].right == right) {
            return &vocab->merges[slot];
        }
    }
    return NULL;
}

// The longest special token at the front of text, or GRAFT_NO_TOKEN. At most 255 bytes are looked at.
static int32_t special_at(const struct graft_vocab *vocab, const char *text, uint64_t left, bool special, uint32_t *bytes)
{
    const struct graft_special_lengths *lengths = &vocab->specials[special][(uint8_t)text[0]];
    uint64_t most = lengths->longest < left ? lengths->longest : left;
    uint64_t hash = GRAFT_HASH_START;
    int32_t found = GRAFT_NO_TOKEN;
    for (uint32_t n = 1; n <= most; n++) {
        hash = graft_hash_byte(hash, (uint8_t)text[n - 1]);
        if (!(lengths->has[n / 64] >> n % 64 & 1)) {
            continue;
        }
        int32_t id = graft_vocab_find_hashed(vocab, text, n, hash);
        if (id == GRAFT_NO_TOKEN) {
            continue;
        }
        uint8_t type = vocab->tokens[id].type;
        if (type == GRAFT_TOKEN_USER || (special && (type == GRAFT_TOKEN_CONTROL || type == GRAFT_TOKEN_UNKNOWN))) {
            found = id;
            *bytes = n;
        }
    }
    return found;
}

static enum graft_status tokenize_plain(struct graft_tokenizing *work, const char *text, uint64_t length, bool first)
{
    if (length == 0) {
        return GRAFT_OK;
    }
    switch (work->vocab->model) {
    case GRAFT_VOCAB_BPE:
        return graft_bpe_tokenize(work, text, length);
    case GRAFT_VOCAB_SPM:
        return graft_spm_tokenize(work, text, length, first);
    case GRAFT_VOCAB_UNIGRAM:
        return graft_unigram_tokenize(work, text, length, first);
    case GRAFT_VOCAB_WORDPIECE:
        return graft_wordpiece_tokenize(work, text, length);
    }
    return GRAFT_OK;
}

// Special tokens are cut out first, leftmost and longest, then what stands between them is tokenized.
static enum graft_status tokenize_valid(struct graft_tokenizing *work, const char *text, uint64_t length, bool special)
{
    uint64_t start = 0;
    bool first = true; // SentencePiece puts its space in front of a text, and again after every special token
    for (uint64_t i = 0; i < length;) {
        uint32_t bytes = 0;
        int32_t id = special_at(work->vocab, text + i, length - i, special, &bytes);
        if (id == GRAFT_NO_TOKEN) {
            i++;
            continue;
        }
        GRAFT_TRY(tokenize_plain(work, text + start, i - start, first));
        graft_tokenizing_put(work, id);
        i += bytes;
        start = i;
        first = true;
    }
    return tokenize_plain(work, text + start, length - start, first);
}

// Length of the well-formed character at p, or 0 and in *bad the length of the longest part that could have begun one
// (at least 1). Source: Unicode 15, table 3-7 and "maximal subpart".
static uint32_t character_at(const uint8_t *p, uint64_t left, uint32_t *bad)
{
    uint8_t c = p[0];
    uint32_t size = c < 0x80 ? 1 : c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    *bad = 1;
    for (uint32_t i = 1; i < size; i++) {
        if (i >= left || p[i] < low || p[i] > high) {
            *bad = i;
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return size;
}

// Copy with every ill-formed part replaced by U+FFFD; out may be NULL to count only.
static uint64_t repair(const uint8_t *text, uint64_t length, char *out)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < length;) {
        uint32_t bad;
        uint32_t n = character_at(text + i, length - i, &bad);
        if (out) {
            memcpy(out + bytes, n ? (const char *)text + i : "\xef\xbf\xbd", n ? n : 3);
        }
        bytes += n ? n : 3;
        i += n ? n : bad;
    }
    return bytes;
}

enum graft_status graft_vocab_tokenize(const struct graft_vocab *vocab, const char *text, uint64_t length,
                                       struct graft_tokenize_options options, int32_t *ids, uint64_t capacity, uint64_t *count)
{
    *count = 0;
    if (length > GRAFT_TOKENIZE_MAX_BYTES) {
        return graft_fail(GRAFT_E_LIMIT, "a text of %" PRIu64 " bytes cannot be tokenized at once, at most %d bytes can",
                          length, GRAFT_TOKENIZE_MAX_BYTES);
    }
    struct graft_tokenizing work = {.vocab = vocab, .ids = ids, .capacity = capacity};
    if (options.bos && vocab->add_bos && vocab->bos != GRAFT_NO_TOKEN) {
        graft_tokenizing_put(&work, vocab->bos);
    }
    enum graft_status status = GRAFT_OK;
    char *repaired = NULL;
    if (length > 0 && !graft_utf8_valid((const uint8_t *)text, length)) {
        uint64_t bytes = repair((const uint8_t *)text, length, NULL);
        status = GRAFT_NEW(vocab->ctx, GRAFT_MEM_HOST, &repaired, bytes, "a repaired text");
        if (status == GRAFT_OK) {
            repair((const uint8_t *)text, length, repaired);
            text = repaired;
            length = bytes;
        }
    }
    if (status == GRAFT_OK) {
        status = tokenize_valid(&work, text, length, options.special);
    }
    if (status == GRAFT_OK && options.bos && vocab->last != GRAFT_NO_TOKEN) {
        graft_tokenizing_put(&work, vocab->last);
    }
    GRAFT_FREE(vocab->ctx, &repaired);
    GRAFT_FREE(vocab->ctx, &work.symbols);
    GRAFT_FREE(vocab->ctx, &work.joins);
    GRAFT_FREE(vocab->ctx, &work.scratch);
    if (status != GRAFT_OK) {
        return status;
    }
    *count = work.count;
    if (work.count > capacity) {
        return graft_fail(GRAFT_E_LIMIT, "the text has %" PRIu64 " tokens, there is room for %" PRIu64, work.count, capacity);
    }
    return GRAFT_OK;
}

enum graft_status graft_vocab_piece(const struct graft_vocab *vocab, int32_t id, bool special, const char **out,
                                    uint64_t *length)
{
    if (id < 0 || (uint32_t)id >= vocab->n_tokens) {
        return graft_fail(GRAFT_E_ARGUMENT, "token %d is not in the vocabulary of tokens 0 to %u", id, vocab->n_tokens - 1);
    }
    const struct graft_token *token = &vocab->tokens[id];
    *out = vocab->pieces + token->piece;
    *length = graft_vocab_is_control(vocab, id) && !special ? 0 : token->piece_bytes;
    return GRAFT_OK;
}

enum graft_status graft_vocab_detokenize(const struct graft_vocab *vocab, const int32_t *ids, uint64_t count, bool special,
                                         char *text, uint64_t capacity, uint64_t *length)
{
    *length = 0;
    uint64_t bytes = 0;
    bool first = vocab->add_space_prefix;
    for (uint64_t i = 0; i < count; i++) {
        const char *piece;
        uint64_t n;
        GRAFT_TRY(graft_vocab_piece(vocab, ids[i], special, &piece, &n));
        if (first && !graft_vocab_is_control(vocab, ids[i])) {
            if (n > 0 && piece[0] == ' ' && vocab->tokens[ids[i]].type != GRAFT_TOKEN_USER) {
                piece++;
                n--;
            }
            first = false;
        }
        if (bytes < capacity && n > 0) {
            memcpy(text + bytes, piece, (size_t)(n < capacity - bytes ? n : capacity - bytes));
        }
        if (!graft_add_u64(bytes, n, &bytes)) {
            return graft_fail(GRAFT_E_LIMIT, "the text of %" PRIu64 " tokens is too long", count);
        }
    }
    *length = bytes;
    if (bytes > capacity) {
        return graft_fail(GRAFT_E_LIMIT, "the text has %" PRIu64 " bytes, there is room for %" PRIu64, bytes, capacity);
    }
    return GRAFT_OK;
}
