// SPDX-License-Identifier: Apache-2.0
// Packing: an adapter's matrices as kernels read them (shaders/params.h).
#include <math.h>

#include "platform/bytes.h"
#include "runtime/adapter/dora.h"
#include "runtime/adapter/fit.h"
#include "runtime/quant/quant.h"
#include "shaders/params.h"

enum { RANK_ROUND = 8, F16_BYTES = 2, UNIT_BYTES = 16, F16_INF = 0x7c00, F16_ONE = 0x3c00, CHUNK = 1024 };

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES;
}

static uint64_t padded_rank(const struct graft_adapter_pair *pair)
{
    return ((uint64_t)pair->rank + RANK_ROUND - 1) / RANK_ROUND * RANK_ROUND;
}

static uint64_t bytes_of_a(const struct graft_adapter_pair *pair)
{
    return round_up(padded_rank(pair) * pair->a.cols * F16_BYTES);
}

static uint64_t bytes_of_b(const struct graft_adapter_pair *pair)
{
    return pair->b.rows * padded_rank(pair) * F16_BYTES;
}

static uint64_t bytes_of_vector(uint64_t count)
{
    return round_up(count * sizeof(float));
}

// A whole router is the change B A of as many ranks as it has experts: A is its difference to the base's, B says 1 for each.
static struct graft_adapter_pair pair_of_router(const struct graft_adapter_whole *whole)
{
    struct graft_adapter_pair pair = {.target = whole->target, .rank = (uint32_t)whole->view.rows};
    pair.a.rows = pair.b.rows = pair.b.cols = whole->view.rows;
    pair.a.cols = whole->view.cols;
    return pair;
}

// Parts of a fused projection follow each other and have one A; an expert's gate and up likewise.
static bool shares_a(const struct graft_adapter_desc *desc, uint32_t i)
{
    return i > 0 && desc->pairs[i].a.data == desc->pairs[i - 1].a.data && desc->pairs[i].layer == desc->pairs[i - 1].layer;
}

// Pair i is the first of its layer and target that is of an expert: a table of all experts' entries goes with it. Pairs are
// sorted by layer, then expert: those of a layer are looked through until one of the same target is found.
static bool begins_experts(const struct graft_adapter_desc *desc, uint32_t i)
{
    const struct graft_adapter_pair *pair = &desc->pairs[i];
    bool first = pair->expert > 0;
    for (uint32_t k = i; k-- > 0 && first && desc->pairs[k].layer == pair->layer && desc->pairs[k].expert;) {
        first = desc->pairs[k].target != pair->target;
    }
    return first;
}

static uint64_t bytes_of_table(const struct graft_adapter_desc *desc)
{
    return (uint64_t)desc->n_expert * GRAFT_LORA_ENTRY * sizeof(uint32_t);
}

uint64_t graft_adapter_packed_bytes(const struct graft_adapter_desc *desc)
{
    uint64_t bytes = UNIT_BYTES; // not used; a file of 2 GiB has at most 2^30 rows of whole routers, their B below 2^62 bytes,
                                 // and packs into at most 16 GiB besides: no overflow
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        const struct graft_adapter_pair *pair = &desc->pairs[i];
        bytes += (shares_a(desc, i) ? 0 : bytes_of_a(pair)) + bytes_of_b(pair);
        bytes += begins_experts(desc, i) ? bytes_of_table(desc) : 0;
        bytes +=
            (pair->magnitude.data ? bytes_of_vector(pair->b.rows) : 0) + (pair->bias.data ? bytes_of_vector(pair->b.rows) : 0);
    }
    for (uint32_t i = 0; i < desc->n_whole; i++) {
        const struct graft_adapter_whole *whole = &desc->whole[i];
        const struct graft_adapter_pair router = pair_of_router(whole);
        bytes += whole->base_copy                       ? 0
                 : graft_target_is_norm(whole->target)  ? bytes_of_vector(whole->view.cols)
                 : whole->target == GRAFT_TARGET_ROUTER ? bytes_of_a(&router) + bytes_of_b(&router)
                                                        : round_up(whole->view.rows * whole->view.cols * F16_BYTES);
    }
    return bytes;
}

