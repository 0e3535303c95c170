// SPDX-License-Identifier: Apache-2.0
// The plan in scalar C: the definition of what a model computes. Weights are read in place, steps run one after the other, the
// outputs of a step are divided between a few threads.
#include <string.h>

#include "loaders/adapter.h"
#include "platform/bytes.h"
#include "runtime/model/exec.h"
#include "runtime/model/workers.h"
#include "runtime/ref/ref.h"

enum {
    MAX_THREADS = 4,
    SERIAL_WORK = 1 << 17 // multiplications below which waking a thread costs more than it saves
};

// Counts of f32 values of every buffer; kv: bytes.
struct sizes {
    uint64_t x, q, h, scores, route, ss, logits, scratch, state, kv, lora_t, expert_t, pool, table;
};

struct exec_ref {
    struct graft_exec exec; // first
    struct graft_ctx *ctx;
    const struct graft_plan *plan;
    struct graft_limits limits;
    struct graft_ref_heads heads;
    struct sizes sizes;
    struct graft_workers *workers;
    float *x, *xn, *ss, *inv_rms, *q, *ao, *h, *scores, *logits, *values;
    struct graft_ref_route *route; // [n_batch][n_expert_used]
    float *scratch;  // [threads][sizes.scratch]
    int32_t *ids;    // [GRAFT_MAX_CANDIDATES]
    uint32_t *image; // state
    uint8_t *kv;     // per layer: K pages, V pages
    uint16_t *pool;     // packed adapters, and their table
    uint32_t *table;
    // the batch being computed
    struct graft_ref_lora lora;
    bool adapted; // some row has an adapter
    struct graft_ref_state state;
    uint32_t n_out;
};

static struct exec_ref *self_of(struct graft_exec *exec)
{
    return (struct exec_ref *)exec;
}

// False on overflow.
static bool measure(const struct graft_source *source, const struct graft_limits *limits, struct sizes *out)
{
    const struct graft_config *c = &source->config;
    uint64_t heads = (uint64_t)c->n_head * c->head_dim, n = limits->n_batch;
    uint64_t n_ff = c->n_expert ? c->n_ff_expert : c->n_ff, widest = c->n_embd > n_ff ? c->n_embd : n_ff;
    widest = heads > widest ? heads : widest;
    uint64_t tokens = (uint64_t)limits->table_pages * GRAFT_PAGE_TOKENS + c->head_dim;
    uint64_t per_row = n * (c->head_dim > 2 ? c->head_dim : 2);
    struct graft_state_layout layout;
    out->x = n * c->n_embd;
    out->q = n * (heads > c->n_embd ? heads : c->n_embd); // what a block adds stands there before its norm
    out->h = n * graft_config_hidden(c);
    out->scores = n * c->n_expert;
    out->route = n * c->n_expert_used;
    out->ss = n;
    out->logits = (uint64_t)limits->n_out * c->n_vocab;
    out->scratch = widest + (tokens > per_row ? tokens : per_row);
    out->lora_t = limits->n_slots ? n * GRAFT_LORA_PAIRS * GRAFT_LORA_STAGE * GRAFT_LORA_RANK : 0;
    out->expert_t = limits->n_slots ? out->route * GRAFT_LORA_PAIRS * GRAFT_LORA_EXPERT_STAGE * GRAFT_LORA_RANK : 0;
    out->pool = limits->n_slots ? limits->pool_bytes : 0;
    out->table = (uint64_t)limits->n_slots * c->n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY;
    out->scratch = (out->scratch + 15) & ~UINT64_C(15); // threads do not share cache lines
    out->state = graft_state_words(c, limits, limits->n_batch, &layout);
    return graft_kv_bytes(source, limits, &out->kv);
}

static uint32_t thread_count(void)
{
    uint32_t n = graft_cpu_count();
    return n < MAX_THREADS ? n : MAX_THREADS;
}

