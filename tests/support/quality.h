// SPDX-License-Identifier: Apache-2.0
// What a way of computing costs in quality, on a real model: log-probabilities of SmolLM2 over a text, and how far two lists of
// them are apart.
#ifndef GRAFT_TESTS_QUALITY_H
#define GRAFT_TESTS_QUALITY_H

#include "graft/graft.h"
#include "runtime/vk/vk.h"

enum { GRAFT_TEST_SCORED = 128 }; // tokens that are scored, behind as many others

// Log-probabilities of every token of the vocabulary after each scored token, [GRAFT_TEST_SCORED][vocabulary], on a device with
// these options; n_ctx of params is not used. To be freed with free(). NULL, with a line "skipped: ...", without the model or a
// device.
float *graft_test_scores(const struct graft_vk_options *options, const struct graft_model_params *params);
// Mean KL(p || q) of two such lists. same: at how many of them both have the same best token; may be NULL.
double graft_test_divergence(const float *p, const float *q, uint32_t *same);
// exp of the mean -log p of the tokens that the text goes on with.
double graft_test_perplexity(const float *p);

#endif
