// SPDX-License-Identifier: Apache-2.0
// Choice of variants and grids for devices nobody here has: pure functions, no device.
#include <string.h>

#include "loaders/types.h"
#include "runtime/model/lower.h"
#include "support/matrices.h"
#include "support/spirv.h"

static const struct made_up {
    const char *name;
    struct graft_vk_caps caps;
} devices[] = {
#define DEVICE(name_, kind_, size, control, invocations, shared, storage, texels)                                              \
    {                                                                                                                          \
        name_,                                                                                                                 \
        {                                                                                                                      \
            .kind = (kind_), .subgroup_size = (size), .subgroup_min = (size), .subgroup_max = (size),                          \
            .subgroup_arithmetic = (size) > 1, .subgroup_shuffle = (size) > 1, .subgroup_size_control = (control),             \
            .max_invocations = (invocations), .max_shared_bytes = (shared), .max_group_count = {65535, 65535, 65535},          \
            .max_storage_bytes = (storage), .max_allocation_bytes = 1u << 30, .max_texel_elements = (texels),                  \
            .storage_alignment = 64, .texel_alignment = 64                                                                     \
        }                                                                                                                      \
    }
    DEVICE("Mali", GRAFT_VK_INTEGRATED, 16, false, 128, 16384, 128u << 20, 65536),
    DEVICE("Mali, 4 wide", GRAFT_VK_INTEGRATED, 4, false, 128, 16384, 128u << 20, 65536),
    DEVICE("Adreno 64", GRAFT_VK_INTEGRATED, 64, true, 1024, 32768, 128u << 20, 1u << 27),
    DEVICE("Adreno 128", GRAFT_VK_INTEGRATED, 128, false, 1024, 32768, 128u << 20, 1u << 27),
    DEVICE("Adreno 128, few invocations", GRAFT_VK_INTEGRATED, 128, false, 128, 16384, 128u << 20, 1u << 27),
    DEVICE("Intel 8", GRAFT_VK_INTEGRATED, 8, true, 1024, 65536, 1u << 30, 1u << 27),
    DEVICE("Intel 16", GRAFT_VK_INTEGRATED, 16, true, 1024, 65536, 1u << 30, 1u << 27),
    DEVICE("Intel 32", GRAFT_VK_INTEGRATED, 32, true, 1024, 65536, 1u << 30, 1u << 27),
    DEVICE("NVIDIA", GRAFT_VK_DISCRETE, 32, true, 1024, 49152, UINT32_MAX, 1u << 27),
    DEVICE("AMD", GRAFT_VK_DISCRETE, 64, true, 1024, 65536, UINT32_MAX, UINT32_MAX),
    DEVICE("lavapipe 8", GRAFT_VK_SOFTWARE, 8, true, 1024, 32768, 1u << 30, 1u << 27),
    DEVICE("lavapipe 4", GRAFT_VK_SOFTWARE, 4, true, 1024, 32768, 1u << 30, 1u << 27),
    DEVICE("software without texel buffers", GRAFT_VK_SOFTWARE, 8, true, 1024, 32768, 1u << 30, 0),
    DEVICE("baseline", GRAFT_VK_OTHER, 1, false, 128, 16384, 128u << 20, 65536),
};
enum { DEVICES = sizeof devices / sizeof *devices };

static const uint32_t batches[] = {1, 2, 3, 4, 5, 8, 12, 32, 128};

static bool power_of_two(uint32_t n)
{
    return n && (n & (n - 1)) == 0;
}

// What holds for every pipeline: a size the device allows, a power of two for the trees in shared memory, room in the shared
// arrays.
static void check_pipeline(const struct made_up *device, const struct graft_kernel *kernel)
{
    const struct graft_vk_pipeline_params *p = &kernel->pipeline;
    uint32_t workgroup = p->constants[0];
    ck_assert_msg(power_of_two(workgroup) && workgroup <= device->caps.max_invocations && workgroup <= 256,
                  "%s, %s: %u invocations", device->name, kernel->name, workgroup);
    ck_assert_ptr_nonnull(p->spirv);
    ck_assert_uint_le(p->push_bytes, GRAFT_VK_MAX_PUSH_BYTES);
    ck_assert_uint_eq(p->push_bytes % 4, 0);
    ck_assert(p->required_subgroup_size == 0 ||
              (device->caps.subgroup_size_control && p->required_subgroup_size == device->caps.subgroup_size));
    ck_assert(!p->full_subgroups || workgroup % device->caps.subgroup_size == 0);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_msg(kernel->groups[i] > 0 && kernel->groups[i] <= device->caps.max_group_count[i], "%s, %s: %u workgroups",
                      device->name, kernel->name, kernel->groups[i]);
    }
    if (device->caps.max_texel_elements == 0 || device->caps.kind != GRAFT_VK_SOFTWARE) {
        for (uint32_t i = 0; i < p->n_bindings; i++) {
            ck_assert_int_eq(p->kinds[i], GRAFT_VK_STORAGE);
        }
    }
    ck_assert(device->caps.subgroup_arithmetic || strstr(kernel->name, ".team"));
}

