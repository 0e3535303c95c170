// SPDX-License-Identifier: Apache-2.0
// Saving and restoring sequences. Everything in the file is little-endian; the layout stands in docs/memory.md.
#include "runtime/session/saved.h"

#include <string.h>

#include "graft/chat.h"
#include "loaders/sha256.h"
#include "platform/bytes.h"
#include "platform/plat.h"

enum {
    VERSION = 1,
    HEADER_BYTES = 108,
    USE_BYTES = 72, // digest as 64 hex digits, weight, from
    MOST_EXTRA = 64 << 20,
    WINDOW = 4096, // of each tensor's begin and end
};
static const char magic[8] = "GRAFTKV";
static const char tag[] = "session";

// ---- what the model is ----

// A digest of what distinguishes a base: its header, and the first and last 4096 bytes of every tensor. Reading all of a model
// would take longer than computing most conversations anew.
static enum graft_status base_digest(const struct graft_model *model, uint8_t digest[GRAFT_SHA256_BYTES])
{
    const struct graft_gguf *g = model->gguf;
    if (!g) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "a synthetic model's sequences cannot be saved");
    }
    struct graft_sha256 hash;
    graft_sha256_begin(&hash);
    graft_sha256_add(&hash, g->map.data, g->data_offset);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const uint8_t *data = graft_gguf_data(g, &g->tensors[i]);
        uint64_t bytes = g->tensors[i].bytes, window = bytes < WINDOW ? bytes : WINDOW;
        graft_sha256_add(&hash, g->tensors[i].name.data, g->tensors[i].name.length);
        graft_sha256_add(&hash, data, window);
        graft_sha256_add(&hash, data + bytes - window, window);
    }
    graft_sha256_end(&hash, digest);
    return GRAFT_OK;
}

// Which pages of a sequence of n tokens a layer has: all, or those of its ring.
static uint32_t first_page(const struct graft_model *m, uint32_t layer, uint32_t n_tokens)
{
    uint32_t pages = graft_kv_pages(n_tokens), ring = m->limits.ring_pages;
    return graft_layer_has_ring(m->source, &m->limits, layer) && pages > ring ? pages - ring : 0;
}

// Their numbers; 0 where a sequence that was cut has no page in its ring any more.
static const uint32_t *table_of(const struct graft_model *m, uint32_t layer, const struct graft_seq *seq)
{
    bool ring = graft_layer_has_ring(m->source, &m->limits, layer);
    return ring ? graft_kv_ring(m->kv, seq->index) : graft_kv_table(m->kv, seq->index);
}

static uint64_t page_bytes(const struct graft_model *model)
{
    return graft_kv_page_bytes(&model->source->config, &model->limits, false) +
           graft_kv_page_bytes(&model->source->config, &model->limits, true);
}

// ---- writing ----

struct writer {
    struct graft_output *output;
    struct graft_sha256 hash;
    uint64_t at;
    enum graft_status status;
};

static void put(struct writer *w, const void *data, uint64_t bytes)
{
    if (w->status == GRAFT_OK && bytes) {
        graft_sha256_add(&w->hash, data, bytes);
        w->status = graft_output_write(w->output, w->at, data, bytes);
        w->at += bytes;
    }
}

static void put_u32(struct writer *w, uint32_t value)
{
    uint8_t bytes[4];
    for (int i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(value >> 8 * i);
    }
    put(w, bytes, sizeof bytes);
}

static void put_header(struct writer *w, const struct graft_seq *seq, const uint8_t digest[GRAFT_SHA256_BYTES], uint32_t n_ids,
                       uint64_t extra_bytes)
{
    const struct graft_model *m = seq->model;
    const struct graft_config *c = &m->source->config;
    const uint32_t numbers[] = {VERSION,
                                0,
                                c->n_layer,
                                c->n_head_kv,
                                c->head_dim,
                                (uint32_t)m->limits.kv_k,
                                (uint32_t)m->limits.kv_v,
                                GRAFT_PAGE_TOKENS,
                                graft_seq_length(seq),
                                n_ids,
                                seq->n_uses,
                                (uint32_t)extra_bytes,
                                m->limits.window,
                                m->limits.ring_pages,
                                graft_kv_ring_begin(m->kv, seq->index),
                                0,
                                0};
    put(w, magic, sizeof magic);
    put(w, digest, GRAFT_SHA256_BYTES);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        put_u32(w, numbers[i]);
    }
}

