// SPDX-License-Identifier: Apache-2.0
// The inside of a sampler, shared by sampler.c (settings, memory, the draw), sampler_logits.c (what changes logits) and
// sampler_filters.c (what drops candidates).
#ifndef GRAFT_RUNTIME_SESSION_SAMPLER_H
#define GRAFT_RUNTIME_SESSION_SAMPLER_H

#include "runtime/session/session.h"

struct graft_sampler {
    struct graft_ctx *ctx;
    struct graft_sampling set; // defaults filled in; its arrays are copied to where they are used
    uint32_t n_vocab;
    bool penalties;
    uint64_t state[4];
    uint32_t *counts; // [n_vocab] how often a token is among the last penalty_window; NULL without penalties
    int32_t *recent;  // ring of the last n_recent tokens; NULL without penalties and DRY
    uint32_t n_recent;
    uint64_t accepted;
    float *biases;      // [n_vocab]; NULL without any
    int32_t *breakers;  // DRY: sorted
    uint32_t *matches;  // DRY: [n_vocab] longest repetition that a token would continue
    uint32_t *overlaps; // DRY: [dry_window] scratch
    double surprise;    // mirostat: the bound mu, in bits
};

// Uniform in [0, 1) with 53 bits.
double graft_sampler_random(struct graft_sampler *sampler);
// Sum of exp((logit - first logit) / temperature) over the first `count`.
double graft_candidates_mass(const struct graft_candidate *c, uint32_t count, double temperature);

// Biases, penalties and DRY, in this order; the candidates are sorted again if that changed anything.
void graft_sampler_change(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count);
// Drop candidates by the chain of filters; what is left stands sorted in front. Returns how many: 1 at least.
uint32_t graft_sampler_filter(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count);
// Mirostat: how many of the first candidates may be drawn; c holds logits divided by the temperature.
uint32_t graft_sampler_mirostat(const struct graft_sampler *sampler, const struct graft_candidate *c, uint32_t count);

#endif
