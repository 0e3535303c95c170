// SPDX-License-Identifier: Apache-2.0
// The device layer when things go wrong: each Vulkan call and each allocation failing once, validation, the cache file,
// budgets.
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/vk/vk_internal.h"
#include "support/vk_support.h"

#include "shaders/vk_scale.h"
#include "shaders/vk_sum.h"
#include "shaders/vk_texel.h"

// ---- one small program that uses everything ----

enum { WORDS = 64, BYTES = 4 * WORDS };

struct scenario {
    struct graft_vk *vk;
    struct graft_vk_buffer *in, *out, *back, *file;
    struct graft_vk_pipeline *scale, *texel;
    struct graft_vk_commands *commands;
    bool struck;       // the armed fault has happened
    uint64_t messages; // of the validation layer
};

static enum graft_status use_device(struct scenario *s, const void *pages)
{
    struct graft_vk *vk = s->vk;
    uint32_t words[WORDS];
    for (uint32_t i = 0; i < WORDS; i++) {
        words[i] = i;
    }
    GRAFT_TRY(graft_vk_buffer_create(vk, &s->in, BYTES, GRAFT_VK_DEVICE, GRAFT_MEM_WEIGHTS, "in"));
    GRAFT_TRY(graft_vk_buffer_create(vk, &s->out, BYTES, GRAFT_VK_HOST_SEEN, GRAFT_MEM_SCRATCH, "out"));
    GRAFT_TRY(graft_vk_buffer_create(vk, &s->back, BYTES, GRAFT_VK_READBACK, GRAFT_MEM_SCRATCH, "back"));
    uint64_t skip;
    enum graft_status status = graft_vk_buffer_import(vk, &s->file, pages, 4096, &skip);
    if (status != GRAFT_E_UNSUPPORTED) {
        GRAFT_TRY(status);
    }
    GRAFT_TRY(graft_vk_upload(vk, s->in, 0, words, BYTES));
    GRAFT_TRY(graft_vk_upload(vk, s->in, 0, words, BYTES)); // the same bytes twice: ordered
    GRAFT_TRY(graft_vk_upload_end(vk));
    struct graft_vk_pipeline_params scale = {
        .name = "scale",
        .spirv = vk_scale,
        .spirv_bytes = sizeof vk_scale,
        .n_bindings = 2,
        .access = {GRAFT_VK_READ, GRAFT_VK_WRITE},
        .push_bytes = 8,
    };
    GRAFT_TRY(graft_vk_pipeline_get(vk, &s->scale, &scale));
    struct graft_vk_pipeline_params texel = {
        .name = "texel",
        .spirv = vk_texel,
        .spirv_bytes = sizeof vk_texel,
        .n_bindings = 5,
        .kinds = {GRAFT_VK_TEXEL_U32X4, GRAFT_VK_TEXEL_U32, GRAFT_VK_TEXEL_F32X4, GRAFT_VK_UNIFORM, GRAFT_VK_STORAGE},
        .access = {GRAFT_VK_READ, GRAFT_VK_READ, GRAFT_VK_READ, GRAFT_VK_READ, GRAFT_VK_WRITE},
    };
    GRAFT_TRY(graft_vk_pipeline_get(vk, &s->texel, &texel));
    GRAFT_TRY(graft_vk_commands_create(vk, &s->commands, 8, graft_vk_caps(vk)->timestamps));
    uint32_t push[2] = {WORDS, 3}, one[3] = {1, 1, 1};
    struct graft_vk_bind forth[2] = {{s->in, 0, BYTES}, {s->out, 0, BYTES}},
                         return_[2] = {{s->out, 0, BYTES}, {s->in, 0, BYTES}};
    // in = 3 (3 i + 1) + 1 = 9 i + 4; then out's first vector = in[0..3] (as u32x4) + in[0..3] (as u32) + 0 (floats below 1) +
    // in[0..3]
    GRAFT_TRY(graft_vk_dispatch(s->commands, s->scale, forth, push, one));
    GRAFT_TRY(graft_vk_dispatch(s->commands, s->scale, return_, push, one));
    struct graft_vk_bind all[5] = {{s->in, 0, 16}, {s->in, 0, 16}, {s->in, 0, 16}, {s->in, 0, 16}, {s->out, 0, 16}};
    GRAFT_TRY(graft_vk_dispatch(s->commands, s->texel, all, NULL, one));
    GRAFT_TRY(graft_vk_copy(s->commands, s->out, 0, s->back, 0, BYTES));
    GRAFT_TRY(graft_vk_copy(s->commands, s->in, 16, s->back, 0, 4));
    GRAFT_TRY(
        graft_vk_dispatch(s->commands, s->scale, (struct graft_vk_bind[]){{s->back, 0, BYTES}, {s->out, 0, BYTES}}, push, one));
    GRAFT_TRY(graft_vk_commands_end(s->commands));
    for (int i = 0; i < 2; i++) {
        if (graft_vk_caps(vk)->unified) { // a mapped buffer is written at once
            GRAFT_TRY(graft_vk_wait(vk));
        }
        GRAFT_TRY(graft_vk_upload(vk, s->in, 0, words, BYTES));
        GRAFT_TRY(graft_vk_upload_end(vk));
        GRAFT_TRY(graft_vk_submit(vk, &s->commands, 1));
    }
    GRAFT_TRY(graft_vk_wait(vk));
    uint32_t got[WORDS];
    GRAFT_TRY(graft_vk_download(vk, s->in, 0, got, BYTES));
    for (uint32_t i = 0; i < WORDS; i++) {
        ck_assert_uint_eq(got[i], 9 * i + 4);
    }
    const uint32_t *back = s->back->mapped;
    ck_assert_uint_eq(back[0], 9 * 4 + 4);
    ck_assert_uint_eq(back[1], 3 * (9 * 1 + 4));
    ck_assert_uint_eq(back[10], 3 * 10 + 1);
    if (graft_vk_caps(vk)->timestamps) {
        uint64_t ns[4];
        GRAFT_TRY(graft_vk_times(s->commands, ns, 4));
    }
    return GRAFT_OK;
}

