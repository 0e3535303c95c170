// SPDX-License-Identifier: Apache-2.0
// Models of real shapes with random weights, for measuring on a bare machine. A small random pattern is quantized once and
// repeated, so that gigabytes of weights take the time of writing them.
#include <ctype.h>
#include <math.h>
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/model/arch.h"
#include "runtime/quant/quant.h"

// Shapes as published with the models: Llama 3 8B, Llama 3.2 1B, SmolLM2 135M, OLMoE 1B-7B (as Mixtral computes).
struct shape {
    const char *name;
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx;
    bool tied;
    float rope_base, eps;
    uint32_t n_expert, n_used; // n_expert 0: dense; else n_ff is that of an expert
};
static const struct shape shapes[] = {
    {"llama-8b", 32, 4096, 14336, 32, 8, 128, 128256, 8192, false, 500000.0f, 1e-5f, 0, 0},
    {"llama-1b", 16, 2048, 8192, 32, 8, 64, 128256, 131072, true, 500000.0f, 1e-5f, 0, 0},
    {"llama-135m", 30, 576, 1536, 9, 3, 64, 49152, 8192, true, 100000.0f, 1e-5f, 0, 0},
    {"moe-7b", 16, 2048, 1024, 16, 16, 128, 50304, 4096, false, 10000.0f, 1e-5f, 64, 8},
};

enum {
    PATTERN_BLOCKS = 509, // prime: rows, whose blocks are a round number, do not repeat
    ALIGNMENT = 64,
    WEIGHTS_PER_LAYER = 10,
    OTHER_WEIGHTS = 3,
    LABEL_BYTES = 32,
    TYPE_NUMBERS = 64 // more than GGUF has types
};
static const float SPREAD = 0.02f; // standard deviation of trained weights, roughly

struct builder {
    struct graft_source *source;
    const struct graft_type_info *type;
    uint8_t *pattern;
    uint64_t pattern_bytes, phase;
    uint64_t used; // bytes laid out
    uint32_t n_labels;
};

static bool same_text(const char *a, size_t length, const char *b)
{
    if (length != strlen(b)) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (tolower((unsigned char)a[i]) != tolower((unsigned char)b[i])) {
            return false;
        }
    }
    return true;
}

static enum graft_status find(const char *text, const struct shape **shape, const struct graft_type_info **type)
{
    const char *colon = strchr(text, ':');
    *shape = NULL;
    *type = NULL;
    for (size_t i = 0; colon && i < sizeof shapes / sizeof *shapes; i++) {
        *shape = same_text(text, (size_t)(colon - text), shapes[i].name) ? &shapes[i] : *shape;
    }
    for (uint32_t number = 0; colon && number < TYPE_NUMBERS; number++) {
        const struct graft_type_info *info = graft_type_info(number);
        *type = info && same_text(colon + 1, strlen(colon + 1), info->name) ? info : *type;
    }
    if (!*shape || !*type) {
        return graft_fail(
            GRAFT_E_ARGUMENT,
            "synthetic model \"%.64s\": expected NAME:TYPE, NAME one of llama-8b, llama-1b, llama-135m, moe-7b, TYPE "
            "one of " GRAFT_TYPE_NAMES,
            text);
    }
    uint64_t bytes;
    if (!graft_type_row_bytes((*type)->type, (*shape)->n_embd, &bytes) ||
        !graft_type_row_bytes((*type)->type, (*shape)->n_ff, &bytes)) {
        return graft_fail(GRAFT_E_ARGUMENT, "synthetic model \"%.64s\": rows of %u weights are no whole number of blocks of %u",
                          text, (*shape)->n_embd, (*type)->block_values);
    }
    return GRAFT_OK;
}

