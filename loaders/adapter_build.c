// SPDX-License-Identifier: Apache-2.0
// Checks that every adapter format needs: pairs are whole, ranks agree, values are finite.
#include "loaders/adapter_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/bytes.h"

static const char *const target_names[GRAFT_ALL_TARGETS] = {"q_proj",
                                                            "k_proj",
                                                            "v_proj",
                                                            "o_proj",
                                                            "gate_proj",
                                                            "up_proj",
                                                            "down_proj",
                                                            "gate",
                                                            "embed_tokens",
                                                            "lm_head",
                                                            "input_layernorm",
                                                            "post_attention_layernorm",
                                                            "norm",
                                                            "q_norm",
                                                            "k_norm",
                                                            "post_attention_layernorm",
                                                            "post_feedforward_layernorm",
                                                            "qkv_proj",
                                                            "gate_up_proj",
                                                            "pre_feedforward_layernorm"};

const char *graft_target_name(enum graft_target target)
{
    return (unsigned)target < GRAFT_ALL_TARGETS ? target_names[target] : "?";
}

const char *graft_adapter_pair_name(enum graft_target target, uint32_t layer, uint32_t expert, char out[GRAFT_PAIR_NAME_BYTES])
{
    if (expert) {
        snprintf(out, GRAFT_PAIR_NAME_BYTES, "layer %u expert %u %s", layer, expert - 1, graft_target_name(target));
    } else {
        snprintf(out, GRAFT_PAIR_NAME_BYTES, "layer %u %s", layer, graft_target_name(target));
    }
    return out;
}

const char *graft_adapter_module(enum graft_target target, uint32_t layer, uint32_t expert, bool mixtral,
                                 char out[GRAFT_ADAPTER_NAME_BYTES])
{
    static const char *const sparse[] = {"w1", "w3", "w2"}; // gate, up, down
    const char *name = graft_target_name(target);
    bool attention = target < GRAFT_TARGET_GATE || target == GRAFT_TARGET_QKV || target == GRAFT_TARGET_Q_NORM ||
                     target == GRAFT_TARGET_K_NORM;
    bool feed_forward = (!attention && target < GRAFT_LAYER_TARGETS) || target == GRAFT_TARGET_GATE_UP;
    if (target == GRAFT_TARGET_HEAD) {
        snprintf(out, GRAFT_ADAPTER_NAME_BYTES, "%s", name);
    } else if (!graft_target_of_layer(target)) {
        snprintf(out, GRAFT_ADAPTER_NAME_BYTES, "model.%s", name);
    } else if (expert) {
        bool short_name = mixtral && target >= GRAFT_TARGET_GATE && target <= GRAFT_TARGET_DOWN;
        snprintf(out, GRAFT_ADAPTER_NAME_BYTES, "model.layers.%u.%s.experts.%u.%s", layer, mixtral ? "block_sparse_moe" : "mlp",
                 expert - 1, short_name ? sparse[target - GRAFT_TARGET_GATE] : name);
    } else {
        const char *block = attention                                  ? "self_attn."
                            : !feed_forward                            ? ""
                            : mixtral && target == GRAFT_TARGET_ROUTER ? "block_sparse_moe."
                                                                       : "mlp.";
        snprintf(out, GRAFT_ADAPTER_NAME_BYTES, "model.layers.%u.%s%s", layer, block, name);
    }
    return out;
}

bool graft_adapter_layer(const char **text, uint32_t *out)
{
    const char *p = *text;
    uint32_t layer = 0;
    while (*p >= '0' && *p <= '9' && p - *text < GRAFT_ADAPTER_LAYER_DIGITS) {
        layer = layer * 10 + (uint32_t)(*p++ - '0');
    }
    if (p == *text || (**text == '0' && p - *text > 1)) {
        return false;
    }
    *text = p;
    *out = layer;
    return true;
}

int graft_adapter_pair_order(const void *left, const void *right)
{
    const struct graft_adapter_pair *a = left, *b = right;
    return a->layer != b->layer     ? (a->layer < b->layer ? -1 : 1)
           : a->expert != b->expert ? (a->expert < b->expert ? -1 : 1)
                                    : (int)a->target - (int)b->target;
}

static int by_pair(const void *left, const void *right)
{
    const struct graft_adapter_tensor *a = left, *b = right;
    if (a->layer != b->layer) {
        return a->layer < b->layer ? -1 : 1;
    }
    if (a->expert != b->expert) {
        return a->expert < b->expert ? -1 : 1;
    }
    return a->target != b->target ? (int)a->target - (int)b->target : (int)a->part - (int)b->part;
}

