// SPDX-License-Identifier: Apache-2.0
// The plan on a Vulkan device. Every row bucket is recorded once per state buffer; a batch writes one state buffer, submits the
// body's recording and (if logits are wanted) the head's as one submission, and waits.
#include <math.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/model/exec.h"
#include "runtime/model/lower.h"

enum { MAX_BUCKETS = 16, STATES = 2, MAX_SEGMENTS = 32 };

struct bucket {
    uint32_t rows, n_segments;
    struct graft_vk_commands *commands[STATES][MAX_SEGMENTS];
    struct graft_stage_vk *stages;         // of all segments
    uint32_t n_stages[MAX_SEGMENTS];       // of each segment
};

struct exec_vk {
    struct graft_exec exec; // first
    struct graft_ctx *ctx;
    struct graft_vk *vk;
    const struct graft_plan *plan;
    struct graft_limits limits;
    bool timed;
    struct graft_state_layout layout; // for n_batch rows, the same in every bucket
    struct graft_weights_vk weights;
    struct graft_buffers_vk buffers;
    struct graft_vk_buffer *readback; // of logits, where they are not mapped
    struct graft_vk_commands *copy[MAX_BUCKETS];
    struct bucket body[MAX_BUCKETS], adapted[MAX_BUCKETS], head[MAX_BUCKETS]; // adapted: bodies for batches with adapters
    uint32_t n_body, n_head;
    struct graft_vk_pipeline **pipelines;
    uint32_t n_pipelines, pipelines_capacity, max_dispatches;
    uint32_t chunks;  // of TOP
    uint32_t state;   // to be written next
    uint32_t n_out;   // of the last batch
    bool has_logits;  // of the last batch
    bool had_adapters; // of the last batch
};

static struct exec_vk *self_of(struct graft_exec *exec)
{
    return (struct exec_vk *)exec;
}

// Powers of two up to `most`, and `most` itself.
static uint32_t buckets(uint32_t most, uint32_t rows[MAX_BUCKETS])
{
    uint32_t n = 0;
    for (uint32_t r = 1; r < most && n < MAX_BUCKETS - 1; r *= 2) {
        rows[n++] = r;
    }
    rows[n++] = most;
    return n;
}

// Buffers have room for the rows that a column tile may touch beyond the batch.
static uint32_t whole_tiles(uint32_t rows)
{
    return (rows + GRAFT_MAX_COLS - 1) / GRAFT_MAX_COLS * GRAFT_MAX_COLS;
}

static uint32_t bucket_of(const struct bucket *list, uint32_t n, uint32_t rows)
{
    uint32_t i = 0;
    while (i + 1 < n && list[i].rows < rows) {
        i++;
    }
    return i;
}

// Bytes of every buffer that depends on shape and limits.
struct buffer_bytes {
    uint64_t x, ss, q, h, part, counter, logits, top, kv, state, table, lora_t;
    bool overflow;
};

