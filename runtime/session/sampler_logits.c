// SPDX-License-Identifier: Apache-2.0
// Sampling, first part: what adds to logits before anything is dropped.
#include <math.h>
#include <string.h>

#include "runtime/session/sampler.h"

// The token `back` places before the last one.
static int32_t token_back(const struct graft_sampler *sampler, uint32_t back)
{
    return sampler->room.recent[(sampler->accepted - 1 - back) % sampler->room.n_recent];
}

static uint32_t known(const struct graft_sampler *sampler, uint32_t window)
{
    return sampler->accepted < window ? (uint32_t)sampler->accepted : window;
}

static void add_biases(const struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    const struct graft_sampling *set = &sampler->set;
    float *shifts = sampler->room.shifts;
    for (uint32_t i = 0; i < set->n_biases; i++) {
        shifts[set->biases[i].id] += set->biases[i].bias;
    }
    for (uint32_t i = 0; i < count; i++) {
        c[i].logit += (uint32_t)c[i].id < sampler->n_vocab ? shifts[c[i].id] : 0.0f;
    }
    for (uint32_t i = 0; i < set->n_biases; i++) {
        shifts[set->biases[i].id] = 0.0f;
    }
}

static void penalize(const struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    const struct graft_sampling *set = &sampler->set;
    uint32_t *counts = sampler->room.counts, n = known(sampler, set->penalty_window);
    for (uint32_t k = 0; k < n; k++) {
        counts[token_back(sampler, k)]++;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t seen = (uint32_t)c[i].id < sampler->n_vocab ? counts[c[i].id] : 0;
        if (seen) {
            c[i].logit = c[i].logit > 0.0f ? c[i].logit / set->repeat_penalty : c[i].logit * set->repeat_penalty;
            c[i].logit -= set->presence_penalty + (float)seen * set->frequency_penalty;
        }
    }
    for (uint32_t k = 0; k < n; k++) {
        counts[token_back(sampler, k)] = 0;
    }
}

static bool is_breaker(const struct graft_sampler *sampler, int32_t id)
{
    uint32_t low = 0, high = sampler->set.n_dry_breakers;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sampler->set.dry_breakers[middle] == id) {
            return true;
        }
        low = sampler->set.dry_breakers[middle] < id ? middle + 1 : low;
        high = sampler->set.dry_breakers[middle] < id ? high : middle;
    }
    return false;
}

// DRY. Read backwards the context is r[0], r[1] ...; overlap[k] is how far r and r shifted by k agree (the Z function, Gusfield
// 1997: linear time). Where they agree for n tokens, the last n tokens stood before r[k - 1] already: drawing that token would
// repeat n + 1. No repetition goes across a breaker.
static void penalize_repetition(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    const struct graft_sampling *set = &sampler->set;
    uint32_t n = known(sampler, set->dry_window), most = 0, *overlap = sampler->room.overlaps;
    uint32_t *matches = sampler->room.counts; // the longest repetition that a token would continue
    while (most < n && !is_breaker(sampler, token_back(sampler, most))) {
        most++;
    }
    if (most == 0) {
        return;
    }
    uint32_t left = 0, right = 0; // the stretch [left, right) that agrees with the beginning and reaches furthest
    for (uint32_t k = 1; k < n; k++) {
        uint32_t length = k < right ? (overlap[k - left] < right - k ? overlap[k - left] : right - k) : 0;
        while (k + length < n && token_back(sampler, length) == token_back(sampler, k + length)) {
            length++;
        }
        overlap[k] = length;
        if (k + length > right) {
            left = k;
            right = k + length;
        }
        int32_t next = token_back(sampler, k - 1);
        length = length < most ? length : most;
        if (length >= set->dry_allowed_length && !is_breaker(sampler, next) && length > matches[next]) {
            matches[next] = length;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t match = (uint32_t)c[i].id < sampler->n_vocab ? matches[c[i].id] : 0;
        if (match) {
            double penalty =
                (double)set->dry_multiplier * pow((double)set->dry_base, (double)(match - set->dry_allowed_length));
            c[i].logit -= (float)(penalty < 1e30 ? penalty : 1e30);
        }
    }
    for (uint32_t k = 0; k < n; k++) {
        matches[token_back(sampler, k)] = 0;
    }
}

void graft_sampler_change(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    if (sampler->set.n_biases) {
        add_biases(sampler, c, count);
    }
    if (sampler->penalties) {
        penalize(sampler, c, count);
    }
    if (sampler->dry) {
        penalize_repetition(sampler, c, count);
    }
    if (sampler->set.n_biases || sampler->penalties || sampler->dry) {
        graft_candidates_sort(c, count);
    }
}