static enum graft_status play(struct graft_ctx *ctx, const struct graft_vk_options *options, struct scenario *s)
{
    static _Alignas(4096) uint8_t pages[8192];
    memset(s, 0, sizeof *s);
    enum graft_status status = graft_vk_open(ctx, &s->vk, options);
    if (status == GRAFT_OK) {
        status = use_device(s, pages);
    }
    s->struck = !s->vk || s->vk->fault_left[options->fault] == 0;
    graft_vk_commands_destroy(&s->commands);
    graft_vk_pipeline_put(s->vk, &s->scale);
    graft_vk_pipeline_put(s->vk, &s->texel);
    graft_vk_buffer_destroy(&s->in);
    graft_vk_buffer_destroy(&s->out);
    graft_vk_buffer_destroy(&s->back);
    graft_vk_buffer_destroy(&s->file);
    if (s->vk) {
        ck_assert_uint_eq(s->vk->live_buffers, 0);
        ck_assert_uint_eq(s->vk->live_commands, 0);
        ck_assert_ptr_null(s->vk->pipelines);
        s->messages = graft_vk_validation_messages(s->vk);
    }
    graft_vk_close(&s->vk);
    return status;
}

static void assert_all_given_back(struct graft_ctx *ctx)
{
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
}

// ---- faults ----

static bool fault_allowed_to_pass(enum graft_vk_fault fault, enum graft_status status)
{
    // A refused import is answered by a copy, a refused staging buffer by a smaller one, other memory may be tried.
    return status == GRAFT_OK && (fault == GRAFT_VK_FAULT_ALLOCATE || fault == GRAFT_VK_FAULT_CREATE);
}

START_TEST(each_vulkan_call_may_fail_once)
{
    enum graft_vk_fault fault = (enum graft_vk_fault)_i;
    uint64_t n = 1;
    uint32_t passed = 0;
    for (bool struck = true; struck; n++) {
        ck_assert_uint_lt(n, 500);
        struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
        struct scenario s;
        (void)graft_fail(GRAFT_OK, "%s", "");
        enum graft_status status =
            play(ctx, &(struct graft_vk_options){.no_mapped_device = true, .fault = fault, .fault_at = n}, &s);
        struck = s.struck;
        if (!struck) {
            ck_assert_ok(status);
        } else if (fault_allowed_to_pass(fault, status)) {
            passed++;
        } else {
            bool lost = fault == GRAFT_VK_FAULT_SUBMIT || fault == GRAFT_VK_FAULT_WAIT;
            ck_assert_msg(status == (lost ? GRAFT_E_DEVICE_LOST : GRAFT_E_MEMORY), "call %u: %s (%s)", (unsigned)n,
                          graft_status_name(status), graft_last_error());
            ck_assert_uint_gt(strlen(graft_last_error()), 20);
        }
        assert_all_given_back(ctx);
        graft_ctx_destroy(&ctx);
    }
    ck_assert_uint_gt(n, 5);
    ck_assert_uint_le(passed, 24); // three rings of two buffers with up to three calls, and an import with four
}
END_TEST

