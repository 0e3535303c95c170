// SPDX-License-Identifier: Apache-2.0
// The small model and the adapters of tests/golden/peft with the logits that PEFT computes for them (make_peft.py).
#ifndef GRAFT_TESTS_PEFT_GOLDEN_H
#define GRAFT_TESTS_PEFT_GOLDEN_H

#include "graft/graft.h"

enum { GRAFT_PEFT_VOCAB = 288, GRAFT_PEFT_TOKENS = 10, GRAFT_PEFT_PATH_BYTES = 512 };

extern const int32_t graft_peft_ids[GRAFT_PEFT_TOKENS];

// Path of golden/peft/NAME.
void graft_peft_path(char path[GRAFT_PEFT_PATH_BYTES], const char *name);
// Logits of an empty sequence: the tokens in one batch, or one after the other.
void graft_peft_compute(struct graft_model *model, struct graft_seq *seq, bool single,
                        float got[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB]);
// Largest KL(PEFT || got) over the tokens; *worst gets the largest difference of a log-probability. logits: "plain" ...
double graft_peft_divergence(const char *logits, float got[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB], double *worst);

#endif
