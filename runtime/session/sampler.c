// SPDX-License-Identifier: Apache-2.0
// Choosing a token: settings, memory, the draw. Random numbers: xoshiro256** (Blackman and Vigna 2018), seeded by splitmix64,
// so that a seed gives the same answer on every machine.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "platform/bytes.h"
#include "platform/plat.h"
#include "runtime/session/choose.h"
#include "runtime/session/sampler.h"

enum { DEFAULT_TOP_K = 40, DEFAULT_WINDOW = 64, DEFAULT_DRY_WINDOW = 1024, MAX_WINDOW = 1 << 20, MAX_LIST = 1 << 20 };

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

double graft_sampler_random(struct graft_sampler *sampler)
{
    return (double)(random_u64(sampler->state) >> 11) * 0x1p-53;
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

static enum graft_status check_more(const struct graft_sampling *s, uint32_t n_vocab)
{
    if (!(s->typical_p > 0.0f && s->typical_p <= 1.0f)) {
        return graft_fail(GRAFT_E_ARGUMENT, "typical_p is %g, allowed are numbers above 0 up to 1", (double)s->typical_p);
    }
    if (!(s->top_n_sigma >= 0.0f) || !isfinite(s->top_n_sigma)) {
        return graft_fail(GRAFT_E_ARGUMENT, "top_n_sigma is %g, allowed are finite numbers from 0", (double)s->top_n_sigma);
    }
    if (!(s->xtc_probability >= 0.0f && s->xtc_probability <= 1.0f && s->xtc_threshold > 0.0f && s->xtc_threshold <= 1.0f)) {
        return graft_fail(GRAFT_E_ARGUMENT, "xtc_probability is %g and xtc_threshold %g, allowed are numbers from 0 to 1",
                          (double)s->xtc_probability, (double)s->xtc_threshold);
    }
    if (!(s->dry_multiplier >= 0.0f && s->dry_base >= 1.0f) || !isfinite(s->dry_multiplier) || !isfinite(s->dry_base) ||
        s->dry_window > MAX_WINDOW) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "dry_multiplier is %g, dry_base %g and dry_window %u, allowed are finite numbers from 0, from 1, and "
                          "up to %d tokens",
                          (double)s->dry_multiplier, (double)s->dry_base, s->dry_window, MAX_WINDOW);
    }
    if (s->mirostat > 2 || !(s->mirostat_tau > 0.0f) || !(s->mirostat_eta > 0.0f) || !isfinite(s->mirostat_tau) ||
        !isfinite(s->mirostat_eta)) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "mirostat is %u, tau %g and eta %g, allowed are 0, 1 or 2 and finite numbers above 0", s->mirostat,
                          (double)s->mirostat_tau, (double)s->mirostat_eta);
    }
    if (s->n_biases > MAX_LIST || s->n_dry_breakers > MAX_LIST || (s->n_biases && !s->biases) ||
        (s->n_dry_breakers && !s->dry_breakers)) {
        return graft_fail(GRAFT_E_ARGUMENT, "n_biases is %u and n_dry_breakers %u, allowed are up to %d with their arrays",
                          s->n_biases, s->n_dry_breakers, MAX_LIST);
    }
    for (uint32_t i = 0; i < s->n_biases; i++) {
        float bias = s->biases[i].bias;
        if (s->biases[i].id < 0 || (uint32_t)s->biases[i].id >= n_vocab || isnan(bias) || (isinf(bias) && bias > 0.0f)) {
            return graft_fail(GRAFT_E_ARGUMENT,
                              "bias %u is %g for token %d, allowed are numbers and minus infinity for tokens 0 to %u", i,
                              (double)bias, s->biases[i].id, n_vocab - 1);
        }
    }
    return GRAFT_OK;
}

static enum graft_status with_defaults(const struct graft_sampling *given, struct graft_sampling *out, uint32_t n_vocab)
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
    out->typical_p = out->typical_p == 0.0f ? 1.0f : out->typical_p;
    out->xtc_threshold = out->xtc_threshold == 0.0f ? 0.1f : out->xtc_threshold;
    out->dry_base = out->dry_base == 0.0f ? 1.75f : out->dry_base;
    out->dry_allowed_length = out->dry_allowed_length == 0 ? 2 : out->dry_allowed_length;
    out->dry_window = out->dry_window == 0 ? DEFAULT_DRY_WINDOW : out->dry_window;
    out->mirostat_tau = out->mirostat_tau == 0.0f ? 5.0f : out->mirostat_tau;
    out->mirostat_eta = out->mirostat_eta == 0.0f ? 0.1f : out->mirostat_eta;
    GRAFT_TRY(check(out));
    return check_more(out, n_vocab);
}

