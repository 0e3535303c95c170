// SPDX-License-Identifier: Apache-2.0
// A description -> adapter_config.json, as short as PEFT allows: what is at its default in LoraConfig and not needed to read
// the file is left out, so that older versions, which do not know newer keys, load it too. Source: PEFT, LoraConfig,
// check_target_module_exists, get_pattern_key (huggingface/peft, versions to 0.21).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/adapter_parts.h"
#include "platform/bytes.h"

enum { KEY_BYTES = 900 }; // of layers in a pattern's key: what is read back has at most 1024

struct writing {
    const struct graft_adapter_desc *desc;
    uint32_t n_layer;
    bool mixtral, post_norms; // what names depend on
    double alpha;   // the file's
    uint32_t rank;  // the file's
    double *alphas; // of each pair
    bool *done;     // pair is in a pattern
    json_t *ranks, *alpha_pattern;
};

static double divisor(const struct graft_adapter_desc *desc, uint32_t rank)
{
    return desc->use_rslora ? sqrt((double)rank) : (double)rank;
}

static bool gives(const struct graft_adapter_desc *desc, const struct graft_adapter_pair *pair, double alpha)
{
    return (float)(alpha / divisor(desc, pair->rank)) == pair->scale;
}

// The alpha that is right for most pairs, the rank that most have; at a draw the one that comes first.
static void choose(struct writing *w)
{
    uint32_t ranks[GRAFT_ADAPTER_MAX_RANK + 1] = {0}, most = 0;
    for (uint32_t i = 0; i < w->desc->n_pairs; i++) {
        ranks[w->desc->pairs[i].rank]++;
        w->alphas[i] = graft_adapter_find_alpha(w->desc->pairs[i].scale, divisor(w->desc, w->desc->pairs[i].rank));
    }
    for (uint32_t i = 0; i < w->desc->n_pairs; i++) {
        uint32_t rank = w->desc->pairs[i].rank;
        w->rank = i == 0 || ranks[rank] > ranks[w->rank] ? rank : w->rank;
    }
    for (uint32_t i = 0; i < w->desc->n_pairs && most <= w->desc->n_pairs / 2; i++) {
        uint32_t count = 0;
        bool tried = w->done[i];
        for (uint32_t k = 0; k < w->desc->n_pairs && !tried; k++) {
            bool same = gives(w->desc, &w->desc->pairs[k], w->alphas[i]);
            count += same;
            w->done[k] = w->done[k] || (same && w->alphas[k] == w->alphas[i]);
        }
        if (count > most) {
            most = count;
            w->alpha = w->alphas[i];
        }
    }
    for (uint32_t i = 0; i < w->desc->n_pairs; i++) {
        w->done[i] = false;
        if (gives(w->desc, &w->desc->pairs[i], w->alpha)) {
            w->alphas[i] = w->alpha;
        }
    }
}

static json_t *number(double value)
{
    return value == floor(value) && value < 9e15 ? json_integer((json_int_t)value) : json_real(value);
}

// Digits that bring every alpha back: 15 do for all but those that had to be exact.
static size_t digits(const struct writing *w)
{
    for (uint32_t i = 0; i < w->desc->n_pairs; i++) {
        char text[40];
        snprintf(text, sizeof text, "%.15g", w->alphas[i]);
        if (strtod(text, NULL) != w->alphas[i]) {
            return 17;
        }
    }
    return 15;
}

static enum graft_status no_memory(void)
{
    return graft_fail(GRAFT_E_MEMORY, "no memory for an adapter's configuration");
}

// A number that tells two modules of a target apart: the layer, of an expert the expert.
static uint32_t number_of(const struct graft_adapter_pair *pair)
{
    return pair->expert ? pair->expert - 1 : pair->layer;
}