START_TEST(variants_keep_the_device_limits)
{
    const struct made_up *device = &devices[_i];
    uint32_t covered = 0;
    for (uint32_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        struct graft_variant v = graft_variant_choose(&device->caps, batches[i]);
        ck_assert(power_of_two(v.workgroup) && v.workgroup <= device->caps.max_invocations && v.workgroup <= 256);
        ck_assert(v.rows % 2 == 0 && v.rows >= 2 && v.cols >= 1 && v.owners >= 1);
        ck_assert_uint_le(v.cols, GRAFT_MAX_COLS); // buffers have room for such tiles
        ck_assert_uint_le(v.cols, batches[i]);
        ck_assert_uint_eq(16 % v.rows, 0); // a tile stays inside a head
        if (v.kind == GRAFT_VARIANT_SUBGROUP) {
            ck_assert_uint_eq(v.owners * device->caps.subgroup_size, v.workgroup);
        }
        // Parts of the sums of squares are counted once for all batches.
        covered = i == 0 ? graft_variant_rows(&v) : covered;
        ck_assert_uint_eq(graft_variant_rows(&v), covered);
    }
}
END_TEST

START_TEST(grids_of_matrix_kernels_cover_every_row_once)
{
    static const uint32_t sizes[] = {1, 3, 16, 31, 33, 576, 4096, 14336, 49152, 128256};
    const struct made_up *device = &devices[_i];
    for (uint32_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        struct graft_variant v = graft_variant_choose(&device->caps, batches[i]);
        for (uint32_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (uint32_t k = GRAFT_MATMUL_QKV; k <= GRAFT_MATMUL_HEAD; k++) {
                struct graft_kernel kernel;
                uint32_t rows[3] = {sizes[s], 16, 48}, n = k == GRAFT_MATMUL_QKV ? 3 : 1, total = 0;
                uint32_t covered = graft_variant_rows(&v) / (k == GRAFT_MATMUL_GATE_UP ? 2 : 1);
                ck_assert_ok(graft_kernel_matmul(&kernel, (enum graft_matmul_kind)k, &device->caps, &v,
                                                 graft_test_types[s % GRAFT_TEST_TYPES], n, rows, batches[i]));
                check_pipeline(device, &kernel);
                for (uint32_t g = 0; g < n; g++) { // each segment: enough workgroups, none to spare
                    uint32_t end = g + 1 == n ? kernel.groups[0] : kernel.push.matmul.groups[g], own = end - total;
                    ck_assert_msg(own * covered >= rows[g] && (own - 1) * covered < rows[g],
                                  "%s, %s: %u workgroups of %u for %u rows", device->name, kernel.name, own, covered, rows[g]);
                    total = end;
                }
                ck_assert(n == 3 || kernel.push.matmul.groups[0] == UINT32_MAX);
                ck_assert(kernel.groups[1] * v.cols >= batches[i] && (kernel.groups[1] - 1) * v.cols < batches[i]);
            }
        }
    }
}
END_TEST

static const enum graft_activations all_activations[] = {GRAFT_ACTIVATIONS_DEFAULT, GRAFT_ACTIVATIONS_F32,
                                                         GRAFT_ACTIVATIONS_INT16, GRAFT_ACTIVATIONS_INT8};

