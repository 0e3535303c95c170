// SPDX-License-Identifier: Apache-2.0
// Joining of symbols by priority, shared by both families, and byte-level BPE.
// Source: Sennrich et al. 2016 (BPE), Radford et al. 2019 (byte level); the queue makes one long piece n log n.
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/vocab_private.h"

enum graft_status graft_tokenizing_reserve(struct graft_tokenizing *work, uint64_t count)
{
    if (count <= work->room) {
        return GRAFT_OK;
    }
    struct graft_ctx *ctx = work->vocab->ctx;
    uint64_t room = count < 256 ? 256 : count < 65536 ? 2 * count : count;
    GRAFT_FREE(ctx, &work->symbols);
    GRAFT_FREE(ctx, &work->joins);
    work->room = 0;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &work->symbols, room, "symbols of a text"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &work->joins, 2 * room, "joins of a text"));
    work->room = room;
    return GRAFT_OK;
}

// Heap with four children a node (half the cache misses of two), smallest key on top: put `key` into the hole at `hole`,
// moving others up or down.
static void heap_down(uint64_t *heap, uint64_t count, uint64_t hole, uint64_t key)
{
    for (;;) {
        uint64_t child = 4 * hole + 1, end = child + 4 < count ? child + 4 : count;
        if (child >= count) {
            break;
        }
        uint64_t least = child;
        for (child++; child < end; child++) {
            least = heap[child] < heap[least] ? child : least;
        }
        if (heap[least] >= key) {
            break;
        }
        heap[hole] = heap[least];
        hole = least;
    }
    heap[hole] = key;
}

static void heap_up(uint64_t *heap, uint64_t hole, uint64_t key)
{
    while (hole > 0 && heap[(hole - 1) / 4] > key) {
        heap[hole] = heap[(hole - 1) / 4];
        hole = (hole - 1) / 4;
    }
    heap[hole] = key;
}

// The heap key of joining symbol `left` with its right neighbour, and the token they become.
static bool join_of(const struct graft_tokenizing *work, const char *text, uint32_t left, uint64_t *key, int32_t *id)
{
    const struct graft_symbol *a = &work->symbols[left];
    if (a->next == UINT32_MAX) {
        return false;
    }
    const struct graft_symbol *b = &work->symbols[a->next];
    uint32_t priority;
    bool found = work->vocab->model == GRAFT_VOCAB_BPE ? graft_bpe_pair(work->vocab, a, b, &priority, id)
                                                       : graft_spm_pair(work->vocab, text, a, b, &priority, id);
    *key = found ? (uint64_t)priority << 32 | left : UINT64_MAX;
    return found;
}

void graft_symbols_join(struct graft_tokenizing *work, uint64_t count, const char *text)
{
    struct graft_symbol *symbols = work->symbols;
    uint64_t *heap = work->joins;
    uint64_t n = 0, key;
    int32_t id;
    for (uint64_t i = 0; i < count; i++) {
        symbols[i].previous = i == 0 ? UINT32_MAX : (uint32_t)(i - 1);
        symbols[i].next = i + 1 == count ? UINT32_MAX : (uint32_t)(i + 1);
    }
    for (uint64_t i = 0; i < count; i++) {
        if (join_of(work, text, (uint32_t)i, &key, &id)) {
            heap[n++] = key;
        }
    }
    for (uint64_t i = n / 4 + 1; i-- > 0;) {
        if (i < n) {
            heap_down(heap, n, i, heap[i]);
        }
    }
    // At most count - 1 joins happen; each takes one entry and adds two at most, so 2 * count entries are enough.
    while (n > 0) {
        uint64_t best = heap[0];
        n--;
        if (n > 0) {
            heap_down(heap, n, 0, heap[n]);
        }
        // An entry is out of date when its symbols have changed since: then the same place gives another key, or none.
        uint32_t left = (uint32_t)best;
        struct graft_symbol *a = &symbols[left];
        if (a->bytes == 0 || !join_of(work, text, left, &key, &id) || key != best) {
            continue;
        }
        struct graft_symbol *b = &symbols[a->next];
        a->bytes += b->bytes;
        a->id = id;
        a->next = b->next;
        b->bytes = 0;
        if (a->next != UINT32_MAX) {
            symbols[a->next].previous = left;
        }
        if (a->previous != UINT32_MAX && join_of(work, text, a->previous, &key, &id)) {
            heap_up(heap, n++, key);
        }
        if (join_of(work, text, left, &key, &id)) {
            heap_up(heap, n++, key);
        }
    }
}