void graft_exec_ref_estimate(const struct graft_plan *plan, const struct graft_limits *limits,
                             uint64_t bytes[GRAFT_MEM_CLASSES])
{
    enum { BLOCKS = 15, PER_BLOCK = 128, WORKERS_BYTES = 4096 }; // allocations and what the ledger counts beside their contents
    struct sizes s;
    if (!measure(plan->source, limits, &s) || s.kv > UINT64_MAX / 4) {
        bytes[GRAFT_MEM_KV] = UINT64_MAX / 2; // more than any budget
        return;
    }
    uint64_t floats = 2 * s.x + 2 * s.q + s.h + s.scores + 2 * s.route + 2 * s.ss + s.logits + thread_count() * s.scratch +
                      s.state + s.lora_t + s.expert_t;
    bytes[GRAFT_MEM_SCRATCH] += 4 * (floats + 2 * GRAFT_MAX_CANDIDATES) + BLOCKS * PER_BLOCK;
    bytes[GRAFT_MEM_KV] += s.kv + PER_BLOCK;
    bytes[GRAFT_MEM_ADAPTERS] += s.pool ? s.pool + 4 * s.table + 2 * PER_BLOCK : 0;
    bytes[GRAFT_MEM_HOST] += sizeof(struct exec_ref) + WORKERS_BYTES;
}

static struct graft_ref_matrix matrix(const struct graft_weight *w)
{
    return (struct graft_ref_matrix){
        .data = w->data, .type = w->type, .n_in = w->n_in, .n_out = w->n_out, .row_bytes = w->row_bytes};
}

// Vectors are F32; tensors are aligned to 8 bytes at least.
static const float *vector(const struct graft_weight *w)
{
    return (const float *)(const void *)w->data;
}

static uint8_t *kv_pages(const struct exec_ref *e, uint32_t layer, uint32_t which)
{
    const struct graft_source *source = e->plan->source;
    uint64_t at = 0, keys = 0, values = 0;
    for (uint32_t l = 0; l <= layer; l++) { // it fits: measure() has added it all up
        at += keys + values;
        (void)graft_kv_layer_bytes(&source->config, &e->limits, graft_layer_has_ring(source, &e->limits, l), &keys, &values);
    }
    return e->kv + at + (which ? keys : 0);
}

// One step's share of one thread.
struct work {
    struct exec_ref *e;
    const struct graft_step *step;
};

// Do adapters have targets among the step's matrices?
static bool has_targets(const struct graft_step *s)
{
    return s->kind != GRAFT_STEP_EMBED && s->kind != GRAFT_STEP_ATTENTION && s->kind != GRAFT_STEP_TOP;
}

static bool of_experts(const struct graft_step *s)
{
    return s->kind == GRAFT_STEP_EXPERTS_UP || s->kind == GRAFT_STEP_EXPERTS_DOWN;
}

// First of the adapter targets that a step's matrices are.
static uint32_t first_target(const struct graft_step *s)
{
    return s->kind == GRAFT_STEP_QKV                                           ? GRAFT_TARGET_Q
           : s->kind == GRAFT_STEP_HEAD                                        ? GRAFT_TARGET_HEAD
           : s->kind == GRAFT_STEP_ROUTER                                      ? GRAFT_TARGET_ROUTER
           : s->kind == GRAFT_STEP_GATE_UP || s->kind == GRAFT_STEP_EXPERTS_UP ? GRAFT_TARGET_GATE
           : s->from_ff                                                        ? GRAFT_TARGET_DOWN
                                                                               : GRAFT_TARGET_O;
}

// What the row's adapters make of a step's input, T = A x, before the step itself.
static void shrink(struct exec_ref *e, const struct graft_step *s)
{
    bool from_x = s->kind != GRAFT_STEP_RESIDUAL && s->kind != GRAFT_STEP_EXPERTS_DOWN;
    const float *x = from_x ? e->xn : s->from_ff ? e->h : e->ao;
    uint32_t n_targets = 1;
    while (n_targets < 3 && s->weight[n_targets]) {
        n_targets++;
    }
    e->lora.layer = s->layer;
    e->lora.inv_rms = from_x ? e->inv_rms : NULL;
    if (of_experts(s)) {
        graft_ref_shrink_experts(&e->lora, e->route, x, !from_x, s->weight[0]->n_in, first_target(s), n_targets);
    } else {
        graft_ref_shrink(&e->lora, x, s->weight[0]->n_in, first_target(s), n_targets);
    }
}