// Integer dot products: only where the device has them and kernels of the subgroup variant run; by default only where they are
// said to be fast.
START_TEST(activations_are_what_the_device_can)
{
    for (uint32_t has = 0; has < 3; has++) { // none, slow ones, fast ones
        struct graft_vk_caps caps = devices[_i].caps;
        caps.dot8 = has > 0;
        caps.dot8_accelerated = has > 1;
        bool can = has > 0 && graft_variant_choose(&caps, 1).kind == GRAFT_VARIANT_SUBGROUP;
        for (size_t i = 0; i < sizeof all_activations / sizeof *all_activations; i++) {
            enum graft_activations wanted = all_activations[i], got = graft_activations_choose(&caps, wanted);
            ck_assert_int_eq(got, !can ? GRAFT_ACTIVATIONS_F32
                                  : wanted == GRAFT_ACTIVATIONS_DEFAULT
                                      ? has > 1 ? GRAFT_ACTIVATIONS_INT16 : GRAFT_ACTIVATIONS_F32
                                      : wanted);
        }
    }
}
END_TEST

START_TEST(kernels_with_integer_dot_products_fit_their_device)
{
    struct graft_vk_caps caps = devices[_i].caps;
    caps.dot8 = true;
    for (uint32_t t = 0; t < GRAFT_TEST_TYPES; t++) {
        for (uint32_t i = 0; i < sizeof batches / sizeof *batches; i++) {
            for (enum graft_activations a = GRAFT_ACTIVATIONS_F32; a <= GRAFT_ACTIVATIONS_INT8; a++) {
                struct graft_variant plain = graft_variant_choose(&caps, batches[i]), v = plain;
                enum graft_activations used = graft_activations_choose(&caps, a);
                uint32_t free_rows = t % 2 ? UINT32_MAX : 0;
                graft_variant_use_dot(&v, &caps, graft_test_types[t], used, free_rows);
                bool blocks = graft_type_info(graft_test_types[t])->block_values > 1;
                ck_assert_int_eq(v.kind, used != GRAFT_ACTIVATIONS_F32 && blocks ? GRAFT_VARIANT_DOT : plain.kind);
                // Parts of sums of squares stay what they are.
                ck_assert(v.cols == plain.cols && v.part_rows == plain.part_rows);
                ck_assert(graft_variant_rows(&v) == v.part_rows || (free_rows && graft_variant_rows(&v) == 2 * v.part_rows));
                ck_assert(v.rows % 2 == 0 && v.workgroup <= caps.max_invocations);
                if (v.kind != GRAFT_VARIANT_DOT) {
                    continue;
                }
                ck_assert_uint_eq(v.planes, a == GRAFT_ACTIVATIONS_INT8 ? 1 : 2);
                ck_assert(power_of_two(v.chunk));
                for (uint32_t lora = 0; lora < 2; lora++) {
                    for (uint32_t k = GRAFT_MATMUL_QKV; k <= GRAFT_MATMUL_HEAD; k++) {
                        struct graft_kernel kernel;
                        uint32_t rows = 576;
                        v.lora = lora ? GRAFT_LORA_EXTRAS : GRAFT_LORA_NONE;
                        ck_assert_ok(graft_kernel_matmul(&kernel, (enum graft_matmul_kind)k, &caps, &v, graft_test_types[t], 1,
                                                         &rows, batches[i]));
                        struct made_up device = {devices[_i].name, caps};
                        check_pipeline(&device, &kernel);
                        ck_assert(strstr(kernel.name, ".dot") && kernel.pipeline.constants[GRAFT_CHUNK_CONSTANT] == v.chunk);
                        ck_assert_uint_le(graft_test_shared_bytes(&kernel.pipeline), caps.max_shared_bytes);
                        ck_assert(graft_test_needs(&kernel.pipeline, GRAFT_SPIRV_DOT_PRODUCT));
                    }
                }
            }
        }
    }
}
END_TEST

