// SPDX-License-Identifier: Apache-2.0
#include "support/gpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/types.h"
#include "support/spirv.h"

enum { GUARD_WORDS = 1024 }; // a multiple of every alignment an offset can need

static struct graft_test_log messages;

const char *graft_test_mask_name(enum graft_test_mask mask)
{
    static const char *const names[GRAFT_TEST_MASKS] = {
        [GRAFT_TEST_PLAIN] = "plain",
        [GRAFT_TEST_NO_TEXEL] = "no texel buffers",
        [GRAFT_TEST_NO_SUBGROUPS] = "no subgroups",
        [GRAFT_TEST_SMALL] = "small",
        [GRAFT_TEST_SMALLEST] = "small, no subgroups",
        [GRAFT_TEST_INT16] = "16-bit activations",
        [GRAFT_TEST_INT8] = "8-bit activations",
        [GRAFT_TEST_MATRIX] = "cooperative matrices",
        [GRAFT_TEST_NO_16BIT] = "no 16-bit types",
        [GRAFT_TEST_NO_IMPORT] = "no import",
        [GRAFT_TEST_STAGED] = "staged",
    };
    return names[mask];
}

struct graft_vk_options graft_test_mask_options(enum graft_test_mask mask)
{
    struct graft_vk_options options = {0};
    switch (mask) {
    case GRAFT_TEST_NO_TEXEL:
    case GRAFT_TEST_INT16:
    case GRAFT_TEST_INT8:
    case GRAFT_TEST_MATRIX:
        options.no_texel = true;
        break;
    case GRAFT_TEST_NO_SUBGROUPS:
        options.no_subgroups = true;
        break;
    case GRAFT_TEST_SMALLEST:
        options.no_subgroups = true;
        // fall through
    case GRAFT_TEST_SMALL:
        options.no_texel = true;
        options.max_shared_bytes = 16384;
        options.max_invocations = 128;
        break;
    case GRAFT_TEST_NO_16BIT:
        options.no_f16 = options.no_storage_16bit = true;
        break;
    case GRAFT_TEST_NO_IMPORT:
        options.no_import = true;
        break;
    case GRAFT_TEST_STAGED:
        options.no_mapped_device = options.no_import = true;
        break;
    case GRAFT_TEST_PLAIN:
    case GRAFT_TEST_MASKS:
        break;
    }
    return options;
}

enum graft_activations graft_test_mask_activations(enum graft_test_mask mask)
{
    return mask == GRAFT_TEST_INT16  ? GRAFT_ACTIVATIONS_INT16
           : mask == GRAFT_TEST_INT8 ? GRAFT_ACTIVATIONS_INT8
                                     : GRAFT_ACTIVATIONS_F32;
}

static const struct vendor_mask {
    const char *name;
    uint32_t subgroup_size; // 0: no subgroup operations
    struct graft_vk_options options;
} vendors[] = {
#define PHONE                                                                                                                  \
    .no_texel = true, .no_f16 = true, .no_storage_16bit = true, .no_storage_8bit = true, .no_size_control = true,              \
    .no_dot8 = true, .no_coopmat = true, .no_import = true, .max_shared_bytes = 16384, .max_invocations = 128
    {"mobile", 0, {PHONE, .no_subgroups = true}},
    {"mali_4", 4, {PHONE}},
    {"mali_16", 16, {PHONE}},
    {"intel_8", 8, {.no_texel = true}},
    {"intel_16", 16, {.no_texel = true}},
    {"intel_32", 32, {.no_texel = true}},
    {"amd_32", 32, {.no_texel = true, .no_mapped_device = true, .no_import = true}},
    {"amd_64", 64, {.no_texel = true, .no_mapped_device = true, .no_import = true}},
};

// The mask of what matrix kernels compute with that the environment names: it alone is tried. GRAFT_TEST_MASKS: none.
static enum graft_test_mask named_mask(void)
{
    static const char *const names[GRAFT_TEST_MASKS] = {
        [GRAFT_TEST_INT16] = "int16", [GRAFT_TEST_INT8] = "int8", [GRAFT_TEST_MATRIX] = "matrix"};
    const char *value = getenv("GRAFT_TEST_MASK");
    int i = 0;
    while (i < GRAFT_TEST_MASKS && !(value && names[i] && strcmp(value, names[i]) == 0)) {
        i++;
    }
    return (enum graft_test_mask)i;
}

// The vendor's mask that the environment names, or NULL. An unknown name fails the test.
static const struct vendor_mask *vendor_mask(void)
{
    const char *value = getenv("GRAFT_TEST_MASK");
    for (size_t i = 0; value && *value && i < sizeof vendors / sizeof *vendors; i++) {
        if (strcmp(vendors[i].name, value) == 0) {
            return &vendors[i];
        }
    }
    ck_assert_msg(!value || !*value || named_mask() != GRAFT_TEST_MASKS, "GRAFT_TEST_MASK is %s, which is no mask", value);
    return NULL;
}

