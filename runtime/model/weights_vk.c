// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/weights_vk.h"

#include <string.h>

#include "platform/bytes.h"
#include "runtime/kernels/kernel.h"
#include "runtime/quant/quant.h"

enum { MATRICES = 8, VECTORS = 9, COPY_ALIGNMENT = 256, COPY_TAIL = 16 };

// The matrices of a layer in the order they are copied: those that share a dispatch stand together. data NULL: not there.
static const struct graft_weight *layer_matrix(const struct graft_layer *layer, uint32_t i)
{
    const struct graft_weight *order[MATRICES] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                                  &layer->gate, &layer->up, &layer->down, &layer->router};
    return order[i];
}

// The vectors of a layer in the order they lie in `vectors`; absent ones take no room. Layer 0's first one is at the start.
static const struct graft_weight *layer_vector(const struct graft_layer *layer, uint32_t i)
{
    const struct graft_weight *order[VECTORS] = {&layer->attn_norm,     &layer->ffn_norm, &layer->post_attn_norm,
                                                 &layer->post_ffn_norm, &layer->q_bias,   &layer->k_bias,
                                                 &layer->v_bias,        &layer->q_norm,   &layer->k_norm};
    return order[i];
}

// Words of a layer's vectors in front of the i-th one.
static uint64_t vector_words(const struct graft_layer *layer, uint32_t i)
{
    uint64_t words = 0;
    for (uint32_t k = 0; k < i; k++) {
        words += layer_vector(layer, k)->data ? layer_vector(layer, k)->n_in : 0;
    }
    return words;
}

static uint64_t all_vector_words(const struct graft_source *source)
{
    uint64_t words = source->config.n_embd; // of the output's norm
    for (uint32_t l = 0; l < source->config.n_layer; l++) {
        words += vector_words(&source->layers[l], VECTORS);
    }
    return words;
}

static uint64_t padded(uint64_t bytes)
{
    return (bytes + COPY_TAIL + COPY_ALIGNMENT - 1) & ~(uint64_t)(COPY_ALIGNMENT - 1);
}

static uint64_t layer_bytes(const struct graft_layer *layer)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < MATRICES; i++) {
        const struct graft_weight *w = layer_matrix(layer, i);
        bytes += w->data ? padded(graft_weight_bytes(w)) : 0;
    }
    return bytes;
}

static uint32_t place_count(const struct graft_source *source)
{
    return source->config.n_layer * MATRICES + 2;
}

static bool streamed(const struct graft_source *source, uint32_t n_streamed, uint32_t layer)
{
    return graft_layer_streamed(source->config.n_layer, n_streamed, layer);
}

static uint32_t unit_layer(const struct graft_source *source, uint32_t n_streamed, uint32_t unit)
{
    return graft_streamed_layer(source->config.n_layer, n_streamed, unit);
}

// The largest of the streamed layers: the size of a slot.
static uint64_t slot_bytes(const struct graft_source *source, uint32_t n_streamed)
{
    uint64_t most = 0;
    for (uint32_t u = 0; u < n_streamed; u++) {
        uint64_t bytes = layer_bytes(&source->layers[unit_layer(source, n_streamed, u)]);
        most = bytes > most ? bytes : most;
    }
    return most;
}

uint64_t graft_weights_vk_stream_bytes(const struct graft_source *source, uint32_t n_streamed)
{
    uint64_t bytes = 0;
    for (uint32_t u = 0; u < n_streamed; u++) {
        const struct graft_layer *layer = &source->layers[unit_layer(source, n_streamed, u)];
        for (uint32_t i = 0; i < MATRICES; i++) {
            const struct graft_weight *w = layer_matrix(layer, i);
            bytes += w->data ? graft_weight_bytes(w) : 0;
        }
    }
    return bytes;
}

uint64_t graft_weights_vk_stream_staging(const struct graft_source *source, uint32_t n_streamed)
{
    return n_streamed ? graft_vk_stream_staging(slot_bytes(source, n_streamed)) : 0;
}

void graft_weights_vk_bytes(const struct graft_source *source, bool mapped, uint32_t n_streamed, uint64_t *matrices,
                            uint64_t *vectors)
{
    *matrices = 0;
    *vectors = all_vector_words(source) * sizeof(float);
    if (mapped) {
        return;
    }
    for (uint32_t l = 0; l < source->config.n_layer; l++) {
        *matrices += streamed(source, n_streamed, l) ? 0 : layer_bytes(&source->layers[l]);
    }
    *matrices += n_streamed ? GRAFT_SLOTS * slot_bytes(source, n_streamed) : 0;
    *matrices += padded(graft_weight_bytes(&source->embd)) + (source->tied ? 0 : padded(graft_weight_bytes(&source->output)));
}

