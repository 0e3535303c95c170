// SPDX-License-Identifier: Apache-2.0
// The plan on a Vulkan device. Every row bucket is recorded once per state buffer; a batch writes one state buffer, submits the
// body's recording and (if logits are wanted) the head's as one submission, and waits.
#include <math.h>
#include <string.h>

#include "loaders/adapter.h"
#include "platform/bytes.h"
#include "runtime/model/exec_vk.h"

static struct exec_vk *self_of(struct graft_exec *exec)
{
    return (struct exec_vk *)exec;
}

// The smallest bucket of a list that holds `rows`.
static uint32_t bucket_of(const struct bucket *list, uint32_t n, uint32_t rows)
{
    uint32_t i = 0;
    while (i + 1 < n && list[i].rows < rows) {
        i++;
    }
    return i;
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
        .activations = e->exec.activations,
        .matrix_cores = e->exec.matrix_cores,
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

// Where segment s of n, which begins with step i, ends: about as many steps each, or with streaming one streamed layer each,
// with the layers that stay behind it.
static uint32_t segment_end(const struct exec_vk *e, const struct graft_step *steps, uint32_t n_steps, uint32_t n, uint32_t s,
                            uint32_t i)
{
    if (!e->limits.n_streamed || n == 1) {
        return (uint32_t)((uint64_t)n_steps * (s + 1) / n);
    }
    uint32_t next = graft_streamed_layer(e->plan->source->config.n_layer, n, s + 1); // behind the last segment: none
    do {
        i++;
    } while (i < n_steps && (steps[i].kind != GRAFT_STEP_QKV || steps[i].layer != next));
    return i;
}

// Record steps into n_segments recordings, at out[0 ..]. stages, n_stages may be NULL.
static enum graft_status record(struct exec_vk *e, const struct graft_step *steps, uint32_t n_steps, uint32_t rows,
                                uint32_t state, uint32_t n_segments, enum graft_lora_kind lora, struct graft_stage_vk *stages,
                                uint32_t *n_stages, struct graft_vk_commands **out)
{
    struct graft_lowering lo = lowering(e, rows, state);
    lo.stages = stages;
    lo.lora = lora;
    enum graft_status status = GRAFT_OK;
    for (uint32_t s = 0, i = 0; s < n_segments && status == GRAFT_OK; s++) {
        uint32_t first_stage = lo.n_stages, end = segment_end(e, steps, n_steps, n_segments, s, i);
        uint32_t most = graft_lower_dispatches(steps + i, end - i, lo.caps);
        GRAFT_TRY(graft_vk_commands_create(e->vk, &out[s], most, e->timed));
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
    if (e->limits.n_streamed) {
        return e->limits.n_streamed;
    }
    for (uint32_t i = 0; i < e->plan->n_body; i++) {
        for (uint32_t k = 0; k < 3 && e->plan->body[i].weight[k] && e->plan->body[i].kind != GRAFT_STEP_EMBED; k++) {
            const struct graft_weight *w = e->plan->body[i].weight[k];
            operations += 2.0 * w->n_in * w->n_out * rows * (w->n_expert ? e->plan->source->config.n_expert_used : 1);
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
static enum graft_status record_bucket(struct exec_vk *e, struct bucket *bucket, bool head,
                                       enum graft_lora_kind lora)
{
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &bucket->stages, e->max_dispatches, "stages of a recording"));
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &bucket->n_stages, bucket->n_segments, "stages of a recording"));
    for (uint32_t state = 0; state < STATES; state++) {
        GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &bucket->commands[state], bucket->n_segments, "recordings"));
        GRAFT_TRY(record(e, head ? e->plan->head : e->plan->body, head ? 2 : e->plan->n_body, bucket->rows, state,
                         bucket->n_segments, lora, state == 0 ? bucket->stages : NULL, state == 0 ? bucket->n_stages : NULL,
                         bucket->commands[state]));
    }
    return GRAFT_OK;
}

static void destroy_bucket(struct graft_ctx *ctx, struct bucket *bucket)
{
    for (uint32_t state = 0; state < STATES; state++) {
        for (uint32_t s = 0; bucket->commands[state] && s < bucket->n_segments; s++) {
            graft_vk_commands_destroy(&bucket->commands[state][s]);
        }
        GRAFT_FREE(ctx, &bucket->commands[state]);
    }
    GRAFT_FREE(ctx, &bucket->n_stages);
    GRAFT_FREE(ctx, &bucket->stages);
}