// The heads as a layer has them.
static struct graft_ref_heads heads_of(const struct exec_ref *e, uint32_t layer)
{
    const struct graft_source *source = e->plan->source;
    const struct graft_layer *l = &source->layers[layer];
    struct graft_ref_heads heads = e->heads;
    const struct graft_weight *vectors[] = {&l->q_bias, &l->k_bias, &l->v_bias, &l->q_norm, &l->k_norm};
    for (uint32_t i = 0; i < 5; i++) {
        const float *data = vectors[i]->data ? vector(vectors[i]) : NULL;
        *(i < 3 ? &heads.bias[i] : &heads.head_norm[i - 3]) = data;
    }
    heads.rope = graft_state_rope(&source->config, &e->state.layout, l->rope_local);
    heads.window = l->window;
    heads.ring = graft_layer_has_ring(source, &e->limits, layer);
    return heads;
}

static void work_part(void *user, uint32_t thread, uint32_t first, uint32_t last)
{
    const struct work *w = user;
    struct exec_ref *e = w->e;
    const struct graft_step *s = w->step;
    float *scratch = e->scratch + thread * e->sizes.scratch;
    const struct graft_config *c = &e->plan->source->config;
    const struct graft_ref_heads heads = heads_of(e, s->layer);
    uint32_t n_rows = e->state.n_rows;
    struct graft_ref_matrix m[3] = {{0}};
    for (int i = 0; i < 3 && s->weight[i]; i++) {
        m[i] = matrix(s->weight[i]);
        if (e->adapted && has_targets(s)) {
            m[i].lora = &e->lora;
            m[i].target = first_target(s) + (uint32_t)i;
            m[i].stage = (uint32_t)i;
        }
    }
    switch (s->kind) {
    case GRAFT_STEP_QKV:
        graft_ref_qkv(&heads, &m[0], &m[1], &m[2], &e->state, e->xn, e->inv_rms, e->q, kv_pages(e, s->layer, 0),
                      kv_pages(e, s->layer, 1), first, last, scratch);
        break;
    case GRAFT_STEP_ATTENTION:
        graft_ref_attention(&heads, &e->state, e->q, kv_pages(e, s->layer, 0), kv_pages(e, s->layer, 1), e->ao, first, last,
                            scratch);
        break;
    case GRAFT_STEP_RESIDUAL:
        graft_ref_residual(&m[0], s->from_ff ? e->h : e->ao, n_rows, s->post ? e->q : e->x, s->post != NULL, first, last,
                           scratch);
        break;
    case GRAFT_STEP_GATE_UP:
        graft_ref_gate_up(&m[0], &m[1], e->xn, e->inv_rms, n_rows, c->activation == GRAFT_ACTIVATION_GELU, e->h, first, last,
                          scratch);
        break;
    case GRAFT_STEP_ROUTER:
        graft_ref_router(&m[0], e->xn, e->inv_rms, n_rows, e->scores, first, last, scratch);
        break;
    case GRAFT_STEP_EXPERTS_UP:
        graft_ref_experts_up(&m[0], &m[1], e->route, e->plan->source->config.n_expert_used, e->xn, e->inv_rms, n_rows, e->h,
                             first, last, scratch);
        break;
    case GRAFT_STEP_EXPERTS_DOWN:
        graft_ref_experts_down(&m[0], e->route, e->plan->source->config.n_expert_used, e->h, n_rows, e->x, first, last,
                               scratch);
        break;
    case GRAFT_STEP_HEAD:
        graft_ref_head(&m[0], &e->state, e->xn, e->inv_rms, c->logit_cap, e->logits, first, last, scratch);
        break;
    case GRAFT_STEP_EMBED:
    case GRAFT_STEP_TOP:
        break;
    }
}

