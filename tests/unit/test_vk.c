// SPDX-License-Identifier: Apache-2.0
// The device layer on whatever Vulkan device is there (software Vulkan in CI): devices, buffers, imports, dispatches.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/vk_support.h"

#include "shaders/vk_scale.h"
#include "shaders/vk_sum.h"
#include "shaders/vk_texel.h"

static struct graft_ctx *ctx;
static struct graft_vk *vk;
static struct graft_test_log log_lines;

static void open_device(const struct graft_vk_options *options)
{
    memset(&log_lines, 0, sizeof log_lines);
    ctx = graft_test_vk_ctx(NULL, 0, NULL, &log_lines);
    ck_assert_ok(graft_vk_open(ctx, &vk, options));
}

// Everything is given back, and the ledger is at zero.
static void close_device(void)
{
    graft_vk_close(&vk);
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&ctx);
}

static struct graft_vk_pipeline *get_sum(uint32_t local_size, uint32_t factor)
{
    struct graft_vk_pipeline_params params = {
        .name = "sum",
        .spirv = vk_sum,
        .spirv_bytes = sizeof vk_sum,
        .n_bindings = 2,
        .access = {GRAFT_VK_READ, GRAFT_VK_READ_WRITE},
        .push_bytes = 12,
        .n_constants = 2,
        .constants = {local_size, factor},
    };
    struct graft_vk_pipeline *pipeline;
    ck_assert_ok(graft_vk_pipeline_get(vk, &pipeline, &params));
    return pipeline;
}

static struct graft_vk_pipeline *get_scale(void)
{
    struct graft_vk_pipeline_params params = {
        .name = "scale",
        .spirv = vk_scale,
        .spirv_bytes = sizeof vk_scale,
        .n_bindings = 2,
        .access = {GRAFT_VK_READ, GRAFT_VK_WRITE},
        .push_bytes = 8,
    };
    struct graft_vk_pipeline *pipeline;
    ck_assert_ok(graft_vk_pipeline_get(vk, &pipeline, &params));
    return pipeline;
}

static void run(struct graft_vk_commands *commands)
{
    ck_assert_ok(graft_vk_commands_end(commands));
    ck_assert_ok(graft_vk_submit(vk, &commands, 1));
    ck_assert_ok(graft_vk_wait(vk));
}

// Sum of `bytes` (a multiple of 4) at `offset` of a buffer, by the device.
static uint32_t device_sum(const struct graft_vk_buffer *buffer, uint64_t offset, uint64_t bytes)
{
    enum { GROUPS = 16 };
    uint64_t aligned = offset / graft_vk_caps(vk)->storage_alignment * graft_vk_caps(vk)->storage_alignment;
    uint32_t count = (uint32_t)(bytes / 4);
    uint32_t push[3] = {(uint32_t)((offset - aligned) / 4), count, (count + GROUPS - 1) / GROUPS};
    struct graft_vk_pipeline *pipeline = get_sum(64, 1);
    struct graft_vk_buffer *result;
    ck_assert_ok(graft_vk_buffer_create(vk, &result, GROUPS * 4, GRAFT_VK_READBACK, GRAFT_MEM_SCRATCH, "sums"));
    struct graft_vk_commands *commands;
    ck_assert_ok(graft_vk_commands_create(vk, &commands, 1, false));
    struct graft_vk_bind binds[2] = {{buffer, aligned, bytes + (offset - aligned)}, {result, 0, GROUPS * 4}};
    ck_assert_ok(graft_vk_dispatch(commands, pipeline, binds, push, (uint32_t[3]){GROUPS, 1, 1}));
    run(commands);
    uint32_t sum = 0;
    for (int i = 0; i < GROUPS; i++) {
        sum += ((const uint32_t *)result->mapped)[i];
    }
    graft_vk_commands_destroy(&commands);
    graft_vk_buffer_destroy(&result);
    graft_vk_pipeline_put(vk, &pipeline);
    return sum;
}

