// SPDX-License-Identifier: Apache-2.0
// Unigram vocabularies (T5): normalization as SentencePiece does it, then the most probable way to cut the text (Viterbi).
// Source: Kudo 2018, "Subword Regularization"; sentencepiece's normalizer.cc and unigram_model.cc for what a text becomes.
#include <math.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/vocab_private.h"

#define SPACE_MARK "\xe2\x96\x81" // U+2581
enum { SPACE_MARK_BYTES = 3, UNKNOWN_PENALTY = 10 };

// What the next characters of text become: *length bytes at *out for the number of bytes that is returned.
static uint32_t normal_at(const struct graft_vocab *vocab, const char *text, uint64_t left, const char **out, uint64_t *length)
{
    uint32_t n = vocab->charsmap.n_units ? graft_charsmap_at(&vocab->charsmap, text, left, out, length) : 0;
    if (n == 0) {
        uint32_t character;
        n = graft_utf8_decode(text, &character);
        *out = text;
        *length = n;
    }
    return n;
}

// Normalized text with marks for spaces; out may be NULL to count only (spaces at the end count then).
static uint64_t normalize(const struct graft_vocab *vocab, const char *text, uint64_t length, bool prefix, char *out)
{
    uint64_t bytes = 0, i = 0;
    const char *piece;
    uint64_t n;
    while (vocab->remove_extra_spaces && i < length) {
        uint32_t taken = normal_at(vocab, text + i, length - i, &piece, &n);
        if (n != 1 || *piece != ' ') {
            break;
        }
        i += taken;
    }
    bool after_space = vocab->remove_extra_spaces, marked = i == length || !prefix;
    while (i < length) {
        i += normal_at(vocab, text + i, length - i, &piece, &n);
        for (; n > 0 && after_space && *piece == ' '; n--) {
            piece++;
        }
        for (uint64_t k = marked ? 1 : 0; k <= n; k++) { // k = 0: the mark in front of the whole text
            bool mark = k == 0 || piece[k - 1] == ' ';
            const char *from = mark ? SPACE_MARK : piece + k - 1;
            if (out) {
                memcpy(out + bytes, from, mark ? SPACE_MARK_BYTES : 1);
            }
            bytes += mark ? SPACE_MARK_BYTES : 1;
        }
        marked = true;
        after_space = n > 0 ? vocab->remove_extra_spaces && piece[n - 1] == ' ' : after_space;
    }
    while (out && vocab->remove_extra_spaces && bytes >= SPACE_MARK_BYTES &&
           memcmp(out + bytes - SPACE_MARK_BYTES, SPACE_MARK, SPACE_MARK_BYTES) == 0) {
        bytes -= SPACE_MARK_BYTES;
    }
    return bytes;
}

// The best way to a place in the text: its last token, where that begins, the sum of log-probabilities.
struct graft_way {
    double score;
    int32_t id; // GRAFT_NO_TOKEN: a character without a token
    uint32_t start;
};

static void offer(struct graft_way *way, double score, int32_t id, uint64_t start)
{
    if (score > way->score) {
        *way = (struct graft_way){.score = score, .id = id, .start = (uint32_t)start};
    }
}

static void find_ways(const struct graft_vocab *vocab, const char *text, uint64_t length, struct graft_way *ways)
{
    for (uint64_t i = 0; i <= length; i++) {
        ways[i] = (struct graft_way){.score = i == 0 ? 0.0 : -INFINITY, .id = GRAFT_NO_TOKEN};
    }
    for (uint64_t i = 0; i < length;) {
        uint32_t character, whole = graft_utf8_decode(text + i, &character);
        const struct graft_special_lengths *lengths = &vocab->plain_lengths[(uint8_t)text[i]];
        uint64_t most = lengths->longest < length - i ? lengths->longest : length - i, hash = GRAFT_HASH_START;
        bool found = false;
        for (uint32_t n = 1; n <= most; n++) {
            hash = graft_hash_byte(hash, (uint8_t)text[i + n - 1]);
            int32_t id =
                lengths->has[n / 64] >> n % 64 & 1 ? graft_vocab_find_hashed(vocab, text + i, n, hash) : GRAFT_NO_TOKEN;
            if (id != GRAFT_NO_TOKEN && graft_vocab_is_plain(vocab, id)) {
                double score = vocab->tokens[id].type == GRAFT_TOKEN_USER ? 0.0 : (double)vocab->tokens[id].score;
                offer(&ways[i + n], ways[i].score + score, id, i);
                found = found || n == whole;
            }
        }
        if (!found) {
            offer(&ways[i + whole], ways[i].score + vocab->least_score - UNKNOWN_PENALTY, GRAFT_NO_TOKEN, i);
        }
        i += whole;
    }
}

enum graft_status graft_unigram_tokenize(struct graft_tokenizing *work, const char *text, uint64_t length, bool first)
{
    const struct graft_vocab *vocab = work->vocab;
    bool prefix = first && vocab->add_space_prefix;
    uint64_t bytes = normalize(vocab, text, length, prefix, NULL);
    if (bytes > 4 * (uint64_t)GRAFT_TOKENIZE_MAX_BYTES) {
        return graft_fail(GRAFT_E_LIMIT,
                          "a text of %" PRIu64 " bytes becomes %" PRIu64 " by normalization, at most %" PRIu64
                          " can be tokenized",
                          length, bytes, 4 * (uint64_t)GRAFT_TOKENIZE_MAX_BYTES);
    }
    char *normal;
    struct graft_way *ways = NULL;
    GRAFT_TRY(GRAFT_NEW(vocab->ctx, GRAFT_MEM_HOST, &normal, bytes + 1, "a normalized text"));
    bytes = normalize(vocab, text, length, prefix, normal);
    enum graft_status status = GRAFT_NEW(vocab->ctx, GRAFT_MEM_HOST, &ways, bytes + 1, "ways to cut a text");
    if (status == GRAFT_OK) {
        find_ways(vocab, normal, bytes, ways);
        // Backwards to the beginning, turning the links round: way.start becomes where the next token ends.
        uint64_t next = UINT32_MAX;
        for (uint64_t at = bytes; at > 0;) {
            uint64_t start = ways[at].start;
            ways[at].start = (uint32_t)next;
            next = at;
            at = start;
        }
        uint64_t unknown = UINT64_MAX; // where a run of characters without tokens begins
        for (uint64_t from = 0; bytes > 0 && next != UINT32_MAX; from = next, next = ways[next].start) {
            int32_t id = ways[next].id;
            unknown = id == GRAFT_NO_TOKEN && unknown == UINT64_MAX ? from : unknown;
            bool last = ways[next].start == UINT32_MAX;
            if (unknown != UINT64_MAX && (id != GRAFT_NO_TOKEN || last)) {
                uint64_t end = id == GRAFT_NO_TOKEN ? next : from;
                graft_spm_put_bytes(work, normal + unknown, (uint32_t)(end - unknown));
                unknown = UINT64_MAX;
            }
            if (id != GRAFT_NO_TOKEN) {
                graft_tokenizing_put(work, id);
            }
        }
    }
    GRAFT_FREE(vocab->ctx, &ways);
    GRAFT_FREE(vocab->ctx, &normal);
    return status;
}
