// SPDX-License-Identifier: Apache-2.0
// Does this device compute what it should? Before a model takes its memory, a small one cut out of it (runtime/model/cut.h:
// same architecture, formats, heads; a few hundred values wide) runs on the device and in scalar C. Where they differ, the next
// simpler variant of the kernels is tried. What passed is remembered per device, driver, build and combination of formats.
#include <math.h>
#include <sodium.h>
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/kernels/kernel.h"
#include "runtime/model/cut.h"
#include "runtime/session/session.h"

// BATCH and CONTEXT: software Vulkan compiles a kernel once more for every kind of size (a power of two or not, whole 64 KiB or
// not) of the buffers it reads as texels. With these, buffers have the kinds of most models' buffers, so that nearly nothing is
// compiled that the model would not compile. MATRIX_ROWS: kernels with cooperative matrices begin with tiles of 16 rows.
enum { ROWS = 8, MATRIX_ROWS = 32, BATCH = 24, CONTEXT = 64, MOST_TABLE_PAGES = 128, FILE_BYTES = 16, STAGES = 64 };
// Largest error allowed, as a share of the largest value of a row, or of a step's buffer. Measured (docs/faults.md): sound
// kernels stay below 0.006, wrong ones begin at 0.68. Coarse integers multiply small differences, where a value is rounded the
// other way: 0.036 was seen with 8-bit activations, 0.027 with 16-bit ones and keys and values of 4 bits.
static const float tolerance = 0.05f, tolerance_coarse = 0.12f;

enum variant { AS_IS, NO_MATRIX, NO_DOT, NO_TEXEL, NO_SUBGROUPS, VARIANTS };
static const char *const variant_names[VARIANTS] = {"as chosen", "without cooperative matrices", "without integer dot products",
                                                    "without texel buffers", "without subgroup operations"};

// A small model with both executors on it.
struct pair {
    struct graft_ctx *ctx;
    struct graft_source *source;
    struct graft_plan *plan;
    bool coarse_kv; // keys or values have 4 bits
    struct graft_kv *kv;
    struct graft_exec *vk, *ref;
    float worst; // error of the logits so far, as a share of the largest of its row
};

static void end(struct pair *p)
{
    if (p->vk) {
        p->vk->functions->destroy(&p->vk);
    }
    if (p->ref) {
        p->ref->functions->destroy(&p->ref);
    }
    graft_kv_destroy(&p->kv);
    graft_plan_destroy(&p->plan);
    graft_source_close(&p->source);
}

static bool uses_matrix(const struct graft_model *model)
{
    return model->matrix_cores && graft_matrix_cores(graft_vk_caps(model->device->vk));
}

static enum graft_status begin(struct pair *p, struct graft_model *model)
{
    uint32_t most = uses_matrix(model) ? MATRIX_ROWS : BATCH, n_batch = model->limits.n_batch;
    struct graft_limits limits = graft_kv_limits(CONTEXT, n_batch < most ? n_batch : most, 1);
    limits.kv_k = model->limits.kv_k;
    limits.kv_v = model->limits.kv_v;
    uint32_t table = model->limits.table_pages; // attention's variant goes by the longest context
    limits.table_pages = table < MOST_TABLE_PAGES ? table : MOST_TABLE_PAGES;
    if (model->limits.ring_pages) { // kernels that write to them are others
        limits.window = model->limits.window;
        limits.ring_pages = CONTEXT / GRAFT_PAGE_TOKENS + 1;
    }
    *p = (struct pair){.ctx = model->ctx,
                       .coarse_kv = limits.kv_k == GRAFT_KV_FORMAT_Q4_0 || limits.kv_v == GRAFT_KV_FORMAT_Q4_0};
    GRAFT_TRY(graft_source_cut(p->ctx, &p->source, model->source));
    GRAFT_TRY(graft_plan_create(p->ctx, &p->plan, p->source));
    GRAFT_TRY(graft_kv_create(p->ctx, &p->kv, &limits));
    struct graft_exec_params exec = {.ctx = p->ctx,
                                     .plan = p->plan,
                                     .limits = limits,
                                     .activations = model->activations,
                                     .matrix_cores = model->matrix_cores,
                                     .weights = GRAFT_WEIGHTS_COPY};
    GRAFT_TRY(graft_exec_ref_create(&p->ref, &exec));
    return graft_exec_vk_create(&p->vk, model->device->vk, &exec);
}