static int compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

enum graft_status graft_sampler_begin(struct graft_sampler *sampler, const struct graft_sampling *sampling, uint32_t n_vocab)
{
    struct graft_sampler_room *room = &sampler->room;
    struct graft_sampling set;
    GRAFT_TRY(with_defaults(sampling, &set, n_vocab));
    if (set.n_biases > room->most_biases || set.n_dry_breakers > room->most_breakers) {
        return graft_fail(GRAFT_E_LIMIT, "n_biases is %u and n_dry_breakers %u, there is room for %u and %u", set.n_biases,
                          set.n_dry_breakers, room->most_biases, room->most_breakers);
    }
    sampler->n_vocab = n_vocab;
    sampler->penalties = set.repeat_penalty != 1.0f || set.presence_penalty != 0.0f || set.frequency_penalty != 0.0f;
    sampler->dry = set.dry_multiplier > 0.0f;
    set.n_dry_breakers = sampler->dry ? set.n_dry_breakers : 0;
    set.penalty_window = set.penalty_window < room->most_window ? set.penalty_window : room->most_window;
    set.dry_window = set.dry_window < room->most_window ? set.dry_window : room->most_window;
    if (set.n_biases) {
        memcpy(room->biases, set.biases, set.n_biases * sizeof *set.biases);
    }
    if (set.n_dry_breakers) {
        memcpy(room->breakers, set.dry_breakers, set.n_dry_breakers * sizeof *set.dry_breakers);
        qsort(room->breakers, set.n_dry_breakers, sizeof *room->breakers, compare_ids);
    }
    set.biases = room->biases;
    set.dry_breakers = room->breakers;
    if (set.seed == 0) {
        uint64_t mixed = graft_clock_ns() ^ (uint64_t)(uintptr_t)sampler;
        set.seed = splitmix64(&mixed) | 1; // 0 would mean "a new one" when it is given again
    }
    sampler->set = set;
    sampler->surprise = 2.0 * (double)set.mirostat_tau;
    sampler->accepted = 0;
    uint64_t seed = set.seed;
    for (int i = 0; i < 4; i++) {
        sampler->state[i] = splitmix64(&seed);
    }
    return GRAFT_OK;
}

// What the settings need, and no more.
static enum graft_status take_room(struct graft_sampler *sampler, const struct graft_sampling *set, uint32_t n_vocab)
{
    struct graft_ctx *ctx = sampler->ctx;
    struct graft_sampler_room *room = &sampler->room;
    bool dry = set->dry_multiplier > 0.0f;
    bool penalties = set->repeat_penalty != 1.0f || set->presence_penalty != 0.0f || set->frequency_penalty != 0.0f;
    room->most_window = MAX_WINDOW;
    room->most_biases = set->n_biases;
    room->most_breakers = set->n_dry_breakers;
    room->n_recent = penalties ? set->penalty_window : 0;
    room->n_recent = dry && set->dry_window > room->n_recent ? set->dry_window : room->n_recent;
    if (penalties || dry) {
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &room->counts, n_vocab, "token counts"));
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &room->recent, room->n_recent, "recent tokens"));
    }
    if (dry) {
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &room->overlaps, set->dry_window, "repetitions"));
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &room->breakers, set->n_dry_breakers, "tokens that end repetitions"));
    }
    if (set->n_biases) {
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &room->biases, set->n_biases, "logit biases"));
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &room->shifts, n_vocab, "logit biases"));
    }
    return GRAFT_OK;
}