// All buckets for one kind of adapters. After a failure none of them is there.
static enum graft_status record_kind(struct exec_vk *e, enum graft_lora_kind lora)
{
    uint32_t rows[MAX_BUCKETS];
    enum graft_status status = GRAFT_OK;
    (void)graft_exec_vk_buckets(e->limits.n_batch, rows);
    for (uint32_t i = 0; i < e->n_body && status == GRAFT_OK; i++) {
        e->body[lora][i].rows = rows[i];
        e->body[lora][i].n_segments = segments(e, rows[i]);
        status = record_bucket(e, &e->body[lora][i], false, lora);
    }
    (void)graft_exec_vk_buckets(e->limits.n_out, rows);
    for (uint32_t i = 0; i < e->n_head && lora != GRAFT_LORA_SOME && status == GRAFT_OK; i++) { // those do not change the head
        e->head[lora][i].rows = rows[i];
        e->head[lora][i].n_segments = 1;
        status = record_bucket(e, &e->head[lora][i], true, lora);
    }
    for (uint32_t i = 0; i < MAX_BUCKETS && status != GRAFT_OK; i++) {
        destroy_bucket(e->ctx, &e->body[lora][i]);
        destroy_bucket(e->ctx, &e->head[lora][i]);
    }
    e->has_extras = lora == GRAFT_LORA_EXTRAS && status == GRAFT_OK;
    return status;
}

static enum graft_status record_buckets(struct exec_vk *e)
{
    uint32_t head_rows[MAX_BUCKETS];
    e->n_body = graft_exec_vk_buckets(e->limits.n_batch, head_rows);
    e->max_dispatches = graft_lower_max_dispatches(e->plan, graft_vk_caps(e->vk));
    e->n_head = graft_exec_vk_buckets(e->limits.n_out, head_rows);
    uint32_t kinds = e->limits.n_slots ? LORA_KINDS : 1;
    // the last for peek
    e->pipelines_capacity = (e->n_body + e->n_head) * kinds * STATES * e->max_dispatches + e->max_dispatches;
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &e->pipelines, e->pipelines_capacity, "pipelines of recordings"));
    GRAFT_TRY(record_kind(e, GRAFT_LORA_NONE));
    if (e->limits.n_slots) {
        GRAFT_TRY(record_kind(e, GRAFT_LORA_SOME)); // GRAFT_LORA_EXTRAS when the first such adapter is loaded
    }
    for (uint32_t i = 0; i < e->n_head; i++) {
        if (e->readback) {
            uint64_t bytes = (uint64_t)head_rows[i] * e->plan->source->config.n_vocab * 4;
            GRAFT_TRY(graft_vk_commands_create(e->vk, &e->copy[i], 1, false));
            GRAFT_TRY(graft_vk_copy(e->copy[i], e->buffers.logits, 0, e->readback, 0, bytes));
            GRAFT_TRY(graft_vk_commands_end(e->copy[i]));
        }
    }
    return GRAFT_OK;
}

// What the adapters of the batch's rows ask for. *head: an adapter of a row whose logits are wanted changes the head.
static enum graft_lora_kind adapters_of(const struct exec_vk *e, const struct graft_exec_batch *batch, bool *head)
{
    bool any = false;
    uint8_t kinds = 0, head_kinds = 0;
    for (uint32_t i = 0; i < batch->n_rows; i++) {
        for (uint32_t k = 0; k < batch->rows[i].n_pairs && e->limits.n_slots; k++) {
            kinds |= e->slot_kinds[batch->rows[i].pairs[k].slot];
        }
        any = any || batch->rows[i].n_pairs;
    }
    for (uint32_t o = 0; o < batch->n_out; o++) {
        const struct graft_exec_row *row = &batch->rows[batch->out[o]];
        for (uint32_t k = 0; k < row->n_pairs && e->limits.n_slots; k++) {
            head_kinds |= e->slot_kinds[row->pairs[k].slot];
        }
    }
    *head = head_kinds & SLOT_HEAD;
    return !any ? GRAFT_LORA_NONE : kinds & SLOT_EXTRAS ? GRAFT_LORA_EXTRAS : GRAFT_LORA_SOME;
}

// All segments of a body but the last.
static enum graft_status submit_front(struct exec_vk *e, const struct bucket *body, uint32_t state)
{
    for (uint32_t s = 0; s + 1 < body->n_segments; s++) {
        GRAFT_TRY(graft_vk_submit(e->vk, &body->commands[state][s], 1));
    }
    return GRAFT_OK;
}