// Values [first, first + count) of a row as f32.
static void read_values(const struct graft_adapter_view *view, uint64_t row, uint64_t first, uint64_t count, float *out)
{
    uint64_t item = graft_adapter_value_bytes(view->type);
    graft_quant_find(view->type)->dequantize_row(view->data + (row * view->cols + first) * item, out, count);
}

// Where values are from, for errors.
struct origin {
    enum graft_target target;
    uint32_t layer, expert;
    const char *label; // "A", "B" or a tensor's name
    uint64_t row, column;
};

// f16(values * scale) to `out`.
static enum graft_status put_halves(float *values, uint64_t count, float scale, uint8_t *out, struct origin from)
{
    uint16_t infinite = 0;
    for (uint64_t i = 0; i < count; i++) {
        values[i] *= scale;
    }
    graft_quant_find(GRAFT_TYPE_F16)->quantize_row(values, out, count);
    for (uint64_t i = 0; i < count; i++) {
        infinite |= (graft_load_u16(out + F16_BYTES * i) & F16_INF) == F16_INF;
    }
    for (uint64_t i = 0; i < count && infinite; i++) {
        if ((graft_load_u16(out + F16_BYTES * i) & F16_INF) == F16_INF) {
            char name[GRAFT_PAIR_NAME_BYTES];
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "the adapter's %s has %g in %s at row %" PRIu64 ", column %" PRIu64
                              ", with the scale %g included; it is beyond the largest f16, 65504",
                              graft_adapter_pair_name(from.target, from.layer, from.expert, name), (double)values[i],
                              from.label, from.row, from.column + i, (double)scale);
        }
    }
    return GRAFT_OK;
}

static enum graft_status pack_row(const struct graft_adapter_pair *pair, const struct graft_adapter_view *view,
                                  const char *label, uint64_t row, float scale, uint8_t *out)
{
    if (view->type == GRAFT_TYPE_F16 && scale == 1.0f) {
        memcpy(out, view->data + row * view->cols * F16_BYTES, (size_t)(view->cols * F16_BYTES));
        return GRAFT_OK;
    }
    float values[CHUNK];
    for (uint64_t first = 0; first < view->cols; first += CHUNK) {
        uint64_t count = view->cols - first < CHUNK ? view->cols - first : CHUNK;
        read_values(view, row, first, count, values);
        GRAFT_TRY(put_halves(values, count, scale, out + first * F16_BYTES,
                             (struct origin){pair->target, pair->layer, pair->expert, label, row, first}));
    }
    return GRAFT_OK;
}

// A of an embedding, transposed: out [cols][rank padded].
static enum graft_status pack_transposed(const struct graft_adapter_pair *pair, uint8_t *out)
{
    uint64_t rank = padded_rank(pair);
    float values[CHUNK];
    uint8_t halves[CHUNK * F16_BYTES];
    for (uint64_t row = 0; row < pair->rank; row++) {
        for (uint64_t first = 0; first < pair->a.cols; first += CHUNK) {
            uint64_t count = pair->a.cols - first < CHUNK ? pair->a.cols - first : CHUNK;
            read_values(&pair->a, row, first, count, values);
            GRAFT_TRY(put_halves(values, count, 1.0f, halves, (struct origin){pair->target, pair->layer, 0, "A", row, first}));
            for (uint64_t i = 0; i < count; i++) {
                memcpy(out + ((first + i) * rank + row) * F16_BYTES, halves + F16_BYTES * i, F16_BYTES);
            }
        }
    }
    return GRAFT_OK;
}

static void store_f32(uint8_t *out, uint64_t i, float value)
{
    memcpy(out + i * sizeof value, &value, sizeof value);
}

struct packing {
    const struct graft_adapter_desc *desc;
    const struct graft_source *source;
    uint8_t *out;
    uint64_t place;
};

// Take bytes of the output, zeroed; their place in units.
static uint32_t take(struct packing *p, uint64_t bytes, uint8_t **data)
{
    uint64_t unit = p->place / UNIT_BYTES;
    *data = p->out + p->place;
    memset(*data, 0, (size_t)bytes);
    p->place += bytes;
    return (uint32_t)unit;
}