START_TEST(kernels_with_cooperative_matrices_fit_their_device)
{
    static const uint32_t shapes[][3] = {{16, 16, 16}, {8, 16, 16}, {8, 8, 8}, {16, 16, 64}, {0, 0, 0}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct graft_vk_caps caps = devices[_i].caps;
        caps.matrix_m = shapes[s][0], caps.matrix_n = shapes[s][1], caps.matrix_k = shapes[s][2];
        for (uint32_t rows = 1; rows <= 128; rows++) {
            struct graft_variant plain = graft_variant_choose(&caps, rows), v = plain;
            graft_variant_use_matrix(&v, &caps, GRAFT_TYPE_Q4_K, rows);
            if (v.kind != GRAFT_VARIANT_MATRIX) {
                ck_assert_int_eq(memcmp(&v, &plain, sizeof v), 0);
                continue;
            }
            uint32_t tile = v.cols * v.column_owners;
            ck_assert(caps.matrix_m && 32 % caps.matrix_k == 0 && plain.kind == GRAFT_VARIANT_SUBGROUP && v.subgroup);
            ck_assert(rows % tile == 0 && tile >= 16 && tile % caps.matrix_n == 0 && v.cols <= GRAFT_MAX_COLS);
            ck_assert_uint_eq(v.owners * v.column_owners, v.workgroup); // every invocation owns a part of the tile
            ck_assert_uint_eq(graft_variant_rows(&v), plain.owners * caps.matrix_m);
            ck_assert_uint_eq(v.part_rows, graft_variant_rows(&plain)); // parts of SS stay what they are
            ck_assert_uint_eq(graft_variant_rows(&v) % v.part_rows, 0);
            for (uint32_t k = GRAFT_MATMUL_QKV; k <= GRAFT_MATMUL_HEAD; k++) {
                struct graft_kernel kernel;
                uint32_t n_out = 576;
                ck_assert_ok(
                    graft_kernel_matmul(&kernel, (enum graft_matmul_kind)k, &caps, &v, GRAFT_TYPE_Q4_K, 1, &n_out, rows));
                struct made_up device = {devices[_i].name, caps};
                check_pipeline(&device, &kernel);
                ck_assert_uint_eq(kernel.groups[1] * tile, rows);
                ck_assert_uint_le(graft_test_shared_bytes(&kernel.pipeline), caps.max_shared_bytes);
                ck_assert_uint_eq(graft_test_matrix_element_bytes(&kernel.pipeline), 16);
            }
        }
        ck_assert(s != 3 && s != 4 ? true : !graft_matrix_cores(&caps));
    }
}
END_TEST

// Weight rows that a workgroup of a kernel with matrices covers.
static uint32_t rows_of_workgroup(const struct graft_kernel *kernel, const struct graft_vk_caps *caps)
{
    const uint32_t *constants = kernel->pipeline.constants;
    uint32_t owners = strstr(kernel->name, ".team")   ? 1
                      : strstr(kernel->name, ".lane") ? constants[0]
                                                      : constants[0] / caps->subgroup_size;
    return owners * constants[1];
}

START_TEST(grids_of_a_mixture_of_experts_cover_their_rows)
{
    static const struct graft_experts_shape shapes[] = {
        {128, 8, 2048, 768}, {8, 2, 4096, 14336}, {512, 10, 2048, 512}, {1, 1, 32, 32}};
    struct made_up device = devices[_i];
    device.caps.dot8 = true;
    struct graft_variant base = graft_variant_choose(&device.caps, 1);
    for (uint32_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        for (uint32_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            const struct graft_experts_shape *shape = &shapes[s];
            struct graft_experts_tiling tiling = graft_experts_tiles(&device.caps, shape, batches[i]);
            uint32_t pairs = batches[i] * shape->n_used;
            ck_assert(tiling.cols >= 1 && tiling.cols <= GRAFT_MAX_COLS && (tiling.grouped || tiling.cols == 1));
            // However the pairs fall on the experts: as many in tiles of their own as can be, the others in full ones.
            uint32_t lone = pairs < shape->n_expert ? pairs : shape->n_expert;
            ck_assert_uint_ge(tiling.n_tiles, lone + (pairs - lone) / tiling.cols);
            for (uint32_t at = 0; at < 3 * (GRAFT_EXPERTS_SUM + 1); at++) {
                enum graft_experts_kind k = (enum graft_experts_kind)(at / 3);
                enum graft_activations used =
                    graft_activations_choose(&device.caps, (enum graft_activations)(GRAFT_ACTIVATIONS_F32 + at % 3));
                struct graft_kernel kernel;
                for (int lora = GRAFT_LORA_EXTRAS; lora >= GRAFT_LORA_NONE; lora--) {
                    ck_assert_ok(graft_kernel_experts(&kernel, k, &device.caps, shape, GRAFT_TYPE_Q4_K, used, batches[i],
                                                      (enum graft_lora_kind)lora));
                    check_pipeline(&device, &kernel);
                    ck_assert_uint_le(graft_test_shared_bytes(&kernel.pipeline), device.caps.max_shared_bytes);
                    bool dot = used != GRAFT_ACTIVATIONS_F32 && k >= GRAFT_EXPERTS_GATE_UP;
                    ck_assert((strstr(kernel.name, ".dot") != NULL) == dot);
                    ck_assert(!dot || graft_test_needs(&kernel.pipeline, GRAFT_SPIRV_DOT_PRODUCT));
                }
                if (k == GRAFT_EXPERTS_SHRINK_UP || k == GRAFT_EXPERTS_SHRINK_DOWN) {
                    ck_assert_uint_eq(kernel.groups[1], pairs);
                    ck_assert_uint_eq(kernel.groups[0] % GRAFT_LORA_PAIRS, 0);
                } else if (k != GRAFT_EXPERTS_GROUP) {
                    uint32_t wide = k == GRAFT_EXPERTS_ROUTER ? shape->n_expert
                                    : k >= GRAFT_EXPERTS_DOWN ? shape->n_embd
                                                              : shape->n_ff;
                    uint32_t own = rows_of_workgroup(&kernel, &device.caps);
                    uint32_t covered = own / (k == GRAFT_EXPERTS_GATE_UP ? 2 : 1);
                    ck_assert(kernel.groups[0] * covered >= wide && (kernel.groups[0] - 1) * covered < wide);
                    ck_assert_uint_eq(kernel.push.experts.parts_out, kernel.groups[0]);
                    // Parts of sums of squares are those of the dense kernels, in every batch and with all activations.
                    ck_assert(k < GRAFT_EXPERTS_RESIDUAL || own == base.part_rows);
                }
            }
        }
    }
    struct graft_experts_shape many = {GRAFT_MAX_EXPERTS + 1, 8, 32, 32};
    struct graft_kernel kernel;
    ck_assert_int_eq(graft_kernel_experts(&kernel, GRAFT_EXPERTS_ROUTER, &device.caps, &many, GRAFT_TYPE_F32,
                                          GRAFT_ACTIVATIONS_F32, 1, GRAFT_LORA_NONE),
                     GRAFT_E_LIMIT);
}
END_TEST

