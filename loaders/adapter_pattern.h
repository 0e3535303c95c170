// SPDX-License-Identifier: Apache-2.0
// rank_pattern and alpha_pattern of adapter_config.json: module names -> values, by regular expressions.
// Source: PEFT, get_pattern_key (peft/utils/other.py): the first key for which re.match(rf"(.*\.)?({key})$", module) holds.
#ifndef GRAFT_LOADERS_ADAPTER_PATTERN_H
#define GRAFT_LOADERS_ADAPTER_PATTERN_H

#include <jansson.h>

#include "graft/common.h"

enum { GRAFT_ADAPTER_MAX_PATTERNS = 512 }; // keys of one table

struct graft_adapter_patterns {
    uint32_t n;
    struct graft_adapter_pattern *list; // private
};

// Compile the keys of an object (PCRE2, at most GRAFT_ADAPTER_MAX_PATTERNS; Python's syntax and PCRE2's agree on what
// configurations use); `object` is borrowed and may be NULL. key, file: for errors. Free in any case. Errors:
// GRAFT_E_UNSUPPORTED (an expression that is not understood, with its place), GRAFT_E_LIMIT, GRAFT_E_MEMORY.
GRAFT_MUST_CHECK enum graft_status graft_adapter_patterns_read(struct graft_adapter_patterns *patterns, const json_t *object,
                                                               const char *key, const char *file);
void graft_adapter_patterns_free(struct graft_adapter_patterns *patterns);

// *out: the value of the first key that matches, NULL if none does. Bounded: GRAFT_E_LIMIT for an expression that backtracks
// without end. Thread-safety: one thread at a time.
GRAFT_MUST_CHECK enum graft_status graft_adapter_patterns_find(const struct graft_adapter_patterns *patterns,
                                                               const char *module, const json_t **out);

#endif