// The norm behind a step: layer and target say where adapters have their difference to its gain.
static void norm(struct exec_ref *e, const struct graft_step *s)
{
    const struct graft_config *c = &e->plan->source->config;
    bool last = s->from_ff && s->layer + 1 == c->n_layer, embed = s->kind == GRAFT_STEP_EMBED;
    uint32_t target = last ? GRAFT_LORA_OUTPUT_NORM : s->from_ff || embed ? GRAFT_LORA_ATTN_NORM : GRAFT_LORA_FFN_NORM;
    e->lora.layer = last || embed ? 0 : s->from_ff ? s->layer + 1 : s->layer;
    graft_ref_norm(e->x, vector(s->gain), e->adapted ? &e->lora : NULL, target, e->state.n_rows, c->n_embd, e->xn, e->ss);
    for (uint32_t r = 0; r < e->state.n_rows; r++) {
        e->inv_rms[r] = graft_ref_inverse_rms(e->ss[r], c->n_embd, c->rms_eps);
    }
}

static void run_step(struct exec_ref *e, const struct graft_step *s)
{
    const struct graft_config *c = &e->plan->source->config;
    struct work work = {e, s};
    uint32_t n = 0;
    uint64_t cost = 0; // multiplications, roughly
    switch (s->kind) {
    case GRAFT_STEP_EMBED: {
        struct graft_ref_matrix embd = matrix(s->weight[0]);
        graft_ref_embed(&embd, &e->state, e->x);
        e->lora.layer = 0;
        if (e->adapted) {
            graft_ref_expand_embed(&e->lora, e->x, c->n_embd);
        }
        if (c->embedding_scale != 1.0f) {
            graft_ref_scale(e->x, c->embedding_scale, e->state.n_rows, c->n_embd);
        }
        norm(e, s);
        return;
    }
    case GRAFT_STEP_TOP:
        return; // candidates are picked when they are asked for
    case GRAFT_STEP_QKV:
        n = c->n_head + 2 * c->n_head_kv;
        cost = (uint64_t)n * c->head_dim * c->n_embd;
        break;
    case GRAFT_STEP_ATTENTION:
        n = c->n_head;
        cost = (uint64_t)n * c->head_dim * 256;
        break;
    case GRAFT_STEP_RESIDUAL:
    case GRAFT_STEP_GATE_UP:
    case GRAFT_STEP_ROUTER:
    case GRAFT_STEP_EXPERTS_UP:
    case GRAFT_STEP_EXPERTS_DOWN:
    case GRAFT_STEP_HEAD:
        n = s->weight[0]->n_out;
        cost = (uint64_t)n * s->weight[0]->n_in * (s->weight[0]->n_expert ? c->n_expert_used : 1);
        break;
    }
    if (e->adapted && has_targets(s)) {
        shrink(e, s);
    }
    graft_workers_run(e->workers, n, cost * e->state.n_rows < SERIAL_WORK, work_part, &work);
    for (uint32_t r = 0; r < e->state.n_rows && s->kind == GRAFT_STEP_ROUTER; r++) {
        graft_ref_choose_experts(e->scores + (uint64_t)r * c->n_expert, c->n_expert, c->n_expert_used, c->expert_norm,
                                 e->route + (uint64_t)r * c->n_expert_used);
    }
    if (s->kind == GRAFT_STEP_RESIDUAL || s->kind == GRAFT_STEP_EXPERTS_DOWN) {
        if (s->post) {
            uint32_t target = s->from_ff ? GRAFT_LORA_POST_FFN_NORM : GRAFT_LORA_POST_ATTN_NORM;
            e->lora.layer = s->layer;
            graft_ref_post_norm(e->q, vector(s->post), e->adapted ? &e->lora : NULL, target, c->rms_eps, e->state.n_rows,
                                c->n_embd, e->x);
        }
        norm(e, s);
    }
}