static uint32_t host_sum(const void *data, uint64_t bytes)
{
    uint32_t sum = 0, word;
    for (uint64_t i = 0; i + 4 <= bytes; i += 4) {
        memcpy(&word, (const uint8_t *)data + i, 4);
        sum += word;
    }
    return sum;
}

static uint8_t *random_bytes(uint64_t bytes, uint64_t seed)
{
    struct graft_test_random random = {seed};
    uint8_t *data = malloc(bytes + 8);
    ck_assert_ptr_nonnull(data);
    for (uint64_t i = 0; i < bytes; i += 8) {
        uint64_t word = graft_test_random_u64(&random);
        memcpy(data + i, &word, 8);
    }
    return data;
}

START_TEST(devices_are_listed_with_sane_capabilities)
{
    ctx = graft_test_ctx(NULL, 0);
    struct graft_vk_found *found;
    uint32_t count;
    ck_assert_ok(graft_vk_list(ctx, &found, &count));
    ck_assert_uint_ge(count, 1);
    for (uint32_t i = 0; i < count; i++) {
        const struct graft_vk_caps *caps = &found[i].caps;
        ck_assert_uint_gt(strlen(caps->name), 0);
        ck_assert_uint_eq(strncmp(caps->api_version, "1.", 2), 0);
        ck_assert(found[i].usable || found[i].reason[0]);
        if (!found[i].usable) {
            continue;
        }
        ck_assert_uint_gt(strlen(caps->driver), 0);
        ck_assert(caps->subgroup_size >= 1 && caps->subgroup_size <= 128 && caps->subgroup_min <= caps->subgroup_size &&
                  caps->subgroup_max >= caps->subgroup_size);
        ck_assert_uint_ge(caps->max_storage_bytes, 1u << 27); // the specification's minimum
        ck_assert_uint_ge(caps->max_uniform_bytes, 16384);
        ck_assert_uint_ge(caps->max_allocation_bytes, 1u << 30);
        ck_assert(caps->storage_alignment >= 1 && caps->storage_alignment <= 256);
        ck_assert(caps->uniform_alignment >= 1 && caps->uniform_alignment <= 256);
        ck_assert(caps->texel_alignment >= 1 && caps->texel_alignment <= 256);
        ck_assert_uint_ge(caps->max_group_count[0], 65535);
        ck_assert_uint_gt(caps->heap_bytes, 1u << 20);
        ck_assert(!caps->host_import || caps->import_alignment >= 1);
    }
    GRAFT_FREE(ctx, &found);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_device_is_selected_by_index_and_name)
{
    open_device(NULL);
    char name[256];
    snprintf(name, sizeof name, "%.6s", graft_vk_caps(vk)->name);
    name[0] = (char)(name[0] ^ ('a' ^ 'A')); // without case
    close_device();
    open_device(&(struct graft_vk_options){.select = "0"});
    close_device();
    open_device(&(struct graft_vk_options){.select = name});
    close_device();
    ctx = graft_test_ctx(NULL, 0);
    ck_assert_status(graft_vk_open(ctx, &vk, &(struct graft_vk_options){.select = "nosuchdevice"}), GRAFT_E_DEVICE);
    ck_assert_error_has("nosuchdevice");
    ck_assert_error_has("0: ");
    ck_assert_ptr_null(vk);
    ck_assert_status(graft_vk_open(ctx, &vk, &(struct graft_vk_options){.select = "99"}), GRAFT_E_DEVICE);
    ck_assert_error_has("0: ");
    close_device();
}
END_TEST

START_TEST(options_switch_capabilities_off)
{
    open_device(&(struct graft_vk_options){.no_subgroups = true,
                                           .no_f16 = true,
                                           .no_storage_16bit = true,
                                           .no_import = true,
                                           .no_dot8 = true,
                                           .no_coopmat = true,
                                           .no_texel = true,
                                           .max_shared_bytes = 16384,
                                           .max_invocations = 128});
    const struct graft_vk_caps *caps = graft_vk_caps(vk);
    ck_assert(!caps->subgroup_arithmetic && !caps->subgroup_shuffle && !caps->subgroup_size_control && !caps->shader_f16 &&
              !caps->storage_16bit && !caps->host_import && !caps->dot8_accelerated && !caps->coopmat_khr &&
              !caps->coopmat_nv2);
    ck_assert_uint_eq(caps->max_texel_elements, 0);
    ck_assert_uint_eq(caps->max_shared_bytes, 16384);
    ck_assert_uint_eq(caps->max_invocations, 128);
    close_device();
}
END_TEST