START_TEST(each_host_allocation_may_fail_once)
{
    uint32_t passed = 0;         // a smaller staging ring was tried and granted
    for (uint64_t n = 2;; n++) { // the first one is the context
        struct graft_test_alloc alloc = {.fail_at = n};
        struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
        struct scenario s;
        enum graft_status status = play(ctx, &(struct graft_vk_options){.no_mapped_device = true}, &s);
        bool struck = alloc.requests >= n;
        passed += struck && status == GRAFT_OK;
        ck_assert_msg(status == GRAFT_OK || (struck && status == GRAFT_E_MEMORY), "allocation %u: %s (%s)", (unsigned)n,
                      graft_status_name(status), graft_last_error());
        assert_all_given_back(ctx);
        graft_ctx_destroy(&ctx);
        ck_assert_uint_eq(alloc.live, 0);
        if (!struck) {
            ck_assert_uint_gt(n, 10);
            ck_assert_uint_le(passed, 6);
            break;
        }
    }
}
END_TEST

START_TEST(a_lost_device_says_so_until_it_is_opened_again)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_vk *vk;
    ck_assert_ok(graft_vk_open(ctx, &vk, &(struct graft_vk_options){.no_mapped_device = true}));
    graft_vk_fault(vk, GRAFT_VK_FAULT_SUBMIT, 1);
    struct graft_vk_buffer *buffer;
    ck_assert_status(graft_vk_buffer_create(vk, &buffer, 64, GRAFT_VK_DEVICE, GRAFT_MEM_KV, "kv"), GRAFT_E_DEVICE_LOST);
    ck_assert_ptr_null(buffer);
    ck_assert_status(graft_vk_buffer_create(vk, &buffer, 64, GRAFT_VK_HOST_SEEN, GRAFT_MEM_KV, "kv"), GRAFT_E_DEVICE_LOST);
    struct graft_vk_commands *commands;
    ck_assert_status(graft_vk_commands_create(vk, &commands, 1, false), GRAFT_E_DEVICE_LOST);
    ck_assert_status(graft_vk_wait(vk), GRAFT_E_DEVICE_LOST);
    graft_vk_close(&vk);
    struct scenario s;
    ck_assert_ok(play(ctx, &(struct graft_vk_options){.select = NULL}, &s));
    assert_all_given_back(ctx);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_submission_that_takes_too_long_is_a_lost_device)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_vk *vk;
    ck_assert_ok(graft_vk_open(ctx, &vk, &(struct graft_vk_options){.timeout_ns = 1000000}));
    struct graft_vk_buffer *in, *out;
    const uint64_t bytes = 64u << 20;
    ck_assert_ok(graft_vk_buffer_create(vk, &in, bytes, GRAFT_VK_HOST_SEEN, GRAFT_MEM_SCRATCH, "in"));
    ck_assert_ok(graft_vk_buffer_create(vk, &out, 4, GRAFT_VK_HOST_SEEN, GRAFT_MEM_SCRATCH, "out"));
    struct graft_vk_pipeline *pipeline;
    ck_assert_ok(graft_vk_pipeline_get(vk, &pipeline,
                                       &(struct graft_vk_pipeline_params){.name = "sum",
                                                                          .spirv = vk_sum,
                                                                          .spirv_bytes = sizeof vk_sum,
                                                                          .n_bindings = 2,
                                                                          .access = {GRAFT_VK_READ, GRAFT_VK_READ_WRITE},
                                                                          .push_bytes = 12,
                                                                          .n_constants = 2,
                                                                          .constants = {1, 1}}));
    struct graft_vk_commands *commands;
    ck_assert_ok(graft_vk_commands_create(vk, &commands, 1, false));
    struct graft_vk_bind binds[2] = {{in, 0, bytes}, {out, 0, 4}};
    uint32_t words = (uint32_t)(bytes / 4), push[3] = {0, words, words};
    ck_assert_ok(graft_vk_dispatch(commands, pipeline, binds, push, (uint32_t[3]){1, 1, 1})); // one lane reads everything
    ck_assert_ok(graft_vk_commands_end(commands));
    ck_assert_ok(graft_vk_submit(vk, &commands, 1));
    graft_vk_fault(vk, GRAFT_VK_FAULT_WAIT, 1); // some drivers do all the work within the submission: no real time-out then
    ck_assert_status(graft_vk_wait(vk), GRAFT_E_DEVICE_LOST);
    ck_assert_error_has("1 ms");
    ck_assert_status(graft_vk_submit(vk, &commands, 1), GRAFT_E_DEVICE_LOST);
    graft_vk_commands_destroy(&commands); // waits until the device really is done
    graft_vk_pipeline_put(vk, &pipeline);
    graft_vk_buffer_destroy(&in);
    graft_vk_buffer_destroy(&out);
    graft_vk_close(&vk);
    assert_all_given_back(ctx);
    graft_ctx_destroy(&ctx);
}
END_TEST