static void put_uses(struct writer *w, const struct graft_seq *seq)
{
    for (uint32_t i = 0; i < seq->n_uses; i++) {
        uint32_t bits;
        memcpy(&bits, &seq->uses[i].weight, sizeof bits);
        put(w, seq->model->infos[seq->uses[i].slot].digest, GRAFT_SHA256_HEX_BYTES - 1);
        put_u32(w, bits);
        put_u32(w, seq->uses[i].from);
    }
}

// Slots of the last page that hold nothing yet may hold what others said: zeros instead.
static void blank(const struct graft_model *model, bool values, uint32_t used, uint8_t *bytes)
{
    static const float zeros[2 * GRAFT_MAX_ROPE_PAIRS];
    const struct graft_config *c = &model->source->config;
    enum graft_kv_format format = values ? model->limits.kv_v : model->limits.kv_k;
    for (uint32_t h = 0; h < c->n_head_kv; h++) {
        for (uint32_t t = used; t < GRAFT_PAGE_TOKENS; t++) {
            graft_kv_store(format, c->head_dim, bytes + h * graft_kv_unit_bytes(format, c->head_dim), t, zeros);
        }
    }
}

static void put_pages(struct writer *w, const struct graft_seq *seq, uint8_t *bytes)
{
    struct graft_model *m = seq->model;
    uint32_t length = graft_seq_length(seq), pages = graft_kv_pages(length);
    for (uint32_t layer = 0; layer < m->source->config.n_layer; layer++) {
        const uint32_t *table = table_of(m, layer, seq);
        for (uint32_t i = 2 * first_page(m, layer, length); i < 2 * pages && w->status == GRAFT_OK; i++) {
            bool values = i % 2;
            uint32_t used = table[i / 2] ? length - i / 2 * GRAFT_PAGE_TOKENS : 0;
            if (used) {
                w->status = m->exec->functions->page_read(m->exec, layer, table[i / 2], values, bytes);
            }
            blank(m, values, used, bytes);
            put(w, bytes, graft_kv_page_bytes(&m->source->config, &m->limits, values));
        }
    }
}

enum graft_status graft_seq_save(const struct graft_seq *seq, const char *path, const int32_t *ids, uint32_t n_ids,
                                 const void *extra, size_t extra_bytes)
{
    struct graft_model *m = seq->model;
    uint8_t digest[GRAFT_SHA256_BYTES], *bytes = NULL;
    if (n_ids < graft_seq_length(seq) || n_ids > m->n_ctx + 1 || extra_bytes > MOST_EXTRA) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%u tokens and %zu bytes were given; the sequence has %u tokens, at most %u and %d bytes "
                          "can be saved",
                          n_ids, extra_bytes, graft_seq_length(seq), m->n_ctx + 1, MOST_EXTRA);
    }
    GRAFT_TRY(base_digest(m, digest));
    struct writer w = {.status = GRAFT_OK};
    GRAFT_TRY(graft_alloc(m->ctx, GRAFT_MEM_HOST, (void **)&bytes, page_bytes(m), 1, "a page on its way"));
    enum graft_status status = graft_output_begin(m->ctx, &w.output, path, tag);
    if (status == GRAFT_OK) {
        graft_sha256_begin(&w.hash);
        put_header(&w, seq, digest, n_ids, extra_bytes);
        put_uses(&w, seq);
        for (uint32_t i = 0; i < n_ids; i++) {
            put_u32(&w, (uint32_t)ids[i]);
        }
        put(&w, extra, extra_bytes);
        put_pages(&w, seq, bytes);
        graft_sha256_end(&w.hash, digest);
        status = w.status == GRAFT_OK ? graft_output_write(w.output, w.at, digest, sizeof digest) : w.status;
        status = status == GRAFT_OK ? graft_output_commit(&w.output) : status;
        graft_output_abandon(&w.output);
    }
    GRAFT_FREE(m->ctx, &bytes);
    return status;
}

