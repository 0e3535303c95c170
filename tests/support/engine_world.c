// SPDX-License-Identifier: Apache-2.0
#include "support/engine_world.h"

#include <stdio.h>
#include <string.h>

void graft_test_on_event(void *user, const struct graft_event *event)
{
    struct graft_test_answer *a = user;
    pthread_mutex_lock(&a->mutex);
    if (event->token >= 0) {
        a->bad = a->bad || a->n == GRAFT_TEST_ANSWER; // Check's own assertions take memory, which is counted somewhere
        a->n -= a->n == GRAFT_TEST_ANSWER;
        a->tokens[a->n] = event->token;
        a->logprobs[a->n] = event->logprob;
        memcpy(a->top[a->n], event->top, event->n_top * sizeof *event->top);
        a->n_top = event->n_top;
        a->n++;
    }
    memcpy(a->text + a->length, event->text, event->text_length);
    a->length += event->text_length;
    a->text[a->length] = 0;
    if (event->finish != GRAFT_FINISH_NONE) {
        a->bad = a->bad || a->finish != GRAFT_FINISH_NONE; // once
        a->finish = event->finish;
        a->status = event->status;
        a->ended_at = a->order ? ++*a->order : 0;
        snprintf(a->detail, sizeof a->detail, "%s", event->detail);
        pthread_cond_signal(&a->ended);
    } else if (a->cancel_at && a->n == a->cancel_at) {
        graft_request_cancel(a->request);
    }
    pthread_mutex_unlock(&a->mutex);
}

void graft_test_submit(struct graft_engine *engine, struct graft_test_answer *a, struct graft_request_params params)
{
    memset(a, 0, sizeof *a);
    pthread_mutex_init(&a->mutex, NULL);
    pthread_cond_init(&a->ended, NULL);
    params.size = sizeof params;
    params.on_event = graft_test_on_event;
    params.user = a;
    pthread_mutex_lock(&a->mutex); // so that request is set before the first event
    ck_assert_ok(graft_engine_submit(engine, &a->request, &params));
    pthread_mutex_unlock(&a->mutex);
}

void graft_test_wait_for(struct graft_test_answer *a)
{
    pthread_mutex_lock(&a->mutex);
    while (a->finish == GRAFT_FINISH_NONE) {
        pthread_cond_wait(&a->ended, &a->mutex);
    }
    ck_assert(!a->bad);
    pthread_mutex_unlock(&a->mutex);
}

struct graft_request_stats graft_test_end(struct graft_test_answer *a)
{
    struct graft_request_stats stats;
    graft_test_wait_for(a);
    graft_request_describe(a->request, &stats);
    graft_request_release(&a->request);
    return stats;
}

struct graft_adapter *graft_test_adapters[3];

enum graft_status graft_test_load_all(struct graft_model *model, void *user)
{
    static const char *const names[] = {"plain", "rslora", "alora"};
    (void)user;
    for (int i = 0; i < 3; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/golden/peft/%s", GRAFT_TEST_SOURCE_DIR, names[i]);
        GRAFT_TRY(graft_adapter_load(model, &graft_test_adapters[i], path));
    }
    return GRAFT_OK;
}

enum graft_status graft_test_release_all(struct graft_model *model, void *user)
{
    (void)model;
    (void)user;
    for (int i = 0; i < 3; i++) {
        graft_adapter_release(&graft_test_adapters[i]);
    }
    return GRAFT_OK;
}

uint32_t graft_test_uses(uint32_t kind, struct graft_adapter_use uses[2])
{
    switch (kind % GRAFT_TEST_USES) {
    case 1:
        uses[0] = (struct graft_adapter_use){.adapter = graft_test_adapters[0], .weight = 1};
        return 1;
    case 2:
        uses[0] = (struct graft_adapter_use){.adapter = graft_test_adapters[1], .weight = 1};
        return 1;
    case 3:
        uses[0] = (struct graft_adapter_use){.adapter = graft_test_adapters[2], .weight = 1};
        return 1;
    case 4:
        uses[0] = (struct graft_adapter_use){.adapter = graft_test_adapters[0], .weight = 0.5f};
        uses[1] = (struct graft_adapter_use){.adapter = graft_test_adapters[1], .weight = -0.25f};
        return 2;
    default:
        return 0;
    }
}

bool graft_test_open_engine_world(struct graft_test_world *world, int vulkan, uint32_t n_ctx, uint32_t n_seq)
{
    struct graft_vk_options options = graft_test_mask_options(vulkan == 2 ? GRAFT_TEST_STAGED : GRAFT_TEST_PLAIN);
    struct graft_model_params params = {.size = sizeof params,
                                        .n_ctx = n_ctx,
                                        .n_batch = 16,
                                        .n_seq = n_seq,
                                        .adapter_pool_bytes = 256 << 10,
                                        .adapter_slots = 4};
    char path[512];
    snprintf(path, sizeof path, "%s/golden/peft/base.gguf", GRAFT_TEST_SOURCE_DIR);
    return graft_test_world_open(world, vulkan ? &options : NULL, path, &params);
}

struct graft_request_params graft_test_crowd(uint32_t i, int32_t ids[100], struct graft_adapter_use uses[2])
{
    uint32_t n = 5 + i * 7 % 80;
    for (uint32_t k = 0; k < n; k++) {
        ids[k] = (int32_t)((k < 40 ? k * 13 : k * 17 + i) % 256);
    }
    if (n > 50) {
        ids[45] = 7; // alora_invocation_tokens of the golden adapter
        ids[46] = 9;
    }
    return (struct graft_request_params){.tokens = ids,
                                         .n_tokens = n,
                                         .max_tokens = 3 + i % 9 * 3,
                                         .sampling = {.seed = 100 + i, .repeat_penalty = i % 4 ? 0 : 1.2f, .top_k = 20},
                                         .uses = uses,
                                         .n_uses = graft_test_uses(i, uses),
                                         .tenant = i % 3 ? "a" : "b"};
}

void graft_test_foresee(void *user, struct graft_speculation *s, const int32_t *ids, uint32_t n_ids, uint32_t most)
{
    const struct graft_test_oracle *oracle = user;
    s->n_tokens = 0;
    s->match = 2 + n_ids % 14;
    for (uint32_t i = 0; i < oracle->n && !s->n_tokens; i++) {
        const struct graft_test_answer *a = &oracle->answers[i];
        uint32_t n = oracle->prompts[i].n, said = n_ids - n;
        if (n_ids < n || said >= a->n || memcmp(ids, oracle->prompts[i].ids, n * sizeof *ids) != 0 ||
            memcmp(ids + n, a->tokens, said * sizeof *ids) != 0) {
            continue;
        }
        for (; s->n_tokens < most && said + s->n_tokens < a->n; s->n_tokens++) {
            bool wrong = (n_ids + s->n_tokens * 3 + i) % 7 == 0;
            s->tokens[s->n_tokens] = (a->tokens[said + s->n_tokens] + wrong) % 256;
        }
    }
}
