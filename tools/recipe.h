// SPDX-License-Identifier: Apache-2.0
// A recipe: a small YAML file that says what to merge, with mergekit's words where they fit.
//
//     merge_method: ties             # a method of graft merge --method; task_arithmetic: into the base's file
//     adapters:                      # or models
//       - path: legal                # or model
//         weight: 0.6
//         density: 0.5
//       - path: tone
//         parameters: {weight: 0.4}
//     parameters: {density: 0.3, majority_sign_method: total, seed: 7, svd_rank: 16, svd_clamp: 0.99, keep_effect: 0.95}
//     base_model: base.gguf
//     dtype: f16                     # task_arithmetic: keep, auto or a format
//     output: legal-tone
//
// Paths are relative to the recipe's folder.
#ifndef GRAFT_TOOLS_RECIPE_H
#define GRAFT_TOOLS_RECIPE_H

#include "tools/tool.h"

enum { RECIPE_BYTES = 64 << 10, RECIPE_DEPTH = 6, RECIPE_WORD_BYTES = 64 };

struct recipe {
    struct adapter_spec adapters[GRAFT_COMBINE_MAX_ADAPTERS];
    double densities[GRAFT_COMBINE_MAX_ADAPTERS]; // 0: none of its own
    uint32_t n_adapters;
    char method[RECIPE_WORD_BYTES], sign[RECIPE_WORD_BYTES], dtype[RECIPE_WORD_BYTES]; // "" if not given
    char base[PATH_BYTES], out[PATH_BYTES];
    double density, svd_clamp, keep_effect; // 0 if not given
    int64_t seed, svd_rank;
};

// Read a recipe; "-" is standard input. Refused with the line: what is no YAML, unknown keys, keys that stand twice, values
// that are no numbers, aliases, anchors and tags, a second document, more than RECIPE_BYTES or RECIPE_DEPTH. Prints an error
// and returns the exit code. *out is large: not for the stack.
int recipe_read(const char *path, struct recipe *out);

#endif
