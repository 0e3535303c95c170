// SPDX-License-Identifier: Apache-2.0
// SmolLM2-135M-Instruct against transformers in f32 on the same dequantized weights (tests/golden/smollm2-135m-instruct.json:
// token ids, top 20, negative log-likelihoods, greedy text), on any device. Both print "skipped: ..." where the model is not
// there.
#ifndef GRAFT_TESTS_GOLDEN_MODEL_H
#define GRAFT_TESTS_GOLDEN_MODEL_H

#include <stdbool.h>

// adapter: one of demo/adapters, judged by PEFT; NULL: the base model.
// Token ids of all prompts, log-likelihoods of their tokens, mean KL over the top 20 of the next one. select as in
// graft_device_params.
void graft_test_golden_probabilities(const char *select, bool exact, const char *adapter);
// Greedy answers to the questions, letter by letter.
void graft_test_golden_answers(const char *select, bool exact, const char *adapter);

#endif