static struct buffer_bytes measure(const struct graft_plan *plan, const struct graft_limits *limits,
                                   const struct graft_vk_caps *caps)
{
    const struct graft_config *c = &plan->source->config;
    struct graft_attention_shape shape = {c->n_head, c->n_head_kv, c->head_dim, limits->table_pages * GRAFT_PAGE_TOKENS,
                                          limits->kv_f32};
    uint64_t n = whole_tiles(limits->n_batch), out = whole_tiles(limits->n_out);
    struct graft_state_layout layout;
    struct buffer_bytes b = {0};
    b.x = n * c->n_embd * 4;
    b.ss = n * graft_lower_max_parts(plan, caps) * 4;
    b.q = n * c->n_head * c->head_dim * 4;
    b.h = n * c->n_ff * 4;
    uint32_t rows[MAX_BUCKETS], n_buckets = buckets(limits->n_batch, rows);
    for (uint32_t i = 0; i < n_buckets; i++) {
        uint64_t splits = graft_attention_splits(caps, &shape, rows[i]);
        uint64_t part = splits > 1 ? (uint64_t)rows[i] * c->n_head * splits * (c->head_dim + 2) * 4 : 16;
        b.part = part > b.part ? part : b.part;
    }
    b.counter = n * c->n_head_kv * graft_attention_head_groups(&shape) * 4;
    b.logits = out * c->n_vocab * 4;
    b.top = out * graft_lower_top_chunks(plan, caps) * GRAFT_TOP_K * 8;
    b.state = graft_state_words(c, limits, (uint32_t)n, &layout) * 4ull;
    b.table = (uint64_t)limits->n_slots * c->n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY * 4;
    b.lora_t = limits->n_slots ? n * GRAFT_LORA_PAIRS * GRAFT_LORA_STAGE * GRAFT_LORA_RANK * 4 : 0;
    uint64_t per_page = 2ull * c->n_head_kv * GRAFT_PAGE_TOKENS * c->head_dim * (limits->kv_f32 ? 4 : 2);
    b.overflow = !graft_mul_u64(per_page, limits->n_pages, &b.kv) || b.kv > UINT32_MAX;
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
    uint64_t matrices, gains;
    graft_weights_vk_bytes(source, mapped, &matrices, &gains);
    struct buffer_bytes b = measure(plan, limits, caps);
    *mapped_bytes = mapped ? source->base_bytes : 0;
    bytes[GRAFT_MEM_WEIGHTS] += matrices + gains;
    bytes[GRAFT_MEM_KV] += b.kv * source->config.n_layer;
    bytes[GRAFT_MEM_SCRATCH] += 2 * b.x + b.ss + 2 * b.q + b.h + b.part + b.counter + b.logits * (logits_mapped(caps) ? 1 : 2) +
                                b.top + STATES * b.state + b.lora_t;
    bytes[GRAFT_MEM_ADAPTERS] += limits->n_slots ? limits->pool_bytes + b.table : 0;
    uint32_t rows[MAX_BUCKETS];
    uint64_t recordings = STATES * (buckets(limits->n_batch, rows) * (limits->n_slots ? 2 : 1) + buckets(limits->n_out, rows));
    uint64_t dispatches = graft_lower_max_dispatches(plan, caps);
    bytes[GRAFT_MEM_HOST] += recordings * dispatches * sizeof(struct graft_vk_pipeline *) +
                             recordings / STATES * dispatches * sizeof(struct graft_stage_vk);
}

static enum graft_status take_buffers(struct exec_vk *e)
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
        {&b->ao, bytes.q, GRAFT_VK_DEVICE, "attention output"},
        {&b->h, bytes.h, GRAFT_VK_DEVICE, "feed-forward"},
        {&b->part, bytes.part, GRAFT_VK_DEVICE, "attention splits"},
        {&b->counter, bytes.counter, GRAFT_VK_DEVICE, "attention counters"},
        {&b->logits, bytes.logits, logits_mapped(caps) ? GRAFT_VK_READBACK : GRAFT_VK_DEVICE, "logits"},
        {&b->top, bytes.top, GRAFT_VK_READBACK, "candidates"},
        {&b->state[0], bytes.state, GRAFT_VK_HOST_SEEN, "state"},
        {&b->state[1], bytes.state, GRAFT_VK_HOST_SEEN, "state"},
    };
    for (uint32_t i = 0; i < sizeof list / sizeof *list; i++) {
        GRAFT_TRY(graft_vk_buffer_create(e->vk, list[i].buffer, list[i].bytes, list[i].where, GRAFT_MEM_SCRATCH, list[i].what));
    }
    if (!logits_mapped(caps)) {
        GRAFT_TRY(graft_vk_buffer_create(e->vk, &e->readback, bytes.logits, GRAFT_VK_READBACK, GRAFT_MEM_SCRATCH,
                                         "logits on the host"));
    }
    if (e->limits.n_slots) {
        GRAFT_TRY(
            graft_vk_buffer_create(e->vk, &b->pool, e->limits.pool_bytes, GRAFT_VK_DEVICE, GRAFT_MEM_ADAPTERS, "adapter pool"));
        GRAFT_TRY(graft_vk_buffer_create(e->vk, &b->table, bytes.table, GRAFT_VK_DEVICE, GRAFT_MEM_ADAPTERS, "adapter table"));
        GRAFT_TRY(
            graft_vk_buffer_create(e->vk, &b->lora_t, bytes.lora_t, GRAFT_VK_DEVICE, GRAFT_MEM_SCRATCH, "adapter activations"));
    }
    uint32_t n_layer = e->plan->source->config.n_layer;
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &b->kv, n_layer, "KV buffers"));
    for (uint32_t l = 0; l < n_layer; l++) {
        GRAFT_TRY(
            graft_vk_buffer_create(e->vk, &b->kv[l], bytes.kv, GRAFT_VK_DEVICE, GRAFT_MEM_KV, "a layer's keys and values"));
    }
    return GRAFT_OK;
}

