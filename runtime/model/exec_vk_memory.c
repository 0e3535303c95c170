// SPDX-License-Identifier: Apache-2.0
// Buffers of the Vulkan executor: how large, taken, freed; and the estimate from the same figures.
#include "platform/bytes.h"
#include "runtime/model/exec_vk.h"

enum { SEGMENT_BYTES = 4096 };   // what a recording of a layer keeps on the host: lists, views (measured: 3 KiB)
enum { WINDOW_BYTES = 1 << 20 }; // into the adapter pool, where it is not mapped

// Powers of two up to `most`, and `most` itself.
uint32_t graft_exec_vk_buckets(uint32_t most, uint32_t rows[MAX_BUCKETS])
{
    uint32_t n = 0;
    for (uint32_t r = 1; r < most && n < MAX_BUCKETS - 1; r *= 2) {
        rows[n++] = r;
    }
    rows[n++] = most;
    return n;
}

// Bytes of every buffer that depends on shape and limits.
struct buffer_bytes {
    uint64_t x, ss, q, ao, h, scores, route, tiles, y, part, counter, logits, top, kv, kv_new, kv_count, state, table, lora_t,
        lora_count, expert_t;
    bool overflow;
};

static struct buffer_bytes measure(const struct graft_plan *plan, const struct graft_limits *limits,
                                   const struct graft_vk_caps *caps)
{
    const struct graft_config *c = &plan->source->config;
    struct graft_attention_shape shape = {.n_head = c->n_head,
                                          .n_head_kv = c->n_head_kv,
                                          .head_dim = c->head_dim,
                                          .n_ctx = limits->table_pages * GRAFT_PAGE_TOKENS,
                                          .kv_k = limits->kv_k,
                                          .kv_v = limits->kv_v};
    uint64_t n = whole_tiles(limits->n_batch), out = whole_tiles(limits->n_out);
    struct graft_state_layout layout;
    struct buffer_bytes b = {0};
    b.x = n * c->n_embd * 4;
    b.ss = n * graft_lower_max_parts(plan, caps) * 4;
    bool head_norms = plan->source->layers[0].q_norm.data != NULL;
    uint64_t n_heads = (uint64_t)c->n_head + (head_norms ? c->n_head_kv : 0); // the attention's output holds raw heads before
    uint64_t heads = (uint64_t)c->n_head * c->head_dim;
    b.q = n * (heads > c->n_embd ? heads : c->n_embd) * 4; // what a block adds stands there before its norm
    b.ao = n * n_heads * c->head_dim * 4;
    b.h = n * graft_config_hidden(c) * 4;
    uint32_t rows[MAX_BUCKETS], n_buckets = graft_exec_vk_buckets(limits->n_batch, rows);
    for (uint32_t i = 0; i < n_buckets; i++) {
        uint64_t splits = graft_attention_splits(caps, &shape, rows[i]);
        uint64_t part = splits > 1 ? (uint64_t)rows[i] * c->n_head * splits * (c->head_dim + 2) * 4 : 16;
        b.part = part > b.part ? part : b.part;
    }
    if (c->n_expert) {
        b.scores = n * (c->n_expert + c->n_expert_used) * 4;
        b.route = n * c->n_expert_used * 8;
        graft_lower_experts_bytes(plan, limits, caps, &b.tiles, &b.y);
    }
    uint64_t groups = (uint64_t)c->n_head_kv * graft_attention_head_groups(&shape);
    b.counter = n * (groups > n_heads ? groups : n_heads) * 4;
    b.logits = out * c->n_vocab * 4;
    b.top = out * graft_lower_top_chunks(plan, caps) * GRAFT_TOP_K * 8;
    b.state = (graft_state_words(c, limits, (uint32_t)n, &layout) * 4ull + 15) & ~15ull; // read as groups of 16 bytes
    b.table = (uint64_t)limits->n_slots * c->n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY * 4;
    b.lora_t = limits->n_slots ? n * GRAFT_LORA_PAIRS * GRAFT_LORA_STAGE * GRAFT_LORA_RANK * 4 : 0;
    b.lora_count = limits->n_slots ? n * 4 : 0;
    b.expert_t = limits->n_slots ? n * c->n_expert_used * GRAFT_LORA_PAIRS * GRAFT_LORA_EXPERT_STAGE * GRAFT_LORA_RANK * 4 : 0;
    uint64_t keys, values;
    bool fits = graft_kv_bytes(plan->source, limits, &b.kv);
    for (uint32_t ring = 0; ring < 2 && fits; ring++) { // shaders count in 32 bits inside a layer
        fits = graft_kv_layer_bytes(c, limits, ring, &keys, &values) && keys <= UINT32_MAX - values;
    }
    b.overflow = !fits;
    bool quantized = graft_kv_is_quantized(limits->kv_k) || graft_kv_is_quantized(limits->kv_v);
    b.kv_new = quantized ? n * 2 * c->n_head_kv * c->head_dim * 4 : 16;
    b.kv_count = quantized ? n * 2 * c->n_head_kv * 4 : 16;
    return b;
}

