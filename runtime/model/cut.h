// SPDX-License-Identifier: Apache-2.0
// A small model cut out of a large one, for the self-test of kernels: same architecture, formats and heads, a few hundred
// values wide, the corner of every matrix.
#ifndef GRAFT_RUNTIME_MODEL_CUT_H
#define GRAFT_RUNTIME_MODEL_CUT_H

#include "runtime/model/config.h"

enum { GRAFT_CUT_LAYERS = 4, GRAFT_CUT_WIDTH = 256, GRAFT_CUT_VOCAB = 128, GRAFT_CUT_EXPERTS = 8 };

// The first GRAFT_CUT_LAYERS layers that differ in their formats, with the first values of their rows. Names and rope tables
// are those of `source`, which must outlive it. Memory: class WEIGHTS, 1 to 8 MiB for models of usual shapes. Errors:
// GRAFT_E_UNSUPPORTED (rows of a format that cannot be cut there), GRAFT_E_MEMORY, GRAFT_E_BUDGET. On failure *out is NULL.
// End with graft_source_close.
GRAFT_MUST_CHECK enum graft_status graft_source_cut(struct graft_ctx *ctx, struct graft_source **out,
                                                    const struct graft_source *source);

#endif