// Every value must be finite. *zero: all of them are 0.
static enum graft_status check_values(const struct graft_adapter_tensor *t, const char *file, bool *zero)
{
    const struct graft_adapter_view *view = &t->view;
    uint32_t any = 0;
    uint64_t values = view->rows * view->cols;
    bool wide = view->type == GRAFT_TYPE_F32;
    uint32_t exponent = wide ? 0x7f800000u : view->type == GRAFT_TYPE_F16 ? 0x7c00u : 0x7f80u;
    uint32_t mantissa = wide ? 0x007fffffu : view->type == GRAFT_TYPE_F16 ? 0x03ffu : 0x007fu;
    uint32_t bad = 0; // no branches: compilers vectorize these loops
    for (uint64_t i = 0; i < values && wide; i++) {
        uint32_t bits = graft_load_u32(view->data + 4 * i);
        bad |= (bits & exponent) == exponent;
        any |= bits;
    }
    for (uint64_t i = 0; i < values && !wide; i++) {
        uint32_t bits = graft_load_u16(view->data + 2 * i);
        bad |= (bits & exponent) == exponent;
        any |= bits;
    }
    for (uint64_t i = 0; i < values && bad; i++) {
        uint32_t bits = wide ? graft_load_u32(view->data + 4 * i) : graft_load_u16(view->data + 2 * i);
        if ((bits & exponent) == exponent) {
            return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s has %s at index %" PRIu64 ", all values must be finite", file,
                              t->name, bits & mantissa ? "NaN" : "Inf", i);
        }
    }
    *zero = (any & (exponent | mantissa)) == 0;
    return GRAFT_OK;
}

// One value for each of B's rows, [n] or [n, 1], as a view of one row.
static enum graft_status read_vector(const struct graft_adapter_tensor *t, const struct graft_adapter_tensor *b,
                                     const char *file, struct graft_adapter_view *out)
{
    if (!t) {
        return GRAFT_OK;
    }
    if ((t->n_dims == 2 && t->view.cols != 1) || t->view.rows * t->view.cols != b->view.rows) {
        return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s has shape %" PRIu64 " x %" PRIu64 ", %s has %" PRIu64 " rows", file,
                          t->name, t->view.rows, t->view.cols, b->name, b->view.rows);
    }
    *out = t->view;
    out->rows = 1;
    out->cols = b->view.rows;
    return GRAFT_OK;
}

// A part that a switch of the configuration announces is there, and only then.
static enum graft_status check_announced(const struct graft_adapter_tensor *t, const char *part, bool announced,
                                         const char *key, const char *module, const char *file)
{
    if ((t != NULL) != announced) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s has %s %s, the configuration's %s is %s", file, module, t ? "a" : "no", part,
                          key, announced ? "true" : "false");
    }
    return GRAFT_OK;
}

// The tensors of one layer and target -> pair. parts: by enum graft_adapter_part, NULL if absent, at least one is there.
static enum graft_status add_pair(struct graft_adapter_desc *desc, const struct graft_adapter_tensor *first,
                                  const struct graft_adapter_tensor *const parts[GRAFT_ADAPTER_PARTS],
                                  const struct graft_adapter_config *config, double alpha, const char *file)
{
    const struct graft_adapter_tensor *a = parts[GRAFT_ADAPTER_A], *b = parts[GRAFT_ADAPTER_B];
    struct graft_adapter_pair *pair = &desc->pairs[desc->n_pairs];
    *pair = (struct graft_adapter_pair){.target = first->target, .layer = first->layer, .expert = first->expert};
    char module[GRAFT_ADAPTER_NAME_BYTES];
    if (first->stacked) { // the parameter's name, not that of a module
        snprintf(module, sizeof module, "model.layers.%u.mlp.experts.%s", first->layer,
                 first->target == GRAFT_TARGET_DOWN ? "down_proj" : "gate_up_proj");
    } else {
        graft_adapter_module(first->target, first->layer, first->expert, first->mixtral, module);
    }
    if (!a || !b) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s has no %s beside %s", file, module, a ? "B" : "A", first->name);
    }
    if (a->n_dims != 2 || b->n_dims != 2 || a->view.rows != b->view.cols) {
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: %s has A of shape %" PRIu64 " x %" PRIu64 " and B of shape %" PRIu64 " x %" PRIu64
                          ", A's rows must be B's columns",
                          file, module, a->view.rows, a->view.cols, b->view.rows, b->view.cols);
    }
    if (a->view.rows > GRAFT_ADAPTER_MAX_RANK) {
        return graft_fail(GRAFT_E_LIMIT, "%s: %s has rank %" PRIu64 ", allowed are 1 to %d", file, module, a->view.rows,
                          GRAFT_ADAPTER_MAX_RANK);
    }
    pair->rank = (uint32_t)a->view.rows;
    if (config) {
        uint32_t rank;
        GRAFT_TRY(graft_adapter_config_module(config, module, &rank, &pair->scale));
        if (rank != pair->rank) {
            return graft_fail(GRAFT_E_FORMAT, "%s: %s has rank %u, the configuration says %u", file, module, pair->rank, rank);
        }
    } else {
        pair->scale = (float)(alpha / (double)pair->rank);
    }
    if (first->target == GRAFT_TARGET_EMBED && parts[GRAFT_ADAPTER_BIAS]) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: %s has a bias, which is not supported there", file, module);
    }
    GRAFT_TRY(check_announced(parts[GRAFT_ADAPTER_BIAS], "bias", config && config->lora_bias, "lora_bias", module, file));
    GRAFT_TRY(check_announced(parts[GRAFT_ADAPTER_MAGNITUDE], "magnitude vector", config && config->use_dora, "use_dora",
                              module, file));
    GRAFT_TRY(read_vector(parts[GRAFT_ADAPTER_BIAS], b, file, &pair->bias));
    GRAFT_TRY(read_vector(parts[GRAFT_ADAPTER_MAGNITUDE], b, file, &pair->magnitude));
    for (unsigned i = 0; i < GRAFT_ADAPTER_PARTS; i++) {
        bool zero;
        if (!parts[i]) {
            continue;
        }
        GRAFT_TRY(check_values(parts[i], file, &zero));
        if (zero && i == GRAFT_ADAPTER_B) {
            graft_log(desc->ctx, GRAFT_LOG_WARN, "%s: tensor %s is all zeros and changes nothing", file, b->name);
        }
        bool shared = parts[i]->stacked && first->target == GRAFT_TARGET_UP && i == GRAFT_ADAPTER_A; // counted with gate
        desc->n_parameters += shared ? 0 : parts[i]->view.rows * parts[i]->view.cols;
    }
    desc->n_expert = pair->expert > desc->n_expert ? pair->expert : desc->n_expert;
    pair->a = a->view;
    pair->b = b->view;
    desc->max_rank = pair->rank > desc->max_rank ? pair->rank : desc->max_rank;
    desc->n_pairs++;
    return GRAFT_OK;
}