// ---- validation ----

START_TEST(the_validation_layers_have_nothing_to_say)
{
    for (int staged = 0; staged < 2; staged++) {
        static struct graft_test_log log;
        memset(&log, 0, sizeof log);
        struct graft_ctx *ctx = graft_test_vk_ctx(NULL, 0, NULL, &log);
        struct scenario s;
        enum graft_status status = play(ctx, &(struct graft_vk_options){.validation = true, .no_mapped_device = staged}, &s);
        if (status == GRAFT_E_DEVICE && strstr(graft_last_error(), "validationlayers")) {
            puts("skipped: the validation layers are not installed");
        } else {
            ck_assert_ok(status);
            ck_assert_msg(s.messages == 0 && log.lines == 0, "%.800s", log.text);
        }
        assert_all_given_back(ctx);
        graft_ctx_destroy(&ctx);
    }
}
END_TEST

// ---- budget ----

START_TEST(the_budget_holds_for_buffers_and_staging)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 3u << 20);
    struct graft_vk *vk;
    ck_assert_ok(graft_vk_open(ctx, &vk, &(struct graft_vk_options){.no_mapped_device = true}));
    struct graft_vk_buffer *buffer, *other;
    ck_assert_status(graft_vk_buffer_create(vk, &buffer, 4u << 20, GRAFT_VK_DEVICE, GRAFT_MEM_KV, "the KV cache"),
                     GRAFT_E_BUDGET);
    ck_assert_ptr_null(buffer);
    ck_assert_error_has("the KV cache");
    ck_assert_ok(graft_vk_buffer_create(vk, &buffer, 2u << 20, GRAFT_VK_DEVICE, GRAFT_MEM_KV, "the KV cache"));
    ck_assert_status(graft_vk_buffer_create(vk, &other, 1u << 20, GRAFT_VK_DEVICE, GRAFT_MEM_KV, "more"), GRAFT_E_BUDGET);
    uint8_t *data = calloc(1, 2u << 20);
    memset(data, 5, 2u << 20);
    ck_assert_ok(graft_vk_upload(vk, buffer, 0, data, 2u << 20)); // through a ring that fits into the rest
    ck_assert_ok(graft_vk_upload_end(vk));
    uint32_t last;
    ck_assert_ok(graft_vk_download(vk, buffer, (2u << 20) - 4, &last, 4));
    ck_assert_uint_eq(last, 0x05050505);
    free(data);
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_le(use.peak_bytes, 3u << 20);
    graft_vk_buffer_destroy(&buffer);
    graft_vk_close(&vk);
    assert_all_given_back(ctx);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(impossible_requests_are_refused_in_words)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_vk *vk;
    ck_assert_ok(graft_vk_open(ctx, &vk, NULL));
    const struct graft_vk_caps *caps = graft_vk_caps(vk);
    struct graft_vk_buffer *buffer;
    ck_assert_status(graft_vk_buffer_create(vk, &buffer, 0, GRAFT_VK_DEVICE, GRAFT_MEM_KV, "nothing"), GRAFT_E_ARGUMENT);
    ck_assert_status(graft_vk_buffer_create(vk, &buffer, UINT64_MAX, GRAFT_VK_DEVICE, GRAFT_MEM_KV, "too much"),
                     GRAFT_E_ARGUMENT);
    ck_assert_status(
        graft_vk_buffer_create(vk, &buffer, caps->max_allocation_bytes + 1, GRAFT_VK_DEVICE, GRAFT_MEM_KV, "too much"),
        GRAFT_E_MEMORY);
    struct graft_vk_pipeline *pipeline;
    struct graft_vk_pipeline_params params = {.name = "p",
                                              .spirv = vk_scale,
                                              .spirv_bytes = sizeof vk_scale,
                                              .n_bindings = 2,
                                              .access = {GRAFT_VK_READ, GRAFT_VK_WRITE},
                                              .push_bytes = 8};
    struct graft_vk_pipeline_params bad = params;
    bad.spirv_bytes = 18;
    ck_assert_status(graft_vk_pipeline_get(vk, &pipeline, &bad), GRAFT_E_ARGUMENT);
    bad = params;
    bad.n_bindings = 17;
    ck_assert_status(graft_vk_pipeline_get(vk, &pipeline, &bad), GRAFT_E_ARGUMENT);
    bad = params;
    bad.required_subgroup_size = 3;
    ck_assert_status(graft_vk_pipeline_get(vk, &pipeline, &bad), GRAFT_E_UNSUPPORTED);
    ck_assert_ok(graft_vk_pipeline_get(vk, &pipeline, &params));
    ck_assert_ok(graft_vk_buffer_create(vk, &buffer, 1024, GRAFT_VK_DEVICE, GRAFT_MEM_KV, "kv"));
    struct graft_vk_commands *commands;
    ck_assert_ok(graft_vk_commands_create(vk, &commands, 1, false));
    uint32_t push[2] = {0, 0}, groups[3] = {1, 1, 1};
    struct graft_vk_bind binds[2] = {{buffer, 0, 512}, {buffer, 512, 512}};
    ck_assert_status(graft_vk_dispatch(commands, pipeline, binds, NULL, groups), GRAFT_E_ARGUMENT);
    ck_assert_status(graft_vk_dispatch(commands, pipeline, binds, push, (uint32_t[3]){1, 0, 1}), GRAFT_E_ARGUMENT);
    ck_assert_ok(graft_vk_dispatch(commands, pipeline, binds, push, groups));
    ck_assert_status(graft_vk_dispatch(commands, pipeline, binds, push, groups), GRAFT_E_LIMIT);
    ck_assert_status(graft_vk_submit(vk, &commands, 1), GRAFT_E_ARGUMENT); // not ended
    ck_assert_ok(graft_vk_commands_end(commands));
    ck_assert_status(graft_vk_commands_end(commands), GRAFT_E_ARGUMENT);
    graft_vk_commands_destroy(&commands);
    ck_assert_ok(graft_vk_commands_create(vk, &commands, 4, false));
    binds[1].bytes = 513; // behind the end
    ck_assert_status(graft_vk_dispatch(commands, pipeline, binds, push, groups), GRAFT_E_ARGUMENT);
    ck_assert_error_has("binding 1");
    ck_assert_status(graft_vk_commands_end(commands), GRAFT_E_ARGUMENT); // what failed half-way is never submitted
    graft_vk_commands_destroy(&commands);
    graft_vk_buffer_destroy(&buffer);
    graft_vk_pipeline_put(vk, &pipeline);
    graft_vk_close(&vk);
    assert_all_given_back(ctx);
    graft_ctx_destroy(&ctx);
}
END_TEST

