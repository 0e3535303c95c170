// SPDX-License-Identifier: Apache-2.0
// Adapter files without a device: description, fit, conversion.
#include "runtime/session/adapter_file.h"

#include <stdio.h>
#include <string.h>

#include "loaders/sha256.h"
#include "runtime/adapter/fit.h"

enum graft_status graft_adapter_file_open(struct graft_ctx *ctx, struct graft_adapter_file **out, const char *path)
{
    struct graft_adapter_file *file;
    size_t length = strlen(path);
    *out = NULL;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &file, 1, "an adapter file"));
    file->ctx = ctx;
    file->format = length >= 5 && strcmp(path + length - 5, ".gguf") == 0 ? GRAFT_ADAPTER_GGUF : GRAFT_ADAPTER_PEFT;
    enum graft_status status = graft_adapter_read(ctx, &file->desc, path);
    if (status != GRAFT_OK) {
        GRAFT_FREE(ctx, &file);
    }
    *out = file;
    return status;
}

void graft_adapter_file_close(struct graft_adapter_file **file)
{
    if (!file || !*file) {
        return;
    }
    struct graft_ctx *ctx = (*file)->ctx;
    graft_adapter_free(&(*file)->desc);
    GRAFT_FREE(ctx, file);
}

void graft_adapter_file_describe(const struct graft_adapter_file *file, struct graft_adapter_file_info *out)
{
    const struct graft_adapter_desc *desc = file->desc;
    *out = (struct graft_adapter_file_info){.format = file->format,
                                            .use_rslora = desc->use_rslora,
                                            .n_invocation = desc->n_alora,
                                            .n_parts = desc->n_pairs + desc->n_whole,
                                            .rank_least = desc->max_rank,
                                            .rank_most = desc->max_rank,
                                            .n_parameters = desc->n_parameters,
                                            .file_bytes = desc->n_bytes,
                                            .pool_bytes = graft_adapter_packed_bytes(desc),
                                            .base_parameters = file->base_parameters};
    graft_sha256_hex(desc->digest, out->digest);
    snprintf(out->base_name, sizeof out->base_name, "%s", desc->base_name);
    memcpy(out->signer, desc->signer, sizeof out->signer);
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        const struct graft_adapter_pair *pair = &desc->pairs[i];
        out->use_dora = out->use_dora || pair->magnitude.data;
        out->lora_bias = out->lora_bias || pair->bias.data;
        out->rank_least = pair->rank < out->rank_least ? pair->rank : out->rank_least;
    }
    const char *kind = out->use_dora ? (out->use_rslora ? "DoRA, rsLoRA" : "DoRA") : out->use_rslora ? "rsLoRA" : "LoRA";
    snprintf(out->kind, sizeof out->kind, "%s%s%s", kind, out->n_invocation ? ", aLoRA" : "",
             out->lora_bias ? ", lora_bias" : "");
}

const int32_t *graft_adapter_file_invocation(const struct graft_adapter_file *file)
{
    return file->desc->alora;
}

static const char *type_name(uint32_t type)
{
    return graft_type_info(type)->name;
}

static uint64_t values(const struct graft_adapter_view *view)
{
    return view->data ? view->rows * view->cols : 0;
}

static void describe_pair(const struct graft_adapter_pair *pair, struct graft_adapter_file_part *out)
{
    bool embed = pair->target == GRAFT_TARGET_EMBED; // the table has a row per token: the base's n_out is A's width
    *out = (struct graft_adapter_file_part){.target = graft_target_name(pair->target),
                                            .kind = GRAFT_ADAPTER_PAIR,
                                            .layer = graft_target_of_layer(pair->target) ? (int32_t)pair->layer : -1,
                                            .rank = pair->rank,
                                            .scale = pair->scale,
                                            .n_in = embed ? pair->b.rows : pair->a.cols,
                                            .n_out = embed ? pair->a.cols : pair->b.rows,
                                            .type_a = type_name(pair->a.type),
                                            .type_b = type_name(pair->b.type),
                                            .magnitude = pair->magnitude.data != NULL,
                                            .bias = pair->bias.data != NULL,
                                            .n_parameters = values(&pair->a) + values(&pair->b) + values(&pair->magnitude) +
                                                            values(&pair->bias)};
    graft_adapter_module(pair->target, pair->layer, pair->expert, false, out->module);
}

