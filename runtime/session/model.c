// SPDX-License-Identifier: Apache-2.0
// Opening, describing and closing models.
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/model/weights_vk.h"
#include "runtime/session/session.h"

enum {
    DEFAULT_MOST_CTX = 4096,
    DEFAULT_SLOTS = 16, // adapters
    DEFAULT_BATCH = 128,
    DEFAULT_BATCH_SOFTWARE = 32, // on a processor larger batches cost memory and gain nothing
    MAX_CTX = 1 << 22,
    MAX_BATCH = 4096,
    MAX_SEQ = 1024
};

static bool is_software(const struct graft_device *device)
{
    return device && (!device->vk || graft_vk_caps(device->vk)->kind == GRAFT_VK_SOFTWARE);
}

static enum graft_status copy_params(const struct graft_model_params *given, struct graft_model_params *out)
{
    *out = (struct graft_model_params){.size = sizeof *out};
    if (given) {
        if (given->size == 0 || given->size > sizeof *out) {
            return graft_fail(GRAFT_E_ARGUMENT, "graft_model_params.size is %zu, this library knows %zu", given->size,
                              sizeof *out);
        }
        memcpy(out, given, given->size);
    }
    if (out->n_ctx > MAX_CTX || out->n_batch > MAX_BATCH || out->n_seq > MAX_SEQ) {
        return graft_fail(GRAFT_E_ARGUMENT, "n_ctx is %u (at most %d), n_batch %u (at most %d), n_seq %u (at most %d)",
                          out->n_ctx, MAX_CTX, out->n_batch, MAX_BATCH, out->n_seq, MAX_SEQ);
    }
    return GRAFT_OK;
}

static enum graft_status kv_format(const struct graft_model *model, const struct graft_model_params *params,
                                   enum graft_kv_type type, const char *what, enum graft_kv_format *out)
{
    uint32_t head_dim = model->source->config.head_dim;
    if ((unsigned)type > GRAFT_KV_Q4_0) {
        return graft_fail(GRAFT_E_ARGUMENT, "the type of %s is %d, allowed are 0 to %d", what, (int)type, GRAFT_KV_Q4_0);
    }
    *out = type == GRAFT_KV_DEFAULT ? params->exact ? GRAFT_KV_FORMAT_F32 : GRAFT_KV_FORMAT_F16
                                    : (enum graft_kv_format)(type - GRAFT_KV_F16);
    if (params->exact && *out != GRAFT_KV_FORMAT_F32) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s of type %s are not exact: with `exact` they are f32", what,
                          graft_kv_format_name(*out));
    }
    if (graft_kv_is_quantized(*out) && head_dim % 32) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "%s: heads of %u values cannot have %s of type %s, which needs a multiple of 32; f16 can",
                          model->source->config.name, head_dim, what, graft_kv_format_name(*out));
    }
    return GRAFT_OK;
}

static enum graft_status set_activations(struct graft_model *model, const struct graft_model_params *params)
{
    enum graft_activations wanted = params->activations;
    if ((unsigned)wanted > GRAFT_ACTIVATIONS_INT8) {
        return graft_fail(GRAFT_E_ARGUMENT, "activations are %d, allowed are 0 to %d", (int)wanted, GRAFT_ACTIVATIONS_INT8);
    }
    if (params->exact && wanted > GRAFT_ACTIVATIONS_F32) {
        return graft_fail(GRAFT_E_ARGUMENT, "activations of %s are not exact: with `exact` they are f32",
                          wanted == GRAFT_ACTIVATIONS_INT8 ? "8 bits" : "16 bits");
    }
    if (params->exact && params->matrix_cores) {
        return graft_fail(GRAFT_E_ARGUMENT, "cooperative matrices are not exact: their inputs are f16");
    }
    model->activations = params->exact ? GRAFT_ACTIVATIONS_F32 : wanted;
    model->matrix_cores = params->matrix_cores;
    return GRAFT_OK;
}

// Limits from the parameters; a context is a whole number of pages.
static void set_limits(struct graft_model *model, const struct graft_model_params *params)
{
    uint32_t trained = model->source->config.n_ctx_train;
    uint32_t n_ctx = params->n_ctx ? params->n_ctx : trained < DEFAULT_MOST_CTX ? trained : DEFAULT_MOST_CTX;
    model->n_ctx = graft_kv_pages(n_ctx) * GRAFT_PAGE_TOKENS;
    uint32_t n_batch = params->n_batch ? params->n_batch : is_software(model->device) ? DEFAULT_BATCH_SOFTWARE : DEFAULT_BATCH;
    uint32_t n_seq = params->n_seq ? params->n_seq : 1;
    model->limits = graft_kv_limits(model->n_ctx, n_batch < model->n_ctx ? n_batch : model->n_ctx, n_seq);
    model->limits.pool_bytes = params->adapter_pool_bytes & ~UINT64_C(15);
    model->limits.n_slots = !model->limits.pool_bytes ? 0 : params->adapter_slots ? params->adapter_slots : DEFAULT_SLOTS;
    if (n_ctx > trained) {
        graft_log(model->ctx, GRAFT_LOG_WARN, "the context of %u tokens is longer than the %u the model was trained with",
                  n_ctx, trained);
    }
}

