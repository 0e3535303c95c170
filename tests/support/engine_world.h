// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of the engine: a request and what came of it, and a crowd of them on the small model of
// tests/golden/peft.
#ifndef GRAFT_TESTS_ENGINE_WORLD_H
#define GRAFT_TESTS_ENGINE_WORLD_H

#include <pthread.h>

#include "runtime/session/engine_private.h"
#include "support/model_world.h"

enum { GRAFT_TEST_ANSWER = 64, GRAFT_TEST_VOCAB = 288, GRAFT_TEST_USES = 5 };

// What came of one request; filled on the engine's thread.
struct graft_test_answer {
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    int32_t tokens[GRAFT_TEST_ANSWER];
    float logprobs[GRAFT_TEST_ANSWER];
    struct graft_token_logprob top[GRAFT_TEST_ANSWER][GRAFT_MAX_LOGPROBS];
    uint32_t n, n_top;
    char text[1024];
    size_t length;
    bool bad; // too many tokens, or two ends
    enum graft_finish finish;
    enum graft_status status;
    char detail[256];
    struct graft_request *request;
    uint32_t cancel_at; // cancel from inside after so many tokens; 0 = never
    uint64_t *order, ended_at;
};

// params.on_event and user are set here.
void graft_test_submit(struct graft_engine *engine, struct graft_test_answer *a, struct graft_request_params params);
void graft_test_wait_for(struct graft_test_answer *a);
// Wait, describe, release.
struct graft_request_stats graft_test_end(struct graft_test_answer *a);
void graft_test_on_event(void *user, const struct graft_event *event);

// Three adapters of it: plain, rsLoRA, aLoRA; for graft_engine_run.
extern struct graft_adapter *graft_test_adapters[3];
enum graft_status graft_test_load_all(struct graft_model *model, void *user);
enum graft_status graft_test_release_all(struct graft_model *model, void *user);
// Base, two adapters, an aLoRA, a blend, by kind % GRAFT_TEST_USES; returns how many.
uint32_t graft_test_uses(uint32_t kind, struct graft_adapter_use uses[2]);
// vulkan 0: the reference; 1: plain; 2: with a pool that is not mapped. False, with a line, if there is no such device.
bool graft_test_open_engine_world(struct graft_test_world *world, int vulkan, uint32_t n_ctx, uint32_t n_seq);
// Request i of the crowd: some share beginnings, some have an invocation of the aLoRA, all have a seed.
struct graft_request_params graft_test_crowd(uint32_t i, int32_t ids[100], struct graft_adapter_use uses[2]);

// For graft_draft_meter.propose: an oracle that is wrong now and then. It knows what the same requests said without drafts.
struct graft_test_prompt {
    int32_t ids[100];
    uint32_t n;
};
struct graft_test_oracle {
    const struct graft_test_prompt *prompts;
    const struct graft_test_answer *answers;
    uint32_t n;
};
void graft_test_foresee(void *user, struct graft_speculation *speculation, const int32_t *ids, uint32_t n_ids, uint32_t most);

#endif
