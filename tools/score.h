// SPDX-License-Identifier: Apache-2.0
// Feeding given tokens to a model and looking at every row's logits: what graft eval and graft merge --eval share.
#ifndef GRAFT_TOOLS_SCORE_H
#define GRAFT_TOOLS_SCORE_H

#include "tools/tool.h"

struct scorer {
    struct session session;
    struct graft_seq *seq;
    struct graft_row *rows; // [n_batch]
};

// Open the options' model with one sequence of n_ctx tokens and the adapters of --adapter. Prints an error and returns the exit
// code on failure; close in every case.
int scorer_open(struct scorer *scorer, const struct options *options, uint32_t n_ctx);
void scorer_close(struct scorer *scorer);
// Feed ids[0..count) to the empty sequence; see(user, i, logits) gets the logits behind id i for i in [first, last). Errors:
// those of graft_decode; GRAFT_E_NOT_FINITE.
enum graft_status scorer_feed(struct scorer *scorer, const int32_t *ids, uint32_t count, uint32_t first, uint32_t last,
                              void (*see)(void *user, uint32_t i, const float *logits), void *user);
// log(sum(exp(logits))), stable.
double log_sum_exp(const float *logits, uint32_t count);

// A file {"prompts": {NAME: [ID, ...]}}: *file is to be released, *prompts is part of it, *longest the most ids of a prompt.
// Prints an error and returns the exit code if it is none; *file is NULL then.
int score_prompts(const char *path, json_t **file, json_t **prompts, uint32_t *longest);
// Ids of one prompt, to be freed; false with a printed error if it is not an array of at least one id.
bool score_ids(const char *name, json_t *array, int32_t **ids, uint32_t *count);

#endif