static enum graft_status run(struct graft_exec *exec, const struct graft_exec_batch *batch)
{
    struct exec_vk *e = self_of(exec);
    bool adapted_head;
    enum graft_lora_kind lora = adapters_of(e, batch, &adapted_head);
    struct bucket *body = &e->body[lora][bucket_of(e->body[0], e->n_body, batch->n_rows)];
    if (lora && !e->limits.n_slots) {
        return graft_fail(GRAFT_E_ARGUMENT, "the model was opened without room for adapters");
    }
    uint32_t state = e->state, n = 0;
    struct graft_vk_commands *list[3];
    graft_state_fill(&e->plan->source->config, &e->limits, &e->layout, body->rows, batch, e->buffers.state[state]->mapped);
    list[n++] = body->commands[state][body->n_segments - 1];
    if (batch->n_out) {
        uint32_t head = bucket_of(e->head[0], e->n_head, batch->n_out);
        list[n++] = e->head[adapted_head ? GRAFT_LORA_EXTRAS : GRAFT_LORA_NONE][head].commands[state][0];
        if (batch->logits && e->readback) {
            list[n++] = e->copy[head];
        }
    }
    if (e->limits.n_streamed) {
        GRAFT_TRY(graft_exec_vk_run_streamed(e, body, state, list, n));
    } else {
        GRAFT_TRY(submit_front(e, body, state));
        GRAFT_TRY(graft_vk_submit(e->vk, list, n));
        GRAFT_TRY(graft_vk_wait(e->vk));
    }
    e->state = (state + 1) % STATES;
    e->n_out = batch->n_out;
    e->has_logits = batch->logits;
    e->lora = lora;
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
    const struct bucket *body = &e->body[e->lora][bucket_of(e->body[0], e->n_body, n_rows)], *head = &e->head[0][0];
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
        [GRAFT_BUFFER_AO] = {b->ao, (uint64_t)c->n_head * c->head_dim}, [GRAFT_BUFFER_H] = {b->h, graft_config_hidden(c)},
    };
    struct graft_vk_commands *commands = NULL;
    float *parts = NULL;
    uint32_t rows = e->body[0][bucket_of(e->body[0], e->n_body, batch->n_rows)].rows, taken = e->n_pipelines;
    enum graft_status status;
    bool head;
    if (e->limits.n_streamed) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "a plan whose layers are streamed cannot be looked into");
    }
    graft_state_fill(c, &e->limits, &e->layout, rows, batch, b->state[0]->mapped);
    GRAFT_TRY_OUT(record(e, e->plan->body, n_steps, rows, 0, 1, adapters_of(e, batch, &head), NULL, NULL, &commands), status,
                  out);
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
    GRAFT_TRY_OUT(graft_kernel_embed(&embed, graft_vk_caps(e->vk), e->plan->source->embd.type, c->n_embd, 1, GRAFT_LORA_NONE),
                  status, out);
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
    return graft_vk_write(e->vk, e->window, e->buffers.pool, offset, data, bytes);
}

static enum graft_status adapter_move(struct graft_exec *exec, uint64_t from, uint64_t to, uint64_t bytes)
{
    struct exec_vk *e = self_of(exec);
    return graft_vk_move_down(e->vk, e->window, e->buffers.pool, from, to, bytes);
}

static enum graft_status adapter_table(struct graft_exec *exec, uint32_t slot, const uint32_t *entries)
{
    struct exec_vk *e = self_of(exec);
    uint64_t bytes = (uint64_t)e->plan->source->config.n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY * 4;
    uint8_t kinds = 0;
    for (uint32_t i = 0; i < bytes / 4; i += GRAFT_LORA_ENTRY) {
        uint32_t target = i / GRAFT_LORA_ENTRY % GRAFT_LORA_TARGETS;
        const uint32_t *entry = entries + i;
        bool there = entry[GRAFT_LORA_A] || entry[GRAFT_LORA_B] || entry[GRAFT_LORA_BIAS];
        bool experts = e->plan->source->config.n_expert && target >= GRAFT_TARGET_GATE && target <= GRAFT_TARGET_ROUTER;
        bool extras = target >= GRAFT_LORA_EMBED || experts || entry[GRAFT_LORA_DORA] || entry[GRAFT_LORA_BIAS];
        kinds |= there && target == GRAFT_LORA_HEAD ? SLOT_HEAD : there && extras ? SLOT_EXTRAS : 0;
    }
    if (kinds && !e->has_extras) {
        GRAFT_TRY(record_kind(e, GRAFT_LORA_EXTRAS));
    }
    e->slot_kinds[slot] = kinds;
    return graft_vk_write(e->vk, e->window, e->buffers.table, slot * bytes, entries, bytes);
}

