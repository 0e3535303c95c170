// SPDX-License-Identifier: Apache-2.0
// The inside of a sampler, shared by sampler.c (settings, memory, the draw), sampler_logits.c (what changes logits) and
// sampler_filters.c (what drops candidates).
#ifndef GRAFT_RUNTIME_SESSION_SAMPLER_H
#define GRAFT_RUNTIME_SESSION_SAMPLER_H

#include "runtime/session/session.h"

// Where a sampler works. Several that one thread uses may share the first three.
struct graft_sampler_room {
    uint32_t *counts;   // [n_vocab] zeros between two choices; with penalties or DRY
    float *shifts;      // [n_vocab] zeros between two choices; with biases
    uint32_t *overlaps; // [most_window] scratch; with DRY
    int32_t *recent;    // [n_recent] ring of the last tokens; with penalties or DRY
    uint32_t n_recent;
    uint32_t most_window;            // longer windows of penalties and DRY are cut to this
    struct graft_logit_bias *biases; // [most_biases]
    int32_t *breakers;               // [most_breakers]
    uint32_t most_biases, most_breakers;
};

struct graft_sampler {
    struct graft_ctx *ctx;     // NULL: the room is not its own
    struct graft_sampling set; // defaults filled in; its arrays are those of the room, the DRY breakers sorted
    struct graft_sampler_room room;
    uint32_t n_vocab;
    bool penalties, dry;
    uint64_t state[4];
    uint64_t accepted;
    double surprise; // mirostat: the bound mu, in bits
};

// Begin with other settings in a room that there is. Allocates nothing, but sorting more than 256 breakers may. Errors:
// GRAFT_E_ARGUMENT (settings), GRAFT_E_LIMIT (more biases or breakers than the room is for); nothing changes then.
GRAFT_MUST_CHECK enum graft_status graft_sampler_begin(struct graft_sampler *sampler, const struct graft_sampling *sampling,
                                                       uint32_t n_vocab);

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
