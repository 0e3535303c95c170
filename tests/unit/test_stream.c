// SPDX-License-Identifier: Apache-2.0
// Models larger than the budget: their layers take turns on the device, the bits are those of the resident model, the budget
// holds, and whatever fails leaves nothing behind.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graft/graft.h"
#include "platform/plat.h"
#include "runtime/vk/vk_internal.h"
#include "support/model_path.h"
#include "support/model_world.h"

enum { LAYERS = 10, PROMPT = 40, N_CTX = 64 };

// mapped memory; everything staged, as on a discrete device; and through the one queue that computes
static const struct graft_vk_options devices[] = {
    {0}, {.no_mapped_device = true}, {.no_mapped_device = true, .no_copy_queue = true}};
enum { DEVICES = sizeof devices / sizeof *devices };

static void make_file(char path[GRAFT_TINY_PATH_BYTES])
{
    graft_tiny_model_file(
        &(struct graft_tiny_model){.n_layer = LAYERS, .n_embd = 256, .n_ff = 512, .head_dim = 64, .type = GRAFT_TYPE_F32},
        path);
}

static struct graft_model_params params_of(enum graft_stream_mode stream)
{
    return (struct graft_model_params){.size = sizeof(struct graft_model_params),
                                       .n_ctx = N_CTX,
                                       .n_batch = 32,
                                       .weights = GRAFT_WEIGHTS_COPY,
                                       .stream = stream};
}

static bool open_device(struct graft_test_world *world, int device, uint64_t budget)
{
    memset(world, 0, sizeof *world);
    world->ctx = graft_test_vk_ctx(&world->alloc, budget, NULL, &world->log);
    world->device.ctx = world->ctx;
    struct graft_vk_options options = devices[device];
    options.validation = graft_test_validating();
    if (graft_vk_open(world->ctx, &world->device.vk, &options) != GRAFT_OK) {
        printf("skipped: %s\n", graft_last_error());
        graft_ctx_destroy(&world->ctx);
        return false;
    }
    if (getenv("GRAFT_TEST_COPY_QUEUE")) { // under tests/layer/copy_layer.c
        ck_assert((world->device.vk->copy_queue != world->device.vk->queue) == !options.no_copy_queue);
        ck_assert((world->device.vk->copy_family != world->device.vk->physical.family) == !options.no_copy_queue);
    }
    return true;
}

static uint64_t most_used(struct graft_test_world *world)
{
    struct graft_memory_use use;
    graft_ctx_memory(world->ctx, &use);
    return use.peak_bytes;
}

// Measuring changes no sequence and takes nothing.
static void measure_between_tokens(struct graft_test_world *world, const float *want)
{
    struct graft_stream_times times;
    struct graft_memory_use before, after;
    struct graft_device_counters counts[2];
    static float got[GRAFT_TINY_VOCAB];
    int32_t ids[PROMPT];
    struct graft_seq *seq;
    graft_test_ids(ids, PROMPT, 5); // as graft_test_feed_prompt
    ck_assert_ok(graft_seq_create(world->model, &seq));
    graft_test_feed(world->model, seq, ids, PROMPT - 1, 32, NULL);
    graft_ctx_memory(world->ctx, &before);
    graft_device_count(&world->device, &counts[0]);
    ck_assert_ok(graft_model_stream_times(world->model, &times));
    graft_device_count(&world->device, &counts[1]);
    graft_ctx_memory(world->ctx, &after);
    ck_assert_uint_eq(before.used_bytes, after.used_bytes);
    ck_assert_uint_eq(counts[0].device_allocations, counts[1].device_allocations);
    ck_assert_uint_eq(counts[0].recordings, counts[1].recordings);
    ck_assert(times.copy_s > 0 && times.compute_s > 0 && times.token_s > 0);
    graft_test_feed(world->model, seq, ids + PROMPT - 1, 1, 1, got);
    ck_assert_mem_eq(got, want, sizeof got);
    graft_seq_destroy(&seq);
}

