// SPDX-License-Identifier: Apache-2.0
// Norms of what an adapter adds to a matrix, D = scale * B A, without making D (n_out x n_in).
//   || B A ||_F^2 = trace((B'B)(A A')), both factors r x r
// A difference of two deltas is one delta of twice the rank: s B A - t C E = [sB, -tC] [A; E], and where the ranks are equal
// s B A - t C E = [s(B - C), C] [A; sA - tE], which loses nothing when the two are close.
#ifndef GRAFT_RUNTIME_ADAPTER_DELTA_H
#define GRAFT_RUNTIME_ADAPTER_DELTA_H

#include "loaders/adapter.h"

struct graft_delta_norms {
    double a, b;       // || s B A ||, || t C E ||
    double difference; // || s B A - t C E ||
};

// Compare two pairs of equal n_in and n_out. b_head_dim: 0, or rows of b's B (q or k) are where llama.cpp's converter puts them
// in heads of that size, and a's are not. b NULL: only || s B A ||, the others are 0. Sums are in double. Takes scratch (class
// HOST). Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET; *out is then undefined. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_delta_compare(struct graft_ctx *ctx, const struct graft_adapter_pair *a,
                                                       const struct graft_adapter_pair *b, uint64_t b_head_dim,
                                                       struct graft_delta_norms *out);

// The same for two views of the same number of values; b_head_dim as above.
void graft_delta_compare_values(const struct graft_adapter_view *a, const struct graft_adapter_view *b, uint64_t b_head_dim,
                                struct graft_delta_norms *out);

#endif