// The largest error as a share of the largest value, INFINITY where one is not finite; *at: the first value that is too far
// off, count if there is none.
static float compare_values(const struct pair *p, const float *got, const float *want, uint64_t count, uint64_t *at)
{
    enum graft_activations activations = p->vk->activations;
    bool coarse = activations == GRAFT_ACTIVATIONS_INT8 || (activations == GRAFT_ACTIVATIONS_INT16 && p->coarse_kv);
    float allowed = coarse ? tolerance_coarse : tolerance;
    float most = 0, worst = 0;
    *at = count;
    for (uint64_t i = 0; i < count; i++) {
        most = fmaxf(most, fabsf(want[i]));
    }
    for (uint64_t i = 0; i < count; i++) {
        float error = fabsf(got[i] - want[i]);
        bool right = error <= allowed * most; // NaN is wrong
        *at = !right && *at == count ? i : *at;
        worst = fmaxf(worst, !isfinite(error) ? INFINITY : most > 0 ? error / most : error > 0 ? INFINITY : 0);
    }
    return worst;
}

static enum graft_exec_buffer written(const struct graft_step *step, const struct graft_config *c, uint64_t *width)
{
    uint64_t heads = (uint64_t)c->n_head * c->head_dim;
    switch (step->kind) {
    case GRAFT_STEP_QKV:
        *width = heads;
        return GRAFT_BUFFER_Q;
    case GRAFT_STEP_ATTENTION:
        *width = heads;
        return GRAFT_BUFFER_AO;
    case GRAFT_STEP_GATE_UP:
        *width = c->n_ff;
        return GRAFT_BUFFER_H;
    default:
        *width = c->n_embd;
        return GRAFT_BUFFER_X;
    }
}

// Name of the kernel of a body step, or of the head's.
static const char *kernel_of(const struct pair *p, uint32_t rows, const char *step, struct graft_stage *room, uint32_t capacity)
{
    uint32_t count = capacity;
    if (p->vk->functions->stages && p->vk->functions->stages(p->vk, rows, room, &count) == GRAFT_OK) {
        for (uint32_t i = 0; i < count; i++) {
            if (strcmp(room[i].name, step) == 0) {
                return room[i].kernel;
            }
        }
    }
    return step;
}

static enum graft_status fail_wrong(const struct pair *p, const char *device, const char *step, uint32_t n_rows, uint64_t at,
                                    float got, float want)
{
    struct graft_stage room[STAGES];
    return graft_fail(GRAFT_E_DEVICE,
                      "%s: kernel %s computes wrong results: %s, %u rows, value %" PRIu64 " is %g, scalar C gives %g", device,
                      kernel_of(p, n_rows, step, room, STAGES), step, n_rows, at, (double)got, (double)want);
}

// Steps whose output can be looked at in both; what other steps spoil shows in the next of these.
static bool comparable(enum graft_step_kind kind)
{
    return kind != GRAFT_STEP_ROUTER && kind != GRAFT_STEP_EXPERTS_UP;
}

