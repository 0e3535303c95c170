// SPDX-License-Identifier: Apache-2.0
// What becomes of each module, decided before anything is computed; everything that has no meaning is refused here.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "loaders/adapter_parts.h"
#include "loaders/sha256.h"
#include "platform/bytes.h"
#include "runtime/merge/combine.h"

static const struct graft_combine_rules rules[] = {
    {"cat", GRAFT_COMBINE_CAT, GRAFT_PRUNE_NONE, false},
    {"svd", GRAFT_COMBINE_SVD, GRAFT_PRUNE_NONE, false},
    {"linear", GRAFT_COMBINE_PARTS, GRAFT_PRUNE_NONE, false},
    {"magnitude_prune", GRAFT_COMBINE_PARTS, GRAFT_PRUNE_MAGNITUDE, false},
    {"ties", GRAFT_COMBINE_PARTS, GRAFT_PRUNE_MAGNITUDE, true},
    {"dare_linear", GRAFT_COMBINE_PARTS, GRAFT_PRUNE_RANDOM, false},
    {"dare_ties", GRAFT_COMBINE_PARTS, GRAFT_PRUNE_RANDOM, true},
    {"magnitude_prune_svd", GRAFT_COMBINE_DENSE, GRAFT_PRUNE_MAGNITUDE, false},
    {"ties_svd", GRAFT_COMBINE_DENSE, GRAFT_PRUNE_MAGNITUDE, true},
    {"dare_linear_svd", GRAFT_COMBINE_DENSE, GRAFT_PRUNE_RANDOM, false},
    {"dare_ties_svd", GRAFT_COMBINE_DENSE, GRAFT_PRUNE_RANDOM, true},
};
enum { RULES = sizeof rules / sizeof *rules };

const char *graft_combine_method(uint32_t index)
{
    return index < RULES ? rules[index].name : NULL;
}

enum graft_status graft_combine_rules_find(const char *name, const struct graft_combine_rules **out)
{
    char names[256] = "";
    for (size_t i = 0, at = 0; i < RULES; i++) {
        if (strcmp(rules[i].name, name ? name : "svd") == 0) {
            *out = &rules[i];
            return GRAFT_OK;
        }
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", rules[i].name);
    }
    return graft_fail(GRAFT_E_ARGUMENT, "method \"%s\" is not known; there are %s", name, names);
}

uint64_t graft_combine_key(uint64_t seed, uint32_t adapter, const struct graft_combine_part *part, const char *tensor)
{
    char module[GRAFT_ADAPTER_NAME_BYTES], text[GRAFT_ADAPTER_NAME_BYTES + 80];
    uint8_t digest[GRAFT_SHA256_BYTES];
    struct graft_sha256 hash;
    int length = snprintf(text, sizeof text, "graft dare %" PRIu64 " %u %s %s", seed, adapter,
                          graft_adapter_module(part->target, part->layer, part->expert, false, module), tensor);
    graft_sha256_begin(&hash);
    graft_sha256_add(&hash, text, (uint64_t)length);
    graft_sha256_end(&hash, digest);
    return graft_load_u64(digest);
}

static const char *path_of(const struct graft_combine *combine, uint32_t adapter)
{
    return combine->params->adapters[adapter].path;
}

// Methods under which a module's change is the weighted sum of its adapters' changes, or meant to be.
static bool is_additive(const struct graft_combine *combine)
{
    return combine->single || combine->rules->prune == GRAFT_PRUNE_NONE;
}

static enum graft_status check_invocations(const struct graft_combine *combine)
{
    const struct graft_adapter_desc *first = combine->adapters[0];
    for (uint32_t i = 1; i < combine->n_adapters; i++) {
        const struct graft_adapter_desc *other = combine->adapters[i];
        if (first->n_alora != other->n_alora ||
            memcmp(first->alora, other->alora, first->n_alora * sizeof *first->alora) != 0) {
            return graft_fail(
                GRAFT_E_ARGUMENT,
                "%s and %s have different alora_invocation_tokens (%u and %u of them): each is active from another "
                "token on, so no one adapter does what both do",
                path_of(combine, 0), path_of(combine, i), first->n_alora, other->n_alora);
        }
    }
    return GRAFT_OK;
}

