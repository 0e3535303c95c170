// SPDX-License-Identifier: Apache-2.0
// A source's weights -> the list of steps. Nothing here depends on the device or on the number of rows.
#include "runtime/model/plan.h"

#include <stdio.h>

enum { NAME_BYTES = 32 };

static uint32_t steps_per_layer(const struct graft_source *source)
{
    return source->config.n_expert ? 6 : 5;
}

static const char *name_step(struct graft_plan *plan, uint32_t index, uint32_t layer, const char *what)
{
    char *name = plan->names + (size_t)index * NAME_BYTES;
    snprintf(name, NAME_BYTES, "blk.%u.%s", layer, what);
    return name;
}

static const struct graft_weight *post_norm(const struct graft_weight *weight)
{
    return weight->data ? weight : NULL;
}

static void fill_layer(struct graft_plan *plan, uint32_t layer)
{
    const struct graft_source *s = plan->source;
    const struct graft_layer *l = &s->layers[layer];
    bool last = layer + 1 == s->config.n_layer;
    uint32_t per_layer = steps_per_layer(s), i = 1 + layer * per_layer;
    struct graft_step *step = plan->body + i;
    step[0] = (struct graft_step){.kind = GRAFT_STEP_QKV, .layer = layer, .weight = {&l->q, &l->k, &l->v}};
    step[1] = (struct graft_step){.kind = GRAFT_STEP_ATTENTION, .layer = layer};
    step[2] = (struct graft_step){.kind = GRAFT_STEP_RESIDUAL,
                                  .layer = layer,
                                  .weight = {&l->o},
                                  .gain = &l->ffn_norm,
                                  .post = post_norm(&l->post_attn_norm)};
    bool experts = s->config.n_expert > 0;
    if (experts) {
        step[3] = (struct graft_step){.kind = GRAFT_STEP_ROUTER, .layer = layer, .weight = {&l->router}};
    }
    step[per_layer - 2] = (struct graft_step){
        .kind = experts ? GRAFT_STEP_EXPERTS_UP : GRAFT_STEP_GATE_UP, .layer = layer, .weight = {&l->gate, &l->up}};
    step[per_layer - 1] = (struct graft_step){.kind = experts ? GRAFT_STEP_EXPERTS_DOWN : GRAFT_STEP_RESIDUAL,
                                  .layer = layer,
                                  .weight = {&l->down},
                                  .gain = last ? &s->output_norm : &s->layers[layer + 1].attn_norm,
                                  .post = post_norm(&l->post_ffn_norm),
                                  .from_ff = true};
    static const char *const dense[] = {"qkv", "attention", "attn_output", "gate_up", "ffn_down"};
    static const char *const mixture[] = {"qkv", "attention", "attn_output", "router", "experts_up", "experts_down"};
    for (uint32_t k = 0; k < per_layer; k++) {
        step[k].name = name_step(plan, i + k, layer, experts ? mixture[k] : dense[k]);
    }
}

enum graft_status graft_plan_create(struct graft_ctx *ctx, struct graft_plan **out, const struct graft_source *source)
{
    *out = NULL;
    struct graft_plan *plan;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &plan, 1, "a plan"));
    plan->ctx = ctx;
    plan->source = source;
    plan->n_body = 1 + source->config.n_layer * steps_per_layer(source);
    enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &plan->body, plan->n_body, "the plan's steps");
    if (status == GRAFT_OK) {
        status =
            graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&plan->names, plan->n_body, NAME_BYTES, "the names of the plan's steps");
    }
    if (status != GRAFT_OK) {
        graft_plan_destroy(&plan);
        return status;
    }
    plan->body[0] = (struct graft_step){
        .kind = GRAFT_STEP_EMBED, .name = "embed", .weight = {&source->embd}, .gain = &source->layers[0].attn_norm};
    for (uint32_t i = 0; i < source->config.n_layer; i++) {
        fill_layer(plan, i);
    }
    plan->head[0] = (struct graft_step){.kind = GRAFT_STEP_HEAD, .name = "head", .weight = {&source->output}};
    plan->head[1] = (struct graft_step){.kind = GRAFT_STEP_TOP, .name = "top"};
    *out = plan;
    return GRAFT_OK;
}

void graft_plan_destroy(struct graft_plan **plan)
{
    if (!plan || !*plan) {
        return;
    }
    struct graft_ctx *ctx = (*plan)->ctx;
    GRAFT_FREE(ctx, &(*plan)->names);
    GRAFT_FREE(ctx, &(*plan)->body);
    GRAFT_FREE(ctx, plan);
}
