// SPDX-License-Identifier: Apache-2.0
// PEFT adapters: adapter_model.safetensors and adapter_config.json -> pairs by layer and target.
// Tensor names: PEFT's checkpoint format (huggingface/peft, docs/source/developer_guides/checkpoint.md).
#include "loaders/adapter.h"

#include <stdio.h>
#include <string.h>

#include "loaders/adapter_build.h"
#include "loaders/minisign.h"
#include "loaders/safetensors.h"
#include "loaders/sha256.h"
#include "platform/bytes.h"

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

struct suffix {
    const char *text;
    enum graft_adapter_part part;
};

// The part whose suffix `text` is; false if it is none of them.
static bool parse_part(const char *text, const struct suffix *list, size_t n, enum graft_adapter_part *out)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(text, list[i].text) == 0) {
            *out = list[i].part;
            return true;
        }
    }
    return false;
}

// Behind "base_model.model.model.layers.N": .BLOCK.TARGET.PART, or a norm's gain.
static bool parse_layer_name(const char *p, struct graft_adapter_tensor *out)
{
    static const struct suffix parts[] = {{".lora_A.weight", GRAFT_ADAPTER_A},
                                          {".lora_B.weight", GRAFT_ADAPTER_B},
                                          {".lora_B.bias", GRAFT_ADAPTER_BIAS},
                                          {".lora_magnitude_vector", GRAFT_ADAPTER_MAGNITUDE},
                                          {".lora_magnitude_vector.weight", GRAFT_ADAPTER_MAGNITUDE}};
    for (unsigned target = 0; target < GRAFT_ALL_TARGETS; target++) {
        char module[64];
        bool norm = target == GRAFT_TARGET_ATTN_NORM || target == GRAFT_TARGET_FFN_NORM;
        bool attention = target < GRAFT_TARGET_GATE || target == GRAFT_TARGET_QKV;
        const char *block = norm ? "" : attention ? ".self_attn" : ".mlp";
        int length = snprintf(module, sizeof module, "%s.%s%s", block,
                              graft_target_name((enum graft_target)target), norm ? ".weight" : "");
        bool outside = target == GRAFT_TARGET_EMBED || target == GRAFT_TARGET_HEAD || target == GRAFT_TARGET_OUTPUT_NORM;
        if (outside || strncmp(p, module, (size_t)length) != 0) {
            continue;
        }
        out->target = (enum graft_target)target;
        out->part = GRAFT_ADAPTER_WHOLE;
        if (norm ? p[length] == '\0' : parse_part(p + length, parts, sizeof parts / sizeof *parts, &out->part)) {
            return true;
        }
    }
    return false;
}

// base_model.model.[model.]MODULE.PART; false if the name is another one.
static bool parse_name(const char *name, struct graft_adapter_tensor *out)
{
    static const char prefix[] = "base_model.model.", layers[] = "model.layers.", embed[] = "model.embed_tokens",
                      head[] = "lm_head";
    static const struct suffix embed_parts[] = {{".lora_embedding_A", GRAFT_ADAPTER_A},
                                                {".lora_embedding_B", GRAFT_ADAPTER_B},
                                                {".lora_magnitude_vector", GRAFT_ADAPTER_MAGNITUDE},
                                                {".base_layer.weight", GRAFT_ADAPTER_BASE_COPY}},
                               head_parts[] = {
                                   {".lora_A.weight", GRAFT_ADAPTER_A},  {".lora_B.weight", GRAFT_ADAPTER_B},
                                   {".lora_B.bias", GRAFT_ADAPTER_BIAS}, {".lora_magnitude_vector", GRAFT_ADAPTER_MAGNITUDE},
                                   {".weight", GRAFT_ADAPTER_WHOLE},     {".base_layer.weight", GRAFT_ADAPTER_BASE_COPY}};
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) {
        return false;
    }
    const char *p = name + sizeof prefix - 1;
    out->layer = 0;
    if (strncmp(p, layers, sizeof layers - 1) == 0) {
        p += sizeof layers - 1;
        return graft_adapter_layer(&p, &out->layer) && parse_layer_name(p, out);
    }
    if (strcmp(p, "model.norm.weight") == 0) {
        out->target = GRAFT_TARGET_OUTPUT_NORM;
        out->part = GRAFT_ADAPTER_WHOLE;
        return true;
    }
    if (strncmp(p, embed, sizeof embed - 1) == 0) {
        out->target = GRAFT_TARGET_EMBED;
        return parse_part(p + sizeof embed - 1, embed_parts, sizeof embed_parts / sizeof *embed_parts, &out->part);
    }
    if (strncmp(p, head, sizeof head - 1) == 0) {
        out->target = GRAFT_TARGET_HEAD;
        return parse_part(p + sizeof head - 1, head_parts, sizeof head_parts / sizeof *head_parts, &out->part);
    }
    return false;
}