// The first step whose output differs, as the error detail (GRAFT_E_DEVICE); GRAFT_OK if none does.
static enum graft_status find_step(struct pair *p, const struct graft_exec_batch *batch, const char *device)
{
    const struct graft_config *c = &p->source->config;
    float *values = NULL;
    uint64_t most = (uint64_t)c->n_head * c->head_dim, width, at;
    most = most > c->n_embd ? most : c->n_embd;
    most = (most > c->n_ff ? most : c->n_ff) * batch->n_rows;
    GRAFT_TRY(graft_alloc_unset(p->ctx, GRAFT_MEM_SCRATCH, (void **)&values, 2 * most, sizeof(float), "values of a self-test"));
    float *got = values, *want = values + most;
    enum graft_status status = GRAFT_OK;
    for (uint32_t s = 0; s < p->plan->n_body && status == GRAFT_OK; s++) {
        const struct graft_step *step = &p->plan->body[s];
        enum graft_exec_buffer buffer = written(step, c, &width);
        if (!comparable(step->kind)) {
            continue;
        }
        GRAFT_TRY_OUT(p->ref->functions->peek(p->ref, batch, s + 1, buffer, want, most), status, out);
        GRAFT_TRY_OUT(p->vk->functions->peek(p->vk, batch, s + 1, buffer, got, most), status, out);
        (void)compare_values(p, got, want, width * batch->n_rows, &at);
        if (at < width * batch->n_rows) {
            status = fail_wrong(p, device, step->name, batch->n_rows, at, got[at], want[at]);
        }
    }
out:
    GRAFT_FREE(p->ctx, &values);
    return status;
}

// A batch of n rows behind what is there: *wrong if the logits of any differ, with the first step that does as the error detail
// (GRAFT_E_DEVICE).
static enum graft_status compare(struct pair *p, uint32_t n_rows, const char *device, bool *wrong)
{
    const struct graft_config *c = &p->source->config;
    struct graft_exec_row rows[MATRIX_ROWS];
    uint32_t out[MATRIX_ROWS];
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t pos = p->kv->lengths[0];
        rows[i] = (struct graft_exec_row){.token = (pos * 37 + 11) % c->n_vocab, .pos = pos};
        out[i] = i;
        if (!graft_kv_append(p->kv, 0, &rows[i].slot)) {
            return graft_fail(GRAFT_E_INTERNAL, "the self-test's context is full");
        }
    }
    struct graft_exec_batch batch = {.rows = rows,
                                     .n_rows = n_rows,
                                     .out = out,
                                     .n_out = n_rows,
                                     .tables = p->kv->tables,
                                     .rings = p->kv->rings,
                                     .logits = true};
    GRAFT_TRY(p->ref->functions->run(p->ref, &batch));
    GRAFT_TRY(p->vk->functions->run(p->vk, &batch));
    for (uint32_t i = 0; i < n_rows; i++) {
        const float *got, *want;
        uint64_t at;
        GRAFT_TRY(p->ref->functions->logits(p->ref, i, &want));
        GRAFT_TRY(p->vk->functions->logits(p->vk, i, &got));
        p->worst = fmaxf(p->worst, compare_values(p, got, want, c->n_vocab, &at));
        if (at < c->n_vocab) {
            *wrong = true;
            float is = got[at], should = want[at];
            GRAFT_TRY(find_step(p, &batch, device));
            return fail_wrong(p, device, "head", n_rows, at, is, should);
        }
    }
    return GRAFT_OK;
}

// One row, then as many as the widest tiles have, behind it, then one less: a row of the bucket is surplus. With cooperative
// matrices then as many as their tiles have.
static enum graft_status run(struct pair *p, const char *device, bool *wrong)
{
    uint32_t n_batch = p->kv->limits.n_batch, rows = n_batch < ROWS ? n_batch : ROWS;
    GRAFT_TRY(compare(p, 1, device, wrong));
    GRAFT_TRY(compare(p, rows, device, wrong));
    GRAFT_TRY(rows > 2 ? compare(p, rows - 1, device, wrong) : GRAFT_OK);
    uint32_t tile = n_batch < MATRIX_ROWS ? MATRIX_ROWS / 2 : MATRIX_ROWS;
    return p->vk->matrix_cores && n_batch >= tile ? compare(p, tile, device, wrong) : GRAFT_OK;
}