static uint64_t page_at(const struct exec_vk *e, uint32_t layer, uint32_t page, bool values, uint64_t *bytes)
{
    *bytes = graft_kv_page_bytes(&e->plan->source->config, &e->limits, values);
    return (values ? graft_lower_keys_bytes(e->plan, &e->limits, layer) : 0) + page * *bytes;
}

static enum graft_status page_read(struct graft_exec *exec, uint32_t layer, uint32_t page, bool values, void *out)
{
    struct exec_vk *e = self_of(exec);
    uint64_t bytes, at = page_at(e, layer, page, values, &bytes);
    return graft_vk_download(e->vk, e->buffers.kv[layer], at, out, bytes);
}

static enum graft_status page_write(struct graft_exec *exec, uint32_t layer, uint32_t page, bool values, const void *data)
{
    struct exec_vk *e = self_of(exec);
    uint64_t bytes, at = page_at(e, layer, page, values, &bytes);
    return graft_vk_upload(e->vk, e->buffers.kv[layer], at, data, bytes);
}

static enum graft_status pages_written(struct graft_exec *exec)
{
    return graft_vk_upload_end(self_of(exec)->vk);
}

static enum graft_status clear_page(struct graft_exec *exec, uint32_t page, bool ring)
{
    struct exec_vk *e = self_of(exec);
    const struct graft_source *source = e->plan->source;
    uint32_t n = source->config.n_layer;
    for (uint32_t first = 0, end; first < n; first = end) { // neighbours alike at once
        bool own = graft_layer_has_ring(source, &e->limits, first);
        for (end = first + 1; end < n && graft_layer_has_ring(source, &e->limits, end) == own;) {
            end++;
        }
        if (own == ring) {
            uint64_t sizes[2], offsets[2];
            offsets[0] = page_at(e, first, page, false, &sizes[0]);
            offsets[1] = page_at(e, first, page, true, &sizes[1]);
            GRAFT_TRY(graft_vk_clear(e->vk, e->buffers.kv + first, end - first, offsets, sizes, 2));
        }
    }
    return GRAFT_OK;
}

static void destroy(struct graft_exec **exec)
{
    if (!exec || !*exec) {
        return;
    }
    struct exec_vk *e = self_of(*exec);
    struct graft_ctx *ctx = e->ctx;
    graft_vk_stream_destroy(&e->weights.stream); // before the recordings, which wait for it
    for (uint32_t i = 0; i < LORA_KINDS * MAX_BUCKETS; i++) {
        destroy_bucket(ctx, &e->body[i / MAX_BUCKETS][i % MAX_BUCKETS]);
        destroy_bucket(ctx, &e->head[i / MAX_BUCKETS][i % MAX_BUCKETS]);
    }
    for (uint32_t i = 0; i < MAX_BUCKETS; i++) {
        graft_vk_commands_destroy(&e->copy[i]);
    }
    while (e->n_pipelines > 0) {
        graft_vk_pipeline_put(e->vk, &e->pipelines[--e->n_pipelines]);
    }
    GRAFT_FREE(ctx, &e->pipelines);
    graft_exec_vk_free_buffers(e);
    GRAFT_FREE(ctx, &e->slot_kinds);
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
        .adapter_move = adapter_move,
        .adapter_table = adapter_table,
        .page_read = page_read,
        .page_write = page_write,
        .pages_written = pages_written,
        .clear_page = clear_page,
        .stream_times = graft_exec_vk_stream_times,
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
    e->exec.activations = graft_activations_choose(graft_vk_caps(vk), params->activations);
    e->exec.matrix_cores = params->matrix_cores && graft_matrix_cores(graft_vk_caps(vk));
    e->chunks = graft_lower_top_chunks(params->plan, graft_vk_caps(vk));
    graft_state_words(&e->plan->source->config, &e->limits, whole_tiles(e->limits.n_batch), &e->layout);
    struct graft_exec *made = &e->exec;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_weights_vk_create(&e->weights, vk, params), status, fail);
    e->exec.imported = e->weights.mapping != NULL;
    e->limits.n_streamed = e->weights.n_streamed;
    GRAFT_TRY_OUT(graft_exec_vk_take_buffers(e), status, fail);
    GRAFT_TRY_OUT(GRAFT_NEW(e->ctx, GRAFT_MEM_HOST, &e->slot_kinds, e->limits.n_slots, "the adapters' list"), status, fail);
    GRAFT_TRY_OUT(record_buckets(e), status, fail);
    *out = made;
    return GRAFT_OK;
fail:
    destroy(&made);
    return status;
}