// A tensor that replaces the base's, or a copy of it.
static enum graft_status add_whole(struct graft_adapter_desc *desc, const struct graft_adapter_tensor *t, const char *file)
{
    bool zero;
    GRAFT_TRY(check_values(t, file, &zero));
    for (uint32_t i = 0; i < desc->n_whole; i++) {
        if (desc->whole[i].target == t->target && desc->whole[i].layer == t->layer) {
            return graft_fail(GRAFT_E_FORMAT, "%s: tensors %s and %s stand for the same tensor of the base", file,
                              desc->whole[i].name, t->name);
        }
    }
    desc->whole[desc->n_whole++] = (struct graft_adapter_whole){.target = t->target,
                                                                .layer = t->layer,
                                                                .base_copy = t->part == GRAFT_ADAPTER_BASE_COPY,
                                                                .name = t->name,
                                                                .view = t->view};
    desc->n_parameters += t->part == GRAFT_ADAPTER_BASE_COPY ? 0 : t->view.rows * t->view.cols;
    return GRAFT_OK;
}

enum graft_status graft_adapter_build(struct graft_adapter_desc *desc, struct graft_adapter_tensor *tensors, uint64_t n_tensors,
                                      const struct graft_adapter_config *config, double alpha, const char *file)
{
    if (n_tensors == 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: has no tensors", file);
    }
    GRAFT_TRY(GRAFT_NEW(desc->ctx, GRAFT_MEM_HOST, &desc->pairs, n_tensors, "an adapter's matrices"));
    GRAFT_TRY(GRAFT_NEW(desc->ctx, GRAFT_MEM_HOST, &desc->whole, n_tensors, "an adapter's tensors"));
    qsort(tensors, (size_t)n_tensors, sizeof *tensors, by_pair);
    for (uint64_t i = 0, next; i < n_tensors; i = next) {
        const struct graft_adapter_tensor *parts[GRAFT_ADAPTER_PARTS] = {0}, *first = &tensors[i];
        if (first->part > GRAFT_ADAPTER_PARTS) {
            next = i + 1;
            GRAFT_TRY(add_whole(desc, first, file));
            continue;
        }
        for (next = i; next < n_tensors && tensors[next].layer == first->layer && tensors[next].expert == first->expert &&
                       tensors[next].target == first->target && tensors[next].part < GRAFT_ADAPTER_PARTS;
             next++) {
            const struct graft_adapter_tensor **part = &parts[tensors[next].part];
            if (*part) {
                return graft_fail(GRAFT_E_FORMAT, "%s: tensors %s and %s are the same part of one module", file, (*part)->name,
                                  tensors[next].name);
            }
            *part = &tensors[next];
        }
        GRAFT_TRY(add_pair(desc, first, parts, config, alpha, file));
    }
    return GRAFT_OK;
}

enum graft_status graft_adapter_keep_names(struct graft_adapter_desc *desc)
{
    uint64_t bytes = 0, at = 0;
    for (uint32_t i = 0; i < desc->n_whole; i++) {
        bytes += strlen(desc->whole[i].name) + 1;
    }
    GRAFT_TRY(graft_alloc(desc->ctx, GRAFT_MEM_HOST, (void **)&desc->names, bytes, 1, "an adapter's tensor names"));
    for (uint32_t i = 0; i < desc->n_whole; i++) {
        size_t length = strlen(desc->whole[i].name) + 1;
        memcpy(desc->names + at, desc->whole[i].name, length);
        desc->whole[i].name = desc->names + at;
        at += length;
    }
    return GRAFT_OK;
}