// The pairs with the target, rank and alpha of pair `first` that are not done, of an expert in its layer -> one key in the
// patterns: the target's name if these are all of its pairs, else layers (of an expert: experts) by number; as many of them as
// a key takes.
static enum graft_status add_pattern(struct writing *w, uint32_t first)
{
    const struct graft_adapter_pair *pairs = w->desc->pairs, *pair = &pairs[first];
    char numbers[KEY_BYTES + 16], key[KEY_BYTES + 192], module[GRAFT_ADAPTER_NAME_BYTES], same_all = 1;
    size_t used = 0;
    uint32_t count = 0;
    graft_adapter_module(pair->target, pair->layer, pair->expert, w->mixtral, module);
    for (uint32_t i = 0; i < w->desc->n_pairs; i++) {
        bool same = pairs[i].rank == pair->rank && w->alphas[i] == w->alphas[first];
        same_all &= pairs[i].target != pair->target || (same && !w->done[i]);
    }
    for (uint32_t i = 0; i < w->desc->n_pairs; i++) {
        bool same = pairs[i].rank == pair->rank && w->alphas[i] == w->alphas[first] && pairs[i].target == pair->target;
        bool beside = !pair->expert == !pairs[i].expert && (!pair->expert || pairs[i].layer == pair->layer);
        if (same && !w->done[i] && (same_all || (beside && used < KEY_BYTES))) {
            if (!same_all) {
                used += (size_t)snprintf(numbers + used, sizeof numbers - used, "%s%u", count ? "|" : "", number_of(&pairs[i]));
            }
            count++;
            w->done[i] = true;
        }
    }
    const char *name = strrchr(module, '.');
    bool layers = graft_target_of_layer(pair->target);
    if (same_all) {
        snprintf(key, sizeof key, "%s", name ? name + 1 : module);
    } else { // "layers.(0|2).mlp.up_proj", "layers.0.mlp.experts.(1|3).up_proj"
        char part[32];
        snprintf(part, sizeof part, pair->expert ? "experts.%u" : "layers.%u", number_of(pair));
        const char *at = layers ? strstr(module, part) : module, *head = layers ? strstr(module, "layers.") : module;
        const char *tail = at + (layers ? strlen(part) : 0);
        int before = (int)(at - head);
        if (count == 1) {
            snprintf(key, sizeof key, "%s", head);
        } else {
            snprintf(key, sizeof key, "%.*s%s(%s)%s", before, head, pair->expert ? "experts." : "layers.", numbers, tail);
        }
    }
    int failed = 0;
    if (pair->rank != w->rank) {
        failed |= json_object_set_new(w->ranks, key, json_integer((json_int_t)pair->rank));
    }
    if (w->alphas[first] != w->alpha) {
        failed |= json_object_set_new(w->alpha_pattern, key, number(w->alphas[first]));
    }
    return failed ? no_memory() : GRAFT_OK;
}

// The name of a norm that has another one in this architecture.
static enum graft_target whole_name(enum graft_target target, const struct writing *w)
{
    return target == GRAFT_TARGET_FFN_NORM && w->post_norms ? GRAFT_TARGET_PRE_FFN_NORM : target;
}

