// SPDX-License-Identifier: Apache-2.0
// Choosing a token: penalties, top-k, top-p, min-p, temperature, draw. Random numbers: xoshiro256** (Blackman and Vigna 2018),
// seeded by splitmix64, so that a seed gives the same answer on every machine.
#include <math.h>

#include "platform/bytes.h"
#include "platform/plat.h"
#include "runtime/session/session.h"

enum { DEFAULT_TOP_K = 40, DEFAULT_WINDOW = 64, MAX_WINDOW = 1 << 20, SURE_CANDIDATES = 64 };

struct graft_sampler {
    struct graft_ctx *ctx;
    struct graft_sampling set; // defaults filled in
    uint32_t n_vocab;
    bool penalties;
    uint64_t state[4];
    uint32_t *counts; // [n_vocab] how often a token is in the window; NULL without penalties
    int32_t *window;  // ring of the last penalty_window tokens
    uint64_t accepted;
};

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t rotate_left(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static uint64_t random_u64(uint64_t s[4])
{
    uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

// Uniform in [0, 1) with 53 bits.
static double random_unit(uint64_t s[4])
{
    return (double)(random_u64(s) >> 11) * 0x1p-53;
}

static enum graft_status check(const struct graft_sampling *s)
{
    if (!isfinite(s->temperature)) {
        return graft_fail(GRAFT_E_ARGUMENT, "temperature is %g, allowed are finite numbers", (double)s->temperature);
    }
    if (!(s->top_p > 0.0f && s->top_p <= 1.0f)) {
        return graft_fail(GRAFT_E_ARGUMENT, "top_p is %g, allowed are numbers above 0 up to 1", (double)s->top_p);
    }
    if (!(s->min_p <= 1.0f)) {
        return graft_fail(GRAFT_E_ARGUMENT, "min_p is %g, allowed are numbers up to 1", (double)s->min_p);
    }
    if (!(s->repeat_penalty > 0.0f) || !isfinite(s->repeat_penalty)) {
        return graft_fail(GRAFT_E_ARGUMENT, "repeat_penalty is %g, allowed are finite numbers above 0",
                          (double)s->repeat_penalty);
    }
    if (!isfinite(s->presence_penalty) || !isfinite(s->frequency_penalty)) {
        return graft_fail(GRAFT_E_ARGUMENT, "presence_penalty is %g and frequency_penalty %g, allowed are finite numbers",
                          (double)s->presence_penalty, (double)s->frequency_penalty);
    }
    if (s->penalty_window > MAX_WINDOW) {
        return graft_fail(GRAFT_E_ARGUMENT, "penalty_window is %u, allowed are up to %d tokens", s->penalty_window, MAX_WINDOW);
    }
    return GRAFT_OK;
}

static enum graft_status with_defaults(const struct graft_sampling *given, struct graft_sampling *out)
{
    *out = (struct graft_sampling){.size = sizeof *out};
    if (given) {
        if (given->size == 0 || given->size > sizeof *out) {
            return graft_fail(GRAFT_E_ARGUMENT, "graft_sampling.size is %zu, this library knows %zu", given->size, sizeof *out);
        }
        memcpy(out, given, given->size);
    }
    out->temperature = out->temperature == 0.0f ? 0.8f : out->temperature;
    out->top_k = out->top_k == 0 ? DEFAULT_TOP_K : out->top_k;
    out->top_p = out->top_p == 0.0f ? 0.95f : out->top_p;
    out->min_p = out->min_p == 0.0f ? 0.05f : out->min_p;
    out->repeat_penalty = out->repeat_penalty == 0.0f ? 1.0f : out->repeat_penalty;
    out->penalty_window = out->penalty_window == 0 ? DEFAULT_WINDOW : out->penalty_window;
    return check(out);
}

enum graft_status graft_sampler_create(struct graft_ctx *ctx, struct graft_sampler **out, const struct graft_sampling *sampling,
                                       uint32_t n_vocab)
{
    *out = NULL;
    struct graft_sampling set;
    GRAFT_TRY(with_defaults(sampling, &set));
    struct graft_sampler *sampler;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &sampler, 1, "a sampler"));
    sampler->ctx = ctx;
    sampler->n_vocab = n_vocab;
    sampler->penalties = set.repeat_penalty != 1.0f || set.presence_penalty != 0.0f || set.frequency_penalty != 0.0f;
    if (set.seed == 0) {
        uint64_t mixed = graft_clock_ns() ^ (uint64_t)(uintptr_t)sampler;
        set.seed = splitmix64(&mixed) | 1; // 0 would mean "a new one" when it is given again
    }
    sampler->set = set;
    uint64_t seed = set.seed;
    for (int i = 0; i < 4; i++) {
        sampler->state[i] = splitmix64(&seed);
    }
    if (sampler->penalties) {
        enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &sampler->counts, n_vocab, "token counts");
        if (status == GRAFT_OK) {
            status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &sampler->window, set.penalty_window, "recent tokens");
        }
        if (status != GRAFT_OK) {
            graft_sampler_destroy(&sampler);
            return status;
        }
    }
    *out = sampler;
    return GRAFT_OK;
}