START_TEST(buffers_of_every_kind_start_zeroed_and_keep_their_bytes)
{
    for (int staged = 0; staged < 2; staged++) {
        open_device(&(struct graft_vk_options){.no_mapped_device = staged});
        const uint64_t bytes = 100003;
        uint8_t *data = random_bytes(bytes, 7), *back = malloc(bytes);
        for (int where = GRAFT_VK_DEVICE; where <= GRAFT_VK_READBACK; where++) {
            struct graft_vk_buffer *buffer;
            ck_assert_ok(graft_vk_buffer_create(vk, &buffer, bytes, (enum graft_vk_memory)where, GRAFT_MEM_KV, "a buffer"));
            ck_assert(where == GRAFT_VK_DEVICE || buffer->mapped);
            ck_assert(!staged || where != GRAFT_VK_DEVICE || !buffer->mapped);
            struct graft_memory_use use;
            graft_ctx_memory(ctx, &use);
            ck_assert_uint_ge(use.class_bytes[GRAFT_MEM_KV], bytes);
            memset(back, 1, bytes);
            ck_assert_ok(graft_vk_download(vk, buffer, 0, back, bytes));
            for (uint64_t i = 0; i < bytes; i++) {
                ck_assert_uint_eq(back[i], 0);
            }
            ck_assert_ok(graft_vk_upload(vk, buffer, 0, data, bytes));
            ck_assert_ok(graft_vk_upload(vk, buffer, 5, data + 50, 1000)); // overlaps the first one
            ck_assert_ok(graft_vk_upload_end(vk));
            ck_assert_ok(graft_vk_download(vk, buffer, 3, back, bytes - 3));
            ck_assert_mem_eq(back, data + 3, 2);
            ck_assert_mem_eq(back + 2, data + 50, 1000);
            ck_assert_mem_eq(back + 1002, data + 1005, bytes - 1005);
            ck_assert_status(graft_vk_upload(vk, buffer, 1, data, bytes), GRAFT_E_ARGUMENT);
            ck_assert_status(graft_vk_download(vk, buffer, UINT64_MAX, back, 2), GRAFT_E_ARGUMENT);
            graft_vk_buffer_destroy(&buffer);
            ck_assert_ptr_null(buffer);
        }
        graft_ctx_memory(ctx, &(struct graft_memory_use){0});
        free(data);
        free(back);
        close_device();
    }
}
END_TEST

START_TEST(uploads_larger_than_the_staging_ring_arrive_whole)
{
    open_device(&(struct graft_vk_options){.no_mapped_device = true});
    const uint64_t bytes = (40u << 20) + 12;
    uint8_t *data = random_bytes(bytes, 3);
    struct graft_vk_buffer *buffer;
    ck_assert_ok(graft_vk_buffer_create(vk, &buffer, bytes, GRAFT_VK_DEVICE, GRAFT_MEM_WEIGHTS, "weights"));
    ck_assert_ok(graft_vk_upload(vk, buffer, 0, data, 20));
    ck_assert_ok(graft_vk_upload(vk, buffer, 20, data + 20, bytes - 20));
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_ge(use.class_bytes[GRAFT_MEM_STAGING], 32u << 20); // grown to its full size
    ck_assert_uint_le(use.class_bytes[GRAFT_MEM_STAGING], 64u << 20);
    ck_assert_ok(graft_vk_upload_end(vk));
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.class_bytes[GRAFT_MEM_STAGING], 0);
    ck_assert_uint_eq(device_sum(buffer, 0, bytes), host_sum(data, bytes));
    uint8_t *back = malloc(bytes);
    ck_assert_ok(graft_vk_download(vk, buffer, 0, back, bytes));
    ck_assert_int_eq(memcmp(back, data, bytes), 0);
    free(back);
    free(data);
    graft_vk_buffer_destroy(&buffer);
    close_device();
}
END_TEST

