// SPDX-License-Identifier: Apache-2.0
// graft merge: what its files share.
#ifndef GRAFT_TOOLS_MERGE_H
#define GRAFT_TOOLS_MERGE_H

#include "tools/tool.h"

// Base and adapters as the options name them.
struct merge_inputs {
    char base[PATH_BYTES];
    struct adapter_spec specs[GRAFT_MERGE_MAX_ADAPTERS];
    struct graft_merge_adapter adapters[GRAFT_MERGE_MAX_ADAPTERS]; // their paths point into specs
    uint32_t n;
};
// Prints an error and returns the exit code if something is missing. *out must stay where it is.
int merge_inputs(const struct options *options, struct merge_inputs *out);

// combine.c: what -f or --adapter-out ask for; every other call of the verb is none of its. Returns the exit code.
bool merge_is_combine(const struct options *options);
int merge_combine(const struct options *options);

// merge_eval.c: KL divergence of other logits from those of the base with the adapters unmerged, over all rows.
struct divergence {
    uint64_t rows, same_best; // rows where the most likely token is the same
    double sum, most;         // of KL
};
struct merge_evaluation {
    struct divergence merged, base; // the merged file; the base without adapters, for scale
};
// Run both on --device with the ids of --eval. Prints an error and returns the exit code on failure.
int merge_evaluate(const struct options *options, struct merge_evaluation *out);

#endif
