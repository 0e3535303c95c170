// SPDX-License-Identifier: Apache-2.0
// The reader of adapter_config.json: one table says what each key may be.
#include "loaders/adapter_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "loaders/safetensors.h"
#include "platform/bytes.h"

enum { SHOWN_BYTES = 160 };

enum rule {
    RULE_READ,  // read by name below
    RULE_ANY,   // changes nothing at inference
    RULE_EMPTY, // null, false, {} or []
    RULE_NAMES, // null, a text, or a list of texts: the tensors present decide
    RULE_LAYERS // null, a whole number, or a list of them: the same
};

static const struct {
    const char *name;
    enum rule rule;
} known_keys[] = {
    {"peft_type", RULE_READ},
    {"r", RULE_READ},
    {"lora_alpha", RULE_READ},
    {"use_rslora", RULE_READ},
    {"use_dora", RULE_READ},
    {"lora_bias", RULE_READ},
    {"rank_pattern", RULE_READ},
    {"alpha_pattern", RULE_READ},
    {"bias", RULE_READ},
    {"task_type", RULE_READ},
    {"init_lora_weights", RULE_READ},
    {"base_model_name_or_path", RULE_READ},
    {"alora_invocation_tokens", RULE_READ},
    // training, or where things came from
    {"auto_mapping", RULE_ANY},
    {"inference_mode", RULE_ANY},
    {"lora_dropout", RULE_ANY},
    {"peft_version", RULE_ANY},
    {"revision", RULE_ANY},
    {"eva_config", RULE_ANY},
    {"runtime_config", RULE_ANY},
    {"merge_weights", RULE_ANY},
    {"fan_in_fan_out", RULE_ANY}, // PEFT sets it to false for linear layers, and a llama has no others
    // options of features that other keys turn on
    {"megatron_core", RULE_ANY},
    {"qalora_group_size", RULE_ANY},
    {"target_modules", RULE_NAMES},
    {"exclude_modules", RULE_NAMES},
    {"layers_pattern", RULE_NAMES},
    {"layers_to_transform", RULE_LAYERS},
    {"modules_to_save", RULE_NAMES},
    {"megatron_config", RULE_EMPTY},
    {"trainable_token_indices", RULE_EMPTY},
    {"loftq_config", RULE_EMPTY},
    {"corda_config", RULE_EMPTY},
    {"lora_ga_config", RULE_EMPTY},
    {"velora_config", RULE_EMPTY},
    {"use_qalora", RULE_EMPTY},
    {"monteclora_config", RULE_EMPTY},
    {"layer_replication", RULE_EMPTY},
    {"target_parameters", RULE_READ},
    {"use_bdlora", RULE_EMPTY},
    {"arrow_config", RULE_EMPTY},
    {"kasa_config", RULE_EMPTY},
    {"ensure_weight_tying", RULE_EMPTY},
    {"enable_lora", RULE_EMPTY},
};

// A value as JSON text without control characters; a long one as its kind.
static const char *show(const json_t *value, char out[SHOWN_BYTES])
{
    size_t length =
        json_dumpb(value, out, SHOWN_BYTES - 1, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
    if (length == 0 || length >= SHOWN_BYTES) {
        snprintf(out, SHOWN_BYTES, "a long %s", json_is_string(value) ? "text" : json_is_array(value) ? "list" : "object");
    } else {
        out[length] = '\0';
    }
    return out;
}

static const char *show_text(const char *text, char out[SHOWN_BYTES])
{
    json_t *value = json_string(text);
    show(value, out);
    json_decref(value);
    return out;
}

static enum graft_status refuse(const char *file, const char *key, const json_t *value, const char *allowed)
{
    char shown[SHOWN_BYTES];
    return graft_fail(GRAFT_E_UNSUPPORTED, "%s: %s is %s, %s", file, key, show(value, shown), allowed);
}

static bool list_of(const json_t *value, json_type type)
{
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (json_typeof(json_array_get(value, i)) != type) {
            return false;
        }
    }
    return json_is_array(value);
}

static enum graft_status check_key(const char *key, const json_t *value, const char *file)
{
    for (size_t i = 0; i < sizeof known_keys / sizeof *known_keys; i++) {
        if (strcmp(known_keys[i].name, key) != 0) {
            continue;
        }
        bool empty = json_is_null(value) || json_is_false(value) || (json_is_object(value) && json_object_size(value) == 0) ||
                     (json_is_array(value) && json_array_size(value) == 0);
        switch (known_keys[i].rule) {
        case RULE_READ:
        case RULE_ANY:
            return GRAFT_OK;
        case RULE_EMPTY:
            return empty ? GRAFT_OK
                         : refuse(file, key, value, "which is not supported: it must be absent, null, false or empty");
        case RULE_NAMES:
            if (json_is_null(value) || json_is_string(value) || list_of(value, JSON_STRING)) {
                return GRAFT_OK;
            }
            return refuse(file, key, value, "allowed are null, a text or a list of texts");
        case RULE_LAYERS:
            if (json_is_null(value) || json_is_integer(value) || list_of(value, JSON_INTEGER)) {
                return GRAFT_OK;
            }
            return refuse(file, key, value, "allowed are null, a whole number or a list of them");
        }
    }
    char name[SHOWN_BYTES], shown[SHOWN_BYTES];
    return graft_fail(GRAFT_E_UNSUPPORTED, "%s: key %s with value %s is not known to this version", file, show_text(key, name),
                      show(value, shown));
}

