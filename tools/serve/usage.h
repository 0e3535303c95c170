// SPDX-License-Identifier: Apache-2.0
// What was done for one adapter, or for the base: counted for the metrics.
#ifndef GRAFT_TOOLS_SERVE_USAGE_H
#define GRAFT_TOOLS_SERVE_USAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "tools/serve/histogram.h"

enum { USAGE_STATUSES = 15, USAGE_OPENING = 96 };
// The statuses that are told apart; the last, 0, stands for all others.
extern const int usage_statuses[USAGE_STATUSES];
// The place of a status among them.
int usage_status_place(int status);

// Changed under the lock of the table of adapters.
struct adapter_usage {
    uint64_t requests, prompt_tokens, reused_tokens, answer_tokens;
    uint64_t errors[USAGE_STATUSES]; // requests that ended with an error, by status
    uint64_t answers, refusals;      // answers to the end, and those of them that read like a refusal
    uint32_t running;                // from submission to the engine to the end
    struct histogram first_token, between_tokens, queue, answer_length;
    // Tokens of answers whose log-probability was taken, and the sum of -log p (nats): exp(sum / tokens) is the perplexity of
    // the model on its own answers.
    uint64_t judged_tokens;
    double judged_nats;
};
void usage_merge(struct adapter_usage *into, const struct adapter_usage *from);
// One of so many requests of an adapter is judged; the first one is.
enum { USAGE_JUDGED_EVERY = 16 };
bool usage_is_judged(const struct adapter_usage *usage);

// Whether the beginning of an answer reads like a refusal: it begins, behind blanks and quotation marks, with one of a list of
// phrases in English ("I'm sorry", "I cannot", "As an AI" ...), whatever the case. A sign to be watched over time, not a
// judgement of one answer. length: at most USAGE_OPENING bytes are looked at.
bool usage_is_refusal(const char *text, size_t length);

#endif