START_TEST(a_mapped_file_is_imported_and_its_checksum_agrees)
{
    const uint64_t bytes = (3u << 20) + 20; // the last page lies partly behind the end of the file
    uint8_t *data = random_bytes(bytes, 11);
    char folder[64], path[80];
    graft_test_folder(folder);
    snprintf(path, sizeof path, "%s/tensor", folder);
    ck_assert_ok(graft_file_replace(path, data, bytes));
    open_device(NULL);
    if (!graft_vk_caps(vk)->host_import) {
        puts("skipped: the device cannot import host memory");
    } else {
        struct graft_map map;
        ck_assert_ok(graft_map_open(&map, path));
        static const uint64_t starts[] = {0, 4, 4096, 70020};
        for (int i = 0; i < 4; i++) {
            struct graft_memory_use before, after;
            graft_ctx_memory(ctx, &before);
            struct graft_vk_buffer *buffer;
            uint64_t skip;
            enum graft_status status = graft_vk_buffer_import(vk, &buffer, map.data + starts[i], bytes - starts[i], &skip);
            if (status == GRAFT_E_UNSUPPORTED) {
                printf("skipped: %s\n", graft_last_error());
                break;
            }
            ck_assert_ok(status);
            ck_assert(buffer->imported);
            ck_assert_uint_eq(skip, starts[i] % graft_vk_caps(vk)->import_alignment);
            graft_ctx_memory(ctx, &after);
            ck_assert_uint_eq(after.class_bytes[GRAFT_MEM_WEIGHTS], before.class_bytes[GRAFT_MEM_WEIGHTS]);
            ck_assert_uint_eq(device_sum(buffer, skip, bytes - starts[i]), host_sum(data + starts[i], bytes - starts[i]));
            ck_assert_status(graft_vk_upload(vk, buffer, 0, data, 4), GRAFT_E_ARGUMENT);
            graft_vk_buffer_destroy(&buffer);
        }
        graft_map_close(&map);
    }
    close_device();
    open_device(&(struct graft_vk_options){.no_import = true});
    struct graft_vk_buffer *buffer;
    uint64_t skip;
    ck_assert_status(graft_vk_buffer_import(vk, &buffer, data, 4, &skip), GRAFT_E_UNSUPPORTED);
    close_device();
    graft_test_folder_remove(folder);
    free(data);
}
END_TEST

START_TEST(specialization_constants_make_pipelines_of_their_own)
{
    open_device(NULL);
    struct graft_vk_pipeline *one = get_sum(64, 1), *same = get_sum(64, 1), *three = get_sum(64, 3);
    ck_assert_ptr_eq(one, same);
    ck_assert_ptr_ne(one, three);
    struct graft_vk_counters counters;
    graft_vk_counters(vk, &counters);
    ck_assert_uint_eq(counters.pipelines, 2);
    struct graft_vk_buffer *in, *out;
    ck_assert_ok(graft_vk_buffer_create(vk, &in, 4000, GRAFT_VK_HOST_SEEN, GRAFT_MEM_SCRATCH, "in"));
    ck_assert_ok(graft_vk_buffer_create(vk, &out, 4, GRAFT_VK_READBACK, GRAFT_MEM_SCRATCH, "out"));
    for (uint32_t i = 0; i < 1000; i++) {
        ((uint32_t *)in->mapped)[i] = i;
    }
    struct graft_vk_commands *commands;
    ck_assert_ok(graft_vk_commands_create(vk, &commands, 2, false));
    struct graft_vk_bind binds[2] = {{in, 0, 4000}, {out, 0, 4}};
    uint32_t push[3] = {0, 1000, 1000};
    ck_assert_ok(graft_vk_dispatch(commands, one, binds, push, (uint32_t[3]){1, 1, 1}));
    ck_assert_ok(graft_vk_dispatch(commands, three, binds, push, (uint32_t[3]){1, 1, 1}));
    run(commands);
    ck_assert_uint_eq(*(uint32_t *)out->mapped, 4 * 499500);
    graft_vk_pipeline_put(vk, &one);
    graft_vk_pipeline_put(vk, &same);
    graft_vk_pipeline_put(vk, &three); // the recording still holds them
    ck_assert_ok(graft_vk_submit(vk, &commands, 1));
    ck_assert_ok(graft_vk_wait(vk));
    ck_assert_uint_eq(*(uint32_t *)out->mapped, 8 * 499500);
    graft_vk_commands_destroy(&commands);
    graft_vk_buffer_destroy(&in);
    graft_vk_buffer_destroy(&out);
    close_device();
}
END_TEST

