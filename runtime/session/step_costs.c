// SPDX-License-Identifier: Apache-2.0
#include "runtime/session/step_costs.h"

enum { PATIENCE = 64 };
static const double unseen = 1.5;     // assumed cost of twice the rows until it is seen
static const double longest_gap = 2;  // of a step with prompts, in steps without
static const double least_rate = 0.6; // of prompts, of the best rate

static uint32_t bucket_of(uint32_t n_rows)
{
    uint32_t bucket = 0;
    while (bucket + 1 < GRAFT_STEP_BUCKETS && 1u << bucket < n_rows) {
        bucket++;
    }
    return bucket;
}

void graft_step_costs_add(struct graft_step_costs *costs, uint32_t kind, uint32_t n_rows, uint64_t ns)
{
    double *mean = &costs->ns[kind][bucket_of(n_rows)], now = (double)ns;
    if (*mean <= 0) {
        *mean = now;
        return;
    }
    now = now > 2 * *mean ? 2 * *mean : now;
    *mean += (now - *mean) / 8;
}

double graft_step_cost(const struct graft_step_costs *costs, uint32_t kind, uint32_t n_rows)
{
    const double *ns = costs->ns[kind];
    uint32_t bucket = bucket_of(n_rows), below = bucket, above = bucket;
    double factor = 1;
    while (below > 0 && ns[below] <= 0) {
        below--;
        factor *= unseen;
    }
    if (ns[below] > 0) {
        return factor * ns[below];
    }
    for (factor = 1; above + 1 < GRAFT_STEP_BUCKETS && ns[above] <= 0; above++) {
        factor /= unseen;
    }
    return ns[above] > 0 ? factor * ns[above] : 1;
}

uint32_t graft_step_costs_rows(struct graft_step_costs *costs, uint32_t kind, uint32_t n_answers, uint32_t most)
{
    const double *ns = costs->ns[kind | GRAFT_STEP_PROMPTS];
    uint32_t top = bucket_of(most), rows = most;
    if (n_answers == 0 || n_answers >= most) {
        return most;
    }
    double alone = graft_step_cost(costs, kind & ~(uint32_t)GRAFT_STEP_PROMPTS, n_answers), best = 0;
    for (uint32_t b = 0; b <= top; b++) {
        uint32_t n = 1u << b < most ? 1u << b : most;
        double rate = ns[b] > 0 && n > n_answers ? (n - n_answers) / ns[b] : 0;
        best = rate > best ? rate : best;
    }
    bool again = costs->held[kind] >= PATIENCE;
    for (uint32_t b = top; alone > 1 && b > 0; b--) { // smaller ones as long as this one is too slow, and they are good enough
        uint32_t smaller = 1u << (b - 1);
        bool fast = ns[b] <= longest_gap * alone,
             worse = ns[b - 1] > 0 && (smaller - n_answers) / ns[b - 1] < least_rate * best;
        if (ns[b] <= 0 || fast || smaller <= n_answers || worse || again) {
            break;
        }
        rows = smaller;
    }
    costs->held[kind] = rows == most || again ? 0 : costs->held[kind] + 1;
    return rows;
}