bool graft_weights_vk_would_map(const struct graft_vk_caps *caps, enum graft_weights_mode mode, uint64_t base_bytes)
{
    if (mode == GRAFT_WEIGHTS_COPY || !caps || !caps->host_import || !base_bytes || base_bytes > caps->max_allocation_bytes) {
        return false;
    }
    return mode == GRAFT_WEIGHTS_MAP || caps->unified;
}

// Sum of 32-bit words, modulo 2^32, as shaders/read.comp adds them.
static uint32_t word_sum(const uint8_t *data, uint64_t bytes)
{
    uint32_t sum = 0;
    for (uint64_t i = 0; i + 4 <= bytes; i += 4) {
        sum += graft_load_u32(data + i);
    }
    return sum;
}

// Does the device see the mapping as the host does? Compares sums over windows spread evenly from the first page to the last.
static enum graft_status verify_mapping(struct graft_weights_vk *weights)
{
    enum { WINDOWS = 16, SUMS = 4096 };
    const struct graft_source *source = weights->source;
    const struct graft_vk_caps *caps = graft_vk_caps(weights->vk);
    struct graft_vk_buffer *sums = NULL;
    struct graft_vk_commands *commands = NULL;
    struct graft_vk_pipeline *pipelines[WINDOWS] = {0};
    uint64_t window = 64 * 1024, step = source->base_bytes / WINDOWS & ~(uint64_t)4095;
    if (step == 0) {
        step = 4096;
    }
    uint32_t n = 0, groups[WINDOWS];
    uint64_t starts[WINDOWS], sizes[WINDOWS];
    enum graft_status status;
    GRAFT_TRY_OUT(graft_vk_buffer_create(weights->vk, &sums, (uint64_t)WINDOWS * SUMS * 4, GRAFT_VK_READBACK, GRAFT_MEM_STAGING,
                                         "check of the imported mapping"), status, out);
    GRAFT_TRY_OUT(graft_vk_commands_create(weights->vk, &commands, WINDOWS, false), status, out);
    for (uint64_t at = 0; n < WINDOWS && at < source->base_bytes; at += step, n++) {
        starts[n] = at;
        sizes[n] = (source->base_bytes - at < window ? source->base_bytes - at : window) & ~(uint64_t)15;
        struct graft_kernel kernel;
        GRAFT_TRY_OUT(graft_kernel_read(&kernel, caps, (uint32_t)(sizes[n] / 16)), status, out);
        groups[n] = kernel.groups[0];
        if (sizes[n] == 0) {
            break;
        }
        kernel.pipeline.name = kernel.name;
        GRAFT_TRY_OUT(graft_vk_pipeline_get(weights->vk, &pipelines[n], &kernel.pipeline), status, out);
        struct graft_vk_bind binds[2] = {{weights->mapping, weights->mapping_skip + at, sizes[n]},
                                         {sums, (uint64_t)n * SUMS * 4, (uint64_t)SUMS * 4}};
        GRAFT_TRY_OUT(graft_vk_dispatch(commands, pipelines[n], binds, &kernel.push, kernel.groups), status, out);
    }
    GRAFT_TRY_OUT(graft_vk_commands_end(commands), status, out);
    GRAFT_TRY_OUT(graft_vk_submit(weights->vk, &commands, 1), status, out);
    GRAFT_TRY_OUT(graft_vk_wait(weights->vk), status, out);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *parts = (const uint32_t *)sums->mapped + (uint64_t)i * SUMS;
        uint32_t sum = 0;
        for (uint32_t k = 0; k < groups[i]; k++) {
            sum += parts[k];
        }
        if (sum != word_sum(source->base + starts[i], sizes[i])) {
            status = graft_fail(GRAFT_E_UNSUPPORTED, "the device sees other bytes than the file at offset %" PRIu64, starts[i]);
            goto out;
        }
    }
out:
    graft_vk_commands_destroy(&commands);
    for (uint32_t i = 0; i < WINDOWS; i++) {
        graft_vk_pipeline_put(weights->vk, &pipelines[i]);
    }
    graft_vk_buffer_destroy(&sums);
    return status;
}