START_TEST(the_other_grids_cover_their_outputs)
{
    const struct made_up *device = &devices[_i];
    static const uint32_t widths[] = {32, 64, 576, 4096, 8192}, vocabularies[] = {1, 64, 290, 49152, 128256, 256000};
    for (uint32_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        struct graft_kernel kernel;
        for (uint32_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            ck_assert_ok(graft_kernel_embed(&kernel, &device->caps, GRAFT_TYPE_Q8_0, widths[w], batches[i], GRAFT_LORA_NONE));
            check_pipeline(device, &kernel);
            ck_assert_uint_ge(kernel.groups[0] * kernel.pipeline.constants[0] * 32, widths[w]);
            ck_assert_uint_eq(kernel.push.embed.parts_out, kernel.groups[0]);
            ck_assert_uint_eq(kernel.groups[1], batches[i]);
        }
        for (uint32_t n = 0; n < sizeof vocabularies / sizeof *vocabularies; n++) {
            ck_assert_ok(graft_kernel_top(&kernel, &device->caps, vocabularies[n], batches[i]));
            check_pipeline(device, &kernel);
            uint64_t chunk = (uint64_t)kernel.pipeline.constants[0] * kernel.pipeline.constants[1];
            ck_assert(kernel.groups[0] * chunk >= vocabularies[n] && (kernel.groups[0] - 1) * chunk < vocabularies[n]);
            ck_assert_uint_ge(chunk, GRAFT_TOP_K);
        }
    }
    struct graft_kernel kernel;
    ck_assert_ok(graft_kernel_read(&kernel, &device->caps, 1u << 26));
    check_pipeline(device, &kernel);
    ck_assert_uint_le(kernel.groups[0], 4096); // sums of the checksum kernel have room for so many
}
END_TEST