// Modules by name for target_modules or modules_to_save: a short name where the target is changed in every layer, names with
// their layer otherwise.
static enum graft_status list_modules(json_t *out, const struct writing *w, bool whole)
{
    uint32_t n = whole ? w->desc->n_whole : w->desc->n_pairs, counts[GRAFT_ALL_TARGETS] = {0};
    bool of_experts[GRAFT_ALL_TARGETS] = {false};
    for (uint32_t i = 0; i < n; i++) {
        if (!whole || !w->desc->whole[i].base_copy) {
            counts[whole ? w->desc->whole[i].target : w->desc->pairs[i].target]++;
        }
        if (!whole) {
            of_experts[w->desc->pairs[i].target] = w->desc->pairs[i].expert > 0;
        }
    }
    for (unsigned target = 0; target < GRAFT_ALL_TARGETS; target++) {
        enum graft_target own = whole_name((enum graft_target)target, w);
        char module[GRAFT_ADAPTER_NAME_BYTES];
        uint64_t all = (uint64_t)w->n_layer * (of_experts[target] ? w->desc->n_expert : 1);
        if (counts[target] && (!graft_target_of_layer(own) || counts[target] == all)) {
            graft_adapter_module(own, 0, of_experts[target], w->mixtral, module);
            const char *last = strrchr(module, '.');
            // "norm" would name every norm: PEFT compares the ends of names
            const char *name = own == GRAFT_TARGET_OUTPUT_NORM || !last ? module : last + 1;
            if (json_array_append_new(out, json_string(name)) != 0) {
                return no_memory();
            }
            counts[target] = 0;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        enum graft_target target = whole ? w->desc->whole[i].target : w->desc->pairs[i].target;
        char module[GRAFT_ADAPTER_NAME_BYTES];
        if (counts[target] == 0 || (whole && w->desc->whole[i].base_copy)) {
            continue;
        }
        graft_adapter_module(whole_name(target, w), whole ? w->desc->whole[i].layer : w->desc->pairs[i].layer,
                             whole ? 0 : w->desc->pairs[i].expert, w->mixtral, module);
        if (json_array_append_new(out, json_string(module)) != 0) {
            return no_memory();
        }
    }
    return GRAFT_OK;
}

// The switches are for all pairs: do they agree? *dora, *bias: what they say.
static enum graft_status check_switches(const struct graft_adapter_desc *desc, bool *dora, bool *bias)
{
    *dora = desc->pairs[0].magnitude.data != NULL;
    *bias = desc->pairs[0].bias.data != NULL;
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        const struct graft_adapter_pair *pair = &desc->pairs[i];
        char module[GRAFT_ADAPTER_NAME_BYTES];
        graft_adapter_module(pair->target, pair->layer, pair->expert, desc->mixtral_names, module);
        if ((pair->magnitude.data != NULL) != *dora || (pair->bias.data != NULL) != *bias) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "%s differs from other modules in whether it has a magnitude vector (DoRA) or a bias "
                              "(lora_bias); PEFT has one switch for all",
                              module);
        }
        if ((*dora && *bias) || (*bias && pair->target == GRAFT_TARGET_EMBED)) {
            return graft_fail(GRAFT_E_UNSUPPORTED, "%s has a bias (lora_bias) %s, which PEFT does not have", module,
                              *dora ? "and a magnitude vector (DoRA)" : "on embeddings");
        }
    }
    return GRAFT_OK;
}

static enum graft_status fill(struct writing *w, json_t *config)
{
    const struct graft_adapter_desc *desc = w->desc;
    bool dora, bias;
    json_t *targets = json_array(), *saved = json_array(), *tokens = json_array();
    int failed = 0;
    enum graft_status status;
    GRAFT_TRY_OUT(check_switches(desc, &dora, &bias), status, out);
    choose(w);
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        if (!w->done[i] && (desc->pairs[i].rank != w->rank || w->alphas[i] != w->alpha)) {
            GRAFT_TRY_OUT(add_pattern(w, i), status, out);
        }
    }
    if (json_object_size(w->ranks) > GRAFT_ADAPTER_MAX_PATTERNS ||
        json_object_size(w->alpha_pattern) > GRAFT_ADAPTER_MAX_PATTERNS) {
        status =
            graft_fail(GRAFT_E_LIMIT, "the adapter's ranks and scales need more than %d patterns", GRAFT_ADAPTER_MAX_PATTERNS);
        goto out;
    }
    GRAFT_TRY_OUT(list_modules(targets, w, false), status, out);
    GRAFT_TRY_OUT(list_modules(saved, w, true), status, out);
    for (uint32_t i = 0; i < desc->n_alora; i++) {
        failed |= json_array_append_new(tokens, json_integer(desc->alora[i]));
    }
    failed |= json_object_set_new(config, "peft_type", json_string("LORA"));
    failed |= json_object_set_new(config, "task_type", json_string("CAUSAL_LM"));
    failed |=
        json_object_set_new(config, "base_model_name_or_path", desc->base_name[0] ? json_string(desc->base_name) : json_null());
    failed |= json_object_set_new(config, "inference_mode", json_true());
    failed |= json_object_set_new(config, "bias", json_string("none"));
    failed |= json_object_set_new(config, "fan_in_fan_out", json_false());
    failed |= json_object_set_new(config, "lora_dropout", json_real(0));
    failed |= json_object_set_new(config, "r", json_integer((json_int_t)w->rank));
    failed |= json_object_set_new(config, "lora_alpha", number(w->alpha));
    failed |= json_object_set(config, "rank_pattern", w->ranks);
    failed |= json_object_set(config, "alpha_pattern", w->alpha_pattern);
    failed |= json_object_set(config, "target_modules", targets);
    failed |= json_object_set_new(config, "modules_to_save", json_array_size(saved) ? json_incref(saved) : json_null());
    failed |= json_object_set_new(config, "use_rslora", json_boolean(desc->use_rslora));
    if (dora) {
        failed |= json_object_set_new(config, "use_dora", json_true());
    }
    if (bias) {
        failed |= json_object_set_new(config, "lora_bias", json_true());
    }
    if (desc->n_alora) {
        failed |= json_object_set(config, "alora_invocation_tokens", tokens);
    }
    status = failed ? no_memory() : GRAFT_OK;
