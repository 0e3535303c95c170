// SPDX-License-Identifier: Apache-2.0
// Many requests of every kind on a small model: some are cancelled, adapters change hands and are read again, and every answer
// is the one that the same request gets alone. Once everything is warm, nothing is allocated any more: not from the ledger, not
// from malloc, not on the device.
//
// GRAFT_TEST_SOAK: requests of the long run; 1,500 without it, 10,000 for the whole measure.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/engine_world.h"

enum { KINDS = 48, FLIGHT = 12, N_CTX = 128 };

// ---- malloc's books ----

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
enum { COUNTING = 1 };
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void __libc_free(void *memory);

static _Atomic uint64_t live, elsewhere; // bytes of all threads; calls of threads that are not the test's
static _Thread_local bool is_test;

static void *counted(void *memory)
{
    live += memory ? malloc_usable_size(memory) : 0;
    elsewhere += !is_test;
    return memory;
}

// These stand in front of the C library's for everything in the program.
void *malloc(size_t bytes);
void *calloc(size_t count, size_t bytes);
void *realloc(void *memory, size_t bytes);
void free(void *memory);

void *malloc(size_t bytes)
{
    return counted(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes)
{
    return counted(__libc_calloc(count, bytes));
}

void *realloc(void *memory, size_t bytes)
{
    live -= memory ? malloc_usable_size(memory) : 0;
    return counted(__libc_realloc(memory, bytes));
}

void free(void *memory)
{
    live -= memory ? malloc_usable_size(memory) : 0;
    __libc_free(memory);
}
#else
enum { COUNTING = 0 };
static uint64_t live, elsewhere;
static bool is_test;
#endif

// ---- requests ----

static const char gbnf[] = "root ::= [a-z]{2,4} (\" \" [a-z]{2,4})*";

// Request i of the run is of kind i % KINDS, with everything that a request may have.
static struct graft_request_params request_of(uint32_t kind, int32_t ids[100], struct graft_adapter_use uses[2],
                                              const struct graft_grammar *grammar)
{
    static const struct graft_logit_bias biases[] = {{70, 2.0f}, {101, -1.0f}, {70, 0.5f}};
    static const int32_t breakers[] = {10, 58, 34};
    static const char *const stops[] = {"never seen", "e"};
    static const char *const tenants[] = {"law", "finance", "support"};
    struct graft_request_params p = graft_test_crowd(kind, ids, uses);
    for (uint32_t k = 0; k < p.n_tokens && kind % 2; k++) { // every second one repeats itself: drafts
        ids[k] = (int32_t)(k % (3 + kind % 5) * 29 + kind % 3) % 256;
    }
    p.tenant = tenants[kind % 3];
    p.max_tokens = 2 + kind % 9;
    p.low_priority = kind % 11 == 0;
    p.sampling.temperature = kind % 4 == 1 ? -1 : 0.6f;
    p.sampling.dry_multiplier = kind % 8 == 3 ? 0.5f : 0;
    p.sampling.dry_breakers = breakers;
    p.sampling.n_dry_breakers = kind % 8 == 3 ? 3 : 0;
    p.sampling.mirostat = kind % 8 == 5 ? 2 : 0;
    p.sampling.xtc_probability = kind % 8 == 6 ? 0.5f : 0;
    p.sampling.biases = biases;
    p.sampling.n_biases = kind % 8 == 7 ? 3 : 0;
    p.grammar = kind % 12 == 4 ? grammar : NULL;
    p.stops = stops;
    p.n_stops = kind % 6 == 2 ? 2 : 0;
    p.n_logprobs = kind % 7 == 3 ? 3 : 0;
    return p;
}

static void expect_same(const struct graft_test_answer *a, const struct graft_test_answer *alone, uint32_t i)
{
    bool cut = a->finish == GRAFT_FINISH_CANCELLED;
    ck_assert_msg(cut || a->finish == alone->finish, "request %u: %s", i, a->detail);
    ck_assert_msg(cut ? a->n <= alone->n : a->n == alone->n, "request %u: %u tokens, alone %u", i, a->n, alone->n);
    ck_assert_msg(memcmp(a->tokens, alone->tokens, a->n * sizeof *a->tokens) == 0, "request %u: tokens", i);
    ck_assert_msg(memcmp(a->logprobs, alone->logprobs, a->n * sizeof *a->logprobs) == 0, "request %u: logprobs", i);
    ck_assert_msg(cut || strcmp(a->text, alone->text) == 0, "request %u: \"%s\", alone \"%s\"", i, a->text, alone->text);
}

// What is held, and how often something was taken.
struct holding {
    uint64_t bytes, allocations, device_allocations, live, elsewhere;
};

static struct holding holding_of(struct graft_test_world *world)
{
    struct graft_memory_use use;
    struct holding h = {0};
    graft_ctx_memory(world->ctx, &use);
    h.bytes = use.used_bytes;
    h.allocations = use.allocations;
    h.live = live;
    h.elsewhere = elsewhere;
    if (world->device.vk) {
        struct graft_device_counters counters;
        graft_device_count(&world->device, &counters);
        h.device_allocations = counters.device_allocations;
    }
    return h;
}

struct run {
    struct graft_test_world world;
    struct graft_engine *engine;
    struct graft_grammar *grammar;
    struct graft_test_answer alone[KINDS];
    struct graft_test_prompt prompts[KINDS];
    struct graft_test_oracle oracle;
    uint64_t state;
    uint32_t cancelled, preempted, reused, drafted, accepted, adapted;
};

static uint32_t pick(struct run *run, uint32_t n)
{
    run->state = run->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(run->state >> 33) % n;
}

static enum graft_status load_others(struct graft_model *model, void *user)
{
    static const char *const names[] = {"dora", "rank256", "bias"};
    struct graft_adapter *other;
    char path[512];
    snprintf(path, sizeof path, "%s/golden/peft/%s", GRAFT_TEST_SOURCE_DIR, names[*(const uint32_t *)user % 3]);
    enum graft_status status = graft_adapter_load(model, &other, path);
    if (status == GRAFT_OK) {
        graft_adapter_release(&other);
    }
    return status == GRAFT_E_BUDGET || status == GRAFT_E_LIMIT ? GRAFT_OK : status; // the others hold the room
}

// The adapters go, others come, and they are read again.
static void reload(struct run *run)
{
    ck_assert_ok(graft_engine_run(run->engine, graft_test_release_all, NULL));
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_ok(graft_engine_run(run->engine, load_others, &i));
    }
    ck_assert_ok(graft_engine_run(run->engine, graft_test_load_all, NULL));
}

