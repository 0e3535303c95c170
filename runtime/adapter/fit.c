// SPDX-License-Identifier: Apache-2.0
// Fitting and packing of adapters.
#include "runtime/adapter/fit.h"

#include "platform/bytes.h"
#include "runtime/quant/quant.h"
#include "shaders/params.h"

enum { RANK_ROUND = 8, F16_BYTES = 2, UNIT_BYTES = 16, F16_INF = 0x7c00, CHUNK = 256 };

static const struct graft_weight *base_weight(const struct graft_layer *layer, enum graft_target target)
{
    const struct graft_weight *weights[GRAFT_LAYER_TARGETS] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                                               &layer->gate, &layer->up, &layer->down};
    return weights[target];
}

static uint64_t padded_rank(const struct graft_adapter_pair *pair)
{
    return ((uint64_t)pair->rank + RANK_ROUND - 1) / RANK_ROUND * RANK_ROUND;
}

static enum graft_status fit_pair(const struct graft_adapter_pair *pair, const struct graft_source *source)
{
    const char *target = graft_target_name(pair->target);
    if ((unsigned)pair->target >= GRAFT_LAYER_TARGETS) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the adapter changes %s, which is not supported by this version", target);
    }
    if (pair->layer >= source->config.n_layer) {
        return graft_fail(GRAFT_E_FORMAT,
                          "the adapter changes layer %u, the base has layers 0 to %u; was it made for another base?",
                          pair->layer, source->config.n_layer - 1);
    }
    if (pair->rank < 1 || pair->rank > GRAFT_ADAPTER_MAX_RANK) {
        return graft_fail(GRAFT_E_LIMIT, "the adapter's layer %u %s has rank %u, allowed are 1 to %d", pair->layer, target,
                          pair->rank, GRAFT_ADAPTER_MAX_RANK);
    }
    const struct graft_weight *weight = base_weight(&source->layers[pair->layer], pair->target);
    if (pair->a.cols != weight->n_in || pair->b.rows != weight->n_out) {
        return graft_fail(GRAFT_E_FORMAT,
                          "the adapter's layer %u %s has shape %" PRIu64 " x %" PRIu64
                          ", the base's %u x %u; was it made for another base?",
                          pair->layer, target, pair->b.rows, pair->a.cols, weight->n_out, weight->n_in);
    }
    if (pair->magnitude.data) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "the adapter is DoRA (layer %u %s has a magnitude), which is not supported by this version",
                          pair->layer, target);
    }
    if (pair->bias.data) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "the adapter's layer %u %s has a bias (lora_bias), which is not supported by this version",
                          pair->layer, target);
    }
    return GRAFT_OK;
}

enum graft_status graft_adapter_fit(const struct graft_adapter_desc *desc, const struct graft_source *source)
{
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        GRAFT_TRY(fit_pair(&desc->pairs[i], source));
    }
    if (desc->n_whole) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "the adapter replaces %s (modules_to_save), which is not supported by this version",
                          desc->whole[0].name);
    }
    if (desc->n_alora) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "the adapter is aLoRA (alora_invocation_tokens), which is not supported by this version");
    }
    return GRAFT_OK;
}

static uint64_t bytes_of_a(const struct graft_adapter_pair *pair)
{
    return (padded_rank(pair) * pair->a.cols * F16_BYTES + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES;
}

static uint64_t bytes_of_b(const struct graft_adapter_pair *pair)
{
    return pair->b.rows * padded_rank(pair) * F16_BYTES;
}

uint64_t graft_adapter_packed_bytes(const struct graft_adapter_desc *desc)
{
    uint64_t bytes = UNIT_BYTES; // not used; a file of 2 GiB packs into at most 16 GiB: no overflow
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        bytes += bytes_of_a(&desc->pairs[i]) + bytes_of_b(&desc->pairs[i]);
    }
    return bytes;
}

static void store_u16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

// out[0 .. view.cols) = f16(row `row` of the view * scale).
static enum graft_status pack_row(const struct graft_adapter_pair *pair, const struct graft_adapter_view *view, char matrix,
                                  uint64_t row, float scale, uint8_t *out)
{
    uint64_t item = view->type == GRAFT_TYPE_F32 ? 4 : 2;
    const uint8_t *in = view->data + row * view->cols * item;
    if (view->type == GRAFT_TYPE_F16 && scale == 1.0f) {
        memcpy(out, in, (size_t)(view->cols * F16_BYTES));
        return GRAFT_OK;
    }
    const struct graft_quant *quant = graft_quant_find(view->type);
    float values[CHUNK];
    for (uint64_t first = 0; first < view->cols; first += CHUNK) {
        uint64_t count = view->cols - first < CHUNK ? view->cols - first : CHUNK;
        quant->dequantize_row(in + first * item, values, count);
        for (uint64_t i = 0; i < count; i++) {
            uint16_t half = graft_f32_to_f16(values[i] * scale);
            if ((half & F16_INF) == F16_INF) {
                return graft_fail(GRAFT_E_UNSUPPORTED,
                                  "the adapter's layer %u %s lora_%c has %g at row %" PRIu64 ", column %" PRIu64
                                  ", which with the scale %g is beyond the largest f16, 65504",
                                  pair->layer, graft_target_name(pair->target), matrix, (double)values[i], row, first + i,
                                  (double)scale);
            }
            store_u16(out + (first + i) * F16_BYTES, half);
        }
    }
    return GRAFT_OK;
}

// Where the base's file has row `row` of a matrix whose heads' halves were interleaved: within a head, old row j * half + i is
// new row 2 * i + j (llama.cpp, convert_hf_to_gguf.py, permute).
static uint64_t permuted_row(uint64_t row, uint64_t head_dim)
{
    uint64_t half = head_dim / 2, in_head = row % head_dim;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}

enum graft_status graft_adapter_pack(const struct graft_adapter_desc *desc, const struct graft_source *source, uint8_t *out,
                                     uint32_t *entries)
{
    uint64_t place = UNIT_BYTES;
    memset(entries, 0, sizeof *entries * source->config.n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY);
    memset(out, 0, (size_t)graft_adapter_packed_bytes(desc));
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        const struct graft_adapter_pair *pair = &desc->pairs[i];
        uint64_t rank = padded_rank(pair);
        bool permute = !desc->rows_permuted && source->config.rope_pairs == GRAFT_ROPE_ADJACENT &&
                       (pair->target == GRAFT_TARGET_Q || pair->target == GRAFT_TARGET_K);
        uint32_t *entry = entries + ((uint64_t)pair->layer * GRAFT_LORA_TARGETS + (uint64_t)pair->target) * GRAFT_LORA_ENTRY;
        uint8_t *a = out + place, *b = a + bytes_of_a(pair);
        entry[GRAFT_LORA_A] = (uint32_t)(place / UNIT_BYTES);
        entry[GRAFT_LORA_B] = (uint32_t)((place + bytes_of_a(pair)) / UNIT_BYTES);
        entry[GRAFT_LORA_ENTRY_RANK] = (uint32_t)rank;
        for (uint64_t row = 0; row < pair->rank; row++) {
            GRAFT_TRY(pack_row(pair, &pair->a, 'A', row, 1.0f, a + row * pair->a.cols * F16_BYTES));
        }
        for (uint64_t row = 0; row < pair->b.rows; row++) {
            uint64_t to = permute ? permuted_row(row, source->config.head_dim) : row;
            GRAFT_TRY(pack_row(pair, &pair->b, 'B', row, pair->scale, b + to * rank * F16_BYTES));
        }
        place += bytes_of_a(pair) + bytes_of_b(pair);
    }
    return GRAFT_OK;
}