// The ways in which q and k's rows may lie must be one, or be known.
static enum graft_status place_rows(struct graft_combine *combine)
{
    bool any[2] = {false, false};
    uint32_t example[2] = {0, 0};
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        const struct graft_adapter_desc *desc = combine->adapters[i];
        for (uint32_t j = 0; j < desc->n_pairs; j++) {
            if (desc->pairs[j].target == GRAFT_TARGET_Q || desc->pairs[j].target == GRAFT_TARGET_K) {
                any[desc->rows_permuted] = true;
                example[desc->rows_permuted] = i;
            }
        }
    }
    combine->out->rows_permuted = any[true] && !any[false];
    if (!any[true] || !any[false] || (combine->params->base && combine->base.plain_rows)) {
        return GRAFT_OK;
    }
    if (!combine->params->base) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%s has the rows of q_proj and k_proj in the order of a GGUF file and %s in that of PEFT; the base's "
                          "file is needed to bring them together (-m)",
                          path_of(combine, example[true]), path_of(combine, example[false]));
    }
    for (uint32_t i = 0; i < combine->n_parts; i++) {
        struct graft_combine_part *part = &combine->parts[i];
        for (uint32_t j = 0; j < part->n && (part->target == GRAFT_TARGET_Q || part->target == GRAFT_TARGET_K); j++) {
            bool permuted = combine->adapters[part->sources[j].adapter]->rows_permuted;
            part->sources[j].head_dim = permuted ? combine->head_dim : 0;
        }
    }
    return GRAFT_OK;
}

// Modules in the order of pairs, with the adapters that change them.
static enum graft_status list_parts(struct graft_combine *combine)
{
    uint64_t pairs = 0, taken = 0;
    uint32_t next[GRAFT_COMBINE_MAX_ADAPTERS] = {0};
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        pairs += combine->adapters[i]->n_pairs;
    }
    GRAFT_TRY(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &combine->parts, pairs, "a plan"));
    GRAFT_TRY(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &combine->sources, pairs, "a plan"));
    while (taken < pairs) {
        const struct graft_adapter_pair *least = NULL;
        for (uint32_t i = 0; i < combine->n_adapters; i++) {
            const struct graft_adapter_desc *desc = combine->adapters[i];
            const struct graft_adapter_pair *pair = next[i] < desc->n_pairs ? &desc->pairs[next[i]] : NULL;
            least = pair && (!least || graft_adapter_pair_order(pair, least) < 0) ? pair : least;
        }
        struct graft_combine_part *part = &combine->parts[combine->n_parts++];
        part->target = least->target;
        part->layer = least->layer;
        part->expert = least->expert;
        part->n_in = least->a.cols;
        part->n_out = least->b.rows;
        part->sources = combine->sources + taken;
        for (uint32_t i = 0; i < combine->n_adapters; i++) {
            const struct graft_adapter_desc *desc = combine->adapters[i];
            const struct graft_adapter_pair *pair = next[i] < desc->n_pairs ? &desc->pairs[next[i]] : NULL;
            if (pair && graft_adapter_pair_order(pair, least) == 0) {
                double weight = combine->params->adapters[i].weight;
                part->sources[part->n++] = (struct graft_combine_source){
                    .pair = pair, .adapter = i, .weight = weight, .scaled = weight * (double)pair->scale};
                part->bias |= pair->bias.data != NULL;
                next[i]++;
                taken++;
            }
        }
    }
    return GRAFT_OK;
}

