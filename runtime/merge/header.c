// SPDX-License-Identifier: Apache-2.0
// The output's header: the base's keys, byte for byte, keys graft.merge.* that say what was merged, and the table of tensors.
// Source: the GGUF specification (ggml, docs/gguf.md).
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/merge/merge_private.h"

enum { PIECE = 4096, FIXED_BYTES = 24 };

static const char prefix[] = "graft.merge.", renamed[] = "graft.merge.base.merge.";

// Bytes that are counted, or gathered and written.
struct sink {
    struct graft_output *output; // NULL: only counted
    uint64_t at;
    uint32_t used;
    uint8_t piece[PIECE];
    enum graft_status status;
};

static void flush(struct sink *s)
{
    if (s->output && s->status == GRAFT_OK && s->used > 0) {
        s->status = graft_output_write(s->output, s->at - s->used, s->piece, s->used);
    }
    s->used = 0;
}

static void put(struct sink *s, const void *data, uint64_t bytes)
{
    if (bytes > PIECE - s->used) {
        flush(s);
    }
    if (bytes > PIECE) { // runs of the base's keys
        if (s->output && s->status == GRAFT_OK) {
            s->status = graft_output_write(s->output, s->at, data, bytes);
        }
    } else if (bytes > 0) {
        memcpy(s->piece + s->used, data, (size_t)bytes);
        s->used += (uint32_t)bytes;
    }
    s->at += bytes;
}

static void put_u32(struct sink *s, uint32_t value)
{
    uint8_t bytes[4];
    for (int i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(value >> 8 * i);
    }
    put(s, bytes, sizeof bytes);
}

static void put_u64(struct sink *s, uint64_t value)
{
    put_u32(s, (uint32_t)value);
    put_u32(s, (uint32_t)(value >> 32));
}

static void put_f32(struct sink *s, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u32(s, bits);
}

static void put_text(struct sink *s, const char *data, uint64_t length)
{
    put_u64(s, length);
    put(s, data, length);
}

static void put_string(struct sink *s, const char *text)
{
    put_text(s, text, strlen(text));
}

static void put_key(struct sink *s, const char *suffix, enum graft_gguf_value_type type, uint64_t *n_keys)
{
    put_u64(s, sizeof prefix - 1 + strlen(suffix));
    put(s, prefix, sizeof prefix - 1);
    put(s, suffix, strlen(suffix));
    put_u32(s, (uint32_t)type);
    (*n_keys)++;
}

static void put_array(struct sink *s, const char *suffix, enum graft_gguf_value_type item_type, uint64_t count,
                      uint64_t *n_keys)
{
    put_key(s, suffix, GRAFT_GGUF_ARRAY, n_keys);
    put_u32(s, (uint32_t)item_type);
    put_u64(s, count);
}

static bool begins_with(struct graft_text name, const char *text, size_t length)
{
    return name.length >= length && memcmp(name.data, text, length) == 0;
}

// Keys that say how a base in several files was split: the merged model is one file.
static bool of_split(const struct graft_merge *m, struct graft_text name)
{
    return m->gguf->n_parts > 1 && begins_with(name, "split.", 6);
}

// The base's keys. Its own graft.merge.* get a longer name; one that would be too long is left out.
static void put_base_keys(struct sink *s, const struct graft_merge *m, uint64_t *n_keys)
{
    const struct graft_gguf *g = m->gguf;
    size_t grown = sizeof renamed - sizeof prefix;
    for (uint64_t i = 0; i < g->n_keys; i++) {
        const struct graft_gguf_key *key = &g->keys[i];
        const uint8_t *value = (const uint8_t *)key->name.data + key->name.length; // type and value
        uint64_t value_bytes = (uint64_t)(key->data + key->bytes - value);
        if (of_split(m, key->name)) {
            continue;
        }
        if (!begins_with(key->name, prefix, sizeof prefix - 1)) {
            put_text(s, key->name.data, key->name.length);
        } else if (key->name.length + grown <= GRAFT_GGUF_MAX_KEY_BYTES) {
            put_u64(s, key->name.length + grown);
            put(s, renamed, sizeof renamed - 1);
            put(s, key->name.data + sizeof prefix - 1, key->name.length - (sizeof prefix - 1));
        } else {
            continue;
        }
        put(s, value, value_bytes);
        (*n_keys)++;
    }
}