// shared: the place of A if it is there already, otherwise 0.
static enum graft_status pack_pair(struct packing *p, const struct graft_adapter_pair *pair, uint32_t shared, uint32_t *entry)
{
    const struct graft_source *source = p->source;
    uint64_t rank = padded_rank(pair);
    bool permute = !p->desc->rows_permuted && source->config.rope_pairs == GRAFT_ROPE_ADJACENT &&
                   (pair->target == GRAFT_TARGET_Q || pair->target == GRAFT_TARGET_K);
    uint8_t *a = NULL, *b, *dora = NULL, *bias = NULL;
    entry[GRAFT_LORA_A] = shared ? shared : take(p, bytes_of_a(pair), &a);
    entry[GRAFT_LORA_B] = take(p, bytes_of_b(pair), &b);
    entry[GRAFT_LORA_ENTRY_RANK] = (uint32_t)rank;
    entry[GRAFT_LORA_DORA] = pair->magnitude.data ? take(p, bytes_of_vector(pair->b.rows), &dora) : 0;
    entry[GRAFT_LORA_BIAS] = pair->bias.data ? take(p, bytes_of_vector(pair->b.rows), &bias) : 0;
    if (pair->target == GRAFT_TARGET_EMBED) {
        GRAFT_TRY(pack_transposed(pair, a));
    }
    for (uint64_t row = 0; row < pair->rank && pair->target != GRAFT_TARGET_EMBED && a; row++) {
        GRAFT_TRY(pack_row(pair, &pair->a, "A", row, 1.0f, a + row * pair->a.cols * F16_BYTES));
    }
    struct graft_dora norms = {0};
    enum graft_status status = GRAFT_OK;
    struct graft_weight weight = graft_adapter_pair_weight(source, pair);
    if (dora) {
        GRAFT_TRY(graft_dora_begin(&norms, p->desc->ctx, pair, &weight));
    }
    for (uint64_t row = 0; row < pair->b.rows && status == GRAFT_OK; row++) {
        uint64_t to = permute ? graft_adapter_permuted_row(row, source->config.head_dim) : row;
        float multiplier = 1.0f, value;
        if (dora) {
            status = graft_dora_multiplier(&norms, row, to, &multiplier);
            store_f32(dora, to, multiplier - 1.0f);
        }
        if (bias) {
            read_values(&pair->bias, 0, row, 1, &value);
            store_f32(bias, to, value * pair->scale);
        }
        if (status == GRAFT_OK) {
            status = pack_row(pair, &pair->b, "B", row, pair->scale * multiplier, b + to * rank * F16_BYTES);
        }
    }
    graft_dora_end(&norms, p->desc->ctx);
    return status;
}

// Where the difference of a head or router to the base goes, and what makes it one.
static uint8_t *begin_difference(struct packing *p, const struct graft_adapter_whole *whole, uint32_t *entry)
{
    const struct graft_adapter_pair router = pair_of_router(whole);
    uint64_t rank = padded_rank(&router);
    uint8_t *out, *b;
    if (whole->target != GRAFT_TARGET_ROUTER) {
        entry[GRAFT_LORA_B] = take(p, round_up(whole->view.rows * whole->view.cols * F16_BYTES), &out);
        entry[GRAFT_LORA_DENSE] = 1;
        return out;
    }
    entry[GRAFT_LORA_A] = take(p, bytes_of_a(&router), &out);
    entry[GRAFT_LORA_B] = take(p, bytes_of_b(&router), &b);
    entry[GRAFT_LORA_ENTRY_RANK] = (uint32_t)rank;
    for (uint64_t i = 0; i < router.rank; i++) {
        const uint16_t one = F16_ONE;
        memcpy(b + (i * rank + i) * F16_BYTES, &one, F16_BYTES);
    }
    return out;
}