static struct graft_lowering lowering(struct exec_vk *e, uint32_t rows, uint32_t state)
{
    return (struct graft_lowering){
        .vk = e->vk,
        .caps = graft_vk_caps(e->vk),
        .plan = e->plan,
        .limits = &e->limits,
        .weights = &e->weights,
        .buffers = &e->buffers,
        .rows = rows,
        .state = state,
        .layout = e->layout,
        .pipelines = e->pipelines,
        .n_pipelines = e->n_pipelines,
        .pipelines_capacity = e->pipelines_capacity,
        .ss_parts = graft_lower_residual_parts(e->plan, graft_vk_caps(e->vk)),
        .stages_capacity = e->max_dispatches,
    };
}

// Record steps into n_segments recordings of about as many steps each, at out[0 ..]. stages, n_stages may be NULL.
static enum graft_status record(struct exec_vk *e, const struct graft_step *steps, uint32_t n_steps, uint32_t rows,
                                uint32_t state, uint32_t n_segments, bool lora, struct graft_stage_vk *stages,
                                uint32_t *n_stages, struct graft_vk_commands **out)
{
    struct graft_lowering lo = lowering(e, rows, state);
    lo.stages = stages;
    lo.lora = lora;
    enum graft_status status = GRAFT_OK;
    for (uint32_t s = 0, i = 0; s < n_segments && status == GRAFT_OK; s++) {
        uint32_t first_stage = lo.n_stages, end = (uint32_t)((uint64_t)n_steps * (s + 1) / n_segments);
        GRAFT_TRY(graft_vk_commands_create(e->vk, &out[s], e->max_dispatches, e->timed));
        lo.commands = out[s];
        for (; i < end && status == GRAFT_OK; i++) {
            status = graft_lower_step(&lo, &steps[i]);
        }
        e->n_pipelines = lo.n_pipelines; // what was taken is put back at the end, whatever happened
        if (n_stages) {
            n_stages[s] = lo.n_stages - first_stage;
        }
        if (status == GRAFT_OK) {
            status = graft_vk_commands_end(out[s]);
        }
    }
    return status;
}

// Segments so that one submission stays far below the drivers' watchdogs (2 s on Windows, 10 s on amdgpu) by a careful guess of
// the device's speed; software has none, there the submission's own time-out counts.
static uint32_t segments(const struct exec_vk *e, uint32_t rows)
{
    double operations = 0, rate, limit_s = 0.25;
    for (uint32_t i = 0; i < e->plan->n_body; i++) {
        for (uint32_t k = 0; k < 3 && e->plan->body[i].weight[k] && e->plan->body[i].kind != GRAFT_STEP_EMBED; k++) {
            operations += 2.0 * e->plan->body[i].weight[k]->n_in * e->plan->body[i].weight[k]->n_out * rows;
        }
    }
    switch (graft_vk_caps(e->vk)->kind) {
    case GRAFT_VK_DISCRETE: rate = 1e12; break;
    case GRAFT_VK_SOFTWARE: rate = 5e9, limit_s = 5; break;
    default: rate = 1e11; break;
    }
    double n = operations / rate / limit_s + 1;
    uint32_t most = e->plan->n_body < MAX_SEGMENTS ? e->plan->n_body : MAX_SEGMENTS;
    return n < most ? (uint32_t)n : most;
}

