// SPDX-License-Identifier: Apache-2.0
// PEFT adapters: adapter_model.safetensors and adapter_config.json -> pairs by layer and target.
// Tensor names: PEFT's checkpoint format (huggingface/peft, docs/source/developer_guides/checkpoint.md).
#include "loaders/adapter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/adapter_config.h"
#include "loaders/safetensors.h"
#include "loaders/sha256.h"
#include "platform/bytes.h"

#define MAX_BYTES (UINT64_C(2) << 30)

enum { MODULE_BYTES = 64 };

static const char *const target_names[GRAFT_TARGETS] = {"q_proj",  "k_proj",    "v_proj",       "o_proj", "gate_proj",
                                                        "up_proj", "down_proj", "embed_tokens", "lm_head"};

enum part { PART_A, PART_B, PART_BIAS, PART_MAGNITUDE };

// One tensor and what its name says.
struct named {
    uint32_t layer;
    enum graft_target target;
    enum part part;
    const struct graft_safetensor *tensor;
};

const char *graft_target_name(enum graft_target target)
{
    return (unsigned)target < GRAFT_TARGETS ? target_names[target] : "?";
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

// base_model.model.model.layers.N.BLOCK.TARGET.PART; false if the name is another one.
static bool parse_name(const char *name, struct named *out)
{
    static const char prefix[] = "base_model.model.model.layers.";
    static const struct {
        const char *text;
        enum part part;
    } parts[] = {{".lora_A.weight", PART_A},
                 {".lora_B.weight", PART_B},
                 {".lora_B.bias", PART_BIAS},
                 {".lora_magnitude_vector", PART_MAGNITUDE},
                 {".lora_magnitude_vector.weight", PART_MAGNITUDE}};
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) {
        return false;
    }
    const char *p = name + sizeof prefix - 1, *digits = p;
    uint32_t layer = 0;
    while (*p >= '0' && *p <= '9' && p - digits < 6) {
        layer = layer * 10 + (uint32_t)(*p++ - '0');
    }
    if (p == digits || *p != '.' || (*digits == '0' && p - digits > 1)) {
        return false;
    }
    for (unsigned target = 0; target < GRAFT_LAYER_TARGETS; target++) {
        char module[32];
        int length =
            snprintf(module, sizeof module, ".%s.%s", target < GRAFT_TARGET_GATE ? "self_attn" : "mlp", target_names[target]);
        if (strncmp(p, module, (size_t)length) != 0) {
            continue;
        }
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            if (strcmp(p + length, parts[i].text) == 0) {
                out->layer = layer;
                out->target = (enum graft_target)target;
                out->part = parts[i].part;
                return true;
            }
        }
    }
    return false;
}

static int by_pair(const void *left, const void *right)
{
    const struct named *a = left, *b = right;
    if (a->layer != b->layer) {
        return a->layer < b->layer ? -1 : 1;
    }
    return a->target != b->target ? (int)a->target - (int)b->target : (int)a->part - (int)b->part;
}

// Every value must be finite. *zero: all of them are 0.
static enum graft_status check_values(const struct graft_safetensor *t, const char *file, bool *zero)
{
    uint32_t any = 0;
    uint64_t values = t->rows * t->cols;
    bool wide = t->type == GRAFT_TYPE_F32;
    uint32_t exponent = wide ? 0x7f800000u : t->type == GRAFT_TYPE_F16 ? 0x7c00u : 0x7f80u;
    uint32_t mantissa = wide ? 0x007fffffu : t->type == GRAFT_TYPE_F16 ? 0x03ffu : 0x007fu;
    for (uint64_t i = 0; i < values; i++) {
        uint32_t bits = wide ? graft_load_u32(t->data + 4 * i) : graft_load_u16(t->data + 2 * i);
        if ((bits & exponent) == exponent) {
            return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s has %s at index %" PRIu64 ", all values must be finite", file,
                              t->name, bits & mantissa ? "NaN" : "Inf", i);
        }
        any |= bits & (exponent | mantissa);
    }
    *zero = any == 0;
    return GRAFT_OK;
}

static struct graft_adapter_view view_of(const struct graft_safetensor *t)
{
    return (struct graft_adapter_view){.data = t->data, .type = t->type, .rows = t->rows, .cols = t->cols};
}

// A vector of a pair: one value for each of B's rows; [n] or [n, 1].
static enum graft_status check_vector(const struct graft_safetensor *t, const struct graft_safetensor *b, const char *file)
{
    if ((t->n_dims == 2 && t->cols != 1) || t->rows * t->cols != b->rows) {
        return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s has shape %" PRIu64 " x %" PRIu64 ", %s has %" PRIu64 " rows", file,
                          t->name, t->rows, t->cols, b->name, b->rows);
    }
    return GRAFT_OK;
}