// Whole rows of logits are read through mapped memory: directly where memory is unified, through a copy elsewhere.
static bool logits_mapped(const struct graft_vk_caps *caps)
{
    return caps->unified;
}

void graft_exec_vk_estimate(const struct graft_plan *plan, const struct graft_limits *limits, const struct graft_vk_caps *caps,
                            enum graft_weights_mode weights, uint64_t bytes[GRAFT_MEM_CLASSES], uint64_t *mapped_bytes)
{
    static const struct graft_vk_caps unknown = {
        .kind = GRAFT_VK_DISCRETE,
        .subgroup_size = 32,
        .subgroup_arithmetic = true,
        .subgroup_shuffle = true,
        .max_invocations = 1024,
        .max_shared_bytes = 32768,
        .max_group_count = {UINT32_MAX, 65535, 65535},
        .max_storage_bytes = UINT32_MAX,
        .max_allocation_bytes = UINT32_MAX,
        .storage_alignment = 256,
        .texel_alignment = 256,
    };
    caps = caps ? caps : &unknown;
    const struct graft_source *source = plan->source;
    bool mapped = graft_weights_vk_would_map(caps, weights, source->base_bytes);
    uint64_t matrices, vectors;
    graft_weights_vk_bytes(source, mapped, mapped ? 0 : limits->n_streamed, &matrices, &vectors);
    struct buffer_bytes b = measure(plan, limits, caps);
    *mapped_bytes = mapped ? source->base_bytes : 0;
    bytes[GRAFT_MEM_WEIGHTS] += matrices + vectors;
    bytes[GRAFT_MEM_KV] += b.overflow ? UINT64_MAX / 2 : b.kv; // more than any budget
    bytes[GRAFT_MEM_SCRATCH] += 2 * b.x + b.ss + b.q + b.ao + b.h + b.scores + b.route + b.tiles + b.y + b.part + b.counter +
                                b.logits * (logits_mapped(caps) ? 1 : 2) + b.top + STATES * b.state + 2 * b.lora_t +
                                b.lora_count + b.expert_t + b.kv_new + b.kv_count;
    bytes[GRAFT_MEM_ADAPTERS] += limits->n_slots ? limits->pool_bytes + b.table : 0;
    bytes[GRAFT_MEM_STAGING] += caps->unified ? 0 : graft_weights_vk_stream_staging(source, limits->n_streamed);
    bytes[GRAFT_MEM_STAGING] += limits->n_slots && !caps->unified ? WINDOW_BYTES : 0;
    uint32_t rows[MAX_BUCKETS];
    uint64_t buckets = graft_exec_vk_buckets(limits->n_batch, rows) + graft_exec_vk_buckets(limits->n_out, rows);
    uint64_t recordings = STATES * buckets * (limits->n_slots ? LORA_KINDS : 1);
    uint64_t dispatches = graft_lower_max_dispatches(plan, caps);
    uint64_t segments = limits->n_streamed ? STATES * (uint64_t)limits->n_streamed * (limits->n_slots ? LORA_KINDS : 1) *
                                                 graft_exec_vk_buckets(limits->n_batch, rows)
                                           : 0;
    bytes[GRAFT_MEM_HOST] += segments * SEGMENT_BYTES;
    bytes[GRAFT_MEM_HOST] += recordings * dispatches * sizeof(struct graft_vk_pipeline *) +
                             recordings / STATES * dispatches * sizeof(struct graft_stage_vk);
}