static enum graft_status map_weights(struct graft_weights_vk *weights)
{
    const struct graft_source *source = weights->source;
    GRAFT_TRY(graft_vk_buffer_import(weights->vk, &weights->mapping, source->base, source->base_bytes, &weights->mapping_skip));
    enum graft_status status = verify_mapping(weights);
    if (status != GRAFT_OK) {
        graft_vk_buffer_destroy(&weights->mapping);
        return status;
    }
    uint32_t n = 0;
    weights->n_streamed = 0; // all are where the device sees them
    for (uint32_t l = 0; l < source->config.n_layer; l++) {
        for (uint32_t i = 0; i < MATRICES; i++) {
            const struct graft_weight *w = layer_matrix(&source->layers[l], i);
            weights->places[n++] = w->data ? (struct graft_place){weights->mapping,
                                                                  weights->mapping_skip + (uint64_t)(w->data - source->base)}
                                           : (struct graft_place){0};
        }
    }
    weights->places[n++] =
        (struct graft_place){weights->mapping, weights->mapping_skip + (uint64_t)(source->embd.data - source->base)};
    weights->places[n] =
        (struct graft_place){weights->mapping, weights->mapping_skip + (uint64_t)(source->output.data - source->base)};
    return GRAFT_OK;
}

struct copier {
    struct graft_weights_vk *weights;
    const struct graft_exec_params *params;
    uint64_t done, total;
};

static enum graft_status copy_one(struct copier *copier, struct graft_vk_buffer *to, uint64_t *offset,
                                  const struct graft_weight *weight, struct graft_place *place)
{
    enum { PIECE = 16 << 20 };
    uint64_t bytes = graft_weight_bytes(weight);
    for (uint64_t at = 0; at < bytes; at += PIECE) {
        uint64_t piece = bytes - at < PIECE ? bytes - at : PIECE;
        GRAFT_TRY(graft_vk_upload(copier->weights->vk, to, *offset + at, weight->data + at, piece));
        copier->done += piece;
        if (copier->params->progress && !copier->params->progress(copier->params->progress_user, copier->done, copier->total)) {
            return graft_fail(GRAFT_E_CANCELLED, "loading was cancelled");
        }
    }
    *place = (struct graft_place){to, *offset};
    *offset += padded(bytes);
    return GRAFT_OK;
}

// The slots, and where each streamed layer's matrices are when it is their turn.
static enum graft_status make_slots(struct graft_weights_vk *weights)
{
    const struct graft_source *source = weights->source;
    for (uint32_t s = 0; s < GRAFT_SLOTS && weights->n_streamed; s++) {
        GRAFT_TRY(graft_vk_buffer_create(weights->vk, &weights->slots[s], slot_bytes(source, weights->n_streamed),
                                         GRAFT_VK_SLOT, GRAFT_MEM_WEIGHTS, "a slot for streamed layers"));
    }
    for (uint32_t u = 0; u < weights->n_streamed; u++) {
        uint32_t l = unit_layer(source, weights->n_streamed, u);
        uint64_t offset = 0;
        for (uint32_t i = 0; i < MATRICES; i++) {
            const struct graft_weight *w = layer_matrix(&source->layers[l], i);
            weights->places[l * MATRICES + i] = (struct graft_place){weights->slots[u % GRAFT_SLOTS], offset};
            offset += w->data ? padded(graft_weight_bytes(w)) : 0;
        }
    }
    return GRAFT_OK;
}

// The stream that fills the slots; it begins at once.
static enum graft_status start_stream(struct graft_weights_vk *weights, struct graft_ctx *ctx)
{
    const struct graft_source *source = weights->source;
    struct graft_vk_stream_params params = {.n_units = weights->n_streamed,
                                            .n_slots = GRAFT_SLOTS,
                                            .slots = weights->slots,
                                            .map = source->memory ? NULL : source->base,
                                            .map_bytes = source->base_bytes};
    struct graft_vk_stream_part *parts = NULL;
    uint32_t *n_parts = NULL, n = 0;
    enum graft_status status;
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &parts, (uint64_t)weights->n_streamed * MATRICES, "streamed matrices"), status,
                  out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &n_parts, weights->n_streamed, "streamed matrices"), status, out);
    for (uint32_t u = 0; u < weights->n_streamed; u++) {
        uint32_t l = unit_layer(source, weights->n_streamed, u);
        for (uint32_t i = 0; i < MATRICES; i++) {
            const struct graft_weight *w = layer_matrix(&source->layers[l], i);
            if (w->data) {
                parts[n++] =
                    (struct graft_vk_stream_part){w->data, graft_weight_bytes(w), weights->places[l * MATRICES + i].offset};
                n_parts[u]++;
            }
        }
    }
    params.parts = parts;
    params.n_parts = n_parts;
    status = graft_vk_stream_create(weights->vk, &weights->stream, &params);