static enum graft_status check_shapes(const struct graft_combine *combine, const struct graft_combine_part *part,
                                      const char *module)
{
    for (uint32_t i = 1; i < part->n; i++) {
        const struct graft_adapter_pair *pair = part->sources[i].pair;
        if (pair->a.cols != part->n_in || pair->b.rows != part->n_out) {
            return graft_fail(GRAFT_E_FORMAT,
                              "%s: %s has %" PRIu64 " outputs and %" PRIu64 " inputs, in %s it has %" PRIu64 " and %" PRIu64
                              ": adapters of different bases",
                              path_of(combine, part->sources[i].adapter), module, pair->b.rows, pair->a.cols,
                              path_of(combine, part->sources[0].adapter), part->n_out, part->n_in);
        }
    }
    return GRAFT_OK;
}

// A module with a magnitude vector (DoRA) can only be kept as it is.
static enum graft_status check_dora(const struct graft_combine *combine, const struct graft_combine_part *part,
                                    const char *module)
{
    for (uint32_t i = 0; i < part->n; i++) {
        const char *path = path_of(combine, part->sources[i].adapter);
        if (!part->sources[i].pair->magnitude.data) {
            continue;
        }
        if (!is_additive(combine)) {
            return graft_fail(
                GRAFT_E_ARGUMENT,
                "%s is DoRA, and %s would change what its magnitudes were trained for; use linear, cat or svd, or "
                "merge it into the base (-m)",
                path, combine->rules->name);
        }
        if (part->n > 1) {
            return graft_fail(
                GRAFT_E_ARGUMENT,
                "%s: %s is DoRA, whose change depends on the base's matrix and has no low rank, and %s changes the "
                "same module; merge them into the base instead (-m)",
                path, module, path_of(combine, part->sources[i == 0].adapter));
        }
        if (part->sources[i].weight != 1) {
            return graft_fail(GRAFT_E_ARGUMENT,
                              "%s: %s is DoRA with weight %g; without the base's matrix only weight 1 can be kept", path,
                              module, part->sources[i].weight);
        }
    }
    return GRAFT_OK;
}

static enum graft_status check_equal_ranks(const struct graft_combine *combine, const struct graft_combine_part *part,
                                           const char *module)
{
    for (uint32_t i = 1; i < part->n; i++) {
        if (part->sources[i].pair->rank != part->sources[0].pair->rank) {
            return graft_fail(
                GRAFT_E_ARGUMENT,
                "%s has rank %u in %s and %u in %s; %s mixes rank by rank and needs equal ones, cat and svd do not", module,
                part->sources[0].pair->rank, path_of(combine, part->sources[0].adapter), part->sources[i].pair->rank,
                path_of(combine, part->sources[i].adapter), combine->rules->name);
        }
    }
    return GRAFT_OK;
}

static enum graft_status plan_part(const struct graft_combine *combine, struct graft_combine_part *part, uint32_t largest)
{
    char module[GRAFT_ADAPTER_NAME_BYTES];
    uint64_t sum = 0, least = part->n_in < part->n_out ? part->n_in : part->n_out;
    uint32_t asked = combine->params->svd_rank ? combine->params->svd_rank : largest;
    graft_adapter_module(part->target, part->layer, part->expert, false, module);
    GRAFT_TRY(check_shapes(combine, part, module));
    GRAFT_TRY(check_dora(combine, part, module));
    for (uint32_t i = 0; i < part->n; i++) {
        sum += part->sources[i].pair->rank;
    }
    bool keep = combine->single || part->sources[0].pair->magnitude.data;
    part->way = keep ? GRAFT_COMBINE_KEEP : combine->rules->way;
    part->scale = 1;
    part->to_scale = 1;
    switch (part->way) {
    case GRAFT_COMBINE_KEEP:
        part->rank = part->sources[0].pair->rank;
        part->scale = (float)fabs(part->sources[0].scaled);
        if (!(part->scale > 0)) {
            return graft_fail(GRAFT_E_ARGUMENT, "%s has weight %g, which leaves nothing of it",
                              path_of(combine, part->sources[0].adapter), part->sources[0].weight);
        }
        break;
    case GRAFT_COMBINE_PARTS:
        GRAFT_TRY(check_equal_ranks(combine, part, module));
        part->rank = part->sources[0].pair->rank;
        break;
    case GRAFT_COMBINE_CAT:
        if (sum > GRAFT_ADAPTER_MAX_RANK) {
            return graft_fail(GRAFT_E_LIMIT,
                              "%s would get rank %" PRIu64 ", allowed are 1 to %d; svd keeps to a rank of your choice", module,
                              sum, GRAFT_ADAPTER_MAX_RANK);
        }
        part->rank = (uint32_t)sum;
        break;
    case GRAFT_COMBINE_SVD:
        least = sum < least ? sum : least; // more would be zeros
        part->rank = asked < least ? asked : (uint32_t)least;
        break;
    case GRAFT_COMBINE_DENSE:
        part->rank = asked < least ? asked : (uint32_t)least;
        break;
    }
    if (part->bias && !is_additive(combine)) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s has a bias (lora_bias), for which %s has no meaning; use linear, cat or svd",
                          module, combine->rules->name);
    }
    return GRAFT_OK;
}