// The tensors of one layer and target -> pair. parts: by enum part, NULL if absent, at least one is there.
static enum graft_status make_pair(struct graft_adapter_desc *desc, const struct named *first,
                                   const struct graft_safetensor *const parts[4], const struct graft_adapter_config *config,
                                   const char *file)
{
    const struct graft_safetensor *a = parts[PART_A], *b = parts[PART_B], *bias = parts[PART_BIAS],
                                  *magnitude = parts[PART_MAGNITUDE];
    struct graft_adapter_pair *pair = &desc->pairs[desc->n_pairs];
    *pair = (struct graft_adapter_pair){.target = first->target, .layer = first->layer};
    char module[MODULE_BYTES];
    snprintf(module, sizeof module, "model.layers.%u.%s.%s", first->layer,
             first->target < GRAFT_TARGET_GATE ? "self_attn" : "mlp", target_names[first->target]);
    graft_adapter_config_module(config, module, &pair->rank, &pair->scale);
    if (!a || !b) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s has no lora_%s.weight beside %s", file, module, a ? "B" : "A",
                          first->tensor->name);
    }
    if (a->n_dims != 2 || b->n_dims != 2 || a->rows != b->cols) {
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: %s has A of shape %" PRIu64 " x %" PRIu64 " and B of shape %" PRIu64 " x %" PRIu64
                          ", A's rows must be B's columns",
                          file, module, a->rows, a->cols, b->rows, b->cols);
    }
    if (a->rows != pair->rank) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s has rank %" PRIu64 ", the configuration says %u", file, module, a->rows,
                          pair->rank);
    }
    if (!bias != !config->lora_bias || !magnitude != !config->use_dora) {
        bool of_bias = !bias != !config->lora_bias;
        return graft_fail(GRAFT_E_FORMAT, "%s: %s has %s %s, the configuration says %s %s", file, module,
                          (of_bias ? bias : magnitude) ? "a" : "no", of_bias ? "lora_B.bias" : "lora_magnitude_vector",
                          of_bias ? "lora_bias" : "use_dora",
                          (of_bias ? config->lora_bias : config->use_dora) ? "true" : "false");
    }
    for (unsigned i = 0; i < 4; i++) {
        bool zero;
        if (!parts[i]) {
            continue;
        }
        if (i == PART_BIAS || i == PART_MAGNITUDE) {
            GRAFT_TRY(check_vector(parts[i], b, file));
        }
        GRAFT_TRY(check_values(parts[i], file, &zero));
        if (zero && i == PART_B) {
            graft_log(desc->ctx, GRAFT_LOG_WARN, "%s: tensor %s is all zeros and changes nothing", file, b->name);
        }
        desc->n_parameters += parts[i]->rows * parts[i]->cols;
    }
    pair->a = view_of(a);
    pair->b = view_of(b);
    pair->bias = bias ? view_of(bias) : pair->bias;
    pair->magnitude = magnitude ? view_of(magnitude) : pair->magnitude;
    // [n, 1] is a vector too
    pair->bias.cols *= pair->bias.rows;
    pair->magnitude.cols *= pair->magnitude.rows;
    pair->bias.rows = pair->bias.data ? 1 : 0;
    pair->magnitude.rows = pair->magnitude.data ? 1 : 0;
    desc->max_rank = pair->rank > desc->max_rank ? pair->rank : desc->max_rank;
    desc->n_pairs++;
    return GRAFT_OK;
}

static enum graft_status make_pairs(struct graft_adapter_desc *desc, const struct graft_safetensors *st, struct named *named,
                                    const struct graft_adapter_config *config, const char *file)
{
    for (uint64_t i = 0; i < st->n_tensors; i++) {
        named[i].tensor = &st->tensors[i];
        if (!parse_name(st->tensors[i].name, &named[i])) {
            return graft_fail(
                GRAFT_E_UNSUPPORTED,
                "%s: tensor %s is not supported; known are base_model.model.model.layers.N, then self_attn with q_proj, "
                "k_proj, v_proj, o_proj or mlp with gate_proj, up_proj, down_proj, then lora_A.weight or lora_B.weight",
                file, st->tensors[i].name);
        }
    }
    if (st->n_tensors == 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: has no tensors", file);
    }
    qsort(named, (size_t)st->n_tensors, sizeof *named, by_pair);
    for (uint64_t i = 0, next; i < st->n_tensors; i = next) {
        const struct graft_safetensor *parts[4] = {0};
        for (next = i; next < st->n_tensors && named[next].layer == named[i].layer && named[next].target == named[i].target;
             next++) {
            if (parts[named[next].part]) {
                return graft_fail(GRAFT_E_FORMAT, "%s: tensors %s and %s are the same thing", file,
                                  parts[named[next].part]->name, named[next].tensor->name);
            }
            parts[named[next].part] = named[next].tensor;
        }
        GRAFT_TRY(make_pair(desc, &named[i], parts, config, file));
    }
    return GRAFT_OK;
}