START_TEST(texel_and_uniform_bindings_read_their_ranges)
{
    enum { N = 5 };
    open_device(NULL);
    const struct graft_vk_caps *caps = graft_vk_caps(vk);
    ck_assert_uint_le(caps->texel_alignment, 256);
    struct graft_vk_buffer *data, *to;
    ck_assert_ok(graft_vk_buffer_create(vk, &data, 2048, GRAFT_VK_HOST_SEEN, GRAFT_MEM_SCRATCH, "data"));
    ck_assert_ok(graft_vk_buffer_create(vk, &to, N * 16, GRAFT_VK_READBACK, GRAFT_MEM_SCRATCH, "result"));
    uint32_t *words = data->mapped;
    float *floats = data->mapped;
    for (uint32_t i = 0; i < 4 * N; i++) {
        words[64 + i] = 1000 * i;         // a at 256
        words[192 + i] = 7 * i;           // b at 768
        floats[256 + i] = (float)(2 * i); // c at 1024
    }
    for (uint32_t i = 0; i < 4; i++) {
        words[384 + i] = 100000 + i; // bias at 1536
    }
    struct graft_vk_pipeline_params params = {
        .name = "texel",
        .spirv = vk_texel,
        .spirv_bytes = sizeof vk_texel,
        .n_bindings = 5,
        .kinds = {GRAFT_VK_TEXEL_U32X4, GRAFT_VK_TEXEL_U32, GRAFT_VK_TEXEL_F32X4, GRAFT_VK_UNIFORM, GRAFT_VK_STORAGE},
        .access = {GRAFT_VK_READ, GRAFT_VK_READ, GRAFT_VK_READ, GRAFT_VK_READ, GRAFT_VK_WRITE},
    };
    struct graft_vk_pipeline *pipeline;
    ck_assert_ok(graft_vk_pipeline_get(vk, &pipeline, &params));
    struct graft_vk_commands *commands;
    ck_assert_ok(graft_vk_commands_create(vk, &commands, 1, false));
    struct graft_vk_bind binds[5] = {
        {data, 256, N * 16}, {data, 768, N * 16}, {data, 1024, N * 16}, {data, 1536, 16}, {to, 0, N * 16}};
    ck_assert_ok(graft_vk_dispatch(commands, pipeline, binds, NULL, (uint32_t[3]){N, 1, 1}));
    run(commands);
    for (uint32_t i = 0; i < 4 * N; i++) {
        ck_assert_uint_eq(((uint32_t *)to->mapped)[i], 1000 * i + 7 * i + 2 * i + 100000 + i % 4);
    }
    graft_vk_commands_destroy(&commands);
    graft_vk_pipeline_put(vk, &pipeline);
    graft_vk_buffer_destroy(&data);
    graft_vk_buffer_destroy(&to);
    close_device();
}
END_TEST

// A chain of `n` steps x -> 2 x + 1 between two buffers, then a copy of the result.
static struct graft_vk_commands *record_chain(struct graft_vk_pipeline *scale, struct graft_vk_buffer *a,
                                              struct graft_vk_buffer *b, struct graft_vk_buffer *result, uint32_t n, bool timed)
{
    struct graft_vk_commands *commands;
    ck_assert_ok(graft_vk_commands_create(vk, &commands, n + 1, timed));
    uint32_t push[2] = {64, 2};
    for (uint32_t i = 0; i < n; i++) {
        struct graft_vk_bind binds[2] = {{i % 2 ? b : a, 0, 256}, {i % 2 ? a : b, 0, 256}};
        ck_assert_ok(graft_vk_dispatch(commands, scale, binds, push, (uint32_t[3]){1, 1, 1}));
    }
    ck_assert_ok(graft_vk_copy(commands, n % 2 ? b : a, 0, result, 0, 256));
    ck_assert_ok(graft_vk_commands_end(commands));
    return commands;
}

