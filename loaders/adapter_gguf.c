// SPDX-License-Identifier: Apache-2.0
// GGUF adapters as llama.cpp's convert_lora_to_gguf.py writes them: general.type "adapter", adapter.type "lora", one alpha,
// tensors blk.N.attn_q.weight.lora_a [rank][n_in] and .lora_b [n_out][rank]. Rows of q and k are in the base file's order. The
// format has no place for rsLoRA: scale = alpha / rank. The embedding's A is turned, token_embd.weight.lora_a [n_vocab][rank],
// its B is not, [n_embd][rank] (there: "only need to transpose token_embd.lora_a"; llama-adapter.cpp checks these shapes).
// Norms are whole vectors, blk.N.attn_norm.weight: the converter writes them, llama.cpp ignores them when it runs.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "loaders/adapter_build.h"
#include "loaders/gguf.h"
#include "loaders/sha256.h"
#include "platform/bytes.h"

enum { NAME_BYTES = GRAFT_GGUF_MAX_NAME_BYTES + 1 };

// Keys that say what the file is, or nothing that changes the arithmetic.
static enum graft_status check_keys(const struct graft_gguf *gguf, const char *file)
{
    static const char *const known[] = {"adapter.type", "adapter.lora.alpha", "adapter.lora.task_name",
                                        "adapter.lora.prompt_prefix", "adapter.alora.invocation_tokens"};
    for (uint64_t i = 0; i < gguf->n_keys; i++) {
        struct graft_text name = gguf->keys[i].name;
        bool found = name.length > 8 && memcmp(name.data, "general.", 8) == 0;
        for (size_t k = 0; k < sizeof known / sizeof *known && !found; k++) {
            found = graft_text_is(name, known[k]);
        }
        if (!found) {
            return graft_fail(GRAFT_E_UNSUPPORTED, "%s: key %.*s is not known in an adapter", file, (int)name.length,
                              name.data);
        }
    }
    return GRAFT_OK;
}

static enum graft_status expect_text(const struct graft_gguf *gguf, const char *key, const char *value, const char *file)
{
    struct graft_text text;
    GRAFT_TRY(graft_gguf_text(gguf, key, &text));
    if (!graft_text_is(text, value)) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: %s is \"%.*s\", allowed in an adapter is \"%s\"", file, key,
                          text.length < 64 ? (int)text.length : 64, text.data, value);
    }
    return GRAFT_OK;
}

static enum graft_status read_alora(struct graft_adapter_desc *desc, const struct graft_gguf *gguf, const char *file)
{
    const struct graft_gguf_key *key = graft_gguf_find(gguf, "adapter.alora.invocation_tokens");
    if (!key) {
        return GRAFT_OK;
    }
    if (key->type != GRAFT_GGUF_ARRAY || (key->item_type != GRAFT_GGUF_U32 && key->item_type != GRAFT_GGUF_I32) ||
        key->count < 1 || key->count > GRAFT_ADAPTER_MAX_ALORA) {
        return graft_fail(GRAFT_E_FORMAT, "%s: adapter.alora.invocation_tokens is no list of 1 to %d u32", file,
                          GRAFT_ADAPTER_MAX_ALORA);
    }
    for (uint64_t i = 0; i < key->count; i++) {
        int64_t id;
        GRAFT_TRY(graft_gguf_item_i64(gguf, key, i, &id));
        if (id < 0 || id > INT32_MAX) {
            return graft_fail(GRAFT_E_FORMAT, "%s: adapter.alora.invocation_tokens has %" PRId64 ", allowed are token ids",
                              file, id);
        }
        desc->alora[desc->n_alora++] = (int32_t)id;
    }
    return GRAFT_OK;
}