// The file's tensors -> tensors of modules, in the same order.
static enum graft_status read_names(const struct graft_safetensors *st, struct graft_adapter_tensor *tensors, const char *file)
{
    for (uint64_t i = 0; i < st->n_tensors; i++) {
        const struct graft_safetensor *t = &st->tensors[i];
        tensors[i].name = t->name;
        tensors[i].n_dims = t->n_dims;
        tensors[i].view = (struct graft_adapter_view){.data = t->data, .type = t->type, .rows = t->rows, .cols = t->cols};
        const char *part = strstr(t->name, ".mlp.experts.") ? "experts of a mixture"
                           : strstr(t->name, ".mlp.gate.")  ? "the router of a mixture of experts"
                                                            : NULL;
        if (part) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "%s: tensor %s changes %s, which is not supported; supported with a mixture of experts are "
                              "q_proj, k_proj, v_proj, o_proj, embed_tokens, lm_head and norms",
                              file, t->name, part);
        }
        if (!parse_name(t->name, &tensors[i])) {
            return graft_fail(
                GRAFT_E_UNSUPPORTED,
                "%s: tensor %s is not supported; known are base_model.model.model.layers.N, then self_attn with q_proj, "
                "k_proj, v_proj, qkv_proj, o_proj or mlp with gate_proj, up_proj, gate_up_proj, down_proj, then "
                "lora_A.weight or lora_B.weight; "
                "embed_tokens and lm_head; and whole norms and lm_head",
                file, t->name);
        }
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
    struct graft_adapter_tensor *tensors = NULL;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_adapter_config_read(&config, config_text, config_bytes, config_file), status, out);
    GRAFT_TRY_OUT(graft_safetensors_open(ctx, &st, desc->bytes, desc->n_bytes, file), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &tensors, st->n_tensors, "an adapter's tensor names"), status, out);
    GRAFT_TRY_OUT(read_names(st, tensors, file), status, out);
    GRAFT_TRY_OUT(graft_adapter_build(desc, tensors, st->n_tensors, &config, 0.0, file), status, out);
    GRAFT_TRY_OUT(graft_adapter_keep_names(desc), status, out);
    memcpy(desc->base_name, config.base_name, sizeof desc->base_name);
    memcpy(desc->alora, config.alora, sizeof desc->alora);
    desc->n_alora = config.n_alora;
    desc->use_rslora = config.use_rslora;
    struct graft_sha256 hash;
    graft_sha256_begin(&hash);
    graft_sha256_add(&hash, desc->bytes, desc->n_bytes);
    graft_sha256_add(&hash, config_text, config_bytes);
    graft_sha256_end(&hash, desc->digest);
out:
    GRAFT_FREE(ctx, &tensors);
    graft_safetensors_close(&st);
    graft_adapter_config_free(&config);
    return status;
}

static enum graft_status join(struct graft_ctx *ctx, char **out, const char *folder, size_t length, const char *name)
{
    bool slash = length > 0 && !graft_path_separator(folder[length - 1]);
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

// Two files are read one after the other: if the folder was replaced between them, they do not belong together.
static enum graft_status check_config_is_the_same(struct graft_ctx *ctx, const char *config_file, const char *text,
                                                  uint64_t bytes)
{
    char *again = NULL;
    uint64_t size = 0;
    GRAFT_TRY(graft_file_read(ctx, config_file, GRAFT_ADAPTER_CONFIG_MAX_BYTES, &again, &size));
    bool same = size == bytes && memcmp(again, text, size) == 0;
    GRAFT_FREE(ctx, &again);
    return same ? GRAFT_OK : graft_fail(GRAFT_E_IO, "%s: changed while the adapter was read", config_file);
}

enum graft_status graft_adapter_read(struct graft_ctx *ctx, struct graft_adapter_desc **out, const char *path)
{
    *out = NULL;
    if (is_pickle_name(path)) {
        return refuse_pickle(path);
    }
    struct graft_adapter_desc *desc;
    char *file = NULL, *config_file = NULL, *config_text = NULL;
    uint64_t config_bytes;
    bool is_file = ends_with(path, ".safetensors");
    size_t folder = is_file ? (size_t)(graft_path_name(path) - path) : strlen(path);
    enum graft_status status;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &desc, 1, "an adapter"));
    desc->ctx = ctx;
    if (ends_with(path, ".gguf")) {
        GRAFT_TRY_OUT(graft_file_read(ctx, path, GRAFT_ADAPTER_MAX_BYTES, (char **)&desc->bytes, &desc->n_bytes), status, out);
        GRAFT_TRY_OUT(graft_check_signed(ctx, path, desc->bytes, desc->n_bytes, desc->signer), status, out);
        status = graft_adapter_read_gguf(desc, path);
        goto out;
    }
    if (is_file) {
        GRAFT_TRY_OUT(graft_strdup(ctx, &file, path, strlen(path)), status, out);
    } else {
        GRAFT_TRY_OUT(join(ctx, &file, path, folder, "adapter_model.safetensors"), status, out);
    }
    GRAFT_TRY_OUT(join(ctx, &config_file, path, folder, "adapter_config.json"), status, out);
    GRAFT_TRY_OUT(graft_file_read(ctx, config_file, GRAFT_ADAPTER_CONFIG_MAX_BYTES, &config_text, &config_bytes), status, out);
    status = graft_file_read(ctx, file, GRAFT_ADAPTER_MAX_BYTES, (char **)&desc->bytes, &desc->n_bytes);
    if (status != GRAFT_OK) {
        status = explain_missing(ctx, status, path, folder);
        goto out;
    }
    GRAFT_TRY_OUT(check_config_is_the_same(ctx, config_file, config_text, config_bytes), status, out);
    const struct graft_listed_file read[2] = {{file, desc->bytes, desc->n_bytes}, {config_file, config_text, config_bytes}};
    GRAFT_TRY_OUT(graft_check_listed(ctx, read, desc->signer), status, out);
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
    GRAFT_FREE(ctx, &(*desc)->names);
    GRAFT_FREE(ctx, &(*desc)->bytes);
    GRAFT_FREE(ctx, desc);
}