// One bucket for both state buffers.
static enum graft_status record_bucket(struct exec_vk *e, struct bucket *bucket, bool head, bool lora)
{
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &bucket->stages, e->max_dispatches, "stages of a recording"));
    for (uint32_t state = 0; state < STATES; state++) {
        GRAFT_TRY(record(e, head ? e->plan->head : e->plan->body, head ? 2 : e->plan->n_body, bucket->rows, state,
                         bucket->n_segments, lora, state == 0 ? bucket->stages : NULL, state == 0 ? bucket->n_stages : NULL,
                         bucket->commands[state]));
    }
    return GRAFT_OK;
}

static enum graft_status record_buckets(struct exec_vk *e)
{
    uint32_t rows[MAX_BUCKETS];
    e->n_body = buckets(e->limits.n_batch, rows);
    for (uint32_t i = 0; i < e->n_body; i++) {
        e->body[i].rows = rows[i];
        e->body[i].n_segments = segments(e, rows[i]);
        e->adapted[i].rows = rows[i];
        e->adapted[i].n_segments = e->body[i].n_segments;
    }
    e->n_head = buckets(e->limits.n_out, rows);
    for (uint32_t i = 0; i < e->n_head; i++) {
        e->head[i].rows = rows[i];
        e->head[i].n_segments = 1;
    }
    e->max_dispatches = graft_lower_max_dispatches(e->plan, graft_vk_caps(e->vk));
    uint32_t n_adapted = e->limits.n_slots ? e->n_body : 0;
    // the last for peek
    e->pipelines_capacity = (e->n_body + n_adapted + e->n_head) * STATES * e->max_dispatches + e->max_dispatches;
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &e->pipelines, e->pipelines_capacity, "pipelines of recordings"));
    for (uint32_t i = 0; i < e->n_body; i++) {
        GRAFT_TRY(record_bucket(e, &e->body[i], false, false));
        if (n_adapted) {
            GRAFT_TRY(record_bucket(e, &e->adapted[i], false, true));
        }
    }
    for (uint32_t i = 0; i < e->n_head; i++) {
        GRAFT_TRY(record_bucket(e, &e->head[i], true, false));
        if (e->readback) {
            uint64_t bytes = (uint64_t)e->head[i].rows * e->plan->source->config.n_vocab * 4;
            GRAFT_TRY(graft_vk_commands_create(e->vk, &e->copy[i], 1, false));
            GRAFT_TRY(graft_vk_copy(e->copy[i], e->buffers.logits, 0, e->readback, 0, bytes));
            GRAFT_TRY(graft_vk_commands_end(e->copy[i]));
        }
    }
    return GRAFT_OK;
}

static bool has_adapters(const struct graft_exec_batch *batch)
{
    for (uint32_t i = 0; i < batch->n_rows; i++) {
        if (batch->rows[i].n_pairs) {
            return true;
        }
    }
    return false;
}

static enum graft_status run(struct graft_exec *exec, const struct graft_exec_batch *batch)
{
    struct exec_vk *e = self_of(exec);
    bool lora = has_adapters(batch);
    uint32_t which = bucket_of(e->body, e->n_body, batch->n_rows);
    struct bucket *body = lora ? &e->adapted[which] : &e->body[which];
    if (lora && !e->limits.n_slots) {
        return graft_fail(GRAFT_E_ARGUMENT, "the model was opened without room for adapters");
    }
    uint32_t state = e->state, n = 0;
    struct graft_vk_commands *list[3];
    graft_state_fill(&e->plan->source->config, &e->limits, &e->layout, body->rows, batch, e->buffers.state[state]->mapped);
    for (uint32_t s = 0; s + 1 < body->n_segments; s++) {
        GRAFT_TRY(graft_vk_submit(e->vk, &body->commands[state][s], 1));
    }
    list[n++] = body->commands[state][body->n_segments - 1];
    if (batch->n_out) {
        uint32_t head = bucket_of(e->head, e->n_head, batch->n_out);
        list[n++] = e->head[head].commands[state][0];
        if (batch->logits && e->readback) {
            list[n++] = e->copy[head];
        }
    }
    GRAFT_TRY(graft_vk_submit(e->vk, list, n));
    GRAFT_TRY(graft_vk_wait(e->vk));
    e->state = (state + 1) % STATES;
    e->n_out = batch->n_out;
    e->has_logits = batch->logits;
    e->had_adapters = lora;
    return GRAFT_OK;
}

