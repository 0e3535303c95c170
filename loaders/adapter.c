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

static const struct suffix matrix_parts[] = {{".lora_A.weight", GRAFT_ADAPTER_A},
                                             {".lora_B.weight", GRAFT_ADAPTER_B},
                                             {".lora_B.bias", GRAFT_ADAPTER_BIAS},
                                             {".lora_magnitude_vector", GRAFT_ADAPTER_MAGNITUDE},
                                             {".lora_magnitude_vector.weight", GRAFT_ADAPTER_MAGNITUDE}};
enum { MATRIX_PARTS = sizeof matrix_parts / sizeof *matrix_parts };

// TARGET.PART of one of the modules; false if the text is another one.
struct module {
    const char *name;
    enum graft_target target;
};

static bool parse_module(const char *p, const struct module *list, size_t n, struct graft_adapter_tensor *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(list[i].name);
        if (strncmp(p, list[i].name, length) == 0 && parse_part(p + length, matrix_parts, MATRIX_PARTS, &out->part)) {
            out->target = list[i].target;
            return true;
        }
    }
    return false;
}

// Behind ".mlp." or ".block_sparse_moe.": a module, a router, a whole router, or an expert's.
static bool parse_feed_forward(const char *p, bool mixtral, struct graft_adapter_tensor *out)
{
    static const struct module dense[] = {{"gate_proj", GRAFT_TARGET_GATE},
                                          {"up_proj", GRAFT_TARGET_UP},
                                          {"down_proj", GRAFT_TARGET_DOWN},
                                          {"gate_up_proj", GRAFT_TARGET_GATE_UP},
                                          {"gate", GRAFT_TARGET_ROUTER}},
                               sparse[] = {{"w1", GRAFT_TARGET_GATE}, {"w3", GRAFT_TARGET_UP}, {"w2", GRAFT_TARGET_DOWN}};
    enum { DENSE = sizeof dense / sizeof *dense, SPARSE = sizeof sparse / sizeof *sparse, ROUTER = 1, OF_EXPERT = 3 };
    uint32_t expert;
    out->mixtral = mixtral;
    if (strcmp(p, "gate.weight") == 0) {
        out->target = GRAFT_TARGET_ROUTER;
        out->part = GRAFT_ADAPTER_WHOLE;
        return true;
    }
    if (strncmp(p, "experts.", 8) != 0) {
        return parse_module(p, mixtral ? dense + DENSE - ROUTER : dense, mixtral ? ROUTER : DENSE, out);
    }
    p += 8;
    if (!graft_adapter_layer(&p, &expert) || *p++ != '.' || expert >= GRAFT_ADAPTER_MAX_EXPERTS) {
        return false;
    }
    out->expert = expert + 1;
    return parse_module(p, mixtral ? sparse : dense, mixtral ? SPARSE : OF_EXPERT, out);
}

// Behind "base_model.model.model.layers.N": .BLOCK.TARGET.PART, or a norm's gain.
static bool parse_layer_name(const char *p, struct graft_adapter_tensor *out)
{
    static const struct module norms[] = {{".input_layernorm.weight", GRAFT_TARGET_ATTN_NORM},
                                          {".post_attention_layernorm.weight", GRAFT_TARGET_FFN_NORM},
                                          {".pre_feedforward_layernorm.weight", GRAFT_TARGET_PRE_FFN_NORM},
                                          {".post_feedforward_layernorm.weight", GRAFT_TARGET_POST_FFN_NORM},
                                          {".self_attn.q_norm.weight", GRAFT_TARGET_Q_NORM},
                                          {".self_attn.k_norm.weight", GRAFT_TARGET_K_NORM}},
                               attention[] = {{"q_proj", GRAFT_TARGET_Q},
                                              {"k_proj", GRAFT_TARGET_K},
                                              {"v_proj", GRAFT_TARGET_V},
                                              {"o_proj", GRAFT_TARGET_O},
                                              {"qkv_proj", GRAFT_TARGET_QKV}};
    static const struct module feed_forward[] = {{".mlp.", GRAFT_TARGET_GATE}, {".block_sparse_moe.", GRAFT_TARGET_ROUTER}};
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
        if (strcmp(p, norms[i].name) == 0) {
            out->target = norms[i].target;
            out->part = GRAFT_ADAPTER_WHOLE;
            return true;
        }
    }
    if (strncmp(p, ".self_attn.", 11) == 0) {
        return parse_module(p + 11, attention, sizeof attention / sizeof *attention, out);
    }
    for (size_t i = 0; i < 2; i++) {
        size_t length = strlen(feed_forward[i].name);
        if (strncmp(p, feed_forward[i].name, length) == 0) {
            return parse_feed_forward(p + length, i == 1, out);
        }
    }
    return false;
}