// [blk.N.]MODULE.weight, then .lora_a or .lora_b, nothing for a norm; false if the name is another one.
static bool parse_name(const char *name, struct graft_adapter_tensor *out)
{
    static const char *const modules[GRAFT_TARGET_QKV + 1] = {
        "attn_q",        "attn_k",      "attn_v",      "attn_output",
        "ffn_gate",      "ffn_up",      "ffn_down",    "ffn_gate_inp",
        "token_embd",    "output",      "attn_norm",   "ffn_norm",
        "output_norm",   "attn_q_norm", "attn_k_norm", "post_attention_norm",
        "post_ffw_norm", "attn_qkv"};
    const char *p = name;
    bool of_layer = strncmp(p, "blk.", 4) == 0;
    out->layer = 0;
    if (of_layer) {
        p += 4;
        if (!graft_adapter_layer(&p, &out->layer) || *p++ != '.') {
            return false;
        }
    }
    for (unsigned target = 0; target <= GRAFT_TARGET_QKV; target++) { // ffn_up is gate_up_proj if the base has it so: fit.c
        char stem[40];
        bool experts = target >= GRAFT_TARGET_GATE && target <= GRAFT_TARGET_DOWN;
        size_t name_length = strlen(modules[target]);
        out->stacked = experts && strncmp(p, modules[target], name_length) == 0 && strncmp(p + name_length, "_exps.", 6) == 0;
        int length = snprintf(stem, sizeof stem, "%s%s.weight", modules[target], out->stacked ? "_exps" : "");
        if (graft_target_of_layer((enum graft_target)target) != of_layer || strncmp(p, stem, (size_t)length) != 0) {
            continue;
        }
        p += length;
        out->target = (enum graft_target)target;
        out->part = graft_target_is_norm(out->target) ? GRAFT_ADAPTER_WHOLE
                    : strcmp(p, ".lora_a") == 0       ? GRAFT_ADAPTER_A
                                                      : GRAFT_ADAPTER_B;
        return out->part == GRAFT_ADAPTER_B ? strcmp(p, ".lora_b") == 0 : out->part == GRAFT_ADAPTER_A || *p == '\0';
    }
    return false;
}

// Rows become columns, in place.
static enum graft_status turn(struct graft_adapter_desc *desc, struct graft_adapter_view *view)
{
    uint64_t item = graft_adapter_value_bytes(view->type), rows = view->rows, cols = view->cols;
    uint8_t *copy, *data = desc->bytes + (view->data - desc->bytes);
    GRAFT_TRY(graft_alloc(desc->ctx, GRAFT_MEM_HOST, (void **)&copy, rows * cols, item, "the adapter's embedding"));
    memcpy(copy, data, (size_t)(rows * cols * item));
    for (uint64_t row = 0; row < rows; row++) {
        for (uint64_t col = 0; col < cols; col++) {
            memcpy(data + (col * rows + row) * item, copy + (row * cols + col) * item, (size_t)item);
        }
    }
    GRAFT_FREE(desc->ctx, &copy);
    view->rows = cols;
    view->cols = rows;
    return GRAFT_OK;
}

static enum graft_status check_tensor(const struct graft_gguf_tensor *t, const struct graft_adapter_tensor *as,
                                      const char *file)
{
    bool vector = as->part == GRAFT_ADAPTER_WHOLE;
    if (t->type != GRAFT_TYPE_F32 && t->type != GRAFT_TYPE_F16 && t->type != GRAFT_TYPE_BF16) {
        const char *type = graft_type_gguf_name(t->type);
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: tensor %s has type %s, allowed are F32, F16 and BF16", file, as->name,
                          type ? type : "?");
    }
    if ((t->dims[2] != 1 && !as->stacked) || t->dims[3] != 1 || t->dims[0] == 0 || t->dims[1] == 0 || t->dims[2] == 0 ||
        (vector && t->dims[1] != 1)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s has %u dimensions, allowed is a %s that is not empty", file, as->name,
                          t->n_dims,
                          vector        ? "vector"
                          : as->stacked ? "matrix for each expert"
                                        : "matrix");
    }
    if (t->dims[2] > GRAFT_ADAPTER_MAX_EXPERTS) {
        return graft_fail(GRAFT_E_LIMIT, "%s: tensor %s is of %" PRIu64 " experts, allowed are 1 to %d", file, as->name,
                          t->dims[2], GRAFT_ADAPTER_MAX_EXPERTS);
    }
    return GRAFT_OK;
}

// Tensors that the file's become: one for each expert.
static uint64_t count_tensors(const struct graft_gguf *gguf)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < gguf->n_tensors; i++) {
        n += gguf->tensors[i].dims[2] < GRAFT_ADAPTER_MAX_EXPERTS ? gguf->tensors[i].dims[2] : GRAFT_ADAPTER_MAX_EXPERTS;
    }
    return n;
}

