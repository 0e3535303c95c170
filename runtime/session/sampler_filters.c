// SPDX-License-Identifier: Apache-2.0
// Sampling, second part: what drops candidates. Every filter takes candidates sorted by logit downwards, moves what it keeps to
// the front, sorted, and returns how many that are: 1 at least. p_i = exp(logit_i) / sum over what it was given.
#include <math.h>
#include <string.h>

#include "runtime/session/sampler.h"

double graft_candidates_mass(const struct graft_candidate *c, uint32_t count, double temperature)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        sum += exp(((double)c[i].logit - (double)c[0].logit) / temperature);
    }
    return sum;
}

// exp(logit - first logit): a probability times the mass.
static double weight(const struct graft_candidate *c, uint32_t i)
{
    return exp((double)c[i].logit - (double)c[0].logit);
}

// Tang et al. 2024, "Top-n-sigma": keep logit_i >= max - n * sigma; sigma is the standard deviation of the finite logits.
static uint32_t top_n_sigma(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    if (sampler->set.top_n_sigma <= 0.0f) {
        return count;
    }
    double sum = 0.0, squares = 0.0;
    uint32_t n = 0;
    while (n < count && isfinite(c[n].logit)) { // sorted: what is not finite, -INFINITY, stands behind
        sum += (double)c[n++].logit;
    }
    for (uint32_t i = 0; i < n; i++) {
        double away = (double)c[i].logit - sum / n;
        squares += away * away;
    }
    double least = n ? (double)c[0].logit - (double)sampler->set.top_n_sigma * sqrt(squares / n) : 0.0;
    while (count > 1 && (double)c[count - 1].logit < least) {
        count--;
    }
    return count;
}

static uint32_t top_k(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    (void)c;
    return count < sampler->set.top_k ? count : sampler->set.top_k;
}

// Meister et al. 2022, "Locally Typical Sampling": the smallest set of tokens nearest to |-log p_i - H| = 0, H the entropy,
// that reaches typical_p.
static uint32_t typical(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    if (sampler->set.typical_p >= 1.0f) {
        return count;
    }
    double all = graft_candidates_mass(c, count, 1.0), log_all = log(all), first = (double)c[0].logit, entropy = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        double p = weight(c, i) / all;
        entropy -= p > 0.0 ? p * ((double)c[i].logit - first - log_all) : 0.0;
    }
    // The sorted order makes distances fall and then rise: the nearest tokens are a stretch that grows at either end.
    uint32_t begin = 0;
    while (begin < count && first + log_all - (double)c[begin].logit < entropy) {
        begin++; // the first token that is not less surprising than the entropy
    }
    uint32_t end = begin;
    double sum = 0.0;
    while (begin > 0 || end < count) {
        double above = begin > 0 ? entropy - (first + log_all - (double)c[begin - 1].logit) : INFINITY;
        double below = end < count ? first + log_all - (double)c[end].logit - entropy : INFINITY;
        sum += (begin > 0 && above <= below ? weight(c, --begin) : weight(c, end++)) / all;
        if (sum >= (double)sampler->set.typical_p) {
            break;
        }
    }
    memmove(c, c + begin, (end - begin) * sizeof *c);
    return end - begin;
}

// Holtzman et al. 2020, nucleus sampling: the smallest number of first candidates whose probabilities reach top_p.
static uint32_t top_p(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    double all = sampler->set.top_p < 1.0f ? graft_candidates_mass(c, count, 1.0) : 0.0, sum = 0.0;
    for (uint32_t i = 0; all > 0.0 && i < count; i++) {
        sum += weight(c, i);
        if (sum >= (double)sampler->set.top_p * all) {
            return i + 1;
        }
    }
    return count;
}

// Nguyen et al. 2024, "Min-p": keep p_i >= min_p * max p.
static uint32_t min_p(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    if (sampler->set.min_p > 0.0f) {
        double least = (double)c[0].logit + log((double)sampler->set.min_p);
        while (count > 1 && (double)c[count - 1].logit < least) {
            count--;
        }
    }
    return count;
}

// p-e-w 2024, "Exclude Top Choices" (text-generation-webui, pull request 6335): of the tokens with p_i >= threshold only the
// least likely stays, with the given probability.
static uint32_t exclude_top(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    const struct graft_sampling *set = &sampler->set;
    if (set->xtc_probability <= 0.0f || graft_sampler_random(sampler) >= (double)set->xtc_probability) {
        return count;
    }
    double all = graft_candidates_mass(c, count, 1.0);
    uint32_t drop = 0;
    while (drop + 1 < count && weight(c, drop + 1) / all >= (double)set->xtc_threshold) {
        drop++;
    }
    memmove(c, c + drop, (count - drop) * sizeof *c);
    return count - drop;
}

uint32_t graft_sampler_filter(struct graft_sampler *sampler, struct graft_candidate *c, uint32_t count)
{
    static uint32_t (*const chain[])(struct graft_sampler *, struct graft_candidate *,
                                     uint32_t) = {top_n_sigma, top_k, typical, top_p, min_p, exclude_top};
    for (size_t i = 0; i < sizeof chain / sizeof *chain; i++) {
        count = chain[i](sampler, c, count);
    }
    return count;
}

// Basu et al. 2021, "Mirostat". 1 (algorithm 1): the exponent s of Zipf's law is estimated from the 100 likeliest tokens
// (equation 30 of the paper: least squares of log(p_i / p_i+1) over log((i + 2) / (i + 1))), then k is the rank where the
// surprise would be mu: k = (e * 2^mu / (1 - N^-e))^(1 / s), e = s - 1; one more is kept, as the authors' program does.
// 2 (algorithm 2): tokens of a surprise -log2 p_i above mu are dropped.
uint32_t graft_sampler_mirostat(const struct graft_sampler *sampler, const struct graft_candidate *c, uint32_t count)
{
    enum { ZIPF_TOKENS = 100 };
    double mu = sampler->surprise;
    if (sampler->set.mirostat == 2) {
        double all = graft_candidates_mass(c, count, 1.0);
        uint32_t n = 0;
        while (n < count && -log2(weight(c, n) / all) <= mu) {
            n++;
        }
        return n ? n : 1;
    }
    double products = 0.0, squares = 0.0;
    for (uint32_t i = 0; i + 1 < count && i + 1 < ZIPF_TOKENS && isfinite(c[i + 1].logit); i++) {
        double t = log((i + 2.0) / (i + 1.0)), b = (double)c[i].logit - (double)c[i + 1].logit;
        products += t * b;
        squares += t * t;
    }
    double s = squares > 0.0 ? products / squares : 1.0, e = s - 1.0;
    // As e goes to 0 the fraction goes to 1 / log N.
    double base =
        fabs(e) < 1e-9 ? exp2(mu) / log((double)sampler->n_vocab) : e * exp2(mu) / (1.0 - pow((double)sampler->n_vocab, -e));
    double k = s > 0.0 ? floor(pow(base, 1.0 / s)) + 1.0 : (double)count;
    return k >= (double)count ? count : k >= 1.0 ? (uint32_t)k : 1; // also when k is not a number
}