// true or false; absent: false.
static enum graft_status read_bool(const json_t *json, const char *key, const char *file, bool *out)
{
    const json_t *value = json_object_get(json, key);
    if (value && !json_is_boolean(value)) {
        return refuse(file, key, value, "allowed are true and false");
    }
    *out = json_is_true(value);
    return GRAFT_OK;
}

static enum graft_status read_rank(const json_t *value, const char *key, const char *file, uint32_t *out)
{
    char shown[SHOWN_BYTES];
    json_int_t rank = json_integer_value(value);
    if (!json_is_integer(value) || rank < 1 || rank > GRAFT_ADAPTER_MAX_RANK) {
        return graft_fail(rank > GRAFT_ADAPTER_MAX_RANK ? GRAFT_E_LIMIT : GRAFT_E_FORMAT,
                          "%s: %s is %s, allowed are ranks 1 to %d", file, key, value ? show(value, shown) : "missing",
                          GRAFT_ADAPTER_MAX_RANK);
    }
    *out = (uint32_t)rank;
    return GRAFT_OK;
}

// Scales are f32 in the end: alpha must be a normal f32, even over a rank of 256.
static enum graft_status read_alpha(const json_t *value, const char *key, const char *file, double *out)
{
    char shown[SHOWN_BYTES];
    double alpha = json_number_value(value);
    if (!json_is_number(value) || !(alpha >= 1e-30 && alpha <= 1e30)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s is %s, allowed are numbers above 0, at most 1e30", file, key,
                          value ? show(value, shown) : "missing");
    }
    *out = alpha;
    return GRAFT_OK;
}

static enum graft_status read_pattern(const json_t *json, const char *key, bool ranks, const char *file,
                                      struct graft_adapter_patterns *out)
{
    json_t *pattern = json_object_get(json, key), *value;
    const char *name;
    char shown[SHOWN_BYTES], label[SHOWN_BYTES + 32];
    if (!pattern || json_is_null(pattern)) {
        return GRAFT_OK;
    }
    if (!json_is_object(pattern)) {
        return refuse(file, key, pattern, "allowed is an object");
    }
    json_object_foreach(pattern, name, value)
    {
        snprintf(label, sizeof label, "%s[%s]", key, show_text(name, shown));
        uint32_t rank;
        double alpha;
        GRAFT_TRY(ranks ? read_rank(value, label, file, &rank) : read_alpha(value, label, file, &alpha));
    }
    return graft_adapter_patterns_read(out, pattern, key, file);
}

static enum graft_status read_alora(struct graft_adapter_config *config, const char *file)
{
    const json_t *tokens = json_object_get(config->json, "alora_invocation_tokens");
    size_t count = json_array_size(tokens);
    if (!tokens || json_is_null(tokens)) {
        return GRAFT_OK;
    }
    if (!list_of(tokens, JSON_INTEGER) || count < 1 || count > GRAFT_ADAPTER_MAX_ALORA) {
        return refuse(file, "alora_invocation_tokens", tokens, "allowed are null and a list of 1 to 64 token ids");
    }
    for (size_t i = 0; i < count; i++) {
        json_int_t id = json_integer_value(json_array_get(tokens, i));
        if (id < 0 || id > INT32_MAX) {
            return refuse(file, "alora_invocation_tokens", tokens, "allowed are token ids");
        }
        config->alora[config->n_alora++] = (int32_t)id;
    }
    return GRAFT_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0 && (length == tail || text[length - tail - 1] == '.');
}

// Parameters that are trained as such. Those of a linear layer are what the layer is (PEFT: a 2-dimensional parameter, computed
// as lora.Linear), those that hold a matrix per expert have shapes of their own. What the tensors are decides; the names tell
// the experts' apart.
static enum graft_status read_parameters(struct graft_adapter_config *config, const char *file)
{
    const json_t *list = json_object_get(config->json, "target_parameters");
    if (!list || json_is_null(list)) {
        return GRAFT_OK;
    }
    if (!list_of(list, JSON_STRING)) {
        return refuse(file, "target_parameters", list, "allowed are null and a list of texts");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        bool up = ends_with(name, "gate_up_proj"), down = ends_with(name, "down_proj");
        if (!up && !down && !ends_with(name, "weight")) {
            return refuse(file, "target_parameters", list,
                          "supported are experts.gate_up_proj, experts.down_proj and the weight of a linear layer or router");
        }
        config->experts_up = config->experts_up || up;
        config->experts_down = config->experts_down || down;
    }
    return GRAFT_OK;
}