// names: NAME_BYTES for each tensor.
static enum graft_status read_tensors(struct graft_adapter_desc *desc, const struct graft_gguf *gguf,
                                      struct graft_adapter_tensor *tensors, char *names, double alpha, const char *file)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < gguf->n_tensors; i++) {
        const struct graft_gguf_tensor *t = &gguf->tensors[i];
        struct graft_adapter_tensor tensor = {.name = names + i * NAME_BYTES};
        memcpy(names + i * NAME_BYTES, t->name.data, (size_t)t->name.length);
        if (!parse_name(tensor.name, &tensor)) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "%s: tensor %s is not supported; known are blk.N, then attn_q, attn_k, attn_v, attn_output, "
                              "ffn_gate, ffn_up, ffn_down, these three with _exps, or ffn_gate_inp, then weight.lora_a or "
                              "weight.lora_b; token_embd and output with the same; and norms",
                              file, tensor.name);
        }
        GRAFT_TRY(check_tensor(t, &tensor, file));
        tensor.n_dims = tensor.part == GRAFT_ADAPTER_WHOLE ? 1 : 2;
        tensor.view = (struct graft_adapter_view){
            .data = graft_gguf_data(gguf, t), .type = t->type, .rows = t->dims[1], .cols = t->dims[0]};
        if (tensor.target == GRAFT_TARGET_EMBED && tensor.part == GRAFT_ADAPTER_A) {
            GRAFT_TRY(turn(desc, &tensor.view));
        }
        bool experts = tensor.stacked;
        tensor.stacked = false; // each is a module of its own
        for (uint32_t e = 0; e < t->dims[2]; e++) {
            tensor.expert = experts ? e + 1 : 0;
            tensors[n++] = tensor;
            tensor.view.data += tensor.view.rows * tensor.view.cols * graft_adapter_value_bytes(t->type);
        }
    }
    GRAFT_TRY(graft_adapter_build(desc, tensors, n, NULL, alpha, file));
    return graft_adapter_keep_names(desc);
}

static enum graft_status read_architecture(struct graft_adapter_desc *desc, const struct graft_gguf *gguf, const char *file)
{
    struct graft_text text;
    GRAFT_TRY(graft_gguf_text(gguf, "general.architecture", &text));
    if (text.length == 0 || text.length >= sizeof desc->architecture || memchr(text.data, 0, (size_t)text.length)) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: general.architecture has %" PRIu64 " bytes, allowed is a name of 1 to %zu",
                          file, text.length, sizeof desc->architecture - 1);
    }
    memcpy(desc->architecture, text.data, (size_t)text.length);
    return GRAFT_OK;
}

enum graft_status graft_adapter_read_gguf(struct graft_adapter_desc *desc, const char *file)
{
    struct graft_ctx *ctx = desc->ctx;
    struct graft_gguf *gguf;
    struct graft_adapter_tensor *tensors = NULL;
    char *names = NULL;
    struct graft_text base;
    float alpha;
    enum graft_status status;
    GRAFT_TRY(graft_gguf_open_memory(ctx, &gguf, desc->bytes, desc->n_bytes, file, true));
    GRAFT_TRY_OUT(expect_text(gguf, "general.type", "adapter", file), status, out);
    GRAFT_TRY_OUT(expect_text(gguf, "adapter.type", "lora", file), status, out);
    GRAFT_TRY_OUT(read_architecture(desc, gguf, file), status, out); // graft_adapter_fit compares it with the base's
    GRAFT_TRY_OUT(check_keys(gguf, file), status, out);
    if (graft_gguf_trailing_bytes(gguf) != 0) {
        status = graft_fail(GRAFT_E_FORMAT, "%s: has %" PRIu64 " bytes behind the last tensor", file,
                            graft_gguf_trailing_bytes(gguf));
        goto out;
    }
    GRAFT_TRY_OUT(graft_gguf_f32(gguf, "adapter.lora.alpha", &alpha), status, out);
    if (!(alpha > 1e-30f && alpha < 1e30f)) {
        status = graft_fail(GRAFT_E_FORMAT, "%s: adapter.lora.alpha is %g, allowed are numbers above 0", file, (double)alpha);
        goto out;
    }
    GRAFT_TRY_OUT(read_alora(desc, gguf, file), status, out);
    GRAFT_TRY_OUT(graft_gguf_text_or_none(gguf, "general.base_model.0.name", &base), status, out);
    if (base.length > 0 && base.length < sizeof desc->base_name) {
        memcpy(desc->base_name, base.data, (size_t)base.length);
    }
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &tensors, count_tensors(gguf), "an adapter's tensor names"), status, out);
    GRAFT_TRY_OUT(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&names, gguf->n_tensors, NAME_BYTES, "an adapter's tensor names"),
                  status, out);
    desc->rows_permuted = true;
    struct graft_sha256 hash; // before read_tensors turns a matrix in desc->bytes
    graft_sha256_begin(&hash);
    graft_sha256_add(&hash, desc->bytes, desc->n_bytes);
    graft_sha256_end(&hash, desc->digest);
    status = read_tensors(desc, gguf, tensors, names, (double)alpha, file);
out:
    GRAFT_FREE(ctx, &names);
    GRAFT_FREE(ctx, &tensors);
    graft_gguf_close(&gguf);
    return status;
}