// base_model.model.[model.]MODULE.PART; false if the name is another one.
static const char prefix[] = "base_model.model.", layers[] = "model.layers.";

static bool parse_name(const char *name, struct graft_adapter_tensor *out)
{
    static const char embed[] = "model.embed_tokens", head[] = "lm_head";
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

// base_model.model.model.layers.N.mlp.experts.[base_layer.]lora_A.weight: a parameter that holds all experts. Of two that are
// trained the inner one has base_layer in its name. *layer, *inner, *b: what the name says; false if it is another one.
static bool parse_stack(const char *name, uint32_t *layer, bool *inner, bool *b)
{
    static const char base[] = "base_layer.";
    const char *p = name + sizeof prefix - 1 + sizeof layers - 1;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0 || strncmp(name + sizeof prefix - 1, layers, sizeof layers - 1) != 0 ||
        !graft_adapter_layer(&p, layer)) {
        return false;
    }
    size_t block = strncmp(p, ".mlp.experts.", 13) == 0 ? 13 : strncmp(p, ".block_sparse_moe.experts.", 26) == 0 ? 26 : 0;
    *inner = block && strncmp(p + block, base, sizeof base - 1) == 0;
    p += block + (*inner ? sizeof base - 1 : 0);
    *b = strcmp(p, "lora_B.weight") == 0;
    return block && (*b || strcmp(p, "lora_A.weight") == 0);
}

static struct graft_adapter_view view_of(const struct graft_safetensor *t)
{
    return (struct graft_adapter_view){.data = t->data, .type = t->type, .rows = t->rows, .cols = t->cols};
}

// The other part of a stack; NULL if there is none.
static const struct graft_safetensor *find_stack(const struct graft_safetensors *st, uint32_t layer, bool inner, bool b)
{
    for (uint64_t i = 0; i < st->n_tensors; i++) {
        uint32_t of_layer;
        bool is_inner, is_b;
        if (parse_stack(st->tensors[i].name, &of_layer, &is_inner, &is_b) && of_layer == layer && is_inner == inner &&
            is_b == b) {
            return &st->tensors[i];
        }
    }
    return NULL;
}

// Which of the two parameters a stack is of: only one is trained, or the shapes tell: gate_up_proj has an output for gate and
// one for up of each of down_proj's inputs.
static enum graft_status name_stack(const struct graft_safetensors *st, const struct graft_adapter_config *config,
                                    uint32_t layer, bool inner, struct graft_adapter_stack *stack, const char *file)
{
    const struct graft_safetensor *other_a = find_stack(st, layer, !inner, false),
                                  *other_b = find_stack(st, layer, !inner, true);
    if (other_a && other_b) {
        bool up = stack->b.rows == 2 * other_a->cols && stack->a.cols == other_b->rows;
        bool down = other_b->rows == 2 * stack->a.cols && other_a->cols == stack->b.rows;
        stack->parameter = up ? "gate_up_proj" : down ? "down_proj" : NULL;
    } else {
        stack->parameter =
            config->experts_up != config->experts_down ? config->experts_up ? "gate_up_proj" : "down_proj" : NULL;
    }
    return stack->parameter
               ? GRAFT_OK
               : graft_fail(GRAFT_E_FORMAT,
                            "%s: %s is trained of a parameter that holds all experts, and neither target_parameters "
                            "nor the shapes say whether it is gate_up_proj or down_proj",
                            file, stack->name_a);
}

// A stack, at its A, as tensors of every expert.
static enum graft_status read_stack(struct graft_adapter_desc *desc, const struct graft_safetensors *st,
                                    const struct graft_adapter_config *config, const struct graft_safetensor *a, uint32_t layer,
                                    bool inner, struct graft_adapter_tensor *tensors, uint64_t *n, const char *file)
{
    const struct graft_safetensor *b = find_stack(st, layer, inner, true);
    if (!b || a->n_dims != 2 || b->n_dims != 2) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s has no matrix B beside it", file, a->name);
    }
    struct graft_adapter_stack stack = {.layer = layer, .name_a = a->name, .name_b = b->name, .a = view_of(a), .b = view_of(b)};
    char module[128];
    uint32_t rank;
    float scale;
    GRAFT_TRY(name_stack(st, config, layer, inner, &stack, file));
    snprintf(module, sizeof module, "model.layers.%u.mlp.experts.%s", layer, stack.parameter);
    GRAFT_TRY(graft_adapter_config_module(config, module, &rank, &scale));
    return graft_adapter_unstack(desc, &stack, rank, tensors, n, file);
}

