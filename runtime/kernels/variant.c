// SPDX-License-Identifier: Apache-2.0
// Choice of variants, and the table look-up of their modules.
#include <stdio.h>
#include <string.h>

#include "loaders/types.h"
#include "runtime/kernels/kernel.h"
#include "runtime/kernels/shader.h"

struct graft_variant graft_variant_choose(const struct graft_vk_caps *caps, uint32_t batch_rows)
{
    struct graft_variant v = {.rows = 4, .column_owners = 1};
    bool subgroups = caps->subgroup_arithmetic && caps->subgroup_shuffle;
    if (caps->kind == GRAFT_VK_SOFTWARE && subgroups && caps->max_texel_elements > 0) {
        // One subgroup is one vector of the processor: no barrier, no reduction. Tiles of 4 x 8 make the
        // most of a fetched weight (measured: docs/performance.md).
        v.kind = GRAFT_VARIANT_LANE;
        v.workgroup = caps->subgroup_size;
        v.owners = v.workgroup;
        v.cols = batch_rows < 4 ? batch_rows : batch_rows < 8 ? 4 : 8;
        v.fold = true; // a dispatch costs more than what it would share out
    } else if (subgroups) {
        // Four subgroups a workgroup: enough loads in flight, few enough parts for the sums of squares.
        v.kind = GRAFT_VARIANT_SUBGROUP;
        uint32_t owners = 4;
        while (owners > 1 && (owners * caps->subgroup_size > caps->max_invocations || owners * caps->subgroup_size > 256)) {
            owners /= 2;
        }
        v.owners = owners;
        v.workgroup = owners * caps->subgroup_size;
        v.cols = batch_rows < 4 ? batch_rows : 4;
        v.subgroup = caps->subgroup_size_control ? caps->subgroup_size : 0;
    } else {
        v.kind = GRAFT_VARIANT_TEAM;
        v.workgroup = 64;
        v.owners = 1;
        v.cols = batch_rows < 4 ? batch_rows : 4;
    }
    v.part_rows = graft_variant_rows(&v);
    return v;
}

enum { OTHERS = 2048 }; // bytes that a kernel shares besides what these variants add

static bool of_blocks(uint32_t type)
{
    const struct graft_kernel_format *format = graft_kernel_format(type);
    return format && strcmp(format->family, "blocks") == 0;
}

enum graft_activations graft_activations_choose(const struct graft_vk_caps *caps, enum graft_activations wanted)
{
    enum { QUAD = 4 }; // invocations that share the rounding of a group
    if (!caps->dot8 || caps->subgroup_min < QUAD || graft_variant_choose(caps, 1).kind != GRAFT_VARIANT_SUBGROUP) {
        return GRAFT_ACTIVATIONS_F32;
    }
    if (wanted == GRAFT_ACTIVATIONS_DEFAULT) {
        return caps->dot8_accelerated ? GRAFT_ACTIVATIONS_INT16 : GRAFT_ACTIVATIONS_F32;
    }
    return wanted;
}

void graft_variant_use_dot(struct graft_variant *v, const struct graft_vk_caps *caps, uint32_t type,
                           enum graft_activations activations, uint32_t free_rows)
{
    enum { GROUPS = 256 }; // integers of so many groups make 8 KiB
    enum { FEW = 2, WIDE = 8, MOST_INVOCATIONS = 256, ENOUGH = 512 };
    bool integers = activations == GRAFT_ACTIVATIONS_INT8 || activations == GRAFT_ACTIVATIONS_INT16;
    if (!integers || v->kind != GRAFT_VARIANT_SUBGROUP || !of_blocks(type)) {
        return;
    }
    v->kind = GRAFT_VARIANT_DOT;
    v->planes = activations == GRAFT_ACTIVATIONS_INT8 ? 1 : 2;
    uint32_t wide = WIDE * caps->subgroup_size;
    if (v->cols <= FEW && wide <= MOST_INVOCATIONS && wide <= caps->max_invocations && v->part_rows % WIDE == 0) {
        // Twice the subgroups share the rounding; half the rows each, unless there are workgroups enough to fill a large device
        // (measured: docs/performance.md).
        v->rows = free_rows / (WIDE * v->rows) >= ENOUGH ? v->rows : v->part_rows / WIDE;
        v->owners = WIDE;
        v->workgroup = wide;
    }
    uint32_t cols = v->cols == 3 ? 4 : v->cols, group_bytes = 32 * v->planes + 12;
    v->chunk = GROUPS / v->planes / cols;
    // No invocation of a subgroup without a group, where there is room for that.
    while (v->chunk < caps->subgroup_size && 2 * v->chunk * cols * group_bytes + OTHERS <= caps->max_shared_bytes) {
        v->chunk *= 2;
    }
}

static const struct graft_shader *find_module(const char *name)
{
    for (uint32_t i = 0; i < graft_shader_count; i++) {
        if (strcmp(graft_shaders[i].name, name) == 0) {
            return &graft_shaders[i];
        }
    }
    return NULL;
}

bool graft_matrix_cores(const struct graft_vk_caps *caps)
{
    enum { GROUP = 32 }; // weights that a chunk has at least
    return caps->matrix_m && GROUP % caps->matrix_k == 0 && caps->subgroup_size_control &&
           graft_variant_choose(caps, 1).kind == GRAFT_VARIANT_SUBGROUP && find_module("head.blocks.matrix");
}