static void begin(struct exec_ref *e, const struct graft_exec_batch *batch)
{
    const struct graft_config *c = &e->plan->source->config;
    graft_state_words(c, &e->limits, batch->n_rows, &e->state.layout);
    graft_state_fill(c, &e->limits, &e->state.layout, batch->n_rows, batch, e->image);
    e->state.words = e->image;
    e->adapted = false;
    for (uint32_t r = 0; r < batch->n_rows; r++) {
        e->adapted = e->adapted || batch->rows[r].n_pairs;
    }
    e->state.n_rows = batch->n_rows;
    e->n_out = batch->n_out;
}

static enum graft_status run(struct graft_exec *exec, const struct graft_exec_batch *batch)
{
    struct exec_ref *e = self_of(exec);
    begin(e, batch);
    for (uint32_t i = 0; i < e->plan->n_body; i++) {
        run_step(e, &e->plan->body[i]);
    }
    if (batch->n_out) {
        run_step(e, &e->plan->head[0]);
    }
    return GRAFT_OK;
}

static enum graft_status logits(struct graft_exec *exec, uint32_t o, const float **out)
{
    struct exec_ref *e = self_of(exec);
    if (o >= e->n_out) {
        return graft_fail(GRAFT_E_ARGUMENT, "logits of wanted row %u were asked for, the last batch had %u", o, e->n_out);
    }
    *out = e->logits + (uint64_t)o * e->plan->source->config.n_vocab;
    return GRAFT_OK;
}

static enum graft_status candidates(struct graft_exec *exec, uint32_t o, struct graft_candidate *out, uint32_t *count)
{
    struct exec_ref *e = self_of(exec);
    const float *row;
    GRAFT_TRY(logits(exec, o, &row));
    uint32_t n_vocab = e->plan->source->config.n_vocab;
    uint32_t k = *count < GRAFT_MAX_CANDIDATES ? *count : GRAFT_MAX_CANDIDATES;
    k = k < n_vocab ? k : n_vocab;
    graft_ref_top(row, n_vocab, k, e->ids, e->values);
    for (uint32_t i = 0; i < k; i++) {
        out[i] = (struct graft_candidate){e->ids[i], e->values[i]};
    }
    *count = k;
    return GRAFT_OK;
}

static enum graft_status peek(struct graft_exec *exec, const struct graft_exec_batch *batch, uint32_t n_steps,
                              enum graft_exec_buffer buffer, float *out, uint64_t capacity)
{
    struct exec_ref *e = self_of(exec);
    const struct graft_config *c = &e->plan->source->config;
    if (n_steps > e->plan->n_body) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u steps were asked for, the plan has %u", n_steps, e->plan->n_body);
    }
    begin(e, batch);
    e->n_out = 0; // no logits were computed
    for (uint32_t i = 0; i < n_steps; i++) {
        run_step(e, &e->plan->body[i]);
    }
    uint64_t heads = (uint64_t)c->n_head * c->head_dim;
    const struct {
        const float *data;
        uint64_t width;
    } buffers[] = {[GRAFT_BUFFER_X] = {e->x, c->n_embd}, [GRAFT_BUFFER_XN] = {e->xn, c->n_embd},
                   [GRAFT_BUFFER_SS] = {e->ss, 1},       [GRAFT_BUFFER_Q] = {e->q, heads},
                   [GRAFT_BUFFER_AO] = {e->ao, heads},   [GRAFT_BUFFER_H] = {e->h, graft_config_hidden(c)}};
    uint64_t count = buffers[buffer].width * batch->n_rows;
    if (count > capacity) {
        return graft_fail(GRAFT_E_ARGUMENT, "the buffer has %" PRIu64 " values, there is room for %" PRIu64, count, capacity);
    }
    memcpy(out, buffers[buffer].data, count * sizeof *out);
    return GRAFT_OK;
}