// The most tensors that the file's may become.
static enum graft_status count_tensors(const struct graft_safetensors *st, const struct graft_adapter_config *config,
                                       uint64_t *out)
{
    enum { MAX_STACKS = 2048 }; // two matrices of two parameters in each of the most layers
    uint64_t most = st->n_tensors, stacks = 0;
    for (uint64_t i = 0; i < st->n_tensors; i++) {
        uint32_t layer;
        bool inner, b;
        if (parse_stack(st->tensors[i].name, &layer, &inner, &b)) { // two each for gate, up of as many experts as there may be
            if (++stacks > MAX_STACKS) {
                return graft_fail(GRAFT_E_LIMIT, "%s is more than the %dth tensor of parameters that hold all experts",
                                  st->tensors[i].name, MAX_STACKS);
            }
            most +=
                b ? 0 : 4 * (st->tensors[i].rows < GRAFT_ADAPTER_MAX_EXPERTS ? st->tensors[i].rows : GRAFT_ADAPTER_MAX_EXPERTS);
            if (!config->experts_up && !config->experts_down) {
                return graft_fail(GRAFT_E_FORMAT,
                                  "%s is trained of a parameter that holds all experts, and target_parameters names none",
                                  st->tensors[i].name);
            }
        }
    }
    *out = most;
    return GRAFT_OK;
}

// The file's tensors -> tensors of modules.
static enum graft_status read_names(struct graft_adapter_desc *desc, const struct graft_safetensors *st,
                                    const struct graft_adapter_config *config, struct graft_adapter_tensor *tensors,
                                    uint64_t *n, const char *file)
{
    for (uint64_t i = 0; i < st->n_tensors; i++) {
        const struct graft_safetensor *t = &st->tensors[i];
        uint32_t layer;
        bool inner, b;
        if (parse_stack(t->name, &layer, &inner, &b)) {
            if (!b) {
                GRAFT_TRY(read_stack(desc, st, config, t, layer, inner, tensors, n, file));
            } else if (!find_stack(st, layer, inner, false)) {
                return graft_fail(GRAFT_E_FORMAT, "%s: %s has no matrix A beside it", file, t->name);
            }
            continue;
        }
        struct graft_adapter_tensor *tensor = &tensors[(*n)++];
        *tensor = (struct graft_adapter_tensor){.name = t->name, .n_dims = t->n_dims, .view = view_of(t)};
        if (!parse_name(t->name, tensor)) {
            return graft_fail(
                GRAFT_E_UNSUPPORTED,
                "%s: tensor %s is not supported; known are base_model.model.model.layers.N, then self_attn with q_proj, "
                "k_proj, v_proj, qkv_proj, o_proj or mlp with gate_proj, up_proj, gate_up_proj, down_proj, gate, or experts.N "
                "with "
                "the first, second and fourth of these, or block_sparse_moe with gate or experts.N.w1, w2, w3, then "
                "lora_A.weight "
                "or lora_B.weight; embed_tokens and lm_head; and whole norms, lm_head and gates of experts",
                file, t->name);
        }
        desc->mixtral_names = desc->mixtral_names || tensor->mixtral;
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
    struct graft_sha256 hash;
    uint64_t most, n = 0;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_adapter_config_read(&config, config_text, config_bytes, config_file), status, out);
    GRAFT_TRY_OUT(graft_safetensors_open(ctx, &st, desc->bytes, desc->n_bytes, file), status, out);
    GRAFT_TRY_OUT(count_tensors(st, &config, &most), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &tensors, most, "an adapter's tensor names"), status, out);
    graft_sha256_begin(&hash); // before reading turns matrices in desc->bytes
    graft_sha256_add(&hash, desc->bytes, desc->n_bytes);
    graft_sha256_add(&hash, config_text, config_bytes);
    graft_sha256_end(&hash, desc->digest);
    GRAFT_TRY_OUT(read_names(desc, st, &config, tensors, &n, file), status, out);
    GRAFT_TRY_OUT(graft_adapter_build(desc, tensors, n, &config, 0.0, file), status, out);
    GRAFT_TRY_OUT(graft_adapter_keep_names(desc), status, out);
    memcpy(desc->base_name, config.base_name, sizeof desc->base_name);
    memcpy(desc->alora, config.alora, sizeof desc->alora);
    desc->n_alora = config.n_alora;
    desc->use_rslora = config.use_rslora;
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