// Each request starts when one of the FLIGHT before it has ended. reloads: after so many requests, 0 = never.
static void fly(struct run *run, uint32_t count, uint32_t reloads)
{
    static struct graft_test_answer answers[FLIGHT];
    static uint32_t kinds[FLIGHT];
    struct graft_adapter_use uses[2];
    int32_t ids[100];
    memset(answers, 0, sizeof answers);
    for (uint32_t i = 0; i < count + FLIGHT; i++) {
        struct graft_test_answer *a = &answers[i % FLIGHT];
        if (i >= FLIGHT) {
            struct graft_request_stats stats = graft_test_end(a);
            expect_same(a, &run->alone[kinds[i % FLIGHT]], i - FLIGHT);
            run->cancelled += a->finish == GRAFT_FINISH_CANCELLED;
            run->preempted += stats.preemptions;
            run->reused += stats.reused_tokens > 0;
            run->drafted += stats.draft_tokens;
            run->accepted += stats.accepted_tokens;
        }
        if (i >= count) {
            continue;
        }
        if (reloads && i % reloads == reloads - 1) {
            for (uint32_t k = 0; k < FLIGHT && k < i; k++) { // handles must live as long as those that use them
                if (answers[k].request) {
                    graft_test_wait_for(&answers[k]);
                }
            }
            reload(run);
        }
        if (reloads && pick(run, 40) == 0) { // beside those that run
            ck_assert_ok(graft_engine_run(run->engine, load_others, &i));
        }
        uint32_t kind = kinds[i % FLIGHT] = pick(run, KINDS), how = pick(run, 10);
        struct graft_request_params p = request_of(kind, ids, uses, run->grammar);
        run->adapted += p.n_uses > 0;
        p.no_speculation = how == 0;
        graft_test_submit(run->engine, a, p);
        pthread_mutex_lock(&a->mutex);
        a->cancel_at = how == 1 || how == 2 ? 1 + pick(run, 3) : 0;
        pthread_mutex_unlock(&a->mutex);
        if (how == 3) {
            graft_request_cancel(a->request);
        }
    }
}