// ---- the pipeline cache's file ----

// Run the scenario with a cache folder; returns the bytes taken from the file and adds up warnings.
static uint64_t play_cached(const char *folder, const char *key, struct graft_test_log *log)
{
    memset(log, 0, sizeof *log);
    struct graft_ctx *ctx = graft_test_vk_ctx(NULL, 0, folder, log);
    struct graft_vk *vk;
    ck_assert_ok(graft_vk_open(ctx, &vk, &(struct graft_vk_options){.cache_key = key}));
    struct graft_vk_counters counters;
    graft_vk_counters(vk, &counters);
    struct graft_vk_pipeline *pipeline;
    struct graft_vk_pipeline_params params = {.name = "p",
                                              .spirv = vk_scale,
                                              .spirv_bytes = sizeof vk_scale,
                                              .n_bindings = 2,
                                              .access = {GRAFT_VK_READ, GRAFT_VK_WRITE},
                                              .push_bytes = 8};
    ck_assert_ok(graft_vk_pipeline_get(vk, &pipeline, &params));
    graft_vk_pipeline_put(vk, &pipeline);
    graft_vk_close(&vk);
    assert_all_given_back(ctx);
    graft_ctx_destroy(&ctx);
    return counters.cache_bytes;
}

static void read_whole(const char *path, uint8_t **data, uint64_t *size)
{
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    *data = malloc(1 << 24);
    *size = fread(*data, 1, 1 << 24, file);
    fclose(file);
}

