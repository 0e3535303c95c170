// SPDX-License-Identifier: Apache-2.0
// The table of pre-tokenizer families: names of tokenizer.ggml.pre, their regular expressions, and what else differs.
#ifndef GRAFT_RUNTIME_TEXT_FAMILIES_H
#define GRAFT_RUNTIME_TEXT_FAMILIES_H

#include <stdbool.h>
#include <stddef.h>

enum { GRAFT_FAMILY_STAGES = 6, GRAFT_FAMILY_NAMES = 10 };

struct graft_family {
    const char *names[GRAFT_FAMILY_NAMES + 1];   // ends with NULL
    const char *stages[GRAFT_FAMILY_STAGES + 1]; // each cuts what the one before left; ends with NULL
    bool ignores_merges;                         // a piece that is a token as a whole becomes it without merging
    bool adds_bos;                               // when the file does not say
    bool normalizes;                             // the text is brought into Unicode form C first
};

extern const struct graft_family graft_families[];
extern const size_t graft_n_families;

#endif
