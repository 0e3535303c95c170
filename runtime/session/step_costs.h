// SPDX-License-Identifier: Apache-2.0
// What a step of so many rows takes on this device, as it was measured: means by kind of step and by bucket of rows (1, 2, 4
// ..., the row counts that are recorded). Nothing else depends on them than how much is computed in a step, never what.
#ifndef GRAFT_RUNTIME_SESSION_STEP_COSTS_H
#define GRAFT_RUNTIME_SESSION_STEP_COSTS_H

#include "platform/ctx.h"

enum {
    GRAFT_STEP_LOGITS = 1,   // whole logits are wanted
    GRAFT_STEP_ADAPTERS = 2, // some row has an adapter
    GRAFT_STEP_PROMPTS = 4,  // some rows are a prompt's, so that not every row wants its next token
    GRAFT_STEP_KINDS = 8,    // sums of these
    GRAFT_STEP_BUCKETS = 32
};

struct graft_step_costs {
    double ns[GRAFT_STEP_KINDS][GRAFT_STEP_BUCKETS]; // mean; 0 = not seen yet
    uint32_t held[GRAFT_STEP_KINDS];                 // steps in a row that were kept small
};

// A step of n_rows took so long. New ones count an eighth, and at most twice the mean: something else had the machine then.
void graft_step_costs_add(struct graft_step_costs *costs, uint32_t kind, uint32_t n_rows, uint64_t ns);
// The mean, in nanoseconds. Not seen yet: from the next smaller bucket that was, times 1.5 for each doubling; failing that from
// the next larger one; failing both 1, whatever n_rows is.
double graft_step_cost(const struct graft_step_costs *costs, uint32_t kind, uint32_t n_rows);
// How many rows a step with rows of prompts should have beside n_answers rows of answers, at most `most` in all: the largest
// bucket that takes at most twice what the answers take alone, so that nobody sees a long pause; but none that computes prompts
// at less than 0.6 of the best rate, so that they do not take forever. What was not seen is tried, larger ones first, and
// larger ones again every 64 steps. Without answers: most.
uint32_t graft_step_costs_rows(struct graft_step_costs *costs, uint32_t kind, uint32_t n_answers, uint32_t most);

#endif