static enum graft_status adapter_write(struct graft_exec *exec, uint64_t offset, const void *data, uint64_t bytes)
{
    memcpy((uint8_t *)self_of(exec)->pool + offset, data, (size_t)bytes);
    return GRAFT_OK;
}

static enum graft_status adapter_move(struct graft_exec *exec, uint64_t from, uint64_t to, uint64_t bytes)
{
    uint8_t *pool = (uint8_t *)self_of(exec)->pool;
    memmove(pool + to, pool + from, (size_t)bytes);
    return GRAFT_OK;
}

static enum graft_status adapter_table(struct graft_exec *exec, uint32_t slot, const uint32_t *entries)
{
    struct exec_ref *e = self_of(exec);
    uint64_t words = (uint64_t)e->plan->source->config.n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY;
    memcpy(e->table + slot * words, entries, (size_t)words * sizeof *entries);
    return GRAFT_OK;
}

static uint8_t *page_of(const struct exec_ref *e, uint32_t layer, uint32_t page, bool values, uint64_t *bytes)
{
    *bytes = graft_kv_page_bytes(&e->plan->source->config, &e->limits, values);
    return kv_pages(e, layer, values) + page * *bytes;
}

static enum graft_status page_read(struct graft_exec *exec, uint32_t layer, uint32_t page, bool values, void *out)
{
    uint64_t bytes;
    const uint8_t *from = page_of(self_of(exec), layer, page, values, &bytes);
    memcpy(out, from, (size_t)bytes);
    return GRAFT_OK;
}

static enum graft_status page_write(struct graft_exec *exec, uint32_t layer, uint32_t page, bool values, const void *data)
{
    uint64_t bytes;
    uint8_t *to = page_of(self_of(exec), layer, page, values, &bytes);
    memcpy(to, data, (size_t)bytes);
    return GRAFT_OK;
}

static enum graft_status pages_written(struct graft_exec *exec)
{
    (void)exec;
    return GRAFT_OK;
}

static enum graft_status clear_page(struct graft_exec *exec, uint32_t page, bool ring)
{
    struct exec_ref *e = self_of(exec);
    for (uint32_t i = 0; i < 2 * e->plan->source->config.n_layer; i++) {
        uint64_t bytes;
        if (graft_layer_has_ring(e->plan->source, &e->limits, i / 2) == ring) {
            uint8_t *at = page_of(e, i / 2, page, i % 2, &bytes);
            memset(at, 0, (size_t)bytes);
        }
    }
    return GRAFT_OK;
}

static void destroy(struct graft_exec **exec)
{
    if (!exec || !*exec) {
        return;
    }
    struct exec_ref *e = self_of(*exec);
    struct graft_ctx *ctx = e->ctx;
    graft_workers_destroy(&e->workers);
    float **floats[] = {&e->x, &e->xn,     &e->ss,     &e->inv_rms, &e->q,      &e->ao,
                        &e->h, &e->scores, &e->logits, &e->values,  &e->scratch};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        GRAFT_FREE(ctx, floats[i]);
    }
    GRAFT_FREE(ctx, &e->route);
    GRAFT_FREE(ctx, &e->ids);
    GRAFT_FREE(ctx, &e->image);
    GRAFT_FREE(ctx, &e->kv);
    GRAFT_FREE(ctx, &e->lora.t);
    GRAFT_FREE(ctx, &e->lora.expert_t);
    GRAFT_FREE(ctx, &e->pool);
    GRAFT_FREE(ctx, &e->table);
    GRAFT_FREE(ctx, exec);
}

static const struct graft_exec_functions functions = {.run = run,
                                                      .candidates = candidates,
                                                      .logits = logits,
                                                      .stages = NULL,
                                                      .peek = peek,
                                                      .adapter_write = adapter_write,
                                                      .adapter_move = adapter_move,
                                                      .adapter_table = adapter_table,
                                                      .page_read = page_read,
                                                      .page_write = page_write,
                                                      .pages_written = pages_written,
                                                      .clear_page = clear_page,
                                                      .destroy = destroy};