// Place one weight (n_expert: matrices of a mixture; 0: one) at the end of what is laid out; its bytes are known, its memory is
// not yet there.
static void place_experts(struct builder *b, struct graft_weight *w, uint32_t n_in, uint32_t n_out, uint32_t n_expert,
                          int layer, const char *what)
{
    char *label = b->source->labels + (size_t)b->n_labels++ * LABEL_BYTES;
    if (layer >= 0) {
        snprintf(label, LABEL_BYTES, "blk.%d.%s.weight", layer, what);
    } else {
        snprintf(label, LABEL_BYTES, "%s.weight", what);
    }
    *w = (struct graft_weight){.label = label,
                               .type = n_out == 1 ? GRAFT_TYPE_F32 : b->type->type,
                               .n_in = n_in,
                               .n_out = n_out,
                               .n_expert = n_expert,
                               .offset = b->used};
    (void)graft_type_row_bytes(w->type, n_in, &w->row_bytes); // the shapes are known to divide
    b->used += (graft_weight_bytes(w) + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
}

static void place(struct builder *b, struct graft_weight *w, uint32_t n_in, uint32_t n_out, int layer, const char *what)
{
    place_experts(b, w, n_in, n_out, 0, layer, what);
}

static void place_all(struct builder *b, const struct shape *s)
{
    struct graft_source *source = b->source;
    uint32_t heads = s->n_head * s->head_dim, heads_kv = s->n_head_kv * s->head_dim;
    place(b, &source->embd, s->n_embd, s->n_vocab, -1, "token_embd");
    for (uint32_t i = 0; i < s->n_layer; i++) {
        struct graft_layer *l = &source->layers[i];
        place(b, &l->attn_norm, s->n_embd, 1, (int)i, "attn_norm");
        place(b, &l->q, s->n_embd, heads, (int)i, "attn_q");
        place(b, &l->k, s->n_embd, heads_kv, (int)i, "attn_k");
        place(b, &l->v, s->n_embd, heads_kv, (int)i, "attn_v");
        place(b, &l->o, heads, s->n_embd, (int)i, "attn_output");
        place(b, &l->ffn_norm, s->n_embd, 1, (int)i, "ffn_norm");
        if (s->n_expert) {
            place(b, &l->router, s->n_embd, s->n_expert, (int)i, "ffn_gate_inp");
        }
        place_experts(b, &l->gate, s->n_embd, s->n_ff, s->n_expert, (int)i, s->n_expert ? "ffn_gate_exps" : "ffn_gate");
        place_experts(b, &l->up, s->n_embd, s->n_ff, s->n_expert, (int)i, s->n_expert ? "ffn_up_exps" : "ffn_up");
        place_experts(b, &l->down, s->n_ff, s->n_embd, s->n_expert, (int)i, s->n_expert ? "ffn_down_exps" : "ffn_down");
    }
    place(b, &source->output_norm, s->n_embd, 1, -1, "output_norm");
    if (!s->tied) {
        place(b, &source->output, s->n_embd, s->n_vocab, -1, "output");
    }
}

// Vectors are ones, matrices the repeated pattern.
static void fill(struct builder *b, struct graft_weight *w)
{
    uint8_t *to = b->source->memory + w->offset;
    w->data = to;
    uint64_t left = graft_weight_bytes(w);
    if (w->n_out == 1) {
        const float one = 1.0f;
        for (uint32_t i = 0; i < w->n_in; i++) {
            memcpy(to + 4 * (size_t)i, &one, 4);
        }
        return;
    }
    while (left) {
        uint64_t piece = b->pattern_bytes - b->phase;
        piece = piece < left ? piece : left;
        memcpy(to, b->pattern + b->phase, (size_t)piece);
        b->phase = (b->phase + piece) % b->pattern_bytes;
        to += piece;
        left -= piece;
    }
}

static void fill_all(struct builder *b)
{
    struct graft_source *s = b->source;
    fill(b, &s->embd);
    fill(b, &s->output_norm);
    for (uint32_t i = 0; i < s->config.n_layer; i++) {
        struct graft_layer *l = &s->layers[i];
        struct graft_weight *all[WEIGHTS_PER_LAYER] = {&l->attn_norm, &l->q,    &l->k,  &l->v,    &l->o,
                                                       &l->ffn_norm,  &l->gate, &l->up, &l->down, &l->router};
        for (int k = 0; k < WEIGHTS_PER_LAYER; k++) {
            if (all[k]->n_out) { // a dense model has no router
                fill(b, all[k]);
            }
        }
    }
    if (s->tied) {
        s->output = s->embd;
    } else {
        fill(b, &s->output);
    }
}

// Random values near a normal distribution (sum of four uniform ones), quantized.
static enum graft_status make_pattern(struct builder *b)
{
    struct graft_ctx *ctx = b->source->ctx;
    uint64_t values = (uint64_t)PATTERN_BLOCKS * (b->type->block_values > 1 ? b->type->block_values : 32), bytes;
    (void)graft_type_row_bytes(b->type->type, values, &bytes);
    float *x;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &x, values, "a pattern of random weights"));
    uint64_t state = 88172645463325252u;
    for (uint64_t i = 0; i < values; i++) {
        float sum = -2.0f;
        for (int k = 0; k < 4; k++) {
            state ^= state << 13; // xorshift64, Marsaglia 2003
            state ^= state >> 7;
            state ^= state << 17;
            sum += (float)(state >> 40) / 16777216.0f;
        }
        x[i] = sum * SPREAD * 1.7320508f; // the sum's variance is 1/3
    }
    enum graft_status status = graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&b->pattern, bytes, 1, "a pattern of random weights");
    if (status == GRAFT_OK) {
        b->pattern_bytes = bytes;
        graft_quant_find(b->type->type)->quantize_row(x, b->pattern, values);
    }
    GRAFT_FREE(ctx, &x);
    return status;
}