out:
    json_decref(targets);
    json_decref(saved);
    json_decref(tokens);
    return status;
}

enum graft_status graft_adapter_config_write(const struct graft_adapter_desc *desc, const struct graft_adapter_base *base,
                                             char **text, uint64_t *bytes)
{
    struct writing w = {
        .desc = desc, .n_layer = base ? base->n_layer : 0, .ranks = json_object(), .alpha_pattern = json_object()};
    w.mixtral = desc->mixtral_names || (base && base->mixtral);
    w.post_norms = graft_adapter_pre_norms(desc, base);
    json_t *config = json_object();
    enum graft_status status;
    *text = NULL;
    GRAFT_TRY_OUT(GRAFT_NEW(desc->ctx, GRAFT_MEM_HOST, &w.alphas, desc->n_pairs, "an adapter's alphas"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(desc->ctx, GRAFT_MEM_HOST, &w.done, desc->n_pairs, "an adapter's patterns"), status, out);
    for (uint32_t i = 0; i < desc->n_pairs && (!base || base->n_layer == 0); i++) { // as many as there seem to be
        bool layered = graft_target_of_layer(desc->pairs[i].target);
        w.n_layer = layered && desc->pairs[i].layer >= w.n_layer ? desc->pairs[i].layer + 1 : w.n_layer;
    }
    GRAFT_TRY_OUT(fill(&w, config), status, out);
    const size_t flags = JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(digits(&w));
    size_t length = json_dumpb(config, NULL, 0, flags);
    if (length == 0) {
        status = no_memory();
        goto out;
    }
    if (length + 1 > GRAFT_ADAPTER_CONFIG_MAX_BYTES) {
        status = graft_fail(GRAFT_E_LIMIT, "the adapter's configuration has %zu bytes, allowed are %d", length + 1,
                            GRAFT_ADAPTER_CONFIG_MAX_BYTES);
        goto out;
    }
    GRAFT_TRY_OUT(graft_alloc(desc->ctx, GRAFT_MEM_HOST, (void **)text, length + 2, 1, "an adapter's configuration"), status,
                  out);
    if (json_dumpb(config, *text, length, flags) != length) {
        GRAFT_FREE(desc->ctx, text);
        status = no_memory();
        goto out;
    }
    (*text)[length] = '\n';
    *bytes = length + 1;
out:
    json_decref(config);
    json_decref(w.ranks);
    json_decref(w.alpha_pattern);
    GRAFT_FREE(desc->ctx, &w.alphas);
    GRAFT_FREE(desc->ctx, &w.done);
    return status;
}