// A text of a list, or absent or null if `absent`.
static enum graft_status one_of(const json_t *json, const char *key, const char *const *allowed, bool absent,
                                const char *sentence, const char *file)
{
    const json_t *value = json_object_get(json, key);
    if (!value || json_is_null(value)) {
        return absent ? GRAFT_OK : graft_fail(GRAFT_E_FORMAT, "%s: %s is missing, %s", file, key, sentence);
    }
    for (; *allowed; allowed++) {
        if (json_is_string(value) && strcmp(json_string_value(value), *allowed) == 0) {
            return GRAFT_OK;
        }
    }
    return refuse(file, key, value, sentence);
}

static enum graft_status read_base_name(struct graft_adapter_config *config, const char *file)
{
    const json_t *value = json_object_get(config->json, "base_model_name_or_path");
    if (!value || json_is_null(value)) {
        return GRAFT_OK;
    }
    if (!json_is_string(value)) {
        return refuse(file, "base_model_name_or_path", value, "allowed are null and a text");
    }
    snprintf(config->base_name, sizeof config->base_name, "%s", json_string_value(value));
    size_t length = strlen(config->base_name);
    while (length > 0 && !graft_utf8_valid((const uint8_t *)config->base_name, length)) {
        config->base_name[--length] = '\0'; // a cut character
    }
    for (char *p = config->base_name; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = '?';
        }
    }
    return GRAFT_OK;
}

enum graft_status graft_adapter_config_read(struct graft_adapter_config *config, const char *text, uint64_t size,
                                            const char *file)
{
    *config = (struct graft_adapter_config){0};
    if (size > GRAFT_ADAPTER_CONFIG_MAX_BYTES) {
        return graft_fail(GRAFT_E_LIMIT, "%s: has %" PRIu64 " bytes, allowed are %d", file, size,
                          GRAFT_ADAPTER_CONFIG_MAX_BYTES);
    }
    GRAFT_TRY(graft_json_load(&config->json, text, size, file, "the configuration"));
    json_t *json = config->json, *value;
    const char *key;
    if (!json_is_object(json)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: is no JSON object", file);
    }
    GRAFT_TRY(one_of(json, "peft_type", (const char *const[]){"LORA", NULL}, false, "only LORA is supported", file));
    json_object_foreach(json, key, value)
    {
        GRAFT_TRY(check_key(key, value, file));
    }
    GRAFT_TRY(one_of(json, "task_type", (const char *const[]){"CAUSAL_LM", NULL}, true, "only CAUSAL_LM is supported", file));
    GRAFT_TRY(one_of(json, "bias", (const char *const[]){"none", NULL}, true, "only \"none\" is supported", file));
    const json_t *init = json_object_get(json, "init_lora_weights");
    if (!json_is_boolean(init)) {
        GRAFT_TRY(one_of(json, "init_lora_weights", (const char *const[]){"gaussian", "eva", "orthogonal", NULL}, true,
                         "which also changes the base's weights and is not supported", file));
    }
    GRAFT_TRY(read_rank(json_object_get(json, "r"), "r", file, &config->r));
    GRAFT_TRY(read_alpha(json_object_get(json, "lora_alpha"), "lora_alpha", file, &config->alpha));
    GRAFT_TRY(read_bool(json, "use_rslora", file, &config->use_rslora));
    GRAFT_TRY(read_bool(json, "use_dora", file, &config->use_dora));
    GRAFT_TRY(read_bool(json, "lora_bias", file, &config->lora_bias));
    GRAFT_TRY(read_pattern(json, "rank_pattern", true, file, &config->ranks));
    GRAFT_TRY(read_pattern(json, "alpha_pattern", false, file, &config->alphas));
    GRAFT_TRY(read_alora(config, file));
    GRAFT_TRY(read_parameters(config, file));
    return read_base_name(config, file);
}

void graft_adapter_config_free(struct graft_adapter_config *config)
{
    graft_adapter_patterns_free(&config->ranks);
    graft_adapter_patterns_free(&config->alphas);
    json_decref(config->json);
    config->json = NULL;
}

enum graft_status graft_adapter_config_module(const struct graft_adapter_config *config, const char *module, uint32_t *rank,
                                              float *scale)
{
    const json_t *r, *a;
    GRAFT_TRY(graft_adapter_patterns_find(&config->ranks, module, &r));
    GRAFT_TRY(graft_adapter_patterns_find(&config->alphas, module, &a));
    *rank = r ? (uint32_t)json_integer_value(r) : config->r;
    double alpha = a ? json_number_value(a) : config->alpha;
    *scale = (float)(alpha / (config->use_rslora ? sqrt((double)*rank) : (double)*rank));
    return GRAFT_OK;
}
