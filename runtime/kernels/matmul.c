// SPDX-License-Identifier: Apache-2.0
// The matrix kernels: qkv, residual, gate_up, head. Shaders of the same names; shared core in shaders/lib/matmul.glsl.
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/kernels/kernel.h"

// Bindings of each kernel: w = weights, v = input vectors, p = adapter data, r = read, o = written, x = read and written;
// lora: all of them where adapters are added.
static const struct {
    const char *name;
    const char *bindings, *lora;
} kinds[] = {
    [GRAFT_MATMUL_QKV] = {"qkv", "wvrroorrrrr", "wvrroorrrrrppvp"},
    [GRAFT_MATMUL_RESIDUAL] = {"residual", "wvxroorr", "wvxrxorrppvpox"},
    [GRAFT_MATMUL_GATE_UP] = {"gate_up", "wvrow", "wvrxwppvpox"},
    [GRAFT_MATMUL_GATE] = {"gate_up", "wvrow", "wvrxwppvpox"},
    [GRAFT_MATMUL_UP] = {"gate_up", "wvrxw", "wvrxwppvpox"},
    [GRAFT_MATMUL_HEAD] = {"head", "wvrro", "wvrroppvp"},
};

enum {
    CONSTANTS = GRAFT_MATMUL_CONSTANT + 1,
    QKV_CONSTANTS = GRAFT_QKV_CONSTANT_RING + 1,
    DOT_CONSTANTS = GRAFT_CHUNK_CONSTANT + 1,
    MATRIX_CONSTANTS = GRAFT_PART_ROWS_CONSTANT + 1
};

void graft_kernel_kv(struct graft_kernel *qkv, enum graft_kv_format keys, enum graft_kv_format values)
{
    enum { NEW = 6, COUNT = 7 };
    struct graft_vk_pipeline_params *p = &qkv->pipeline;
    p->constants[GRAFT_QKV_CONSTANT_K] = keys;
    p->constants[GRAFT_QKV_CONSTANT_V] = values;
    if (graft_kv_is_quantized(keys) || graft_kv_is_quantized(values)) { // otherwise neither is touched
        p->access[NEW] = p->access[COUNT] = GRAFT_VK_READ_WRITE;
    }
}

enum graft_status graft_kernel_matmul(struct graft_kernel *out, enum graft_matmul_kind kind, const struct graft_vk_caps *caps,
                                      const struct graft_variant *variant, uint32_t type, uint32_t n_segments,
                                      const uint32_t *segment_rows, uint32_t batch_rows)
{
    *out = (struct graft_kernel){0};
    const struct graft_kernel_format *format = graft_kernel_format(type);
    if (!format) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "weight type %u has no kernel", type);
    }
    char name[24];
    const char *bindings = variant->lora ? kinds[kind].lora : kinds[kind].bindings;
    snprintf(name, sizeof name, "%s%s", kinds[kind].name, variant->lora ? "_lora" : "");
    GRAFT_TRY(graft_kernel_name(out, name, format, variant->kind, sizeof out->push.matmul));
    struct graft_vk_pipeline_params *p = &out->pipeline;
    graft_kernel_bind(p, bindings, variant->kind == GRAFT_VARIANT_LANE);
    p->n_constants = variant->kind == GRAFT_VARIANT_MATRIX ? MATRIX_CONSTANTS
                     : variant->kind == GRAFT_VARIANT_DOT  ? DOT_CONSTANTS
                     : kind == GRAFT_MATMUL_QKV            ? QKV_CONSTANTS
                                                           : CONSTANTS;
    p->constants[0] = variant->workgroup;
    p->constants[1] = variant->rows;
    p->constants[2] = variant->cols;
    p->constants[GRAFT_GATE_UP_CONSTANT_PART] = kind == GRAFT_MATMUL_GATE ? 1 : kind == GRAFT_MATMUL_UP ? 2 : 0;
    p->constants[4] = variant->lora == GRAFT_LORA_EXTRAS;
    p->constants[GRAFT_FORMAT_CONSTANT] = type;
    p->constants[GRAFT_PLANES_CONSTANT] = variant->planes;
    p->constants[GRAFT_CHUNK_CONSTANT] = variant->chunk;
    p->constants[GRAFT_TILE_ROWS_CONSTANT] = graft_variant_rows(variant);
    p->constants[GRAFT_MATRIX_M_CONSTANT] = caps->matrix_m;
    p->constants[GRAFT_MATRIX_N_CONSTANT] = caps->matrix_n;
    p->constants[GRAFT_MATRIX_K_CONSTANT] = caps->matrix_k;
    p->constants[GRAFT_KSUBS_CONSTANT] = variant->ksubs;
    p->constants[GRAFT_PART_ROWS_CONSTANT] = variant->part_rows;
    p->required_subgroup_size = variant->subgroup;
    p->full_subgroups = variant->subgroup != 0;

    uint32_t covered = graft_variant_rows(variant) / (kind == GRAFT_MATMUL_GATE_UP ? 2 : 1);
    uint32_t total = 0, before[3] = {0};
    for (uint32_t i = 0; i < 3; i++) {
        before[i] = total;
        uint32_t rows = i < n_segments ? segment_rows[i] : 0;
        out->push.matmul.rows[i] = rows;
        total += rows / covered + (rows % covered != 0);
    }
    out->push.matmul.groups[0] = n_segments > 1 ? before[1] : UINT32_MAX;
    out->push.matmul.groups[1] = n_segments > 2 ? before[2] : UINT32_MAX;
    out->groups[0] = total;
    uint32_t columns = variant->cols * variant->column_owners;
    out->groups[1] = batch_rows / columns + (batch_rows % columns != 0);
    out->groups[2] = 1;
    return graft_kernel_check_grid(out, caps);
}

void graft_kernel_qkv_shape(struct graft_kernel *qkv, const struct graft_qkv_shape *shape)
{
    enum { RAW = 9, COUNTERS = 10 };
    struct graft_vk_pipeline_params *p = &qkv->pipeline;
    p->constants[7] = shape->head_dim;
    p->constants[8] = shape->rope_dim;
    p->constants[9] = shape->n_head_kv;
    p->constants[10] = shape->rope_halves;
    p->constants[11] = shape->bias;
    p->constants[12] = shape->head_norm;
    p->constants[GRAFT_QKV_CONSTANT_RING] = shape->ring;
    if (shape->head_norm) {
        p->access[RAW] = p->access[COUNTERS] = GRAFT_VK_READ_WRITE;
    }
}

void graft_kernel_post_norm(struct graft_kernel *residual)
{
    enum { RAW = 6, COUNTERS = 7 };
    struct graft_vk_pipeline_params *p = &residual->pipeline;
    p->constants[GRAFT_MATMUL_CONSTANT] = 1;
    p->access[RAW] = p->access[COUNTERS] = GRAFT_VK_READ_WRITE;
}