START_TEST(the_pipeline_cache_is_stored_and_used_again)
{
    static struct graft_test_log log;
    char folder[64], path[512];
    graft_test_folder(folder);
    ck_assert_uint_eq(play_cached(folder, "build 1", &log), 0);
    ck_assert_uint_eq(log.lines, 0);
    graft_test_folder_file(folder, path);
    ck_assert_uint_gt(strlen(path), 0);
    ck_assert_uint_gt(play_cached(folder, "build 1", &log), 0);
    ck_assert_uint_eq(log.lines, 0);
    ck_assert_uint_eq(play_cached(folder, "build 2", &log), 0); // another build, another file
    ck_assert_uint_eq(log.lines, 0);
    ck_assert_uint_gt(play_cached(folder, "build 1", &log), 0);
    graft_test_folder_remove(folder);
}
END_TEST

START_TEST(a_damaged_or_foreign_cache_file_is_discarded_and_replaced)
{
    static struct graft_test_log log;
    char folder[64], path[512];
    graft_test_folder(folder);
    ck_assert_uint_eq(play_cached(folder, "build", &log), 0);
    graft_test_folder_file(folder, path);
    uint8_t *good, *bad;
    uint64_t size;
    read_whole(path, &good, &size);
    bad = malloc(size + 1);
    enum { MAGIC_BYTE = 3, KEY_BYTE = 20, SIZE_BYTE = 48, DIGEST_BYTE = 60, HEAD = 88 };
    const uint64_t flips[] = {MAGIC_BYTE, 8, KEY_BYTE, SIZE_BYTE, SIZE_BYTE + 7, DIGEST_BYTE, HEAD, size - 1};
    const uint64_t cuts[] = {0, 1, HEAD - 1, HEAD, HEAD + 31, size - 1, size + 1};
    for (size_t i = 0; i < sizeof flips / sizeof *flips + sizeof cuts / sizeof *cuts; i++) {
        memcpy(bad, good, size);
        bad[size] = 0;
        uint64_t length = size;
        if (i < sizeof flips / sizeof *flips) {
            bad[flips[i]] ^= 0x10;
        } else {
            length = cuts[i - sizeof flips / sizeof *flips];
        }
        ck_assert_ok(graft_file_replace(path, bad, length));
        ck_assert_uint_eq(play_cached(folder, "build", &log), 0);
        ck_assert_msg(log.lines == 1 && strstr(log.text, "discarded"), "case %u: %s", (unsigned)i, log.text);
    }
    ck_assert_uint_gt(play_cached(folder, "build", &log), 0); // replaced by a sound one
    // Sound in itself, but Vulkan's own header names another vendor, device or driver build.
    for (uint64_t byte = HEAD + 8; byte < HEAD + 32; byte += 4) {
        memcpy(bad, good, size);
        bad[byte] ^= 1;
        crypto_hash_sha256(bad + 56, bad + HEAD, size - HEAD);
        ck_assert_ok(graft_file_replace(path, bad, size));
        ck_assert_uint_eq(play_cached(folder, "build", &log), 0);
        ck_assert_msg(strstr(log.text, "another device or driver") != NULL, "%s", log.text);
    }
    free(good);
    free(bad);
    graft_test_folder_remove(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vk faults");
    TCase *tcase = tcase_create("faults");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, each_vulkan_call_may_fail_once, GRAFT_VK_FAULT_ALLOCATE, GRAFT_VK_FAULT_WAIT + 1);
    tcase_add_test(tcase, each_host_allocation_may_fail_once);
    tcase_add_test(tcase, a_lost_device_says_so_until_it_is_opened_again);
    tcase_add_test(tcase, a_submission_that_takes_too_long_is_a_lost_device);
    tcase_add_test(tcase, the_validation_layers_have_nothing_to_say);
    tcase_add_test(tcase, the_budget_holds_for_buffers_and_staging);
    tcase_add_test(tcase, impossible_requests_are_refused_in_words);
    tcase_add_test(tcase, the_pipeline_cache_is_stored_and_used_again);
    tcase_add_test(tcase, a_damaged_or_foreign_cache_file_is_discarded_and_replaced);
    suite_add_tcase(suite, tcase);
    return graft_test_main(suite);
}
