// SPDX-License-Identifier: Apache-2.0
#include "support/model_world.h"

#include <stdio.h>
#include <string.h>

bool graft_test_world_device(struct graft_test_world *world, const struct graft_vk_options *options)
{
    memset(world, 0, sizeof *world);
    world->ctx = graft_test_vk_ctx(&world->alloc, 0, NULL, &world->log);
    world->device.ctx = world->ctx;
    if (!options) {
        return true;
    }
    world->device.options = *options;
    enum graft_status status = graft_vk_open(world->ctx, &world->device.vk, options);
    if (status == GRAFT_E_DEVICE) {
        printf("skipped: %s\n", graft_last_error());
        graft_ctx_destroy(&world->ctx);
        return false;
    }
    ck_assert_ok(status);
    return true;
}

bool graft_test_world_open(struct graft_test_world *world, const struct graft_vk_options *options, const char *path,
                           const struct graft_model_params *params)
{
    if (!graft_test_world_device(world, options)) {
        return false;
    }
    ck_assert_ok(graft_model_open(&world->device, &world->model, path, params));
    return true;
}

void graft_test_world_close(struct graft_test_world *world)
{
    uint64_t messages = world->device.vk ? graft_vk_validation_messages(world->device.vk) : 0;
    graft_model_close(&world->model);
    if (world->device.vk) {
        graft_vk_close(&world->device.vk);
    }
    struct graft_memory_use use;
    graft_ctx_memory(world->ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&world->ctx);
    ck_assert_uint_eq(world->alloc.live, 0);
    ck_assert_msg(messages == 0, "%.1200s", world->log.text);
}

void graft_test_ids(int32_t *ids, uint32_t count, uint64_t seed)
{
    struct graft_test_random random = {.state = seed * 2 + 1};
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = (int32_t)((graft_test_random_u64(&random) >> 20) % GRAFT_TINY_VOCAB);
    }
}

void graft_test_feed(struct graft_model *model, struct graft_seq *seq, const int32_t *ids, uint32_t count, uint32_t batch,
                     float *logits)
{
    struct graft_row rows[64];
    for (uint32_t at = 0, n; at < count; at += n) {
        n = count - at < batch ? count - at : batch;
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (struct graft_row){.seq = seq, .token = ids[at + i], .want = logits && at + i + 1 == count};
        }
        ck_assert_ok(graft_decode(model, rows, n, logits ? GRAFT_WANT_LOGITS : GRAFT_WANT_CANDIDATES));
        if (logits && at + n == count) {
            const float *row;
            ck_assert_ok(graft_model_logits(model, n - 1, &row));
            memcpy(logits, row, model->source->config.n_vocab * sizeof *logits);
        }
    }
}

void graft_test_feed_prompt(struct graft_test_world *world, uint32_t count, uint32_t batch, float *logits)
{
    struct graft_seq *seq;
    int32_t ids[1024];
    ck_assert_uint_le(count, 1024);
    graft_test_ids(ids, count, 5);
    ck_assert_ok(graft_seq_create(world->model, &seq));
    graft_test_feed(world->model, seq, ids, count, batch, logits);
    graft_seq_destroy(&seq);
}

void graft_test_token_cost(struct graft_test_world *world, uint64_t *dispatches, uint64_t *barriers)
{
    struct graft_seq *seq;
    struct graft_device_counters before, after;
    ck_assert_ok(graft_seq_create(world->model, &seq));
    graft_device_count(&world->device, &before);
    ck_assert_ok(graft_decode(world->model, &(struct graft_row){seq, 65, true}, 1, GRAFT_WANT_CANDIDATES));
    graft_device_count(&world->device, &after);
    *dispatches = after.dispatches - before.dispatches;
    *barriers = after.barriers - before.barriers;
    graft_seq_destroy(&seq);
}