START_TEST(a_recording_is_resubmitted_without_any_further_work_on_the_host)
{
    enum { STEPS = 7, TIMES = 1000 };
    open_device(NULL);
    struct graft_vk_pipeline *scale = get_scale();
    struct graft_vk_buffer *a, *b, *result;
    ck_assert_ok(graft_vk_buffer_create(vk, &a, 256, GRAFT_VK_HOST_SEEN, GRAFT_MEM_SCRATCH, "a"));
    ck_assert_ok(graft_vk_buffer_create(vk, &b, 256, GRAFT_VK_DEVICE, GRAFT_MEM_SCRATCH, "b"));
    ck_assert_ok(graft_vk_buffer_create(vk, &result, 256, GRAFT_VK_READBACK, GRAFT_MEM_SCRATCH, "result"));
    struct graft_vk_commands *commands = record_chain(scale, a, b, result, STEPS, false);
    struct graft_vk_counters before, after;
    struct graft_memory_use memory_before, memory_after;
    graft_vk_counters(vk, &before);
    graft_ctx_memory(ctx, &memory_before);
    for (uint32_t i = 0; i < TIMES; i++) {
        ((uint32_t *)a->mapped)[5] = i;
        ck_assert_ok(graft_vk_submit(vk, &commands, 1));
        ck_assert_ok(graft_vk_wait(vk));
        ck_assert_uint_eq(((uint32_t *)result->mapped)[5], i * 128 + 127);
    }
    graft_vk_counters(vk, &after);
    graft_ctx_memory(ctx, &memory_after);
    ck_assert_uint_eq(after.submissions - before.submissions, TIMES);
    ck_assert_uint_eq(after.dispatches - before.dispatches, TIMES * STEPS);
    ck_assert_uint_eq(after.barriers - before.barriers,
                      TIMES * (STEPS + 2)); // one in front of all but the first, begin and end
    ck_assert_uint_eq(after.recordings, before.recordings);
    ck_assert_uint_eq(after.descriptor_updates, before.descriptor_updates);
    ck_assert_uint_eq(after.allocations, before.allocations);
    ck_assert_uint_eq(after.pipelines, before.pipelines);
    ck_assert_uint_eq(memory_after.allocations, memory_before.allocations);
    graft_vk_commands_destroy(&commands);
    graft_vk_pipeline_put(vk, &scale);
    graft_vk_buffer_destroy(&a);
    graft_vk_buffer_destroy(&b);
    graft_vk_buffer_destroy(&result);
    close_device();
}
END_TEST