enum graft_status graft_exec_vk_take_buffers(struct exec_vk *e)
{
    const struct graft_vk_caps *caps = graft_vk_caps(e->vk);
    struct graft_buffers_vk *b = &e->buffers;
    struct buffer_bytes bytes = measure(e->plan, &e->limits, caps);
    if (bytes.overflow) {
        return graft_fail(GRAFT_E_LIMIT, "the KV cache of one layer would exceed 4 GiB: %u pages of %u tokens",
                          e->limits.n_pages, GRAFT_PAGE_TOKENS);
    }
    const struct {
        struct graft_vk_buffer **buffer;
        uint64_t bytes;
        enum graft_vk_memory where;
        const char *what;
    } list[] = {
        {&b->x, bytes.x, GRAFT_VK_DEVICE, "residual stream"},
        {&b->xn, bytes.x, GRAFT_VK_DEVICE, "normed stream"},
        {&b->ss, bytes.ss, GRAFT_VK_DEVICE, "sums of squares"},
        {&b->q, bytes.q, GRAFT_VK_DEVICE, "queries"},
        {&b->ao, bytes.ao, GRAFT_VK_DEVICE, "attention output"},
        {&b->h, bytes.h, GRAFT_VK_DEVICE, "feed-forward"},
        {&b->scores, bytes.scores, GRAFT_VK_DEVICE, "router logits"},
        {&b->route, bytes.route, GRAFT_VK_DEVICE, "experts of the rows"},
        {&b->tiles, bytes.tiles, GRAFT_VK_DEVICE, "rows by expert"},
        {&b->y, bytes.y, GRAFT_VK_DEVICE, "outputs of the experts"},
        {&b->part, bytes.part, GRAFT_VK_DEVICE, "attention splits"},
        {&b->counter, bytes.counter, GRAFT_VK_DEVICE, "attention counters"},
        {&b->logits, bytes.logits, logits_mapped(caps) ? GRAFT_VK_READBACK : GRAFT_VK_DEVICE, "logits"},
        {&b->top, bytes.top, GRAFT_VK_READBACK, "candidates"},
        {&b->kv_new, bytes.kv_new, GRAFT_VK_DEVICE, "new keys and values"},
        {&b->kv_count, bytes.kv_count, GRAFT_VK_DEVICE, "counters of new keys and values"},
        {&b->state[0], bytes.state, GRAFT_VK_HOST_SEEN, "state"},
        {&b->state[1], bytes.state, GRAFT_VK_HOST_SEEN, "state"},
    };
    for (uint32_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].bytes) { // a dense model has none of a mixture's
            GRAFT_TRY(
                graft_vk_buffer_create(e->vk, list[i].buffer, list[i].bytes, list[i].where, GRAFT_MEM_SCRATCH, list[i].what));
        }
    }
    if (!logits_mapped(caps)) {
        GRAFT_TRY(graft_vk_buffer_create(e->vk, &e->readback, bytes.logits, GRAFT_VK_READBACK, GRAFT_MEM_SCRATCH,
                                         "logits on the host"));
    }
    if (e->limits.n_slots) {
        GRAFT_TRY(
            graft_vk_buffer_create(e->vk, &b->pool, e->limits.pool_bytes, GRAFT_VK_DEVICE, GRAFT_MEM_ADAPTERS, "adapter pool"));
        GRAFT_TRY(graft_vk_buffer_create(e->vk, &b->table, bytes.table, GRAFT_VK_DEVICE, GRAFT_MEM_ADAPTERS, "adapter table"));
        for (uint32_t i = 0; i < 2; i++) {
            GRAFT_TRY(graft_vk_buffer_create(e->vk, &b->lora_t[i], bytes.lora_t, GRAFT_VK_DEVICE, GRAFT_MEM_SCRATCH,
                                             "adapter activations"));
        }
        if (!b->pool->mapped || !b->table->mapped) {
            GRAFT_TRY(graft_vk_window_create(e->vk, &e->window, WINDOW_BYTES, "the way into the adapter pool"));
        }
        if (bytes.expert_t) {
            GRAFT_TRY(graft_vk_buffer_create(e->vk, &b->expert_t, bytes.expert_t, GRAFT_VK_DEVICE, GRAFT_MEM_SCRATCH,
                                             "adapter activations of experts"));
        }
        GRAFT_TRY(graft_vk_buffer_create(e->vk, &b->lora_count, bytes.lora_count, GRAFT_VK_DEVICE, GRAFT_MEM_SCRATCH,
                                         "adapter counters"));
    }
    uint32_t n_layer = e->plan->source->config.n_layer;
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &b->kv, n_layer, "KV buffers"));
    for (uint32_t l = 0; l < n_layer; l++) {
        uint64_t keys = 0, values = 0;
        bool ring = graft_layer_has_ring(e->plan->source, &e->limits, l);
        (void)graft_kv_layer_bytes(&e->plan->source->config, &e->limits, ring, &keys, &values); // measured above
        GRAFT_TRY(graft_vk_buffer_create(e->vk, &b->kv[l], keys + values, GRAFT_VK_DEVICE, GRAFT_MEM_KV,
                                         "a layer's keys and values"));
    }
    return GRAFT_OK;
}

void graft_exec_vk_free_buffers(struct exec_vk *e)
{
    struct graft_buffers_vk *b = &e->buffers;
    struct graft_vk_buffer **list[] = {&b->x,        &b->xn,        &b->ss,        &b->q,          &b->ao,       &b->h,
                                       &b->scores,   &b->route,     &b->tiles,     &b->y,          &b->part,     &b->counter,
                                       &b->logits,   &b->top,       &b->state[0],  &b->state[1],   &e->readback, &b->pool,
                                       &b->table,    &b->lora_t[0], &b->lora_t[1], &b->lora_count, &e->window,   &b->kv_new,
                                       &b->kv_count, &b->expert_t};
    for (uint32_t i = 0; i < sizeof list / sizeof *list; i++) {
        graft_vk_buffer_destroy(list[i]);
    }
    for (uint32_t l = 0; b->kv && l < e->plan->source->config.n_layer; l++) {
        graft_vk_buffer_destroy(&b->kv[l]);
    }
    GRAFT_FREE(e->ctx, &b->kv);
}