void graft_sampler_destroy(struct graft_sampler **sampler)
{
    if (!sampler || !*sampler) {
        return;
    }
    struct graft_ctx *ctx = (*sampler)->ctx;
    GRAFT_FREE(ctx, &(*sampler)->window);
    GRAFT_FREE(ctx, &(*sampler)->counts);
    GRAFT_FREE(ctx, sampler);
}

bool graft_sampler_wants_logits(const struct graft_sampler *sampler)
{
    // A penalty can lift any token into the first k (a negative one) or push the first ones out.
    if (sampler->penalties) {
        return true;
    }
    return sampler->set.temperature >= 0.0f && sampler->set.top_k > SURE_CANDIDATES;
}

uint64_t graft_sampler_seed(const struct graft_sampler *sampler)
{
    return sampler->set.seed;
}

void graft_sampler_accept(struct graft_sampler *sampler, int32_t token)
{
    if (!sampler->penalties || token < 0 || (uint32_t)token >= sampler->n_vocab) {
        return;
    }
    uint32_t at = (uint32_t)(sampler->accepted % sampler->set.penalty_window);
    if (sampler->accepted >= sampler->set.penalty_window) {
        sampler->counts[sampler->window[at]]--;
    }
    sampler->window[at] = token;
    sampler->counts[token]++;
    sampler->accepted++;
}

void graft_sampler_forget(struct graft_sampler *sampler)
{
    if (sampler->penalties) {
        memset(sampler->counts, 0, sampler->n_vocab * sizeof *sampler->counts);
    }
    sampler->accepted = 0;
}

static void penalize(const struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    const struct graft_sampling *set = &sampler->set;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t seen = (uint32_t)c[i].id < sampler->n_vocab ? sampler->counts[c[i].id] : 0;
        if (seen) {
            c[i].logit = c[i].logit > 0.0f ? c[i].logit / set->repeat_penalty : c[i].logit * set->repeat_penalty;
            c[i].logit -= set->presence_penalty + (float)seen * set->frequency_penalty;
        }
    }
    graft_candidates_sort(c, count);
}

// Sum of exp((logit - first logit) / temperature) over the first `count`.
static double mass(const struct graft_candidate *c, uint32_t count, double temperature)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        sum += exp(((double)c[i].logit - (double)c[0].logit) / temperature);
    }
    return sum;
}

// The smallest number of first candidates whose probabilities reach p.
static uint32_t nucleus(const struct graft_candidate *c, uint32_t count, float p)
{
    double all = mass(c, count, 1.0), sum = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        sum += exp((double)c[i].logit - (double)c[0].logit);
        if (sum >= (double)p * all) {
            return i + 1;
        }
    }
    return count;
}

enum graft_status graft_sampler_choose(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count, int32_t *out)
{
    const struct graft_sampling *set = &sampler->set;
    if (count == 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "there are no candidates to choose from");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (isnan(c[i].logit)) {
            return graft_fail(GRAFT_E_ARGUMENT,
                              "the logit of token %d is not a number: the model's weights or its computation are damaged",
                              c[i].id);
        }
    }
    if (sampler->penalties) {
        penalize(sampler, c, count);
    }
    if (set->temperature < 0.0f || isinf(c[0].logit)) { // an infinite logit leaves nothing to draw
        *out = c[0].id;
        return GRAFT_OK;
    }
    count = count < set->top_k ? count : set->top_k;
    if (set->top_p < 1.0f) {
        count = nucleus(c, count, set->top_p);
    }
    if (set->min_p > 0.0f) {
        double least = (double)c[0].logit + log((double)set->min_p);
        while (count > 1 && (double)c[count - 1].logit < least) {
            count--;
        }
    }
    double temperature = (double)set->temperature;
    double left = random_unit(sampler->state) * mass(c, count, temperature);
    uint32_t chosen = 0;
    while (chosen + 1 < count) {
        left -= exp(((double)c[chosen].logit - (double)c[0].logit) / temperature);
        if (left < 0.0) {
            break;
        }
        chosen++;
    }
    *out = c[chosen].id;
    return GRAFT_OK;
}