enum graft_status graft_sampler_create(struct graft_ctx *ctx, struct graft_sampler **out, const struct graft_sampling *sampling,
                                       uint32_t n_vocab)
{
    *out = NULL;
    struct graft_sampling set;
    GRAFT_TRY(with_defaults(sampling, &set, n_vocab));
    struct graft_sampler *sampler;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &sampler, 1, "a sampler"));
    sampler->ctx = ctx;
    enum graft_status status = take_room(sampler, &set, n_vocab);
    status = status == GRAFT_OK ? graft_sampler_begin(sampler, &set, n_vocab) : status;
    if (status != GRAFT_OK) {
        graft_sampler_destroy(&sampler);
        return status;
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
    struct graft_sampler_room *room = &(*sampler)->room;
    GRAFT_FREE(ctx, &room->biases);
    GRAFT_FREE(ctx, &room->breakers);
    GRAFT_FREE(ctx, &room->overlaps);
    GRAFT_FREE(ctx, &room->shifts);
    GRAFT_FREE(ctx, &room->recent);
    GRAFT_FREE(ctx, &room->counts);
    GRAFT_FREE(ctx, sampler);
}

bool graft_sampler_wants_logits(const struct graft_sampler *sampler)
{
    const struct graft_sampling *set = &sampler->set;
    if (sampler->penalties || sampler->dry || set->n_biases) {
        return true;
    }
    return set->temperature >= 0.0f && (set->top_k > GRAFT_CHOICE_CANDIDATES || set->top_n_sigma > 0.0f || set->mirostat);
}

uint32_t graft_sampler_enough(const struct graft_sampler *sampler)
{
    if (graft_sampler_wants_logits(sampler)) {
        return UINT32_MAX;
    }
    return sampler->set.temperature < 0.0f ? 1 : sampler->set.top_k;
}

uint64_t graft_sampler_seed(const struct graft_sampler *sampler)
{
    return sampler->set.seed;
}

void graft_sampler_accept(struct graft_sampler *sampler, int32_t token)
{
    if ((sampler->penalties || sampler->dry) && token >= 0 && (uint32_t)token < sampler->n_vocab) {
        sampler->room.recent[sampler->accepted++ % sampler->room.n_recent] = token;
    }
}

void graft_sampler_forget(struct graft_sampler *sampler)
{
    sampler->accepted = 0;
    sampler->surprise = 2.0 * (double)sampler->set.mirostat_tau;
}

// One of the first `count` by its probability.
static uint32_t draw(struct graft_sampler *sampler, const struct graft_candidate *c, uint32_t count, double temperature)
{
    double left = graft_sampler_random(sampler) * graft_candidates_mass(c, count, temperature);
    uint32_t chosen = 0;
    while (chosen + 1 < count) {
        left -= exp(((double)c[chosen].logit - (double)c[0].logit) / temperature);
        if (left < 0.0) {
            break;
        }
        chosen++;
    }
    return chosen;
}

// Draw, then move the bound by the error: mu -= eta * (surprise - tau). The surprise is that of the model's distribution.
static uint32_t draw_mirostat(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        c[i].logit = (float)((double)c[i].logit / (double)sampler->set.temperature);
    }
    uint32_t chosen = draw(sampler, c, graft_sampler_mirostat(sampler, c, count), 1.0);
    double log_p = (double)c[chosen].logit - (double)c[0].logit - log(graft_candidates_mass(c, count, 1.0));
    sampler->surprise -= (double)sampler->set.mirostat_eta * (-log_p / log(2.0) - (double)sampler->set.mirostat_tau);
    return chosen;
}

enum graft_status graft_sampler_choose(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count, int32_t *out)
{
    const struct graft_sampling *set = &sampler->set;
    if (count == 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "there are no candidates to choose from");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (isnan(c[i].logit) || c[i].logit == INFINITY) {
            return graft_fail(GRAFT_E_NOT_FINITE,
                              "the logit of token %d is %s: the model's weights, an adapter or what computes them are damaged",
                              c[i].id, isnan(c[i].logit) ? "no number" : "infinite");
        }
    }
    graft_sampler_change(sampler, c, count);
    if (set->temperature < 0.0f || isinf(c[0].logit)) { // an infinite logit leaves nothing to draw
        *out = c[0].id;
        return GRAFT_OK;
    }
    uint32_t chosen = set->mirostat ? draw_mirostat(sampler, c, count)
                                    : draw(sampler, c, graft_sampler_filter(sampler, c, count), (double)set->temperature);
    *out = c[chosen].id;
    return GRAFT_OK;
}