void graft_adapter_file_part(const struct graft_adapter_file *file, uint32_t index, struct graft_adapter_file_part *out)
{
    const struct graft_adapter_desc *desc = file->desc;
    if (index < desc->n_pairs) {
        describe_pair(&desc->pairs[index], out);
        return;
    }
    *out = (struct graft_adapter_file_part){.target = ""};
    if (index - desc->n_pairs >= desc->n_whole) {
        return;
    }
    const struct graft_adapter_whole *whole = &desc->whole[index - desc->n_pairs];
    *out = (struct graft_adapter_file_part){.target = graft_target_name(whole->target),
                                            .kind = whole->base_copy ? GRAFT_ADAPTER_COPY_OF_BASE : GRAFT_ADAPTER_WHOLE_TENSOR,
                                            .layer = graft_target_of_layer(whole->target) ? (int32_t)whole->layer : -1,
                                            .n_in = whole->view.cols,
                                            .n_out = whole->view.rows,
                                            .type_a = type_name(whole->view.type),
                                            .n_parameters = whole->base_copy ? 0 : values(&whole->view)};
    graft_adapter_module(whole->target, whole->layer, 0, false, out->module);
}

// Weights of the base, those that are shared once.
static uint64_t count_parameters(const struct graft_source *source)
{
    uint64_t sum = 0;
    for (unsigned target = 0; target < GRAFT_TARGETS; target++) {
        uint32_t layers = graft_target_of_layer((enum graft_target)target) ? source->config.n_layer : 1;
        for (uint32_t layer = 0; layer < layers && !(target == GRAFT_TARGET_HEAD && source->tied); layer++) {
            const struct graft_weight *weight = graft_adapter_base_weight(source, (enum graft_target)target, layer);
            sum += weight->data ? (uint64_t)weight->n_in * weight->n_out * (weight->n_expert ? weight->n_expert : 1) : 0;
        }
    }
    return sum;
}

enum graft_status graft_adapter_file_fit(struct graft_adapter_file *file, const char *model_path)
{
    struct graft_gguf *gguf;
    struct graft_source *source = NULL;
    enum graft_status status;
    GRAFT_TRY(graft_gguf_open(file->ctx, &gguf, model_path, false));
    GRAFT_TRY_OUT(graft_source_open(file->ctx, &source, gguf), status, out);
    GRAFT_TRY_OUT(graft_adapter_fit(file->desc, source), status, out);
    graft_adapter_base_of(source, &file->base);
    file->base_parameters = count_parameters(source);
    file->base_tied = source->tied;
out:
    graft_source_close(&source);
    graft_gguf_close(&gguf);
    return status;
}

enum graft_status graft_adapter_file_convert(const struct graft_adapter_file *file, const char *path,
                                             enum graft_adapter_format format)
{
    for (uint32_t i = 0; i < file->desc->n_pairs && file->base_tied && format == GRAFT_ADAPTER_GGUF; i++) {
        if (file->desc->pairs[i].target == GRAFT_TARGET_HEAD) {
            graft_log(file->ctx, GRAFT_LOG_WARN,
                      "the adapter changes lm_head, which in this base is the embedding: graft runs "
                      "that, llama.cpp refuses such a file");
        }
    }
    return format == GRAFT_ADAPTER_GGUF ? graft_adapter_write_gguf(file->desc, &file->base, path)
                                        : graft_adapter_write_peft(file->desc, &file->base, path);
}