static enum graft_status prepare(struct graft_model *m, const char *path, const char *shape,
                                 const struct graft_model_params *params)
{
    struct graft_ctx *ctx = m->ctx;
    if (path) {
        GRAFT_TRY(graft_gguf_open(ctx, &m->gguf, path, false));
        GRAFT_TRY(graft_source_open(ctx, &m->source, m->gguf));
        GRAFT_TRY(graft_vocabulary_create(ctx, &m->vocabulary, m->gguf));
        uint32_t tokens = graft_vocab_size(m->vocabulary->vocab);
        if (tokens != m->source->config.n_vocab) {
            return graft_fail(GRAFT_E_FORMAT, "%s: the vocabulary has %u tokens, the embedding %u rows", path, tokens,
                              m->source->config.n_vocab);
        }
    } else {
        GRAFT_TRY(graft_source_synthetic(ctx, &m->source, shape));
    }
    set_limits(m, params);
    graft_config_set_context(&m->source->config, m->limits.table_pages * GRAFT_PAGE_TOKENS);
    GRAFT_TRY(graft_plan_create(ctx, &m->plan, m->source));
    GRAFT_TRY(kv_format(m, params, params->kv_keys, "keys", &m->limits.kv_k));
    graft_limits_set_rings(&m->limits, m->source);
    GRAFT_TRY(kv_format(m, params, params->kv_values, "values", &m->limits.kv_v));
    m->exact = params->exact;
    GRAFT_TRY(set_activations(m, params));
    m->timed = params->timed;
    m->weights = params->weights;
    m->stream = params->stream;
    GRAFT_TRY(graft_kv_create(ctx, &m->kv, &m->limits));
    if (m->limits.n_slots) {
        uint64_t words = (uint64_t)m->source->config.n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY;
        GRAFT_TRY(graft_pool_create(ctx, &m->pool, m->limits.pool_bytes, m->limits.n_slots));
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_ADAPTERS, &m->infos, m->limits.n_slots, "the adapters' descriptions"));
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_ADAPTERS, &m->entries, m->limits.n_slots * words, "the adapters' tables"));
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_ADAPTERS, &m->paths, m->limits.n_slots, "the adapters' paths"));
    }
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &m->seqs, m->limits.n_seq, "sequences"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &m->lengths, m->limits.n_seq, "the sequences' lengths"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &m->rows, m->limits.n_batch, "a batch"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &m->sorted, m->limits.n_batch, "a batch"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &m->sorted_at, m->limits.n_batch, "a batch"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &m->key_ends, m->limits.n_slots + 1, "a batch"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &m->out, m->limits.n_batch, "a batch"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &m->out_of, m->limits.n_batch, "a batch"));
    return GRAFT_NEW(ctx, GRAFT_MEM_HOST, &m->candidates, GRAFT_MAX_CANDIDATES, "candidates");
}

enum graft_status graft_model_prepare(struct graft_ctx *ctx, struct graft_device *device, struct graft_model **out,
                                      const char *path, const char *shape, const struct graft_model_params *params)
{
    *out = NULL;
    struct graft_model_params given;
    GRAFT_TRY(copy_params(params, &given));
    struct graft_model *model;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &model, 1, "a model"));
    model->ctx = ctx;
    model->device = device;
    enum graft_status status = prepare(model, path, shape, &given);
    if (status != GRAFT_OK) {
        graft_model_close(&model);
        return status;
    }
    *out = model;
    return GRAFT_OK;
}

// Integer dot products and cooperative matrices that were asked for need kernels of the subgroup variant.
static void prefer_subgroups(struct graft_model *model)
{
    struct graft_device *device = model->device;
    bool integers = model->activations > GRAFT_ACTIVATIONS_F32;
    if (!device->vk || (!integers && !model->matrix_cores)) {
        return;
    }
    const struct graft_vk_caps *caps = graft_vk_caps(device->vk);
    if (integers && !caps->dot8) {
        graft_log(model->ctx, GRAFT_LOG_WARN, "%s has no integer dot products: activations are f32", caps->name);
    }
    if (model->matrix_cores && !caps->matrix_m) {
        graft_log(model->ctx, GRAFT_LOG_WARN, "%s has no cooperative matrices of f16 with sums in f32", caps->name);
    }
    if ((!integers || !caps->dot8) && (!model->matrix_cores || !caps->matrix_m)) {
        return;
    }
    device->options.no_texel = true; // also for the device that is opened anew
    graft_vk_restrict(device->vk, true, false, false);
}