// desc->bytes and the configuration's text -> everything else. The names are for errors.
static enum graft_status read_peft(struct graft_adapter_desc *desc, const char *file, const char *config_text,
                                   uint64_t config_bytes, const char *config_file)
{
    struct graft_ctx *ctx = desc->ctx;
    struct graft_adapter_config config = {0};
    struct graft_safetensors *st = NULL;
    struct named *named = NULL;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_adapter_config_read(&config, config_text, config_bytes, config_file), status, out);
    GRAFT_TRY_OUT(graft_safetensors_open(ctx, &st, desc->bytes, desc->n_bytes, file), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &named, st->n_tensors, "an adapter's tensor names"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &desc->pairs, st->n_tensors, "an adapter's matrices"), status, out);
    GRAFT_TRY_OUT(make_pairs(desc, st, named, &config, file), status, out);
    memcpy(desc->base_name, config.base_name, sizeof desc->base_name);
    memcpy(desc->alora, config.alora, sizeof desc->alora);
    desc->n_alora = config.n_alora;
    struct graft_sha256 hash;
    graft_sha256_begin(&hash);
    graft_sha256_add(&hash, desc->bytes, desc->n_bytes);
    graft_sha256_add(&hash, config_text, config_bytes);
    graft_sha256_end(&hash, desc->digest);
out:
    GRAFT_FREE(ctx, &named);
    graft_safetensors_close(&st);
    graft_adapter_config_free(&config);
    return status;
}

static enum graft_status join(struct graft_ctx *ctx, char **out, const char *folder, size_t length, const char *name)
{
    bool slash = length > 0 && folder[length - 1] != '/';
    GRAFT_TRY(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)out, length + strlen(name) + 2, 1, "a path"));
    memcpy(*out, folder, length);
    snprintf(*out + length, strlen(name) + 2, "%s%s", slash ? "/" : "", name);
    return GRAFT_OK;
}

static bool is_pickle_name(const char *path)
{
    return ends_with(path, ".bin") || ends_with(path, ".pt") || ends_with(path, ".pth") || ends_with(path, ".ckpt") ||
           ends_with(path, ".pkl");
}

static enum graft_status refuse_pickle(const char *path)
{
    return graft_fail(
        GRAFT_E_UNSUPPORTED,
        "%s: is a PyTorch pickle, which can run code and is not read; save the adapter again with safe_serialization=True",
        path);
}

// The tensor file could not be read: say so, and whether a pickle lies in its place.
static enum graft_status explain_missing(struct graft_ctx *ctx, enum graft_status status, const char *folder, size_t length)
{
    char *pickle, *text = NULL;
    uint64_t size;
    if (status != GRAFT_E_IO || join(ctx, &pickle, folder, length, "adapter_model.bin") != GRAFT_OK) {
        return status;
    }
    char detail[512];
    snprintf(detail, sizeof detail, "%s", graft_last_error());
    enum graft_status found = graft_file_read(ctx, pickle, 0, &text, &size); // at most 0 bytes: only asks whether it is there
    GRAFT_FREE(ctx, &text);
    status = found == GRAFT_OK || found == GRAFT_E_LIMIT ? refuse_pickle(pickle) : graft_fail(status, "%s", detail);
    GRAFT_FREE(ctx, &pickle);
    return status;
}

enum graft_status graft_adapter_read(struct graft_ctx *ctx, struct graft_adapter_desc **out, const char *path)
{
    *out = NULL;
    if (is_pickle_name(path)) {
        return refuse_pickle(path);
    }
    if (ends_with(path, ".gguf")) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: GGUF adapters are not supported by this version", path);
    }
    struct graft_adapter_desc *desc;
    char *file = NULL, *config_file = NULL, *config_text = NULL;
    uint64_t config_bytes;
    bool is_file = ends_with(path, ".safetensors");
    const char *slash = is_file ? strrchr(path, '/') : NULL;
    size_t folder = !is_file ? strlen(path) : slash ? (size_t)(slash - path) + 1 : 0;
    enum graft_status status;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &desc, 1, "an adapter"));
    desc->ctx = ctx;
    if (is_file) {
        GRAFT_TRY_OUT(graft_strdup(ctx, &file, path, strlen(path)), status, out);
    } else {
        GRAFT_TRY_OUT(join(ctx, &file, path, folder, "adapter_model.safetensors"), status, out);
    }
    GRAFT_TRY_OUT(join(ctx, &config_file, path, folder, "adapter_config.json"), status, out);
    GRAFT_TRY_OUT(graft_file_read(ctx, config_file, GRAFT_ADAPTER_CONFIG_MAX_BYTES, &config_text, &config_bytes), status, out);
    status = graft_file_read(ctx, file, MAX_BYTES, (char **)&desc->bytes, &desc->n_bytes);
    if (status != GRAFT_OK) {
        status = explain_missing(ctx, status, path, folder);
        goto out;
    }
    status = read_peft(desc, file, config_text, config_bytes, config_file);
out:
    GRAFT_FREE(ctx, &config_text);
    GRAFT_FREE(ctx, &config_file);
    GRAFT_FREE(ctx, &file);
    if (status != GRAFT_OK) {
        graft_adapter_free(&desc);
    }
    *out = desc;
    return status;
}

void graft_adapter_free(struct graft_adapter_desc **desc)
{
    if (!desc || !*desc) {
        return;
    }
    struct graft_ctx *ctx = (*desc)->ctx;
    GRAFT_FREE(ctx, &(*desc)->pairs);
    GRAFT_FREE(ctx, &(*desc)->whole);
    GRAFT_FREE(ctx, &(*desc)->bytes);
    GRAFT_FREE(ctx, desc);
}