// ---- reading ----

static enum graft_status check_digest(const struct graft_map *map, const char *path)
{
    struct graft_sha256 hash;
    uint8_t digest[GRAFT_SHA256_BYTES];
    if (map->size < HEADER_BYTES + GRAFT_SHA256_BYTES || memcmp(map->data, magic, sizeof magic) != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: is no saved session of graft (%" PRIu64 " bytes)", path, map->size);
    }
    uint32_t version = graft_load_u32(map->data + sizeof magic + GRAFT_SHA256_BYTES);
    if (version != VERSION) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: is a session of format %u, this version reads format %d", path, version,
                          VERSION);
    }
    graft_sha256_begin(&hash);
    graft_sha256_add(&hash, map->data, map->size - GRAFT_SHA256_BYTES);
    graft_sha256_end(&hash, digest);
    if (memcmp(digest, map->data + map->size - GRAFT_SHA256_BYTES, sizeof digest) != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: is cut short or damaged: its bytes do not give the digest at its end", path);
    }
    return GRAFT_OK;
}

static enum graft_status check_shape(const struct graft_model *m, const uint32_t *numbers, const char *path)
{
    const struct graft_config *c = &m->source->config;
    const struct {
        uint32_t expected;
        const char *what;
    } rules[] = {{0, "order of rotary pairs"},
                 {c->n_layer, "number of layers"},
                 {c->n_head_kv, "number of KV heads"},
                 {c->head_dim, "head size"}};
    for (uint32_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (numbers[1 + i] != rules[i].expected) {
            return graft_fail(GRAFT_E_ARGUMENT, "%s: its %s is %u, this model's is %u", path, rules[i].what, numbers[1 + i],
                              rules[i].expected);
        }
    }
    const enum graft_kv_format formats[2] = {m->limits.kv_k, m->limits.kv_v};
    for (uint32_t i = 0; i < 2; i++) {
        if (numbers[5 + i] != (uint32_t)formats[i]) {
            bool known = numbers[5 + i] <= GRAFT_KV_FORMAT_Q4_0;
            return graft_fail(GRAFT_E_ARGUMENT, "%s: was written with %s of type %s, the model is open with %s", path,
                              i ? "values" : "keys",
                              known ? graft_kv_format_name((enum graft_kv_format)numbers[5 + i]) : "unknown",
                              graft_kv_format_name(formats[i]));
        }
    }
    if (numbers[12] != m->limits.window || numbers[13] != m->limits.ring_pages) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%s: was written with windows of %u tokens in %u pages, the model is open with %u in %u", path,
                          numbers[12], numbers[13], m->limits.window, m->limits.ring_pages);
    }
    if (numbers[7] != GRAFT_PAGE_TOKENS) {
        return graft_fail(GRAFT_E_FORMAT, "%s: has pages of %u tokens, expected %u", path, numbers[7], GRAFT_PAGE_TOKENS);
    }
    return GRAFT_OK;
}