// A GGUF adapter has one alpha: every pair's scale is alpha / rank, and B takes what is missing.
static void share_alpha(struct graft_combine *combine)
{
    uint32_t largest = 0;
    double alpha = 0;
    bool kept = true;
    for (uint32_t i = 0; i < combine->n_parts; i++) {
        const struct graft_combine_part *part = &combine->parts[i];
        double own = (double)part->scale * part->rank;
        largest = part->rank > largest ? part->rank : largest;
        kept &= part->way == GRAFT_COMBINE_KEEP && (i == 0 || fabs(own - alpha) < 1e-6 * alpha);
        alpha = i == 0 ? own : alpha;
    }
    for (uint32_t i = 0; i < combine->n_parts && !kept; i++) {
        struct graft_combine_part *part = &combine->parts[i];
        float scale = (float)((double)largest / part->rank);
        part->to_scale = (double)part->scale / (double)scale;
        part->scale = scale;
    }
}

// The weights of the adapters that have this tensor; all of one shape.
static enum graft_status sum_weights(const struct graft_combine *combine, uint32_t adapter,
                                     const struct graft_adapter_whole *whole, double *sum)
{
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        for (uint32_t j = 0; j < combine->adapters[i]->n_whole; j++) {
            const struct graft_adapter_whole *other = &combine->adapters[i]->whole[j];
            if (!graft_combine_same_whole(other, whole)) {
                continue;
            }
            *sum += combine->params->adapters[i].weight;
            if (other->view.rows != whole->view.rows || other->view.cols != whole->view.cols) {
                return graft_fail(GRAFT_E_FORMAT, "%s: %s has another shape than in %s: adapters of different bases",
                                  path_of(combine, i), other->name, path_of(combine, adapter));
            }
        }
    }
    return GRAFT_OK;
}

// A tensor that replaces the base's leaves nothing to change by A and B.
static enum graft_status check_alone(const struct graft_combine *combine, uint32_t adapter,
                                     const struct graft_adapter_whole *whole)
{
    for (uint32_t i = 0; i < combine->n_parts; i++) {
        const struct graft_combine_part *part = &combine->parts[i];
        if (part->target == whole->target && part->layer == whole->layer) {
            return graft_fail(
                GRAFT_E_ARGUMENT,
                "%s: %s replaces a tensor of the base (modules_to_save) that %s changes by A and B; merge them into "
                "the base instead (-m)",
                path_of(combine, adapter), whole->name, path_of(combine, part->sources[0].adapter));
        }
    }
    return GRAFT_OK;
}

// Copies of the base's embeddings or head, which change nothing, are one and the same.
static enum graft_status check_copies(const struct graft_combine *combine, uint32_t adapter,
                                      const struct graft_adapter_whole *whole)
{
    uint64_t bytes = whole->view.rows * whole->view.cols * graft_adapter_value_bytes(whole->view.type);
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        for (uint32_t j = 0; j < combine->adapters[i]->n_whole; j++) {
            const struct graft_adapter_whole *other = &combine->adapters[i]->whole[j];
            if (graft_combine_same_whole(other, whole) &&
                (other->view.type != whole->view.type || other->view.rows != whole->view.rows ||
                 other->view.cols != whole->view.cols || memcmp(other->view.data, whole->view.data, bytes) != 0)) {
                return graft_fail(GRAFT_E_FORMAT,
                                  "%s: %s, a copy of the base's, is another one in %s: adapters of different bases",
                                  path_of(combine, adapter), whole->name, path_of(combine, i));
            }
        }
    }
    return GRAFT_OK;
}