out:
    GRAFT_FREE(ctx, &n_parts);
    GRAFT_FREE(ctx, &parts);
    return status;
}

// All buffers at once, before the staging ring takes what the budget leaves.
static enum graft_status make_buffers(struct graft_weights_vk *weights)
{
    const struct graft_source *source = weights->source;
    uint32_t n_layer = source->config.n_layer;
    for (uint32_t l = 0; l < n_layer; l++) {
        if (!streamed(source, weights->n_streamed, l)) {
            GRAFT_TRY(graft_vk_buffer_create(weights->vk, &weights->layers[l], layer_bytes(&source->layers[l]), GRAFT_VK_DEVICE,
                                             GRAFT_MEM_WEIGHTS, "a layer's weights"));
        }
    }
    GRAFT_TRY(graft_vk_buffer_create(weights->vk, &weights->layers[n_layer], padded(graft_weight_bytes(&source->embd)),
                                     GRAFT_VK_DEVICE, GRAFT_MEM_WEIGHTS, "token embeddings"));
    return source->tied
               ? GRAFT_OK
               : graft_vk_buffer_create(weights->vk, &weights->layers[n_layer + 1], padded(graft_weight_bytes(&source->output)),
                                        GRAFT_VK_DEVICE, GRAFT_MEM_WEIGHTS, "output head");
}

static enum graft_status copy_weights(struct graft_weights_vk *weights, const struct graft_exec_params *params)
{
    const struct graft_source *source = weights->source;
    uint32_t n_layer = source->config.n_layer, n;
    struct copier copier = {.weights = weights, .params = params};
    uint64_t vectors, offset;
    graft_weights_vk_bytes(source, false, weights->n_streamed, &copier.total, &vectors);
    GRAFT_TRY(make_slots(weights));
    GRAFT_TRY(make_buffers(weights));
    for (uint32_t l = 0; l < n_layer; l++) {
        offset = 0;
        for (uint32_t i = 0; i < MATRICES && !streamed(source, weights->n_streamed, l); i++) {
            const struct graft_weight *w = layer_matrix(&source->layers[l], i);
            if (w->data) {
                GRAFT_TRY(copy_one(&copier, weights->layers[l], &offset, w, &weights->places[l * MATRICES + i]));
            }
        }
    }
    n = n_layer * MATRICES;
    offset = 0;
    GRAFT_TRY(copy_one(&copier, weights->layers[n_layer], &offset, &source->embd, &weights->places[n]));
    weights->places[n + 1] = weights->places[n];
    if (!source->tied) {
        offset = 0;
        GRAFT_TRY(copy_one(&copier, weights->layers[n_layer + 1], &offset, &source->output, &weights->places[n + 1]));
    }
    return graft_vk_upload_end(weights->vk);
}

static enum graft_status copy_vectors(struct graft_weights_vk *weights, struct graft_ctx *ctx)
{
    const struct graft_source *source = weights->source;
    uint64_t words = all_vector_words(source), at = 0, n_vectors = (uint64_t)source->config.n_layer * VECTORS + 1;
    float *values = NULL;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &values, words, "norm gains and biases"));
    for (uint64_t i = 0; i < n_vectors; i++) {
        const struct graft_weight *vector =
            i + 1 == n_vectors ? &source->output_norm : layer_vector(&source->layers[i / VECTORS], (uint32_t)(i % VECTORS));
        if (vector->data) {
            memcpy(values + at, vector->data, (size_t)vector->n_in * sizeof *values); // they are F32
            at += vector->n_in;
        }
    }
    uint64_t bytes = words * sizeof *values;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_vk_buffer_create(weights->vk, &weights->vectors, bytes, GRAFT_VK_DEVICE, GRAFT_MEM_WEIGHTS,
                                         "norm gains and biases"),
                  status, out);
    GRAFT_TRY_OUT(graft_vk_upload(weights->vk, weights->vectors, 0, values, bytes), status, out);
    GRAFT_TRY_OUT(graft_vk_upload_end(weights->vk), status, out);
out:
    GRAFT_FREE(ctx, &values);
    return status;
}