void graft_variant_use_matrix(struct graft_variant *v, const struct graft_vk_caps *caps, uint32_t type, uint32_t batch_rows)
{
    enum { MOST_COLUMNS = 64 }; // of a tile
    uint32_t subgroups = v->owners, tile_rows = subgroups * caps->matrix_m;
    if (!graft_matrix_cores(caps) || v->subgroup == 0 || !of_blocks(type) || tile_rows % v->part_rows != 0 ||
        v->workgroup % (tile_rows / v->rows) != 0) {
        return;
    }
    uint32_t column_owners = v->workgroup / (tile_rows / v->rows), ksubs = v->workgroup / tile_rows;
    ksubs = ksubs ? ksubs : 1;
    for (uint32_t cols = GRAFT_MAX_COLS; cols > 0; cols--) {
        uint32_t tile = cols * column_owners, quads = (ksubs * 4 + 1) * (tile_rows + tile);
        uint64_t words = (uint64_t)caps->matrix_n * tile_rows + tile_rows + 3 * tile + (uint64_t)tile * (tile_rows / v->rows);
        uint64_t shared = 16ull * quads + 4ull * words;
        if (tile <= MOST_COLUMNS && tile >= 16 && tile % caps->matrix_n == 0 && batch_rows % tile == 0 &&
            shared + OTHERS <= caps->max_shared_bytes) {
            v->kind = GRAFT_VARIANT_MATRIX;
            v->owners = tile_rows / v->rows;
            v->cols = cols;
            v->column_owners = column_owners;
            v->ksubs = ksubs;
            return;
        }
    }
}

uint64_t graft_shader_build(void)
{
    uint64_t hash = 14695981039346656037u;
    for (uint32_t i = 0; i < graft_shader_count; i++) {
        for (uint64_t k = 0; k < graft_shaders[i].bytes / 4; k++) {
            hash = (hash ^ graft_shaders[i].spirv[k]) * 1099511628211u;
        }
    }
    return hash;
}

const struct graft_kernel_format *graft_kernel_format(uint32_t type)
{
    static const struct graft_kernel_format formats[] = {
        {GRAFT_TYPE_F32, "f32", "plain"},      {GRAFT_TYPE_F16, "f16", "plain"},        {GRAFT_TYPE_BF16, "bf16", "plain"},
        {GRAFT_TYPE_Q4_0, "q4_0", "blocks"},   {GRAFT_TYPE_Q4_1, "q4_1", "blocks"},     {GRAFT_TYPE_Q5_0, "q5_0", "blocks"},
        {GRAFT_TYPE_Q5_1, "q5_1", "blocks"},   {GRAFT_TYPE_Q8_0, "q8_0", "blocks"},     {GRAFT_TYPE_Q2_K, "q2_k", "blocks"},
        {GRAFT_TYPE_Q3_K, "q3_k", "blocks"},   {GRAFT_TYPE_Q4_K, "q4_k", "blocks"},     {GRAFT_TYPE_Q5_K, "q5_k", "blocks"},
        {GRAFT_TYPE_Q6_K, "q6_k", "blocks"},   {GRAFT_TYPE_IQ4_NL, "iq4_nl", "blocks"}, {GRAFT_TYPE_IQ4_XS, "iq4_xs", "blocks"},
        {GRAFT_TYPE_MXFP4, "mxfp4", "blocks"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (formats[i].type == type) {
            return &formats[i];
        }
    }
    return NULL;
}

void graft_kernel_bind(struct graft_vk_pipeline_params *p, const char *bindings, bool texel)
{
    for (const char *b = bindings; *b; b++) {
        uint32_t i = p->n_bindings++;
        p->kinds[i] = *b == 'w' && texel   ? GRAFT_VK_TEXEL_U32
                      : *b == 'v' && texel ? GRAFT_VK_TEXEL_F32X4
                      : *b == 'p' && texel ? GRAFT_VK_TEXEL_U32X4
                                           : GRAFT_VK_STORAGE;
        p->access[i] = *b == 'o' ? GRAFT_VK_WRITE : *b == 'x' ? GRAFT_VK_READ_WRITE : GRAFT_VK_READ;
    }
}

enum graft_status graft_kernel_check_grid(const struct graft_kernel *kernel, const struct graft_vk_caps *caps)
{
    if (kernel->groups[0] > caps->max_group_count[0] || kernel->groups[1] > caps->max_group_count[1]) {
        return graft_fail(GRAFT_E_LIMIT, "kernel %s needs %u x %u workgroups, the device allows %u x %u", kernel->name,
                          kernel->groups[0], kernel->groups[1], caps->max_group_count[0], caps->max_group_count[1]);
    }
    return GRAFT_OK;
}

enum graft_status graft_kernel_name(struct graft_kernel *out, const char *kernel, const struct graft_kernel_format *format,
                                    enum graft_variant_kind kind, uint32_t push_bytes)
{
    static const char *const variants[] = {"lane", "team", "subgroup", "dot", "matrix"};
    char module[sizeof out->name];
    snprintf(out->name, sizeof out->name, "%s%s%s.%s", kernel, format ? "." : "", format ? format->name : "", variants[kind]);
    snprintf(module, sizeof module, "%s%s%s.%s", kernel, format ? "." : "", format ? format->family : "", variants[kind]);
    const struct graft_shader *shader = find_module(module);
    if (!shader) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "there is no kernel %s", out->name);
    }
    out->pipeline.name = out->name;
    out->pipeline.spirv = shader->spirv;
    out->pipeline.spirv_bytes = shader->bytes;
    out->pipeline.spirv_constant = true;
    out->pipeline.push_bytes = push_bytes;
    return GRAFT_OK;
}