bool graft_test_validating(void)
{
    const char *value = getenv("GRAFT_TEST_VALIDATION");
    return value && *value;
}

bool graft_test_gpu_open(struct graft_test_gpu *gpu, enum graft_test_mask mask)
{
    enum graft_test_mask named = named_mask();
    if (named != GRAFT_TEST_MASKS && named != mask) {
        return false;
    }
    const struct vendor_mask *vendor = vendor_mask();
    struct graft_vk_options options = vendor ? vendor->options : graft_test_mask_options(mask);
    bool integers = graft_test_mask_activations(mask) != GRAFT_ACTIVATIONS_F32;
    if (vendor && (!integers || options.no_dot8) && mask != GRAFT_TEST_PLAIN) {
        return false; // a vendor's mask stands for all others
    }
    options.validation = graft_test_validating();
    memset(&messages, 0, sizeof messages);
    *gpu = (struct graft_test_gpu){.ctx = graft_test_vk_ctx(NULL, 0, NULL, &messages),
                                   .which = mask,
                                   .mask = vendor ? vendor->name : graft_test_mask_name(mask),
                                   .few = vendor || options.validation || mask >= GRAFT_TEST_SMALL};
    if (vendor) {
        options.subgroup_size = vendor->subgroup_size;
    }
    enum graft_status status = graft_vk_open(gpu->ctx, &gpu->vk, &options);
    if (status == GRAFT_E_DEVICE || (vendor && status == GRAFT_E_UNSUPPORTED)) {
        printf("skipped: %s\n", graft_last_error());
        graft_ctx_destroy(&gpu->ctx);
        return false;
    }
    ck_assert_ok(status);
    gpu->caps = graft_vk_caps(gpu->vk);
    gpu->activations = graft_activations_choose(gpu->caps, graft_test_mask_activations(mask));
    gpu->matrix_cores = mask == GRAFT_TEST_MATRIX && graft_matrix_cores(gpu->caps);
    if (gpu->activations != graft_test_mask_activations(mask) || gpu->matrix_cores != (mask == GRAFT_TEST_MATRIX)) {
        printf("skipped: %s has no %s\n", gpu->caps->name,
               mask == GRAFT_TEST_MATRIX ? "cooperative matrices, or the build no kernels for them" : "integer dot products");
        graft_test_gpu_close(gpu);
        return false;
    }
    return true;
}

struct graft_variant graft_test_variant(const struct graft_test_gpu *gpu, uint32_t type, uint32_t rows, uint32_t free_rows)
{
    struct graft_variant variant = graft_variant_choose(gpu->caps, rows);
    if (gpu->matrix_cores) {
        graft_variant_use_matrix(&variant, gpu->caps, type, rows);
        ck_assert(variant.kind == GRAFT_VARIANT_MATRIX || rows % 16 != 0 || graft_type_info(type)->block_values == 1);
    }
    graft_variant_use_dot(&variant, gpu->caps, type, gpu->activations, free_rows);
    return variant;
}

void graft_test_gpu_close(struct graft_test_gpu *gpu)
{
    while (gpu->n_pipelines > 0) {
        graft_vk_pipeline_put(gpu->vk, &gpu->pipelines[--gpu->n_pipelines]);
    }
    uint64_t count = graft_vk_validation_messages(gpu->vk);
    graft_vk_close(&gpu->vk);
    ck_assert_msg(count == 0 && messages.lines == 0, "%s: %.1200s", gpu->mask, messages.text);
    struct graft_memory_use use;
    graft_ctx_memory(gpu->ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&gpu->ctx);
}

struct graft_test_buffer graft_test_buffer(struct graft_test_gpu *gpu, uint64_t words)
{
    struct graft_test_buffer made = {.words = (words + 3) & ~(uint64_t)3};
    ck_assert_ok(graft_vk_buffer_create(gpu->vk, &made.buffer, (made.words + 2 * GUARD_WORDS) * 4, GRAFT_VK_HOST_SEEN,
                                        GRAFT_MEM_SCRATCH, "a test's buffer"));
    made.data = (uint32_t *)made.buffer->mapped + GUARD_WORDS;
    graft_test_buffer_poison(&made);
    return made;
}

void graft_test_buffer_poison(struct graft_test_buffer *buffer)
{
    uint32_t *words = buffer->buffer->mapped;
    for (uint64_t i = 0; i < buffer->words + 2 * GUARD_WORDS; i++) {
        words[i] = GRAFT_TEST_POISON;
    }
}

void graft_test_buffer_free(struct graft_test_buffer *buffer)
{
    graft_vk_buffer_destroy(&buffer->buffer);
    *buffer = (struct graft_test_buffer){0};
}