// Larger logits first, then smaller ids; NaN before all, as in runtime/ref/top.c.
static bool before(const struct graft_candidate *a, const struct graft_candidate *b)
{
    if (isnan(a->logit) || isnan(b->logit)) {
        return isnan(a->logit) && (!isnan(b->logit) || a->id < b->id);
    }
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

static enum graft_status candidates(struct graft_exec *exec, uint32_t o, struct graft_candidate *out, uint32_t *count)
{
    struct exec_vk *e = self_of(exec);
    if (o >= e->n_out) {
        return graft_fail(GRAFT_E_ARGUMENT, "candidates of answer %u, the batch had %u", o, e->n_out);
    }
    // The best `capacity` by insertion into a sorted list; most entries fail the first comparison.
    const uint32_t(*top)[2] = (const uint32_t(*)[2])e->buffers.top->mapped;
    uint64_t entries = (uint64_t)e->chunks * GRAFT_TOP_K, first = o * entries;
    uint32_t capacity = *count < GRAFT_TOP_K ? *count : GRAFT_TOP_K, n = 0; // beyond GRAFT_TOP_K a chunk may have lost one
    for (uint64_t i = first; i < first + entries && capacity; i++) {
        if (top[i][0] == UINT32_MAX) {
            continue;
        }
        struct graft_candidate candidate = {.id = (int32_t)top[i][0]};
        memcpy(&candidate.logit, &top[i][1], sizeof candidate.logit);
        if (n == capacity && !before(&candidate, &out[n - 1])) {
            continue;
        }
        uint32_t at = n < capacity ? n++ : n - 1;
        while (at > 0 && before(&candidate, &out[at - 1])) {
            out[at] = out[at - 1];
            at--;
        }
        out[at] = candidate;
    }
    *count = n;
    return GRAFT_OK;
}

static enum graft_status logits(struct graft_exec *exec, uint32_t o, const float **out)
{
    struct exec_vk *e = self_of(exec);
    if (o >= e->n_out || !e->has_logits) {
        return graft_fail(GRAFT_E_ARGUMENT, "logits of answer %u, the batch had %u%s", o, e->n_out,
                          e->has_logits ? "" : " without logits");
    }
    const struct graft_vk_buffer *buffer = e->readback ? e->readback : e->buffers.logits;
    *out = (const float *)buffer->mapped + (uint64_t)o * e->plan->source->config.n_vocab;
    return GRAFT_OK;
}

// Append the stages of one recording.
static enum graft_status stages_of(struct exec_vk *e, struct graft_vk_commands *commands, const struct graft_stage_vk *list,
                                   uint32_t n_list, struct graft_stage *out, uint32_t capacity, uint32_t *n)
{
    uint64_t *ns = NULL;
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &ns, n_list, "stage times"));
    enum graft_status status = e->timed ? graft_vk_times(commands, ns, n_list) : GRAFT_OK;
    for (uint32_t i = 0; status == GRAFT_OK && i < n_list; i++, (*n)++) {
        if (*n < capacity) {
            out[*n] = (struct graft_stage){list[i].step, list[i].kernel, ns[i], list[i].workgroups, list[i].weight_bytes};
        }
    }
    GRAFT_FREE(e->ctx, &ns);
    return status;
}

static enum graft_status stages(struct graft_exec *exec, uint32_t n_rows, struct graft_stage *out, uint32_t *count)
{
    struct exec_vk *e = self_of(exec);
    uint32_t which = bucket_of(e->body, e->n_body, n_rows);
    const struct bucket *body = e->had_adapters ? &e->adapted[which] : &e->body[which], *head = &e->head[0];
    uint32_t n = 0, first = 0, capacity = *count;
    uint32_t last = (e->state + STATES - 1) % STATES; // the recording that ran last
    for (uint32_t s = 0; s < body->n_segments; s++) {
        GRAFT_TRY(stages_of(e, body->commands[last][s], body->stages + first, body->n_stages[s], out, capacity, &n));
        first += body->n_stages[s];
    }
    GRAFT_TRY(stages_of(e, head->commands[last][0], head->stages, head->n_stages[0], out, capacity, &n));
    *count = n;
    return n > capacity ? graft_fail(GRAFT_E_LIMIT, "%u stages, room for %u", n, capacity) : GRAFT_OK;
}