static void configure(struct graft_config *c, const struct shape *s, const char *name)
{
    *c = (struct graft_config){.n_layer = s->n_layer,
                               .n_embd = s->n_embd,
                               .n_ff = s->n_ff,
                               .n_expert = s->n_expert,
                               .n_expert_used = s->n_used,
                               .n_ff_expert = s->n_expert ? s->n_ff : 0,
                               .expert_norm = true,
                               .n_head = s->n_head,
                               .n_head_kv = s->n_head_kv,
                               .head_dim = s->head_dim,
                               .n_vocab = s->n_vocab,
                               .n_ctx_train = s->n_ctx,
                               .rms_eps = s->eps,
                               .rope_pairs = GRAFT_ROPE_ADJACENT,
                               .rope_dim = s->head_dim,
                               .rope_magnitude = 1.0f,
                               .embedding_scale = 1.0f,
                               .attention_scale = 1.0f / sqrtf((float)s->head_dim)};
    snprintf(c->architecture, sizeof c->architecture, "llama");
    snprintf(c->name, sizeof c->name, "%s", name);
    graft_rope_frequencies(c, s->rope_base, 1.0f, NULL, c->rope_inv_freq);
}

static enum graft_status build(struct builder *b, const struct shape *s)
{
    struct graft_source *source = b->source;
    struct graft_ctx *ctx = source->ctx;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &source->layers, s->n_layer, "the model's layers"));
    GRAFT_TRY(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&source->labels, s->n_layer * WEIGHTS_PER_LAYER + OTHER_WEIGHTS,
                          LABEL_BYTES, "tensor names"));
    place_all(b, s);
    GRAFT_TRY(make_pattern(b));
    GRAFT_TRY(graft_alloc(ctx, GRAFT_MEM_WEIGHTS, (void **)&source->memory, b->used, 1, "synthetic weights"));
    fill_all(b);
    source->base = source->memory;
    source->base_bytes = b->used;
    return GRAFT_OK;
}

enum graft_status graft_source_synthetic(struct graft_ctx *ctx, struct graft_source **out, const char *shape)
{
    *out = NULL;
    const struct shape *s;
    struct builder b = {0};
    GRAFT_TRY(find(shape, &s, &b.type));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &b.source, 1, "a model's configuration"));
    b.source->ctx = ctx;
    b.source->tied = s->tied;
    configure(&b.source->config, s, shape);
    enum graft_status status = build(&b, s);
    GRAFT_FREE(ctx, &b.pattern);
    if (status != GRAFT_OK) {
        graft_source_close(&b.source);
        return status;
    }
    *out = b.source;
    return GRAFT_OK;
}
