// SPDX-License-Identifier: Apache-2.0
// The element-wise rules by which several tensors of one shape become one, row after row:
//   prune   t'_i = t_i, or t_i where |t_i| is among the int(density * values) largest, or t_i * bernoulli(density) / density
//   elect   s = +1 where sum_i t'_i >= 0 (or sum_i sign(t'_i) >= 0), else -1; only values with sign s count
//   merge   out = sum_i w_i t'_i [counts];  with election divided by the number that count (at least 1)
// Without election every value counts and nothing is divided. Sources: Yadav et al. 2023 (TIES), Yu et al. 2024 (DARE), and for
// every detail PEFT 0.21, peft/utils/merge_utils.py: the election sees tensors without their weights.
#ifndef GRAFT_RUNTIME_MERGE_ELEMENTS_H
#define GRAFT_RUNTIME_MERGE_ELEMENTS_H

#include "platform/ctx.h"

enum { GRAFT_ELEMENTS_TENSORS = 16, GRAFT_ELEMENTS_ROWS = 64, GRAFT_ELEMENTS_VALUES = 1 << 19 };

enum graft_prune { GRAFT_PRUNE_NONE, GRAFT_PRUNE_MAGNITUDE, GRAFT_PRUNE_RANDOM };
enum graft_elect { GRAFT_ELECT_NONE, GRAFT_ELECT_TOTAL, GRAFT_ELECT_FREQUENCY };

struct graft_elements {
    uint32_t n; // tensors, 1 to GRAFT_ELEMENTS_TENSORS
    uint64_t rows, cols;
    // out[count][cols] = rows [first, first + count) of tensor i; count is at most `block`
    void (*read)(void *user, uint32_t i, uint64_t first, uint64_t count, float *out);
    void *user;
    enum graft_prune prune;
    enum graft_elect elect;
    double weights[GRAFT_ELEMENTS_TENSORS];
    double density[GRAFT_ELEMENTS_TENSORS]; // in (0, 1]; 1: that tensor is not pruned
    uint64_t keys[GRAFT_ELEMENTS_TENSORS];  // of the masks (philox.h); value [row][col] takes word row * cols + col
    uint64_t block;                         // set by begin: rows that are worked on at a time, at most GRAFT_ELEMENTS_ROWS
    // private
    float *values;                              // [n][block][cols]
    uint32_t *words;                            // [cols]
    uint32_t threshold[GRAFT_ELEMENTS_TENSORS]; // bits of the smallest magnitude that stays
    uint64_t quota[GRAFT_ELEMENTS_TENSORS];     // how many of exactly that magnitude stay: the first ones
    uint64_t left[GRAFT_ELEMENTS_TENSORS];
    uint64_t next;
};

// Fill the public fields first. Takes scratch (class HOST); magnitude pruning reads every tensor twice to find its threshold.
// Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET. End in any case. Thread-safety: one thread at a time.
GRAFT_MUST_CHECK enum graft_status graft_elements_begin(struct graft_elements *elements, struct graft_ctx *ctx);
// Start again at row 0.
void graft_elements_rewind(struct graft_elements *elements);
// The next rows, at most `block`, of the merged tensor as out[][cols]; how many, 0 at the end.
uint64_t graft_elements_next(struct graft_elements *elements, double *out);
void graft_elements_end(struct graft_elements *elements, struct graft_ctx *ctx);

#endif