static void put_adapters(struct sink *s, const struct graft_merge *m, uint64_t *n_keys)
{
    uint32_t n = m->params.n_adapters;
    char hex[GRAFT_SHA256_HEX_BYTES];
    put_array(s, "adapter.names", GRAFT_GGUF_STRING, n, n_keys);
    for (uint32_t i = 0; i < n; i++) {
        put_text(s, m->names[i].data, m->names[i].length);
    }
    put_array(s, "adapter.sha256", GRAFT_GGUF_STRING, n, n_keys);
    for (uint32_t i = 0; i < n; i++) {
        graft_sha256_hex(m->adapters[i]->digest, hex);
        put_string(s, hex);
    }
    put_array(s, "adapter.weights", GRAFT_GGUF_F32, n, n_keys);
    for (uint32_t i = 0; i < n; i++) {
        put_f32(s, m->weights[i]);
    }
}

static void put_changes(struct sink *s, const struct graft_merge *m, uint64_t *n_keys)
{
    static const char *const keys[] = {"tensors", "types_before", "types_after"};
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_items; i++) {
        n += m->items[i].n_links > 0 || m->items[i].added;
    }
    for (int k = 0; k < 3; k++) {
        put_array(s, keys[k], GRAFT_GGUF_STRING, n, n_keys);
        for (uint32_t i = 0; i < m->n_items; i++) {
            const struct graft_merge_item *item = &m->items[i];
            if (item->n_links == 0 && !item->added) {
                continue;
            }
            if (k == 0) {
                put_text(s, item->name.data, item->name.length);
            } else {
                put_string(s, graft_type_gguf_name(k == 1 ? item->from->type : item->type));
            }
        }
    }
}

static void put_recipe(struct sink *s, const struct graft_merge *m, uint64_t *n_keys)
{
    char hex[GRAFT_SHA256_HEX_BYTES];
    const char *type = m->params.type ? m->params.type : "keep";
    graft_sha256_hex(m->digest, hex);
    put_key(s, "version", GRAFT_GGUF_STRING, n_keys);
    put_string(s, GRAFT_VERSION_STRING);
    put_key(s, "base.sha256", GRAFT_GGUF_STRING, n_keys);
    put_string(s, hex);
    put_key(s, "type", GRAFT_GGUF_STRING, n_keys);
    put_string(s, type);
    put_key(s, "keep_effect", GRAFT_GGUF_F32, n_keys);
    put_f32(s, (float)m->params.keep_effect);
    put_adapters(s, m, n_keys);
    put_changes(s, m, n_keys);
}

static void put_tensors(struct sink *s, const struct graft_merge *m)
{
    for (uint32_t i = 0; i < m->n_items; i++) {
        const struct graft_merge_item *item = &m->items[i];
        put_text(s, item->name.data, item->name.length);
        put_u32(s, item->from->n_dims);
        for (uint32_t k = 0; k < item->from->n_dims; k++) {
            put_u64(s, item->from->dims[k]);
        }
        put_u32(s, item->type);
        put_u64(s, item->offset);
    }
}

enum graft_status graft_merge_header(struct graft_merge *m, bool write)
{
    struct sink s = {.output = write ? m->output : NULL, .at = FIXED_BYTES};
    uint64_t n_keys = 0;
    put_base_keys(&s, m, &n_keys);
    put_recipe(&s, m, &n_keys);
    put_tensors(&s, m);
    flush(&s);
    m->out_header_bytes = s.at;
    if (n_keys > GRAFT_GGUF_MAX_KEYS) {
        return graft_fail(GRAFT_E_LIMIT, "the merged file has %" PRIu64 " keys, allowed are %d", n_keys, GRAFT_GGUF_MAX_KEYS);
    }
    s.at = 0; // the counts are known now
    put(&s, "GGUF", 4);
    put_u32(&s, m->gguf->version);
    put_u64(&s, m->n_items);
    put_u64(&s, n_keys);
    flush(&s);
    return s.status;
}