// A norm's difference to the base's gain as f32, or the head's or a router's to the dequantized base as f16.
static enum graft_status pack_whole(struct packing *p, const struct graft_adapter_whole *whole, uint32_t *entry)
{
    const struct graft_weight *weight = graft_adapter_base_weight(p->source, whole->target, whole->layer);
    const struct graft_adapter_view *view = &whole->view;
    bool norm = graft_target_is_norm(whole->target);
    float *base = NULL, *values = NULL;
    enum graft_status status;
    uint8_t *out;
    GRAFT_TRY(GRAFT_NEW(p->desc->ctx, GRAFT_MEM_HOST, &base, view->cols, "a row of the base"));
    GRAFT_TRY_OUT(GRAFT_NEW(p->desc->ctx, GRAFT_MEM_HOST, &values, view->cols, "a row of an adapter"), status, done);
    if (norm) {
        entry[GRAFT_LORA_A] = take(p, bytes_of_vector(view->cols), &out);
        read_values(view, 0, 0, view->cols, values);
        memcpy(base, weight->data, (size_t)(view->cols * sizeof *base)); // gains are F32
        float plus = p->source->config.norms_plus_one && !p->desc->rows_permuted ? 1.0f : 0.0f;
        for (uint64_t i = 0; i < view->cols; i++) {
            store_f32(out, i, values[i] + plus - base[i]);
        }
        goto done;
    }
    out = begin_difference(p, whole, entry);
    for (uint64_t row = 0; row < view->rows && status == GRAFT_OK; row++) {
        read_values(view, row, 0, view->cols, values);
        graft_quant_find(weight->type)->dequantize_row(weight->data + row * weight->row_bytes, base, view->cols);
        for (uint64_t i = 0; i < view->cols; i++) {
            values[i] -= base[i];
        }
        status = put_halves(values, view->cols, 1.0f, out + row * view->cols * F16_BYTES,
                            (struct origin){whole->target, whole->layer, 0, whole->name, row, 0});
    }
done:
    GRAFT_FREE(p->desc->ctx, &values);
    GRAFT_FREE(p->desc->ctx, &base);
    return status;
}

// Entries of a pair's experts, taken with the first of them; places count from the table on.
static enum graft_status pack_expert(struct packing *p, uint32_t i, uint32_t shared, uint32_t *entry, uint32_t *a)
{
    static const uint32_t places[] = {GRAFT_LORA_A, GRAFT_LORA_B, GRAFT_LORA_DORA, GRAFT_LORA_BIAS};
    const struct graft_adapter_pair *pair = &p->desc->pairs[i];
    uint32_t own[GRAFT_LORA_ENTRY] = {0};
    uint8_t *table;
    if (begins_experts(p->desc, i)) {
        entry[GRAFT_LORA_A] = take(p, bytes_of_table(p->desc), &table);
    }
    table = p->out + (uint64_t)entry[GRAFT_LORA_A] * UNIT_BYTES;
    GRAFT_TRY(pack_pair(p, pair, shared, own));
    *a = own[GRAFT_LORA_A];
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        own[places[k]] -= own[places[k]] ? entry[GRAFT_LORA_A] : 0;
    }
    memcpy(table + (uint64_t)(pair->expert - 1) * sizeof own, own, sizeof own);
    return GRAFT_OK;
}

enum graft_status graft_adapter_pack(const struct graft_adapter_desc *desc, const struct graft_source *source, uint8_t *out,
                                     uint32_t *entries)
{
    struct packing p = {.desc = desc, .source = source, .out = out, .place = UNIT_BYTES};
    memset(entries, 0, sizeof *entries * source->config.n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY);
    memset(out, 0, UNIT_BYTES);
    for (uint32_t i = 0, shared = 0; i < desc->n_pairs; i++) {
        const struct graft_adapter_pair *pair = &desc->pairs[i];
        uint64_t at = (uint64_t)pair->layer * GRAFT_LORA_TARGETS + (uint64_t)pair->target;
        uint32_t *entry = entries + at * GRAFT_LORA_ENTRY;
        shared = shares_a(desc, i) ? shared : 0;
        if (pair->expert) {
            GRAFT_TRY(pack_expert(&p, i, shared, entry, &shared));
        } else {
            GRAFT_TRY(pack_pair(&p, pair, shared, entry));
            shared = entry[GRAFT_LORA_A];
        }
    }
    for (uint32_t i = 0; i < desc->n_whole; i++) {
        const struct graft_adapter_whole *whole = &desc->whole[i];
        uint64_t at = (uint64_t)whole->layer * GRAFT_LORA_TARGETS + (uint64_t)whole->target;
        if (!whole->base_copy) {
            GRAFT_TRY(pack_whole(&p, whole, entries + at * GRAFT_LORA_ENTRY));
        }
    }
    return GRAFT_OK;
}