static enum graft_status start(struct graft_model *model, const struct graft_model_params *params)
{
    prefer_subgroups(model);
    GRAFT_TRY(graft_model_check_budget(model));
    struct graft_exec_params exec = {.ctx = model->ctx,
                                     .plan = model->plan,
                                     .limits = model->limits,
                                     .activations = model->activations,
                                     .timed = model->timed,
                                     .weights = model->weights};
    if (params) { // its size was checked by graft_model_prepare
        struct graft_model_params given;
        GRAFT_TRY(copy_params(params, &given));
        exec.progress = given.progress;
        exec.progress_user = given.progress_user;
        GRAFT_TRY(given.check_values && model->gguf ? graft_gguf_check_values(model->gguf) : GRAFT_OK);
    }
    if (model->device->vk) {
        graft_vk_pipelines_hold(model->device->vk, true); // the self-test's are the model's
        enum graft_status status = model->device->self_test ? graft_self_test(model) : GRAFT_OK;
        if (status == GRAFT_OK) {
            exec.matrix_cores = model->matrix_cores; // not any more if they are wrong
            status = graft_exec_vk_create(&model->exec, model->device->vk, &exec);
        }
        graft_vk_pipelines_hold(model->device->vk, false);
        return status;
    }
    GRAFT_TRY(graft_exec_ref_create(&model->exec, &exec));
    uint64_t total = model->source->base_bytes;
    if (exec.progress && !exec.progress(exec.progress_user, total, total)) {
        return graft_fail(GRAFT_E_CANCELLED, "loading was cancelled");
    }
    return GRAFT_OK;
}

enum graft_status graft_model_start(struct graft_model *model, const struct graft_model_params *params)
{
    enum graft_status status = start(model, params);
    return graft_model_damaged(model) ? graft_gguf_check_intact(model->gguf) : status;
}

bool graft_model_damaged(const struct graft_model *model)
{
    return model->gguf && graft_map_damaged(&model->gguf->map);
}

static enum graft_status open_either(struct graft_device *device, struct graft_model **out, const char *path, const char *shape,
                                     const struct graft_model_params *params)
{
    *out = NULL;
    struct graft_model *model;
    GRAFT_TRY(graft_model_prepare(device->ctx, device, &model, path, shape, params));
    enum graft_status status = graft_model_start(model, params);
    if (status != GRAFT_OK) {
        graft_model_close(&model);
        return status;
    }
    model->opened = true;
    device->n_models++;
    *out = model;
    return GRAFT_OK;
}

enum graft_status graft_model_open(struct graft_device *device, struct graft_model **out, const char *path,
                                   const struct graft_model_params *params)
{
    return open_either(device, out, path, NULL, params);
}

enum graft_status graft_model_open_synthetic(struct graft_device *device, struct graft_model **out, const char *shape,
                                             const struct graft_model_params *params)
{
    return open_either(device, out, NULL, shape, params);
}

void graft_model_close(struct graft_model **model)
{
    if (!model || !*model) {
        return;
    }
    struct graft_model *m = *model;
    struct graft_ctx *ctx = m->ctx;
    if (m->exec) {
        m->exec->functions->destroy(&m->exec);
    }
    if (m->opened) {
        m->device->n_models--;
    }
    GRAFT_FREE(ctx, &m->paths);
    GRAFT_FREE(ctx, &m->candidates);
    GRAFT_FREE(ctx, &m->out_of);
    GRAFT_FREE(ctx, &m->out);
    GRAFT_FREE(ctx, &m->rows);
    GRAFT_FREE(ctx, &m->sorted);
    GRAFT_FREE(ctx, &m->sorted_at);
    GRAFT_FREE(ctx, &m->key_ends);
    GRAFT_FREE(ctx, &m->lengths);
    GRAFT_FREE(ctx, &m->seqs);
    graft_kv_destroy(&m->kv);
    graft_pool_destroy(&m->pool);
    GRAFT_FREE(ctx, &m->infos);
    GRAFT_FREE(ctx, &m->entries);
    graft_plan_destroy(&m->plan);
    graft_source_close(&m->source);
    graft_vocabulary_close(&m->vocabulary);
    graft_gguf_close(&m->gguf);
    GRAFT_FREE(ctx, model);
}