static bool start(struct run *run, int vulkan)
{
    struct graft_adapter_use uses[2];
    run->state = 20261125;
    run->oracle = (struct graft_test_oracle){run->prompts, run->alone, KINDS};
    if (!graft_test_open_engine_world(&run->world, vulkan, N_CTX, 4)) {
        return false;
    }
    ck_assert_ok(graft_grammar_create(run->world.ctx, &run->grammar, gbnf, strlen(gbnf)));
    for (int beside = 0; beside < 2; beside++) {
        struct graft_engine_params params = {.size = sizeof params, .no_prefix_reuse = !beside, .no_speculation = !beside};
        params.grammars = 2;
        ck_assert_ok(graft_engine_create(run->world.model, &run->engine, &params));
        run->engine->meter.propose = graft_test_foresee;
        run->engine->meter.user = &run->oracle;
        ck_assert_ok(graft_engine_run(run->engine, graft_test_load_all, NULL));
        for (uint32_t kind = 0; kind < KINDS && !beside; kind++) {
            struct graft_request_params p = request_of(kind, run->prompts[kind].ids, uses, run->grammar);
            run->prompts[kind].n = p.n_tokens;
            graft_test_submit(run->engine, &run->alone[kind], p);
            graft_test_end(&run->alone[kind]);
            ck_assert_msg(run->alone[kind].finish != GRAFT_FINISH_ERROR, "kind %u: %s", kind, run->alone[kind].detail);
        }
        if (!beside) {
            ck_assert_ok(graft_engine_run(run->engine, graft_test_release_all, NULL));
            graft_engine_destroy(&run->engine);
        }
    }
    return true;
}

static void stop(struct run *run)
{
    ck_assert_ok(graft_engine_run(run->engine, graft_test_release_all, NULL));
    graft_engine_destroy(&run->engine);
    ck_assert_uint_eq(run->world.model->kv->pages.n_free, run->world.model->limits.n_pages - 1);
    graft_grammar_destroy(&run->grammar);
    graft_test_world_close(&run->world);
}

static uint32_t soak_requests(void)
{
    const char *text = getenv("GRAFT_TEST_SOAK");
    long n = text ? strtol(text, NULL, 10) : 0;
    return n > 0 && n <= 10000000 ? (uint32_t)n : 1500;
}

START_TEST(answers_are_those_alone_however_long_it_goes)
{
    static struct run run;
    uint32_t n = soak_requests();
    memset(&run, 0, sizeof run);
    ck_assert(start(&run, 0));
    fly(&run, n, 97);
    printf("%u requests: %u cancelled, %u with adapters, %u reused pages, %u preempted, %u drafted, %u accepted\n", n,
           run.cancelled, run.adapted, run.reused, run.preempted, run.drafted, run.accepted);
    ck_assert(run.cancelled > n / 10 && run.adapted > n / 2 && run.reused > n / 20 && run.preempted > n / 1000);
    ck_assert(run.accepted > n / 20 && run.drafted > run.accepted + n / 100);
    stop(&run);
}
END_TEST

// The warm-up has everything once: what is taken on first use (the C library's, the driver's) is there.
START_TEST(requests_allocate_nothing)
{
    static struct run run;
    uint32_t n = _i == 0 ? soak_requests() : 300;
    memset(&run, 0, sizeof run);
    if (!start(&run, _i)) {
        return;
    }
    fly(&run, 200, 0);
    struct holding before = holding_of(&run.world);
    fly(&run, n, 0);
    struct holding after = holding_of(&run.world);
    ck_assert_uint_eq(after.bytes, before.bytes);
    ck_assert_uint_eq(after.allocations, before.allocations); // none at all, also none that was given back
    ck_assert_uint_eq(after.device_allocations, before.device_allocations);
    // The engine's thread asked malloc for nothing; Check and a driver do ask, and give back.
    ck_assert_uint_eq(_i == 0 ? after.elsewhere : 0, _i == 0 ? before.elsewhere : 0);
    ck_assert_msg(after.live <= before.live + 4096, "%llu bytes of heap, before %llu", (unsigned long long)after.live,
                  (unsigned long long)before.live);
    printf("%u requests: ledger %llu bytes, heap %llu bytes, before %llu%s\n", n, (unsigned long long)after.bytes,
           (unsigned long long)after.live, (unsigned long long)before.live, COUNTING ? "" : " (not counted under sanitizers)");
    stop(&run);
}
END_TEST

int main(void)
{
    is_test = true;
    Suite *suite = suite_create("soak");
    TCase *tests = tcase_create("soak");
    tcase_set_timeout(tests, 3600);
    tcase_add_test(tests, answers_are_those_alone_however_long_it_goes);
    tcase_add_loop_test(tests, requests_allocate_nothing, 0, 2);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