// The parts behind the header, each inside the file; and that there is nothing else.
static enum graft_status read_parts(struct graft_saved *s, const uint32_t *numbers, const char *path)
{
    const struct graft_model *m = s->model;
    struct graft_reader reader = {
        .data = s->map.data, .size = s->map.size - GRAFT_SHA256_BYTES, .position = HEADER_BYTES, .file = path};
    const uint8_t *extra;
    s->n_cached = numbers[8];
    s->n_ids = numbers[9];
    s->n_uses = numbers[10];
    s->extra_bytes = numbers[11];
    s->ring_begin = numbers[14];
    if (s->n_cached > s->n_ids || s->n_uses > GRAFT_MAX_BLEND || s->extra_bytes > MOST_EXTRA) {
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: has %u tokens of which %u are computed, %u adapters (at most %d), %" PRIu64
                          " bytes of conversation (at most %d)",
                          path, s->n_ids, s->n_cached, s->n_uses, GRAFT_MAX_BLEND, s->extra_bytes, MOST_EXTRA);
    }
    uint32_t window = m->limits.ring_pages ? graft_kv_window_begin(m->kv, s->n_cached) : 0;
    if (s->ring_begin > window) {
        return graft_fail(GRAFT_E_FORMAT, "%s: has window pages from %u on, its next token needs those from %u on", path,
                          s->ring_begin, window);
    }
    if (s->n_cached > m->n_ctx || s->n_ids > m->n_ctx + 1) {
        return graft_fail(GRAFT_E_CONTEXT_FULL, "%s: has %u tokens, the context has room for %u", path, s->n_ids, m->n_ctx);
    }
    GRAFT_TRY(graft_read_bytes(&reader, (uint64_t)s->n_uses * USE_BYTES, &s->uses, "the adapters"));
    GRAFT_TRY(graft_read_bytes(&reader, (uint64_t)s->n_ids * 4, &s->ids, "the tokens"));
    GRAFT_TRY(graft_read_bytes(&reader, s->extra_bytes, &extra, "the conversation"));
    s->extra = (const char *)extra;
    uint64_t pages = 0, bytes;
    for (uint32_t layer = 0; layer < m->source->config.n_layer; layer++) {
        pages += graft_kv_pages(s->n_cached) - first_page(m, layer, s->n_cached);
    }
    if (!graft_mul_u64(pages, page_bytes(m), &bytes)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: the size of its pages overflows", path);
    }
    GRAFT_TRY(graft_read_bytes(&reader, bytes, &s->pages, "the keys and values"));
    if (reader.position != reader.size) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %" PRIu64 " bytes behind its last page are too many", path,
                          reader.size - reader.position);
    }
    for (uint32_t i = 0; i < s->n_ids; i++) {
        int32_t id = graft_saved_id(s, i);
        if (id < 0 || (uint32_t)id >= m->source->config.n_vocab) {
            return graft_fail(GRAFT_E_FORMAT, "%s: token %u is %d, the vocabulary has 0 to %u", path, i, id,
                              m->source->config.n_vocab - 1);
        }
    }
    return GRAFT_OK;
}

static enum graft_status check(struct graft_saved *s, const char *path)
{
    uint8_t digest[GRAFT_SHA256_BYTES];
    uint32_t numbers[17];
    GRAFT_TRY(check_digest(&s->map, path));
    GRAFT_TRY(base_digest(s->model, digest));
    if (memcmp(s->map.data + sizeof magic, digest, sizeof digest) != 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s: was written with another base model than %s", path, s->model->gguf->path);
    }
    for (uint32_t i = 0; i < 17; i++) {
        numbers[i] = graft_load_u32(s->map.data + sizeof magic + GRAFT_SHA256_BYTES + 4 * i);
    }
    GRAFT_TRY(check_shape(s->model, numbers, path));
    return read_parts(s, numbers, path);
}

enum graft_status graft_saved_open(struct graft_model *model, struct graft_saved *out, const char *path)
{
    *out = (struct graft_saved){.model = model};
    GRAFT_TRY(graft_map_open(&out->map, path));
    enum graft_status status = check(out, path);
    if (status != GRAFT_OK) {
        graft_saved_close(out);
    }
    return status;
}

void graft_saved_close(struct graft_saved *saved)
{
    graft_map_close(&saved->map);
}

int32_t graft_saved_id(const struct graft_saved *saved, uint32_t i)
{
    return (int32_t)graft_load_u32(saved->ids + (uint64_t)i * 4);
}