bool graft_bpe_pair(const struct graft_vocab *vocab, const struct graft_symbol *left, const struct graft_symbol *right,
                    uint32_t *priority, int32_t *id)
{
    const struct graft_merge *merge = graft_vocab_merge(vocab, left->id, right->id);
    if (!merge) {
        return false;
    }
    *priority = merge->rank;
    *id = merge->joined;
    return true;
}

// The token whose whole text is this piece, if plain text may become it.
static int32_t whole_piece(const struct graft_vocab *vocab, const char *piece, uint64_t length)
{
    char text[GRAFT_VOCAB_MAX_TOKEN_BYTES];
    uint64_t bytes = 0;
    uint64_t hash = GRAFT_HASH_START;
    if (length > vocab->longest_token) {
        return GRAFT_NO_TOKEN;
    }
    for (uint64_t i = 0; i < length; i++) {
        char encoded[4];
        uint32_t n = graft_utf8_encode(graft_byte_to_char((uint8_t)piece[i]), encoded);
        if (bytes + n > vocab->longest_token) {
            return GRAFT_NO_TOKEN;
        }
        for (uint32_t k = 0; k < n; k++) {
            text[bytes++] = encoded[k];
            hash = graft_hash_byte(hash, (uint8_t)encoded[k]);
        }
    }
    int32_t id = graft_vocab_find_hashed(vocab, text, bytes, hash);
    return id != GRAFT_NO_TOKEN && graft_vocab_is_plain(vocab, id) ? id : GRAFT_NO_TOKEN;
}

static enum graft_status tokenize_piece(void *user, const char *piece, uint64_t length)
{
    struct graft_tokenizing *work = user;
    const struct graft_vocab *vocab = work->vocab;
    if (graft_pretokenizer_ignores_merges(vocab->pretokenizer)) {
        int32_t id = whole_piece(vocab, piece, length);
        if (id != GRAFT_NO_TOKEN) {
            graft_tokenizing_put(work, id);
            return GRAFT_OK;
        }
    }
    GRAFT_TRY(graft_tokenizing_reserve(work, length));
    uint64_t count = 0;
    for (uint64_t i = 0; i < length; i++) {
        // A byte without a token is left out, as the reference tokenizers do: some vocabularies lack rare control characters.
        int32_t id = vocab->byte_token[(uint8_t)piece[i]];
        if (id != GRAFT_NO_TOKEN) {
            work->symbols[count++] = (struct graft_symbol){.start = (uint32_t)i, .bytes = 1, .id = id};
        }
    }
    graft_symbols_join(work, count, piece);
    for (uint32_t i = count ? 0 : UINT32_MAX; i != UINT32_MAX; i = work->symbols[i].next) {
        graft_tokenizing_put(work, work->symbols[i].id);
    }
    return GRAFT_OK;
}

enum graft_status graft_bpe_tokenize(struct graft_tokenizing *work, const char *text, uint64_t length)
{
    const struct graft_vocab *vocab = work->vocab;
    char *normal = NULL;
    uint64_t bytes = length;
    if (graft_pretokenizer_normalizes(vocab->pretokenizer)) {
        GRAFT_TRY(graft_normalize_c(vocab->ctx, text, length, &normal, &bytes));
    }
    enum graft_status status = graft_pretokenize(vocab->pretokenizer, normal ? normal : text, bytes, tokenize_piece, work);
    GRAFT_FREE(vocab->ctx, &normal);
    return status;
}