static bool guards_whole(const struct graft_test_buffer *buffer)
{
    const uint32_t *words = buffer->buffer->mapped, *behind = words + GUARD_WORDS + buffer->words;
    for (uint32_t i = 0; i < GUARD_WORDS; i++) {
        if (words[i] != GRAFT_TEST_POISON || behind[i] != GRAFT_TEST_POISON) {
            return false;
        }
    }
    return true;
}

// The kernel's pipeline, held once until the device is closed.
static struct graft_vk_pipeline *keep_pipeline(struct graft_test_gpu *gpu, const struct graft_kernel *kernel)
{
    struct graft_vk_pipeline *pipeline;
    ck_assert_ok(graft_vk_pipeline_get(gpu->vk, &pipeline, &kernel->pipeline));
    for (uint32_t i = 0; i < gpu->n_pipelines; i++) {
        if (gpu->pipelines[i] == pipeline) {
            graft_vk_pipeline_put(gpu->vk, &pipeline);
            return gpu->pipelines[i];
        }
    }
    ck_assert_uint_lt(gpu->n_pipelines, sizeof gpu->pipelines / sizeof *gpu->pipelines);
    gpu->pipelines[gpu->n_pipelines++] = pipeline;
    return pipeline;
}

// The kernel takes no more than the device under its mask has, whatever the driver at hand allows.
static void check_limits(const struct graft_test_gpu *gpu, const struct graft_kernel *kernel)
{
    const struct graft_vk_pipeline_params *p = &kernel->pipeline;
    const struct graft_vk_caps *caps = gpu->caps;
    ck_assert_msg(p->constants[0] <= caps->max_invocations, "%s (%s): %u invocations, the device allows %u", kernel->name,
                  gpu->mask, p->constants[0], caps->max_invocations);
    uint64_t shared = graft_test_shared_bytes(p);
    ck_assert_msg(shared <= caps->max_shared_bytes, "%s (%s): %llu bytes of shared memory, the device has %u", kernel->name,
                  gpu->mask, (unsigned long long)shared, caps->max_shared_bytes);
    const struct {
        uint32_t capability;
        bool has;
    } needs[] = {{GRAFT_SPIRV_FLOAT16, caps->shader_f16},
                 {GRAFT_SPIRV_INT8, caps->shader_i8},
                 {GRAFT_SPIRV_STORAGE_16BIT, caps->storage_16bit},
                 {GRAFT_SPIRV_STORAGE_8BIT, caps->storage_8bit},
                 {GRAFT_SPIRV_GROUP_NON_UNIFORM, caps->subgroup_arithmetic},
                 {GRAFT_SPIRV_DOT_PRODUCT, caps->dot8}};
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        ck_assert_msg(needs[i].has || !graft_test_needs(p, needs[i].capability), "%s (%s): needs SPIR-V capability %u",
                      kernel->name, gpu->mask, needs[i].capability);
    }
}

void graft_test_dispatch(struct graft_test_gpu *gpu, struct graft_kernel *kernel,
                         const struct graft_test_buffer *const *buffers, uint32_t count)
{
    struct graft_vk_commands *commands = NULL;
    struct graft_vk_bind binds[GRAFT_TEST_MAX_BUFFERS];
    ck_assert_uint_le(count, GRAFT_TEST_MAX_BUFFERS);
    ck_assert_uint_eq(count, kernel->pipeline.n_bindings);
    check_limits(gpu, kernel);
    for (uint32_t i = 0; i < count; i++) {
        binds[i] = (struct graft_vk_bind){buffers[i]->buffer, GUARD_WORDS * 4, buffers[i]->words * 4};
    }
    kernel->pipeline.name = kernel->name;
    struct graft_vk_pipeline *pipeline = keep_pipeline(gpu, kernel);
    ck_assert_ok(graft_vk_commands_create(gpu->vk, &commands, 1, false));
    ck_assert_ok(graft_vk_dispatch(commands, pipeline, binds, &kernel->push, kernel->groups));
    ck_assert_ok(graft_vk_commands_end(commands));
    ck_assert_ok(graft_vk_submit(gpu->vk, &commands, 1));
    ck_assert_ok(graft_vk_wait(gpu->vk));
    graft_vk_commands_destroy(&commands);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_msg(guards_whole(buffers[i]), "%s (%s): wrote outside binding %u", kernel->name, gpu->mask, i);
    }
}

void graft_test_close(float got, double want, double bound, const struct graft_test_gpu *gpu, const char *what, uint64_t index)
{
    ck_assert_msg(fabs((double)got - want) <= bound, "%s (%s), value %llu: %.9g, expected %.9g +- %.3g", what, gpu->mask,
                  (unsigned long long)index, (double)got, want, bound);
}