// Sums over all weights, and the type most matrices have.
struct totals {
    uint64_t parameters, bytes;
    uint64_t unused_bytes; // of experts that a token does not read
    uint32_t matrices[64]; // by type number
};

static void add_weight(struct totals *totals, const struct graft_weight *w, uint32_t n_used)
{
    totals->parameters += (uint64_t)w->n_in * w->n_out * (w->n_expert ? w->n_expert : 1);
    totals->bytes += graft_weight_bytes(w);
    totals->unused_bytes += w->n_expert ? graft_weight_bytes(w) / w->n_expert * (w->n_expert - n_used) : 0;
    if (w->n_out > 1 && w->type < sizeof totals->matrices / sizeof *totals->matrices) {
        totals->matrices[w->type]++;
    }
}

void graft_model_describe(const struct graft_model *model, struct graft_model_info *out)
{
    const struct graft_source *s = model->source;
    const struct graft_config *c = &s->config;
    *out = (struct graft_model_info){.n_layer = c->n_layer,
                                     .n_embd = c->n_embd,
                                     .n_ff = c->n_ff,
                                     .n_expert = c->n_expert,
                                     .n_expert_used = c->n_expert_used,
                                     .n_ff_expert = c->n_ff_expert,
                                     .n_head = c->n_head,
                                     .n_head_kv = c->n_head_kv,
                                     .head_dim = c->head_dim,
                                     .n_vocab = c->n_vocab,
                                     .n_ctx_train = c->n_ctx_train,
                                     .n_ctx = model->n_ctx,
                                     .n_batch = model->limits.n_batch,
                                     .n_seq = model->limits.n_seq,
                                     .imported = model->exec && model->exec->imported,
                                     .matrix_cores = model->exec && model->exec->matrix_cores,
                                     .activations = model->exec ? model->exec->activations : GRAFT_ACTIVATIONS_F32,
                                     .n_streamed = model->limits.n_streamed,
                                     .stream_bytes = graft_weights_vk_stream_bytes(s, model->limits.n_streamed),
                                     .has_chat_template = model->vocabulary && model->vocabulary->chat_template};
    snprintf(out->architecture, sizeof out->architecture, "%s", c->architecture);
    snprintf(out->name, sizeof out->name, "%s", c->name);
    struct totals totals = {0};
    add_weight(&totals, &s->embd, 0);
    add_weight(&totals, &s->output_norm, 0);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const struct graft_layer *l = &s->layers[i];
        const struct graft_weight *all[] = {
            &l->attn_norm,    &l->q,      &l->k,      &l->v,      &l->o,      &l->ffn_norm, &l->gate,   &l->up,
            &l->down,         &l->router, &l->q_bias, &l->k_bias, &l->v_bias, &l->q_norm,   &l->k_norm, &l->post_attn_norm,
            &l->post_ffn_norm}; // absent ones are zero
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
            add_weight(&totals, all[k], c->n_expert_used);
        }
    }
    if (!s->tied) {
        add_weight(&totals, &s->output, 0);
    }
    out->n_parameters = totals.parameters;
    out->weight_bytes = totals.bytes;
    // A token reads one row of the embeddings, but all of them when they are the output too; and the matrices of its own
    // experts.
    out->token_weight_bytes =
        totals.bytes - totals.unused_bytes + s->embd.row_bytes - (s->tied ? 0 : s->embd.row_bytes * s->embd.n_out);
    uint32_t most = 0;
    for (uint32_t type = 0; type < sizeof totals.matrices / sizeof *totals.matrices; type++) {
        if (totals.matrices[type] > most) {
            most = totals.matrices[type];
            snprintf(out->quantization, sizeof out->quantization, "%s", graft_type_gguf_name(type));
        }
    }
}

enum graft_status graft_model_stream_times(struct graft_model *model, struct graft_stream_times *out)
{
    if (!model->limits.n_streamed) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "no layer of the model is streamed");
    }
    // A row of no sequence: it writes to the spare page and attends to it.
    const struct graft_exec_row row = {.seq = model->limits.n_seq};
    const uint32_t wanted = 0;
    const struct graft_exec_batch batch = {.rows = &row, .n_rows = 1, .out = &wanted, .n_out = 1, .tables = model->kv->tables};
    return model->exec->functions->stream_times(model->exec, &batch, out);
}

enum graft_status graft_model_stages(struct graft_model *model, uint32_t n_rows, struct graft_stage *out, uint32_t *count)
{
    if (!model->exec || !model->exec->functions->stages) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the device does not time its steps");
    }
    return model->exec->functions->stages(model->exec, n_rows, out, count);
}