// ---- what is remembered ----

static void add_numbers(crypto_hash_sha256_state *state, const uint32_t *numbers, size_t bytes)
{
    crypto_hash_sha256_update(state, (const uint8_t *)numbers, bytes);
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// A file per device, driver, build and all that kernels are chosen and made from: one byte, the variant that passed.
static void path_of(const struct graft_model *model, char *path, size_t room)
{
    const struct graft_config *c = &model->source->config;
    const struct graft_vk_caps *v = graft_vk_caps(model->device->vk);
    crypto_hash_sha256_state state;
    uint8_t hash[32], identity[32];
    graft_vk_identity(model->device->vk, identity);
    const uint32_t shape[] = {c->head_dim,
                              c->n_head,
                              c->n_head_kv,
                              c->n_expert,
                              c->n_expert_used,
                              c->expert_norm,
                              c->rope_pairs,
                              c->rope_dim,
                              c->two_ropes,
                              bits_of(c->attention_cap),
                              bits_of(c->logit_cap),
                              c->activation,
                              model->limits.kv_k,
                              model->limits.kv_v,
                              graft_activations_choose(graft_vk_caps(model->device->vk), model->activations),
                              model->limits.ring_pages > 0,
                              model->limits.table_pages < MOST_TABLE_PAGES ? model->limits.table_pages : MOST_TABLE_PAGES,
                              model->limits.n_batch < MATRIX_ROWS ? model->limits.n_batch : MATRIX_ROWS,
                              uses_matrix(model),
                              VARIANTS,
                              model->source->embd.type,
                              model->source->output.type};
    const uint32_t caps[] = {v->subgroup_size,
                             v->subgroup_min,
                             v->subgroup_max,
                             v->subgroup_arithmetic,
                             v->subgroup_shuffle,
                             v->subgroup_size_control,
                             v->storage_16bit,
                             v->storage_8bit,
                             v->shader_f16,
                             v->shader_i16,
                             v->shader_i8,
                             v->dot8_accelerated,
                             v->coopmat_khr,
                             v->coopmat_nv2,
                             v->max_shared_bytes,
                             v->max_invocations,
                             v->max_texel_elements,
                             v->unified,
                             v->matrix_m,
                             v->matrix_n,
                             v->matrix_k};
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, identity, sizeof identity);
    crypto_hash_sha256_update(&state, (const uint8_t *)c->architecture, sizeof c->architecture);
    add_numbers(&state, shape, sizeof shape);
    add_numbers(&state, caps, sizeof caps);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const struct graft_layer *l = &model->source->layers[i];
        const struct graft_weight *vectors[] = {&l->q_bias, &l->k_bias,         &l->v_bias,       &l->q_norm,
                                                &l->k_norm, &l->post_attn_norm, &l->post_ffn_norm};
        uint32_t types[] = {l->q.type,    l->k.type, l->v.type,     l->o.type, l->router.type, l->gate.type, l->up.type,
                            l->down.type, l->window, l->rope_local, 0};
        for (uint32_t k = 0; k < sizeof vectors / sizeof *vectors; k++) {
            types[sizeof types / sizeof *types - 1] |= (uint32_t)(vectors[k]->data != NULL) << k;
        }
        add_numbers(&state, types, sizeof types);
    }
    crypto_hash_sha256_final(&state, hash);
    int length = snprintf(path, room, "%s/selftest-", graft_ctx_cache_dir(model->ctx));
    for (int i = 0; i < 8 && length > 0 && (size_t)length + 3 < room; i++) {
        length += snprintf(path + length, room - (size_t)length, "%02x", hash[i]);
    }
}

static bool recall(struct graft_model *model, const char *path, uint32_t *variant)
{
    char *text;
    uint64_t size;
    if (graft_file_read(model->ctx, path, FILE_BYTES, &text, &size) != GRAFT_OK) {
        return false;
    }
    bool good = size == 1 && text[0] >= '0' && text[0] < '0' + VARIANTS;
    *variant = good ? (uint32_t)(text[0] - '0') : 0;
    GRAFT_FREE(model->ctx, &text);
    return good;
}