enum graft_status graft_saved_check_uses(const struct graft_saved *saved, const struct graft_seq *seq, const char *path)
{
    if (saved->n_uses != seq->n_uses) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s: was computed with %u adapters, %u are set", path, saved->n_uses, seq->n_uses);
    }
    for (uint32_t i = 0; i < saved->n_uses; i++) {
        const uint8_t *use = saved->uses + (uint64_t)i * USE_BYTES;
        const char *have = seq->model->infos[seq->uses[i].slot].digest;
        uint32_t bits = graft_load_u32(use + 64);
        float weight;
        memcpy(&weight, &bits, sizeof weight);
        if (memcmp(use, have, 64) != 0) {
            return graft_fail(GRAFT_E_ARGUMENT, "%s: adapter %u was %.12s..., the one that is set is %.12s...", path, i + 1,
                              (const char *)use, have);
        }
        if (memcmp(&weight, &seq->uses[i].weight, sizeof weight) != 0) {
            return graft_fail(GRAFT_E_ARGUMENT, "%s: adapter %u had weight %g, now it has %g", path, i + 1, (double)weight,
                              (double)seq->uses[i].weight);
        }
    }
    return GRAFT_OK;
}

enum graft_status graft_saved_apply(const struct graft_saved *saved, struct graft_seq *seq)
{
    struct graft_model *m = saved->model;
    const struct graft_exec_functions *functions = m->exec->functions;
    graft_seq_truncate(seq, 0);
    for (uint32_t i = 0, slot; i < saved->n_cached; i++) {
        if (!graft_kv_append(m->kv, seq->index, &slot)) {
            graft_seq_truncate(seq, 0);
            return graft_fail(GRAFT_E_CONTEXT_FULL, "the session has %u tokens, other sequences leave room for %u",
                              saved->n_cached, i);
        }
    }
    const uint8_t *at = saved->pages;
    enum graft_status status = GRAFT_OK;
    for (uint32_t layer = 0; layer < m->source->config.n_layer; layer++) {
        const uint32_t *table = table_of(m, layer, seq);
        for (uint32_t i = 2 * first_page(m, layer, saved->n_cached);
             i < 2 * graft_kv_pages(saved->n_cached) && status == GRAFT_OK; i++) {
            status = functions->page_write(m->exec, layer, table[i / 2], i % 2, at);
            at += graft_kv_page_bytes(&m->source->config, &m->limits, i % 2);
        }
    }
    status = status == GRAFT_OK ? functions->pages_written(m->exec) : status;
    if (status != GRAFT_OK) {
        graft_seq_truncate(seq, 0);
        m->lost = m->lost || status == GRAFT_E_DEVICE_LOST;
        return status;
    }
    for (uint32_t i = 0; i < saved->n_uses; i++) {
        seq->uses[i].from = graft_load_u32(saved->uses + (uint64_t)i * USE_BYTES + 68);
    }
    graft_kv_forget_ring(m->kv, seq->index, saved->ring_begin);
    return GRAFT_OK;
}

enum graft_status graft_seq_restore(struct graft_seq *seq, const char *path, int32_t *ids, uint32_t capacity, uint32_t *n_ids,
                                    char **extra, size_t *extra_bytes)
{
    struct graft_model *m = seq->model;
    struct graft_saved saved;
    *n_ids = 0;
    if (extra) {
        *extra = NULL;
        *extra_bytes = 0;
    }
    GRAFT_TRY(graft_saved_open(m, &saved, path));
    enum graft_status status = graft_saved_check_uses(&saved, seq, path);
    if (status == GRAFT_OK && saved.n_ids > capacity) {
        status = graft_fail(GRAFT_E_LIMIT, "%s: has %u tokens, there is room for %u", path, saved.n_ids, capacity);
    }
    if (status == GRAFT_OK && extra) {
        status = graft_strdup(m->ctx, extra, saved.extra, (size_t)saved.extra_bytes);
    }
    status = status == GRAFT_OK ? graft_saved_apply(&saved, seq) : status;
    if (status == GRAFT_OK) {
        *n_ids = saved.n_ids;
        for (uint32_t i = 0; i < saved.n_ids; i++) {
            ids[i] = graft_saved_id(&saved, i);
        }
        if (extra) {
            *extra_bytes = (size_t)saved.extra_bytes;
        }
    } else if (extra) {
        GRAFT_FREE(m->ctx, extra);
    }
    graft_saved_close(&saved);
    return status;
}