// Tensors that replace the base's: the weights of those who have one must sum to 1.
static enum graft_status check_wholes(const struct graft_combine *combine)
{
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        const struct graft_adapter_desc *desc = combine->adapters[i];
        for (uint32_t j = 0; j < desc->n_whole; j++) {
            const struct graft_adapter_whole *whole = &desc->whole[j];
            double sum = 0;
            if (whole->base_copy) {
                GRAFT_TRY(check_copies(combine, i, whole));
                continue;
            }
            GRAFT_TRY(check_alone(combine, i, whole));
            GRAFT_TRY(sum_weights(combine, i, whole, &sum));
            if (!is_additive(combine)) {
                return graft_fail(GRAFT_E_ARGUMENT,
                                  "%s: %s replaces a tensor of the base (modules_to_save), for which %s has no meaning; use "
                                  "linear, cat or svd",
                                  path_of(combine, i), whole->name, combine->rules->name);
            }
            if (fabs(sum - 1) > 1e-6) {
                return graft_fail(
                    GRAFT_E_ARGUMENT,
                    "%s: %s replaces a tensor of the base (modules_to_save); the weights of the adapters that have "
                    "it sum to %g, and only with 1 is the result known without the base; merge into the base "
                    "instead (-m)",
                    path_of(combine, i), whole->name, sum);
            }
        }
    }
    return GRAFT_OK;
}

// PEFT has one switch for all modules: one with a bias gives the others one of zeros.
static enum graft_status check_switches(const struct graft_combine *combine)
{
    uint32_t dora = 0, bias = 0, example = 0;
    for (uint32_t i = 0; i < combine->n_parts; i++) {
        const struct graft_combine_part *part = &combine->parts[i];
        bool has = part->sources[0].pair->magnitude.data;
        dora += has;
        bias += part->bias;
        example = has ? part->sources[0].adapter : example;
    }
    for (uint32_t i = 0; i < combine->n_parts && bias > 0; i++) {
        combine->parts[i].bias = true;
        if (combine->parts[i].target == GRAFT_TARGET_EMBED) {
            return graft_fail(GRAFT_E_ARGUMENT,
                              "%s changes embed_tokens, which cannot have the bias that others have (lora_bias)",
                              path_of(combine, combine->parts[i].sources[0].adapter));
        }
    }
    if (dora > 0 && (dora < combine->n_parts || bias > 0)) {
        return graft_fail(
            GRAFT_E_ARGUMENT,
            "%s is DoRA and others are not: a file has one use_dora for all its modules; merge them into the base "
            "instead (-m)",
            path_of(combine, example));
    }
    return GRAFT_OK;
}

enum graft_status graft_combine_plan(struct graft_combine *combine)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        const struct graft_adapter_desc *desc = combine->adapters[i];
        largest = desc->max_rank > largest ? desc->max_rank : largest;
        if (strcmp(desc->base_name, combine->adapters[0]->base_name) != 0) {
            graft_log(combine->ctx, GRAFT_LOG_WARN, "%s was made for \"%s\", %s for \"%s\"", path_of(combine, 0),
                      combine->adapters[0]->base_name, path_of(combine, i), desc->base_name);
        }
    }
    GRAFT_TRY(check_invocations(combine));
    GRAFT_TRY(list_parts(combine));
    for (uint32_t i = 0; i < combine->n_parts; i++) {
        GRAFT_TRY(plan_part(combine, &combine->parts[i], largest));
    }
    GRAFT_TRY(check_switches(combine));
    GRAFT_TRY(check_wholes(combine));
    if (combine->to_gguf) {
        share_alpha(combine);
    }
    return place_rows(combine);
}