enum graft_status graft_weights_vk_create(struct graft_weights_vk *out, struct graft_vk *vk,
                                          const struct graft_exec_params *params)
{
    const struct graft_source *source = params->plan->source;
    *out = (struct graft_weights_vk){.vk = vk, .source = source, .n_streamed = params->limits.n_streamed};
    enum graft_status status;
    GRAFT_TRY_OUT(GRAFT_NEW(params->ctx, GRAFT_MEM_HOST, &out->places, place_count(source), "places of weights"), status, fail);
    GRAFT_TRY_OUT(GRAFT_NEW(params->ctx, GRAFT_MEM_HOST, &out->layers, source->config.n_layer + 2, "weight buffers"), status,
                  fail);
    bool mapped = false;
    if (graft_weights_vk_would_map(graft_vk_caps(vk), params->weights, source->base_bytes)) {
        status = map_weights(out);
        mapped = status == GRAFT_OK;
        if (!mapped && (params->weights == GRAFT_WEIGHTS_MAP || status != GRAFT_E_UNSUPPORTED)) {
            goto fail;
        }
        if (!mapped) {
            graft_log(params->ctx, GRAFT_LOG_INFO, "weights: not used in place (%s), copying", graft_last_error());
        }
    } else if (params->weights == GRAFT_WEIGHTS_MAP) {
        status = graft_fail(GRAFT_E_UNSUPPORTED, "the device cannot use the file's mapping in place (%s)",
                            graft_vk_caps(vk)->host_import ? "the file is larger than one allocation"
                                                           : "no VK_EXT_external_memory_host");
        goto fail;
    }
    if (!mapped) {
        GRAFT_TRY_OUT(copy_weights(out, params), status, fail);
    }
    GRAFT_TRY_OUT(copy_vectors(out, params->ctx), status, fail);
    GRAFT_TRY_OUT(out->n_streamed ? start_stream(out, params->ctx) : GRAFT_OK, status, fail);
    return GRAFT_OK;
fail:
    graft_vk_upload_drop(vk); // copies into the buffers that go now
    graft_weights_vk_destroy(out, params->ctx);
    return status;
}

void graft_weights_vk_destroy(struct graft_weights_vk *weights, struct graft_ctx *ctx)
{
    graft_vk_stream_destroy(&weights->stream);
    graft_vk_buffer_destroy(&weights->mapping);
    graft_vk_buffer_destroy(&weights->vectors);
    for (uint32_t s = 0; s < GRAFT_SLOTS; s++) {
        graft_vk_buffer_destroy(&weights->slots[s]);
    }
    if (weights->layers) {
        for (uint32_t l = 0; l < weights->source->config.n_layer + 2; l++) {
            graft_vk_buffer_destroy(&weights->layers[l]);
        }
    }
    GRAFT_FREE(ctx, &weights->layers);
    GRAFT_FREE(ctx, &weights->places);
}

// The layer that holds `weight`, or n_layer if none does.
static uint32_t layer_of(const struct graft_source *source, const struct graft_weight *weight)
{
    uint32_t n_layer = source->config.n_layer;
    uintptr_t first = (uintptr_t)source->layers, at = (uintptr_t)weight;
    return at >= first && at < (uintptr_t)(source->layers + n_layer) ? (uint32_t)((at - first) / sizeof *source->layers)
                                                                     : n_layer;
}

struct graft_place graft_weights_vk_find(const struct graft_weights_vk *weights, const struct graft_weight *weight)
{
    const struct graft_source *source = weights->source;
    uint32_t l = layer_of(source, weight), n = l * MATRICES;
    if (l == source->config.n_layer) {
        return weights->places[weight == &source->embd ? n : n + 1];
    }
    for (uint32_t i = 0; i < MATRICES; i++) {
        if (layer_matrix(&source->layers[l], i) == weight) {
            n += i;
            break;
        }
    }
    return weights->places[n];
}

uint32_t graft_weights_vk_vector(const struct graft_weights_vk *weights, const struct graft_weight *vector)
{
    const struct graft_source *source = weights->source;
    uint32_t l = layer_of(source, vector), i = 0;
    uint64_t words = 0;
    for (uint32_t k = 0; k < l; k++) {
        words += vector_words(&source->layers[k], VECTORS);
    }
    while (l < source->config.n_layer && layer_vector(&source->layers[l], i) != vector) {
        i++;
    }
    return (uint32_t)(words + (i ? vector_words(&source->layers[l], i) : 0));
}