START_TEST(attention_fits_every_head_shape)
{
    const struct made_up *device = &devices[_i];
    static const uint32_t heads[][2] = {{1, 1}, {9, 3}, {32, 8}, {32, 32}, {28, 4}, {64, 8}, {71, 1}},
                          dims[] = {16, 64, 96, 128, 256};
    for (uint32_t h = 0; h < sizeof heads / sizeof *heads; h++) {
        for (uint32_t d = 0; d < sizeof dims / sizeof *dims; d++) {
            for (uint32_t i = 0; i < sizeof batches / sizeof *batches; i++) {
                for (uint32_t n_ctx = 32; n_ctx <= 131072; n_ctx *= 16) {
                    struct graft_attention_shape shape = {heads[h][0],         heads[h][1],         dims[d], n_ctx,
                                                          GRAFT_KV_FORMAT_F16, GRAFT_KV_FORMAT_F16, 0,       0};
                    struct graft_kernel kernel;
                    ck_assert_ok(graft_kernel_attention(&kernel, &device->caps, &shape, batches[i], false));
                    check_pipeline(device, &kernel);
                    const uint32_t *c = kernel.pipeline.constants;
                    uint32_t per_kv = shape.n_head / shape.n_head_kv, groups = graft_attention_head_groups(&shape);
                    uint32_t splits = graft_attention_splits(&device->caps, &shape, batches[i]);
                    ck_assert_uint_ge(c[1] * groups, per_kv);
                    ck_assert_uint_le(c[1], 8);
                    ck_assert_uint_eq(c[3] * 8, shape.head_dim);
                    ck_assert_uint_ge(c[4] * 2 * c[0], shape.head_dim);
                    ck_assert_uint_eq(c[5], splits);
                    ck_assert_uint_eq(kernel.groups[0], shape.n_head_kv * groups * splits);
                    ck_assert_uint_eq(kernel.groups[1], batches[i]);
                    ck_assert(splits == 1 || n_ctx / splits >= 128);
                    // Weights of a tile and the reduction's array, for the variant without subgroups.
                    ck_assert_uint_le(4 * (c[1] * c[0] * c[2] + 256 + 1), device->caps.max_shared_bytes);
                    ck_assert_uint_eq(
                        splits, graft_attention_splits(&device->caps, &shape, 1)); // a row's bits do not depend on its batch
                }
            }
        }
    }
}
END_TEST

// A head of 431 MB (Llama 3 8B in Q6_K) where 128 MiB can be bound: four windows or more are planned for.
START_TEST(room_is_planned_for_windows_of_a_large_head)
{
    struct graft_layer layer;
    memset(&layer, 0, sizeof layer);
    struct graft_source source = {.layers = &layer};
    source.config.n_layer = 1;
    source.config.n_embd = 4096;
    struct graft_weight head = {
        .label = "output.weight", .type = GRAFT_TYPE_Q6_K, .n_in = 4096, .n_out = 128256, .row_bytes = 4096 / 256 * 210};
    source.output = source.embd = head;
    struct graft_step body[1] = {{.kind = GRAFT_STEP_EMBED, .name = "embed", .weight = {&source.embd}}};
    struct graft_plan plan = {.source = &source, .n_body = 1, .body = body};
    plan.head[0] = (struct graft_step){.kind = GRAFT_STEP_HEAD, .name = "head", .weight = {&source.output}};
    plan.head[1] = (struct graft_step){.kind = GRAFT_STEP_TOP, .name = "top"};
    const struct graft_vk_caps *caps = &devices[_i].caps;
    uint64_t window = caps->max_storage_bytes < UINT32_MAX ? caps->max_storage_bytes : UINT32_MAX;
    struct graft_variant v = graft_variant_choose(caps, 1);
    uint64_t rows = (window - 4096) / head.row_bytes / graft_variant_rows(&v) * graft_variant_rows(&v);
    uint64_t needed = (head.n_out + rows - 1) / rows; // per pass over the matrix
    ck_assert_uint_ge(graft_lower_max_dispatches(&plan, caps), 2 * needed + 1);
    ck_assert(window > (128u << 20) || needed >= 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("variants");
    TCase *tc = tcase_create("made-up devices");
    tcase_add_loop_test(tc, variants_keep_the_device_limits, 0, DEVICES);
    tcase_add_loop_test(tc, grids_of_matrix_kernels_cover_every_row_once, 0, DEVICES);
    tcase_add_loop_test(tc, activations_are_what_the_device_can, 0, DEVICES);
    tcase_add_loop_test(tc, kernels_with_integer_dot_products_fit_their_device, 0, DEVICES);
    tcase_add_loop_test(tc, kernels_with_cooperative_matrices_fit_their_device, 0, DEVICES);
    tcase_add_loop_test(tc, grids_of_a_mixture_of_experts_cover_their_rows, 0, DEVICES);
    tcase_add_loop_test(tc, the_other_grids_cover_their_outputs, 0, DEVICES);
    tcase_add_loop_test(tc, attention_fits_every_head_shape, 0, DEVICES);
    tcase_add_loop_test(tc, room_is_planned_for_windows_of_a_large_head, 0, DEVICES);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