static enum graft_status peek(struct graft_exec *exec, const struct graft_exec_batch *batch, uint32_t n_steps,
                              enum graft_exec_buffer buffer, float *out, uint64_t capacity)
{
    struct exec_vk *e = self_of(exec);
    const struct graft_config *c = &e->plan->source->config;
    const struct graft_buffers_vk *b = &e->buffers;
    const struct {
        const struct graft_vk_buffer *buffer;
        uint64_t width;
    } views[] = {
        [GRAFT_BUFFER_X] = {b->x, c->n_embd}, [GRAFT_BUFFER_XN] = {b->xn, c->n_embd},
        [GRAFT_BUFFER_SS] = {b->ss, 0},       [GRAFT_BUFFER_Q] = {b->q, (uint64_t)c->n_head * c->head_dim},
        [GRAFT_BUFFER_AO] = {b->ao, (uint64_t)c->n_head * c->head_dim}, [GRAFT_BUFFER_H] = {b->h, c->n_ff},
    };
    struct graft_vk_commands *commands = NULL;
    float *parts = NULL;
    uint32_t rows = e->body[bucket_of(e->body, e->n_body, batch->n_rows)].rows, taken = e->n_pipelines;
    enum graft_status status;
    graft_state_fill(c, &e->limits, &e->layout, rows, batch, b->state[0]->mapped);
    GRAFT_TRY_OUT(record(e, e->plan->body, n_steps, rows, 0, 1, has_adapters(batch), NULL, NULL, &commands), status, out);
    GRAFT_TRY_OUT(graft_vk_submit(e->vk, &commands, 1), status, out);
    GRAFT_TRY_OUT(graft_vk_wait(e->vk), status, out);
    if (buffer != GRAFT_BUFFER_SS) {
        uint64_t bytes = batch->n_rows * views[buffer].width * 4;
        if (bytes / 4 > capacity) {
            status = graft_fail(GRAFT_E_LIMIT, "%" PRIu64 " values, room for %" PRIu64, bytes / 4, capacity);
            goto out;
        }
        status = graft_vk_download(e->vk, views[buffer].buffer, 0, out, bytes);
        goto out;
    }
    struct graft_kernel embed;
    GRAFT_TRY_OUT(graft_kernel_embed(&embed, graft_vk_caps(e->vk), e->plan->source->embd.type, c->n_embd, 1), status, out);
    bool residual = false;
    for (uint32_t i = 0; i < n_steps; i++) {
        residual = residual || e->plan->body[i].kind == GRAFT_STEP_RESIDUAL;
    }
    uint64_t n_parts = residual ? graft_lower_residual_parts(e->plan, graft_vk_caps(e->vk)) : embed.push.embed.parts_out;
    GRAFT_TRY_OUT(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &parts, n_parts * batch->n_rows, "sums of squares"), status, out);
    GRAFT_TRY_OUT(graft_vk_download(e->vk, b->ss, 0, parts, n_parts * batch->n_rows * 4), status, out);
    for (uint32_t r = 0; r < batch->n_rows && r < capacity; r++) {
        out[r] = 0;
        for (uint64_t i = 0; i < n_parts; i++) {
            out[r] += parts[r * n_parts + i];
        }
    }
out:
    GRAFT_FREE(e->ctx, &parts);
    graft_vk_commands_destroy(&commands);
    while (e->n_pipelines > taken) {
        graft_vk_pipeline_put(e->vk, &e->pipelines[--e->n_pipelines]);
    }
    return status;
}