static enum graft_status take_memory(struct exec_ref *e)
{
    const struct sizes *s = &e->sizes;
    uint32_t threads = thread_count();
    const struct {
        float **out;
        uint64_t count;
        const char *what;
    } floats[] = {{&e->x, s->x, "the residual stream"},
                  {&e->xn, s->x, "the scaled residual stream"},
                  {&e->ss, s->ss, "sums of squares"},
                  {&e->inv_rms, s->ss, "root mean squares"},
                  {&e->q, s->q, "queries"},
                  {&e->ao, s->q, "attention outputs"},
                  {&e->h, s->h, "feed-forward values"},
                  {&e->scores, s->scores, "router logits"},
                  {&e->logits, s->logits, "logits"},
                  {&e->values, GRAFT_MAX_CANDIDATES, "candidates"},
                  {&e->lora.t, s->lora_t, "adapter activations"},
                  {&e->lora.expert_t, s->expert_t, "adapter activations of experts"},
                  {&e->scratch, threads * s->scratch, "scratch memory of the threads"}};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_SCRATCH, floats[i].out, floats[i].count, floats[i].what));
    }
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_SCRATCH, &e->route, s->route, "experts of the rows"));
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_SCRATCH, &e->ids, GRAFT_MAX_CANDIDATES, "candidates"));
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_SCRATCH, &e->image, s->state, "the state buffer"));
    GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_KV, &e->kv, s->kv, "the KV cache"));
    if (s->pool) {
        GRAFT_TRY(graft_alloc(e->ctx, GRAFT_MEM_ADAPTERS, (void **)&e->pool, s->pool, 1, "the adapter pool"));
        GRAFT_TRY(GRAFT_NEW(e->ctx, GRAFT_MEM_ADAPTERS, &e->table, s->table, "the adapter table"));
    }
    e->lora = (struct graft_ref_lora){.state = &e->state,
                                      .pool = e->pool,
                                      .table = e->table,
                                      .n_layer = e->plan->source->config.n_layer,
                                      .t = e->lora.t,
                                      .expert_t = e->lora.expert_t,
                                      .n_used = e->plan->source->config.n_expert_used};
    return graft_workers_create(e->ctx, &e->workers, threads);
}

enum graft_status graft_exec_ref_create(struct graft_exec **out, const struct graft_exec_params *params)
{
    *out = NULL;
    const struct graft_config *c = &params->plan->source->config;
    struct sizes sizes;
    if (!measure(params->plan->source, &params->limits, &sizes)) {
        return graft_fail(GRAFT_E_LIMIT, "the KV cache of %u pages is larger than any memory", params->limits.n_pages);
    }
    struct exec_ref *e;
    GRAFT_TRY(GRAFT_NEW(params->ctx, GRAFT_MEM_HOST, &e, 1, "the reference executor"));
    e->exec.functions = &functions;
    e->exec.activations = GRAFT_ACTIVATIONS_F32;
    e->exec.imported = true;
    e->ctx = params->ctx;
    e->plan = params->plan;
    e->limits = params->limits;
    e->sizes = sizes;
    e->heads = (struct graft_ref_heads){.n_head = c->n_head,
                                        .n_head_kv = c->n_head_kv,
                                        .kv_k = params->limits.kv_k,
                                        .kv_v = params->limits.kv_v,
                                        .head_dim = c->head_dim,
                                        .rope_dim = c->rope_dim,
                                        .rope_halves = c->rope_pairs == GRAFT_ROPE_HALVES,
                                        .attention_scale = c->attention_scale,
                                        .attention_cap = c->attention_cap,
                                        .eps = c->rms_eps};
    enum graft_status status = take_memory(e);
    struct graft_exec *exec = &e->exec;
    if (status != GRAFT_OK) {
        destroy(&exec);
        return status;
    }
    *out = exec;
    return GRAFT_OK;
}