START_TEST(several_recordings_run_in_order_in_one_submission_and_are_timed)
{
    open_device(NULL);
    struct graft_vk_pipeline *scale = get_scale();
    struct graft_vk_buffer *a, *b, *result;
    ck_assert_ok(graft_vk_buffer_create(vk, &a, 256, GRAFT_VK_HOST_SEEN, GRAFT_MEM_SCRATCH, "a"));
    ck_assert_ok(graft_vk_buffer_create(vk, &b, 256, GRAFT_VK_DEVICE, GRAFT_MEM_SCRATCH, "b"));
    ck_assert_ok(graft_vk_buffer_create(vk, &result, 256, GRAFT_VK_READBACK, GRAFT_MEM_SCRATCH, "result"));
    bool timed = graft_vk_caps(vk)->timestamps;
    struct graft_vk_commands *both[2] = {record_chain(scale, a, b, result, 2, timed),
                                         record_chain(scale, a, b, result, 4, timed)};
    uint64_t ns[4] = {0};
    if (timed) {
        ck_assert_status(graft_vk_times(both[1], ns, 4), GRAFT_E_ARGUMENT); // never submitted
    }
    ((uint32_t *)a->mapped)[0] = 1;
    ck_assert_ok(graft_vk_submit(vk, both, 2));
    ck_assert_ok(graft_vk_wait(vk));
    ck_assert_uint_eq(((uint32_t *)result->mapped)[0], 127); // six steps from 1
    if (timed) {
        ck_assert_ok(graft_vk_times(both[1], ns, 4));
        for (int i = 0; i < 4; i++) {
            ck_assert(ns[i] < UINT64_C(10000000000));
        }
    } else {
        ck_assert_status(graft_vk_times(both[1], ns, 4), GRAFT_E_UNSUPPORTED);
    }
    ck_assert_status(graft_vk_submit(vk, (struct graft_vk_commands *const[]){both[0], both[0]}, 2), GRAFT_E_ARGUMENT);
    graft_vk_commands_destroy(&both[0]);
    graft_vk_commands_destroy(&both[1]);
    graft_vk_pipeline_put(vk, &scale);
    graft_vk_buffer_destroy(&a);
    graft_vk_buffer_destroy(&b);
    graft_vk_buffer_destroy(&result);
    close_device();
}
END_TEST

START_TEST(two_devices_are_open_at_once)
{
    struct graft_vk *second;
    open_device(NULL);
    ck_assert_ok(graft_vk_open(ctx, &second, NULL));
    struct graft_vk *first = vk;
    struct graft_vk *both[2] = {first, second};
    struct graft_vk_buffer *buffers[2];
    uint32_t words[4] = {1, 2, 3, 4};
    for (int i = 0; i < 2; i++) {
        ck_assert_ok(graft_vk_buffer_create(both[i], &buffers[i], 16, GRAFT_VK_DEVICE, GRAFT_MEM_SCRATCH, "words"));
        ck_assert_ok(graft_vk_upload(both[i], buffers[i], 0, words, 16));
        ck_assert_ok(graft_vk_upload_end(both[i]));
    }
    ck_assert_uint_eq(device_sum(buffers[0], 0, 16), 10);
    struct graft_vk_pipeline *pipeline = get_scale();
    struct graft_vk_commands *commands;
    ck_assert_ok(graft_vk_commands_create(vk, &commands, 1, false));
    struct graft_vk_bind binds[2] = {{buffers[0], 0, 16}, {buffers[1], 0, 16}}; // the other device's buffer
    ck_assert_status(graft_vk_dispatch(commands, pipeline, binds, words, (uint32_t[3]){1, 1, 1}), GRAFT_E_ARGUMENT);
    graft_vk_commands_destroy(&commands);
    graft_vk_pipeline_put(vk, &pipeline);
    graft_vk_buffer_destroy(&buffers[0]);
    graft_vk_close(&first);
    vk = second;
    ck_assert_uint_eq(device_sum(buffers[1], 0, 16), 10);
    graft_vk_buffer_destroy(&buffers[1]);
    close_device();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vk");
    TCase *tcase = tcase_create("device");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, devices_are_listed_with_sane_capabilities);
    tcase_add_test(tcase, a_device_is_selected_by_index_and_name);
    tcase_add_test(tcase, options_switch_capabilities_off);
    tcase_add_test(tcase, buffers_of_every_kind_start_zeroed_and_keep_their_bytes);
    tcase_add_test(tcase, uploads_larger_than_the_staging_ring_arrive_whole);
    tcase_add_test(tcase, a_mapped_file_is_imported_and_its_checksum_agrees);
    tcase_add_test(tcase, specialization_constants_make_pipelines_of_their_own);
    tcase_add_test(tcase, texel_and_uniform_bindings_read_their_ranges);
    tcase_add_test(tcase, a_recording_is_resubmitted_without_any_further_work_on_the_host);
    tcase_add_test(tcase, several_recordings_run_in_order_in_one_submission_and_are_timed);
    tcase_add_test(tcase, two_devices_are_open_at_once);
    suite_add_tcase(suite, tcase);
    return graft_test_main(suite);
}
