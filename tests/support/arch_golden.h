// SPDX-License-Identifier: Apache-2.0
// The tiny models of tests/golden/arch, one for each architecture, with the logits of transformers (make_arch.py).
#ifndef GRAFT_TESTS_ARCH_GOLDEN_H
#define GRAFT_TESTS_ARCH_GOLDEN_H

#include <stddef.h>

#include "graft/graft.h"

enum {
    GRAFT_ARCH_VOCAB = 288,
    GRAFT_ARCH_TOKENS = 20,
    GRAFT_ARCH_TAIL = 8, // rows whose logits are stored for an adapter
    GRAFT_ARCH_GREEDY = 8,
    GRAFT_ARCH_DEVICES = 4 // reference, lane, subgroup, team
};

struct graft_arch_world {
    struct graft_ctx *ctx;
    struct graft_device *device;
    struct graft_model *model;
};

const char *graft_arch_device_name(int device);
// Open golden/arch/NAME.gguf with --exact and room for 2 sequences of 32 tokens and pool_bytes of adapters. False, with a line
// "skipped: ...", if there is no such device.
bool graft_arch_open(struct graft_arch_world *world, const char *name, int device, uint64_t pool_bytes);
void graft_arch_close(struct graft_arch_world *world);

// golden/arch/NAME.WHAT, which must have `bytes` bytes, into out.
void graft_arch_read(const char *name, const char *what, void *out, size_t bytes);
// Path of golden/arch/NAME.
void graft_arch_path(char path[512], const char *name);
// Append the tokens to `seq`, `batch` at a time, and take all logits. other: a sequence that computes a row of its own in front
// of and behind them in every batch; NULL: none.
void graft_arch_compute(struct graft_model *model, struct graft_seq *seq, struct graft_seq *other, uint32_t batch,
                        float (*got)[GRAFT_ARCH_VOCAB]);
int32_t graft_arch_best(const float *logits);
// Append a token; the best one behind it.
int32_t graft_arch_next(struct graft_model *model, struct graft_seq *seq, int32_t token);
// KL(want || got) of n rows, the largest; *worst: the largest difference of a log-probability.
double graft_arch_compare(const float *want, float (*got)[GRAFT_ARCH_VOCAB], uint32_t n, double *worst);

#endif