static void restrict_to(struct graft_model *model, uint32_t variant)
{
    struct graft_device *device = model->device;
    model->matrix_cores = model->matrix_cores && variant < NO_MATRIX;
    device->options.no_dot8 = device->options.no_dot8 || variant >= NO_DOT; // also for the device that is opened anew
    device->options.no_texel = device->options.no_texel || variant >= NO_TEXEL;
    device->options.no_subgroups = device->options.no_subgroups || variant >= NO_SUBGROUPS;
    graft_vk_restrict(device->vk, device->options.no_texel, device->options.no_subgroups, device->options.no_dot8);
}

// Cannot be done here: no reason not to open the model.
static bool skippable(enum graft_status status)
{
    return status == GRAFT_E_MEMORY || status == GRAFT_E_BUDGET || status == GRAFT_E_UNSUPPORTED || status == GRAFT_E_LIMIT;
}

enum graft_status graft_self_test(struct graft_model *model)
{
    char path[4096], first[512] = "";
    uint32_t variant = AS_IS, passed = AS_IS;
    bool cached = graft_ctx_cache_dir(model->ctx) != NULL, wrong = true;
    struct pair pair = {.ctx = model->ctx};
    struct graft_vk *vk = model->device->vk;
    if (cached) {
        path_of(model, path, sizeof path);
        if (recall(model, path, &variant)) {
            restrict_to(model, variant);
            return GRAFT_OK;
        }
    }
    uint64_t start = graft_clock_ns();
    enum graft_status status = GRAFT_OK;
    for (; variant < VARIANTS && wrong; variant++) {
        const struct graft_vk_caps *caps = graft_vk_caps(vk);
        if ((variant == NO_MATRIX && !uses_matrix(model)) ||
            (variant == NO_DOT && graft_activations_choose(caps, model->activations) == GRAFT_ACTIVATIONS_F32) ||
            (variant == NO_TEXEL && caps->max_texel_elements == 0) || (variant == NO_SUBGROUPS && !caps->subgroup_arithmetic)) {
            continue; // the same as before
        }
        restrict_to(model, variant);
        passed = variant;
        wrong = false;
        status = begin(&pair, model);
        if (status == GRAFT_OK) {
            status = run(&pair, caps->name, &wrong);
        }
        if (wrong) {
            graft_log(model->ctx, GRAFT_LOG_WARN, "self-test, kernels %s: %s", variant_names[variant], graft_last_error());
            if (!*first) {
                snprintf(first, sizeof first, "%s", graft_last_error());
            }
        }
        if (status == GRAFT_OK || wrong) {
            *(wrong ? &model->device->self_test_fault : &model->device->self_test_error) = pair.worst;
        }
        end(&pair);
    }
    if (wrong) {
        return graft_fail(GRAFT_E_DEVICE, "%s; simpler kernels are wrong, too: its memory or its driver is faulty", first);
    }
    if (status != GRAFT_OK) {
        graft_log(model->ctx, GRAFT_LOG_INFO, "self-test: not done: %s", graft_last_error());
        return skippable(status) ? GRAFT_OK : status;
    }
    graft_log(model->ctx, *first ? GRAFT_LOG_WARN : GRAFT_LOG_DEBUG,
              "self-test: passed with kernels %s in %.1f ms, largest error %.3g", variant_names[passed],
              (double)(graft_clock_ns() - start) * 1e-6, (double)model->device->self_test_error);
    char digit = (char)('0' + (char)passed);
    if (cached && graft_file_replace(path, &digit, 1) != GRAFT_OK) {
        graft_log(model->ctx, GRAFT_LOG_WARN, "the self-test's result is not kept: %s", graft_last_error());
    }
    return GRAFT_OK;
}
