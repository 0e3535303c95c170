// SPDX-License-Identifier: Apache-2.0
// SentencePiece's precompiled character map: which beginnings of a text are replaced by what.
//
// Layout (Kudo, sentencepiece 0.1: normalizer.cc): u32 bytes of the trie, the trie, then the replacements, each ended by a
// NUL. The trie is a double array of u32 units (Darts-clone, Yata 2008): bits 0 to 7 and 31 the label, bit 8 "a key ends
// here", bits 10 to 30 the offset of the children, times 256 if bit 9 is set. The child by byte c of a node at p is at
// p ^ offset ^ c, the value of a key (offset of its replacement) at the child by 0. All little-endian.
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/vocab_private.h"

enum { MAX_KEY_BYTES = 255, MAX_MAP_BYTES = 16 << 20 };

static enum graft_status fail_map(const struct graft_gguf *gguf, const char *what)
{
    return graft_fail(GRAFT_E_FORMAT, "%s: key tokenizer.ggml.precompiled_charsmap: %s", gguf->path, what);
}

enum graft_status graft_charsmap_read(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    const struct graft_gguf_key *key = graft_gguf_find(gguf, "tokenizer.ggml.precompiled_charsmap");
    if (!key || (key->type == GRAFT_GGUF_ARRAY && key->count == 0)) {
        return GRAFT_OK;
    }
    if (key->type != GRAFT_GGUF_ARRAY || (key->item_type != GRAFT_GGUF_U8 && key->item_type != GRAFT_GGUF_I8)) {
        return fail_map(gguf, "must be an array of bytes");
    }
    if (key->count > MAX_MAP_BYTES) {
        return graft_fail(GRAFT_E_LIMIT,
                          "%s: key tokenizer.ggml.precompiled_charsmap has %" PRIu64 " bytes, at most %d are supported",
                          gguf->path, key->count, MAX_MAP_BYTES);
    }
    struct graft_charsmap *map = &vocab->charsmap;
    GRAFT_TRY(GRAFT_NEW(vocab->ctx, GRAFT_MEM_HOST, &map->bytes, key->count, "a character map"));
    for (uint64_t i = 0; i < key->count; i++) {
        int64_t byte;
        GRAFT_TRY(graft_gguf_item_i64(gguf, key, i, &byte));
        map->bytes[i] = (uint8_t)byte;
    }
    uint64_t trie = key->count >= 4 ? graft_load_u32(map->bytes) : 0;
    if (key->count < 4 || trie == 0 || trie % 4 != 0 || trie > key->count - 4) {
        return fail_map(gguf, "the length of its trie does not fit");
    }
    map->n_units = (uint32_t)(trie / 4);
    map->texts = 4 + (uint32_t)trie;
    map->n_texts = (uint32_t)(key->count - map->texts);
    if (map->n_texts > 0 && (map->bytes[key->count - 1] != 0 || !graft_utf8_valid(map->bytes + map->texts, map->n_texts))) {
        return fail_map(gguf, "its replacements must be UTF-8 and end with a NUL");
    }
    return GRAFT_OK;
}

// The unit at `at`, or 0 (no label, no key) outside the array.
static uint32_t unit_at(const struct graft_charsmap *map, uint32_t at)
{
    return at < map->n_units ? graft_load_u32(map->bytes + 4 + 4 * (uint64_t)at) : 0;
}

static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & 1u << 9) >> 6);
}

static bool is_inside_character(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

uint32_t graft_charsmap_at(const struct graft_charsmap *map, const char *text, uint64_t left, const char **out,
                           uint64_t *length)
{
    uint32_t found = 0, at = offset_of(unit_at(map, 0));
    for (uint32_t n = 0; n < left && n < MAX_KEY_BYTES && text[n]; n++) {
        uint8_t byte = (uint8_t)text[n];
        uint32_t unit = unit_at(map, at ^ byte);
        if ((unit & (1u << 31 | 0xffu)) != byte) {
            break;
        }
        at = at ^ byte ^ offset_of(unit);
        if (!(unit >> 8 & 1)) {
            continue;
        }
        // A map that cuts characters apart, or points out of its texts, is not followed there.
        uint32_t value = unit_at(map, at) & 0x7fffffffu;
        bool whole = n + 1 == left || !is_inside_character((uint8_t)text[n + 1]);
        if (whole && value < map->n_texts && !is_inside_character(map->bytes[map->texts + value])) {
            *out = (const char *)map->bytes + map->texts + value;
            found = n + 1;
        }
    }
    if (found) {
        *length = strlen(*out); // the last text ends with a NUL
    }
    return found;
}