START_TEST(streamed_layers_give_the_bits_of_resident_ones_inside_the_budget)
{
    char path[GRAFT_TINY_PATH_BYTES];
    static float want[GRAFT_TINY_VOCAB], got[GRAFT_TINY_VOCAB];
    struct graft_test_world world;
    struct graft_model_params params = params_of(GRAFT_STREAM_AUTO);
    make_file(path);
    if ((_i == 0 && graft_test_validating()) || !open_device(&world, _i, 0)) { // that run is for copy queues
        remove(path);
        return;
    }
    ck_assert_ok(graft_model_open(&world.device, &world.model, path, &params));
    graft_test_feed_prompt(&world, PROMPT, 32, want);
    struct graft_memory_use use;
    graft_ctx_memory(world.ctx, &use);
    uint64_t all = use.used_bytes, layer = 4 * 256 * (256 + 128 + 128 + 256 + 3 * 512), least = UINT64_MAX;
    graft_test_world_close(&world);
    uint32_t seen = 0; // numbers of streamed layers, as bits
    uint64_t step = layer * (graft_test_validating() ? 4 : 3) / 2;
    for (uint64_t budget = all - layer / 2; least == UINT64_MAX; budget -= step) {
        ck_assert(open_device(&world, _i, budget));
        struct graft_estimate estimate;
        ck_assert_ok(graft_model_estimate(world.ctx, &world.device, path, &params, &estimate));
        enum graft_status status = graft_model_open(&world.device, &world.model, path, &params);
        if (status != GRAFT_OK) {
            ck_assert_int_eq(status, GRAFT_E_BUDGET);
            least = budget;
            graft_test_world_close(&world);
            continue;
        }
        struct graft_model_info info;
        graft_model_describe(world.model, &info);
        ck_assert_uint_gt(info.n_streamed, 0);
        ck_assert_uint_eq(info.n_streamed, estimate.n_streamed);
        ck_assert_uint_eq(info.stream_bytes, info.n_streamed * layer);
        ck_assert_uint_eq(info.n_streamed % 2, 0);
        seen |= 1u << info.n_streamed;
        for (uint32_t batch = 1; batch <= 32; batch = batch * 4 + 3) {
            graft_test_feed_prompt(&world, PROMPT, batch, got);
            ck_assert_msg(memcmp(got, want, sizeof got) == 0, "%u streamed, %u rows at a time", info.n_streamed, batch);
        }
        measure_between_tokens(&world, want);
        ck_assert_uint_le(most_used(&world), budget);
        graft_test_world_close(&world);
    }
    ck_assert_uint_gt(seen >> (LAYERS - 2), 0);
    printf("resident %.1f MiB, streamed down to %.1f MiB\n", (double)all / 1048576, (double)(least + step) / 1048576);
    remove(path);
}
END_TEST

START_TEST(without_streaming_the_error_says_what_would_fit)
{
    char path[GRAFT_TINY_PATH_BYTES];
    struct graft_test_world world;
    struct graft_model_params params = params_of(GRAFT_STREAM_OFF);
    make_file(path);
    if (open_device(&world, 0, UINT64_C(16) << 20)) {
        ck_assert_status(graft_model_open(&world.device, &world.model, path, &params), GRAFT_E_BUDGET);
        ck_assert_error_has("streaming its layers (stream auto) takes");
        params.stream = GRAFT_STREAM_AUTO;
        params.weights = GRAFT_WEIGHTS_MAP; // then nothing is copied
        if (graft_model_open(&world.device, &world.model, path, &params) == GRAFT_OK) {
            struct graft_model_info info;
            graft_model_describe(world.model, &info);
            ck_assert_uint_eq(info.n_streamed, 0);
        }
        graft_test_world_close(&world);
    }
    remove(path);
}
END_TEST

// The budget that makes most layers stream.
static const uint64_t small_budget = UINT64_C(18) << 20;

START_TEST(every_failing_call_of_opening_gives_everything_back)
{
    static const enum graft_vk_fault faults[] = {GRAFT_VK_FAULT_ALLOCATE, GRAFT_VK_FAULT_CREATE};
    char path[GRAFT_TINY_PATH_BYTES];
    struct graft_test_world world;
    struct graft_model_params params = params_of(GRAFT_STREAM_AUTO);
    make_file(path);
    for (uint32_t n = 1; n < 400; n += n < 30 ? 1 : 37) {
        if (!open_device(&world, 1 + n % 2, small_budget)) {
            break;
        }
        graft_vk_fault(world.device.vk, faults[_i], n);
        enum graft_status status = graft_model_open(&world.device, &world.model, path, &params);
        ck_assert(status == GRAFT_OK ? world.model != NULL : world.model == NULL);
        graft_vk_fault(world.device.vk, faults[_i], 0);
        graft_test_world_close(&world);
        if (status == GRAFT_OK) {
            break;
        }
    }
    remove(path);
}
END_TEST

