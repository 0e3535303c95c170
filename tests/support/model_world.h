// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of whole models: a tiny model's file and a model opened on a device made from options.
#ifndef GRAFT_TESTS_MODEL_WORLD_H
#define GRAFT_TESTS_MODEL_WORLD_H

#include "runtime/session/session.h"
#include "support/gpu.h"
#include "support/tiny_model.h"

struct graft_test_world {
    struct graft_test_alloc alloc;
    struct graft_test_log log;
    struct graft_ctx *ctx;
    struct graft_device device; // vk NULL: the reference
    struct graft_model *model;
};

// A context and a device; options NULL: the reference. False, with a line "skipped: ...", if there is no such device.
bool graft_test_world_device(struct graft_test_world *world, const struct graft_vk_options *options);
// The same, and a model on it. params may be NULL.
bool graft_test_world_open(struct graft_test_world *world, const struct graft_vk_options *options, const char *path,
                           const struct graft_model_params *params);
// Close everything; fails the test if memory was not given back or the validation layers had something to say.
void graft_test_world_close(struct graft_test_world *world);

// Ids from 0 to GRAFT_TINY_VOCAB - 1.
void graft_test_ids(int32_t *ids, uint32_t count, uint64_t seed);
// Append ids to a sequence, `batch` at a time, and copy the logits behind the last one; logits may be NULL.
void graft_test_feed(struct graft_model *model, struct graft_seq *seq, const int32_t *ids, uint32_t count, uint32_t batch,
                     float *logits);
// The same for `count` ids in a sequence of their own, which is gone afterwards.
void graft_test_feed_prompt(struct graft_test_world *world, uint32_t count, uint32_t batch, float *logits);
// What the first token of a sequence of its own costs.
void graft_test_token_cost(struct graft_test_world *world, uint64_t *dispatches, uint64_t *barriers);

#endif