static enum graft_status adapter_write(struct graft_exec *exec, uint64_t offset, const void *data, uint64_t bytes)
{
    struct exec_vk *e = self_of(exec);
    GRAFT_TRY(graft_vk_upload(e->vk, e->buffers.pool, offset, data, bytes));
    return graft_vk_upload_end(e->vk);
}

static enum graft_status adapter_table(struct graft_exec *exec, uint32_t slot, const uint32_t *entries)
{
    struct exec_vk *e = self_of(exec);
    uint64_t bytes = (uint64_t)e->plan->source->config.n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY * 4;
    GRAFT_TRY(graft_vk_upload(e->vk, e->buffers.table, slot * bytes, entries, bytes));
    return graft_vk_upload_end(e->vk);
}

static void destroy(struct graft_exec **exec)
{
    if (!exec || !*exec) {
        return;
    }
    struct exec_vk *e = self_of(*exec);
    struct graft_ctx *ctx = e->ctx;
    for (uint32_t i = 0; i < MAX_BUCKETS; i++) {
        for (uint32_t s = 0; s < STATES; s++) {
            for (uint32_t k = 0; k < MAX_SEGMENTS; k++) {
                graft_vk_commands_destroy(&e->body[i].commands[s][k]);
                graft_vk_commands_destroy(&e->adapted[i].commands[s][k]);
            }
            graft_vk_commands_destroy(&e->head[i].commands[s][0]);
        }
        graft_vk_commands_destroy(&e->copy[i]);
        GRAFT_FREE(ctx, &e->body[i].stages);
        GRAFT_FREE(ctx, &e->head[i].stages);
        GRAFT_FREE(ctx, &e->adapted[i].stages);
    }
    while (e->n_pipelines > 0) {
        graft_vk_pipeline_put(e->vk, &e->pipelines[--e->n_pipelines]);
    }
    GRAFT_FREE(ctx, &e->pipelines);
    struct graft_buffers_vk *b = &e->buffers;
    struct graft_vk_buffer **list[] = {&b->x,        &b->xn,      &b->ss,     &b->q,     &b->ao,       &b->h,
                                       &b->part,     &b->counter, &b->logits, &b->top,   &b->state[0], &b->state[1],
                                       &e->readback, &b->pool,    &b->table,  &b->lora_t};
    for (uint32_t i = 0; i < sizeof list / sizeof *list; i++) {
        graft_vk_buffer_destroy(list[i]);
    }
    for (uint32_t l = 0; b->kv && l < e->plan->source->config.n_layer; l++) {
        graft_vk_buffer_destroy(&b->kv[l]);
    }
    GRAFT_FREE(ctx, &b->kv);
    graft_weights_vk_destroy(&e->weights, ctx);
    GRAFT_FREE(ctx, &e);
    *exec = NULL;
}

enum graft_status graft_exec_vk_create(struct graft_exec **out, struct graft_vk *vk, const struct graft_exec_params *params)
{
    static const struct graft_exec_functions functions = {
        .run = run,
        .candidates = candidates,
        .logits = logits,
        .stages = stages,
        .peek = peek,
        .adapter_write = adapter_write,
        .adapter_table = adapter_table,
        .destroy = destroy,
    };
    struct exec_vk *e = NULL;
    *out = NULL;
    GRAFT_TRY(GRAFT_NEW(params->ctx, GRAFT_MEM_HOST, &e, 1, "an executor"));
    e->exec.functions = &functions;
    e->ctx = params->ctx;
    e->vk = vk;
    e->plan = params->plan;
    e->limits = params->limits;
    e->timed = params->timed;
    e->chunks = graft_lower_top_chunks(params->plan, graft_vk_caps(vk));
    graft_state_words(&e->plan->source->config, &e->limits, whole_tiles(e->limits.n_batch), &e->layout);
    struct graft_exec *made = &e->exec;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_weights_vk_create(&e->weights, vk, params), status, fail);
    e->exec.imported = e->weights.mapping != NULL;
    GRAFT_TRY_OUT(take_buffers(e), status, fail);
    GRAFT_TRY_OUT(record_buckets(e), status, fail);
    *out = made;
    return GRAFT_OK;
fail:
    destroy(&made);
    return status;
}