// A failing copy or submission while layers stream: the batch fails, its tokens are taken back, and either the next batch is
// right or the device counts as lost.
START_TEST(a_failing_copy_takes_the_batch_back)
{
    static const enum graft_vk_fault faults[] = {GRAFT_VK_FAULT_ALLOCATE, GRAFT_VK_FAULT_RECORD, GRAFT_VK_FAULT_SUBMIT,
                                                 GRAFT_VK_FAULT_WAIT};
    char path[GRAFT_TINY_PATH_BYTES];
    static float want[GRAFT_TINY_VOCAB], got[GRAFT_TINY_VOCAB];
    struct graft_test_world world;
    struct graft_model_params params = params_of(GRAFT_STREAM_AUTO);
    uint32_t failed = 0, opened = 0;
    make_file(path);
    for (uint32_t n = 1; n < 30; n += 3, opened++) {
        struct graft_seq *seq;
        if (!open_device(&world, (int)(n / 3 % DEVICES), small_budget)) {
            break;
        }
        ck_assert_ok(graft_model_open(&world.device, &world.model, path, &params));
        if (n == 1) {
            graft_test_feed_prompt(&world, PROMPT, 32, want);
        }
        ck_assert_ok(graft_seq_create(world.model, &seq));
        graft_vk_fault(world.device.vk, faults[_i], n);
        enum graft_status status = graft_decode(world.model, &(struct graft_row){seq, 65, true}, 1, GRAFT_WANT_CANDIDATES);
        graft_vk_fault(world.device.vk, faults[_i], 0);
        ck_assert_uint_eq(graft_seq_length(seq), status == GRAFT_OK);
        graft_seq_destroy(&seq);
        failed += status != GRAFT_OK;
        struct graft_stream_times times; // the stream's thread, which copies for the next batch, may have been struck behind it
        enum graft_status behind = graft_model_stream_times(world.model, &times);
        ck_assert(behind == GRAFT_OK || behind == GRAFT_E_DEVICE_LOST);
        ck_assert(status != GRAFT_E_DEVICE_LOST || behind == GRAFT_E_DEVICE_LOST);
        if (behind == GRAFT_OK) {
            graft_test_feed_prompt(&world, PROMPT, 32, got);
            ck_assert_mem_eq(got, want, sizeof got);
        }
        world.log.used = 0;
        graft_test_world_close(&world);
    }
    ck_assert(_i < 2 || opened == 0 || failed > 0);
    remove(path);
}
END_TEST

START_TEST(a_real_model_streams_at_what_computing_and_copying_allow)
{
    const char *path = graft_test_model_path();
    struct graft_test_world world;
    struct graft_model_params params = params_of(GRAFT_STREAM_AUTO);
    int32_t answers[2][12];
    double seconds[2];
    params.n_ctx = 128;
    for (int streamed = 0; streamed < 2; streamed++) {
        if (!path || graft_test_validating() || !open_device(&world, 0, streamed ? UINT64_C(70) << 20 : 0)) {
            printf("skipped: streaming a real model, for want of it\n");
            return;
        }
        struct graft_seq *seq;
        struct graft_model_info info;
        ck_assert_ok(graft_model_open(&world.device, &world.model, path, &params));
        graft_model_describe(world.model, &info);
        ck_assert_uint_eq(info.n_streamed > 0, (unsigned)streamed);
        ck_assert_ok(graft_seq_create(world.model, &seq));
        int32_t token = 504;
        uint64_t begin = 0;
        for (int i = -2; i < 12; i++) {
            struct graft_candidate best;
            uint32_t one = 1;
            begin = i == 0 ? graft_clock_ns() : begin;
            ck_assert_ok(graft_decode(world.model, &(struct graft_row){seq, token, true}, 1, GRAFT_WANT_CANDIDATES));
            ck_assert_ok(graft_model_candidates(world.model, 0, &best, &one));
            token = best.id;
            if (i >= 0) {
                answers[streamed][i] = token;
            }
        }
        seconds[streamed] = (double)(graft_clock_ns() - begin) * 1e-9 / 12;
        if (streamed) {
            struct graft_stream_times times;
            ck_assert_ok(graft_model_stream_times(world.model, &times));
            printf("a token: %.0f ms resident, %.0f ms with %u of %u layers streamed; copying their %.0f MiB alone takes %.0f "
                   "ms, computing alone %.0f ms, both %.0f ms\n",
                   seconds[0] * 1e3, seconds[1] * 1e3, info.n_streamed, info.n_layer, (double)info.stream_bytes / 1048576,
                   times.copy_s * 1e3, times.compute_s * 1e3, times.token_s * 1e3);
            ck_assert_uint_le(most_used(&world), UINT64_C(70) << 20);
        }
        graft_seq_destroy(&seq);
        graft_test_world_close(&world);
    }
    ck_assert_mem_eq(answers[0], answers[1], sizeof answers[0]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream");
    TCase *tc = tcase_create("stream");
    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, streamed_layers_give_the_bits_of_resident_ones_inside_the_budget, 0, DEVICES);
    tcase_add_test(tc, without_streaming_the_error_says_what_would_fit);
    tcase_add_loop_test(tc, every_failing_call_of_opening_gives_everything_back, 0, 2);
    tcase_add_loop_test(tc, a_failing_copy_takes_the_batch_back, 0, 4);
    tcase_add_test(tc, a_real_model_streams_at_what_computing_and_copying_allow);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
