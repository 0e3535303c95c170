// SPDX-License-Identifier: Apache-2.0
// What decoders have in common: shape, vocabulary, rotary positions and the tensors of a layer. Key and tensor names: the
// GGUF specification and PyPI's gguf (constants.py, tensor_mapping.py).
#include <math.h>
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/model/arch.h"

enum {
    MAX_WIDTH = 1 << 17, // n_embd
    MAX_FF = 1 << 19,
    MAX_HEADS = 1024,
    MAX_HEAD_DIM = 512,
    MAX_VOCAB = 1 << 21,
    MAX_CONTEXT = 1 << 27,
    MAX_SLOTS = 18, // of a layer
    OTHER_WEIGHTS = 6
};

// Metadata -> config. Missing keys are noted, not yet an error.
static enum graft_status read_shape(struct graft_arch_reader *r, const struct graft_arch_rules *rules)
{
    struct graft_config *c = &r->source->config;
    const char *path = r->gguf->path;
    char key[GRAFT_ARCH_KEY_BYTES];
    GRAFT_TRY(graft_arch_check_keys(r, rules->known, rules->neutral));
    GRAFT_TRY(graft_arch_u32(r, "block_count", 1, GRAFT_MAX_LAYERS, &c->n_layer));
    GRAFT_TRY(graft_arch_u32(r, "context_length", 1, MAX_CONTEXT, &c->n_ctx_train));
    GRAFT_TRY(graft_arch_u32(r, "embedding_length", 1, MAX_WIDTH, &c->n_embd));
    GRAFT_TRY(graft_arch_u32(r, "feed_forward_length", 1, MAX_FF, &c->n_ff));
    GRAFT_TRY(graft_arch_u32(r, "attention.head_count", 1, MAX_HEADS, &c->n_head));
    GRAFT_TRY(graft_arch_u32_or(r, "attention.head_count_kv", c->n_head, 1, MAX_HEADS, &c->n_head_kv));
    GRAFT_TRY(graft_arch_positive(r, "attention.layer_norm_rms_epsilon", true, 1.0f, &c->rms_eps));
    if (r->n_missing) {
        return GRAFT_OK; // relations between made-up numbers mean nothing
    }
    if (c->n_head_kv > c->n_head || c->n_head % c->n_head_kv != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s.attention.head_count is %u, no multiple of %s.attention.head_count_kv %u",
                          path, r->prefix, c->n_head, r->prefix, c->n_head_kv);
    }
    graft_arch_key(r, "attention.key_length", key);
    if (!graft_gguf_find(r->gguf, key) && c->n_embd % c->n_head != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s.embedding_length is %u, no multiple of %s.attention.head_count %u", path,
                          r->prefix, c->n_embd, r->prefix, c->n_head);
    }
    GRAFT_TRY(graft_arch_u32_or(r, "attention.key_length", c->n_embd / c->n_head, 1, MAX_HEAD_DIM, &c->head_dim));
    uint32_t value_length;
    GRAFT_TRY(graft_arch_u32_or(r, "attention.value_length", c->head_dim, 1, MAX_HEAD_DIM, &value_length));
    if (value_length != c->head_dim) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "%s: %s.attention.value_length is %u, %s.attention.key_length %u; they must be equal", path,
                          r->prefix, value_length, r->prefix, c->head_dim);
    }
    if (c->head_dim % 8 != 0) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: a head has %u values, allowed are multiples of 8", path, c->head_dim);
    }
    if (c->n_embd % 32 != 0 || c->n_ff % 32 != 0 || c->n_head * c->head_dim % 32 != 0) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "%s: %s.embedding_length is %u, %s.feed_forward_length %u, heads times their length %u; allowed are "
                          "multiples of 32",
                          path, r->prefix, c->n_embd, r->prefix, c->n_ff, c->n_head * c->head_dim);
    }
    if (rules->parts & GRAFT_ARCH_EXPERTS) {
        GRAFT_TRY(graft_arch_expert_keys(r));
    }
    GRAFT_TRY(graft_arch_u32_or(r, "rope.dimension_count", c->head_dim, 2, c->head_dim, &c->rope_dim));
    if (c->rope_dim % 2 != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s.rope.dimension_count is %u, allowed are even numbers", path, r->prefix,
                          c->rope_dim);
    }
    c->attention_scale = 1.0f / sqrtf((float)c->head_dim);
    c->rope_pairs = rules->rope_pairs;
    c->rope_magnitude = 1.0f;
    c->embedding_scale = 1.0f;
    return GRAFT_OK;
}

// The number of tokens is that of the embedding's rows; the metadata must agree with it.
static enum graft_status read_vocab_size(struct graft_arch_reader *r)
{
    struct graft_config *c = &r->source->config;
    const struct graft_gguf_tensor *embd = graft_gguf_tensor(r->gguf, "token_embd.weight");
    if (!embd) {
        return GRAFT_OK; // reported as missing already
    }
    if (embd->dims[1] == 0 || embd->dims[1] > MAX_VOCAB) {
        return graft_fail(GRAFT_E_FORMAT, "%s: tensor token_embd.weight has %" PRIu64 " rows, allowed are 1 to %u",
                          r->gguf->path, embd->dims[1], MAX_VOCAB);
    }
    c->n_vocab = (uint32_t)embd->dims[1];
    uint32_t declared;
    GRAFT_TRY(graft_arch_u32_or(r, "vocab_size", c->n_vocab, 1, MAX_VOCAB, &declared));
    if (declared != c->n_vocab) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s.vocab_size is %u, tensor token_embd.weight has %u rows", r->gguf->path,
                          r->prefix, declared, c->n_vocab);
    }
    const struct graft_gguf_key *tokens = graft_gguf_find(r->gguf, "tokenizer.ggml.tokens");
    if (tokens && tokens->count != c->n_vocab) {
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: tokenizer.ggml.tokens has %" PRIu64 " items, tensor token_embd.weight has %u rows",
                          r->gguf->path, tokens->count, c->n_vocab);
    }
    return GRAFT_OK;
}

// The slots of a layer, in the order of their names here; how many. parts: enum graft_arch_parts.
struct slot {
    const char *name; // behind "blk.N."
    struct graft_weight *weight;
    uint32_t n_in, n_out; // n_out 1: a vector, unless n_expert
    uint32_t n_expert;    // matrices in one tensor; 0: one
};

static uint32_t layer_slots(const struct graft_config *c, struct graft_layer *l, uint32_t parts, struct slot slots[MAX_SLOTS])
{
    uint32_t heads = c->n_head * c->head_dim, heads_kv = c->n_head_kv * c->head_dim, n = 0;
    slots[n++] = (struct slot){"attn_norm.weight", &l->attn_norm, c->n_embd, 1, 0};
    if (parts & GRAFT_ARCH_FUSED) { // cut afterwards
        slots[n++] = (struct slot){"attn_qkv.weight", &l->q, c->n_embd, heads + 2 * heads_kv, 0};
    } else {
        slots[n++] = (struct slot){"attn_q.weight", &l->q, c->n_embd, heads, 0};
        slots[n++] = (struct slot){"attn_k.weight", &l->k, c->n_embd, heads_kv, 0};
        slots[n++] = (struct slot){"attn_v.weight", &l->v, c->n_embd, heads_kv, 0};
    }
    if (parts & GRAFT_ARCH_BIASES) {
        slots[n++] = (struct slot){"attn_q.bias", &l->q_bias, heads, 1, 0};
        slots[n++] = (struct slot){"attn_k.bias", &l->k_bias, heads_kv, 1, 0};
        slots[n++] = (struct slot){"attn_v.bias", &l->v_bias, heads_kv, 1, 0};
    }
    if (parts & GRAFT_ARCH_HEAD_NORMS) {
        slots[n++] = (struct slot){"attn_q_norm.weight", &l->q_norm, c->head_dim, 1, 0};
        slots[n++] = (struct slot){"attn_k_norm.weight", &l->k_norm, c->head_dim, 1, 0};
    }
    slots[n++] = (struct slot){"attn_output.weight", &l->o, heads, c->n_embd, 0};
    slots[n++] = (struct slot){"ffn_norm.weight", &l->ffn_norm, c->n_embd, 1, 0};
    if (parts & GRAFT_ARCH_POST_NORMS) {
        slots[n++] = (struct slot){"post_attention_norm.weight", &l->post_attn_norm, c->n_embd, 1, 0};
        slots[n++] = (struct slot){"post_ffw_norm.weight", &l->post_ffn_norm, c->n_embd, 1, 0};
    }
    if (c->n_expert) {
        slots[n++] = (struct slot){"ffn_gate_inp.weight", &l->router, c->n_embd, c->n_expert, 0};
        slots[n++] = (struct slot){"ffn_gate_exps.weight", &l->gate, c->n_embd, c->n_ff_expert, c->n_expert};
        slots[n++] = (struct slot){"ffn_up_exps.weight", &l->up, c->n_embd, c->n_ff_expert, c->n_expert};
        slots[n++] = (struct slot){"ffn_down_exps.weight", &l->down, c->n_ff_expert, c->n_embd, c->n_expert};
        return n;
    }
    if (parts & GRAFT_ARCH_FUSED) {
        slots[n++] = (struct slot){"ffn_up.weight", &l->gate, c->n_embd, 2 * c->n_ff, 0};
    } else {
        slots[n++] = (struct slot){"ffn_gate.weight", &l->gate, c->n_embd, c->n_ff, 0};
        slots[n++] = (struct slot){"ffn_up.weight", &l->up, c->n_embd, c->n_ff, 0};
    }
    slots[n++] = (struct slot){"ffn_down.weight", &l->down, c->n_ff, c->n_embd, 0};
    return n;
}

static void layer_tensor_name(char name[64], uint32_t layer, const char *suffix)
{
    snprintf(name, 64, "blk.%u.%s", layer, suffix);
}

// Names only, so that missing keys and missing tensors come in one message.
static void note_missing_tensors(struct graft_arch_reader *r, uint32_t parts)
{
    static const char *const single[] = {"token_embd.weight", "output_norm.weight"};
    for (size_t i = 0; i < sizeof single / sizeof *single; i++) {
        if (!graft_gguf_tensor(r->gguf, single[i])) {
            graft_arch_missing(r, single[i]);
        }
    }
    struct graft_layer unused;
    struct slot slots[MAX_SLOTS];
    uint32_t n = layer_slots(&r->source->config, &unused, parts, slots);
    for (uint32_t i = 0; i < r->source->config.n_layer; i++) {
        for (uint32_t k = 0; k < n; k++) {
            char name[64];
            layer_tensor_name(name, i, slots[k].name);
            if (!graft_gguf_tensor(r->gguf, name)) {
                graft_arch_missing(r, name);
            }
        }
    }
}

// The rows of `whole` from `first` on.
static struct graft_weight cut(const struct graft_weight *whole, uint32_t first, uint32_t n_out)
{
    struct graft_weight part = *whole;
    part.data += first * whole->row_bytes;
    part.offset += first * whole->row_bytes;
    part.n_out = n_out;
    return part;
}

static enum graft_status read_layer(struct graft_arch_reader *r, uint32_t i, uint32_t parts)
{
    const struct graft_config *c = &r->source->config;
    struct graft_layer *l = &r->source->layers[i];
    struct slot slots[MAX_SLOTS];
    uint32_t n = layer_slots(c, l, parts, slots);
    for (uint32_t k = 0; k < n; k++) {
        char name[64];
        layer_tensor_name(name, i, slots[k].name);
        if (slots[k].n_out == 1 && slots[k].weight != &l->router) {
            GRAFT_TRY(graft_arch_vector(r, slots[k].weight, name, true, slots[k].n_in));
        } else {
            GRAFT_TRY(graft_arch_matrices(r, slots[k].weight, name, true, slots[k].n_in, slots[k].n_out, slots[k].n_expert));
        }
    }
    if (parts & GRAFT_ARCH_FUSED) {
        uint32_t heads = c->n_head * c->head_dim, heads_kv = c->n_head_kv * c->head_dim;
        struct graft_weight qkv = l->q, gate_up = l->gate;
        l->q = cut(&qkv, 0, heads);
        l->k = cut(&qkv, heads, heads_kv);
        l->v = cut(&qkv, heads + heads_kv, heads_kv);
        l->gate = cut(&gate_up, 0, c->n_ff);
        l->up = cut(&gate_up, c->n_ff, c->n_ff);
    }
    return GRAFT_OK;
}

enum graft_status graft_arch_factors(struct graft_arch_reader *r, const char *name, float factors[GRAFT_MAX_ROPE_PAIRS],
                                     bool *found)
{
    uint32_t n = r->source->config.rope_dim / 2;
    struct graft_weight weight;
    GRAFT_TRY(graft_arch_vector(r, &weight, name, false, n));
    *found = weight.data != NULL;
    for (uint32_t i = 0; weight.data && i < n; i++) {
        memcpy(&factors[i], weight.data + 4 * (size_t)i, 4);
        if (!(factors[i] > 0.0f) || !isfinite(factors[i])) {
            return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s holds %g at %u, allowed are finite numbers above 0", r->gguf->path,
                              name, (double)factors[i], i);
        }
    }
    return GRAFT_OK;
}

enum graft_status graft_arch_linear_scaling(struct graft_arch_reader *r, float *out)
{
    struct graft_text type;
    char key[GRAFT_ARCH_KEY_BYTES];
    GRAFT_TRY(graft_arch_positive(r, "rope.scale_linear", false, 1.0f, out));
    graft_arch_key(r, "rope.scaling.type", key);
    GRAFT_TRY(graft_gguf_text_or_none(r->gguf, key, &type));
    float factor;
    GRAFT_TRY(graft_arch_positive(r, "rope.scaling.factor", false, 1.0f, &factor));
    if (!type.data || graft_text_is(type, "none")) {
        return GRAFT_OK; // a factor without a type means nothing
    }
    if (graft_text_is(type, "linear")) {
        *out = factor;
        return GRAFT_OK;
    }
    int shown = type.length < 64 ? (int)type.length : 64;
    return graft_fail(GRAFT_E_UNSUPPORTED,
                      "%s: %s is \"%.*s\"; supported are none, linear, yarn (llama, qwen2, qwen3, qwen3moe), and factors in "
                      "tensors (Llama 3's rope_freqs.weight, "
                      "Phi 3's rope_factors_long.weight and rope_factors_short.weight)",
                      r->gguf->path, key, shown, type.data);
}

enum graft_status graft_arch_windows(struct graft_arch_reader *r, uint32_t fallback, uint32_t every)
{
    uint32_t window;
    GRAFT_TRY(graft_arch_u32_or(r, "attention.sliding_window", fallback, 0, UINT32_MAX, &window));
    for (uint32_t i = 0; i < r->source->config.n_layer; i += every) {
        r->source->layers[i].window = window;
    }
    return GRAFT_OK;
}

// The pair of a head that turns `turns` times in the original context.
static double pair_of_turns(const struct graft_config *c, double base, double context, double turns)
{
    const double two_pi = 6.283185307179586;
    return c->rope_dim * log(context / (turns * two_pi)) / (2 * log(base));
}

static enum graft_status yarn(struct graft_arch_reader *r, float base)
{
    struct graft_config *c = &r->source->config;
    float factor, fast, slow, attention;
    uint32_t original;
    GRAFT_TRY(graft_arch_positive(r, "rope.scaling.factor", true, 1.0f, &factor));
    GRAFT_TRY(graft_arch_positive(r, "rope.scaling.yarn_beta_fast", false, 32.0f, &fast));
    GRAFT_TRY(graft_arch_positive(r, "rope.scaling.yarn_beta_slow", false, 1.0f, &slow));
    GRAFT_TRY(graft_arch_positive(r, "rope.scaling.yarn_attn_factor", false, 1.0f, &attention));
    GRAFT_TRY(graft_arch_u32_or(r, "rope.scaling.original_context_length", c->n_ctx_train, 1, UINT32_MAX, &original));
    GRAFT_TRY(graft_arch_check_missing(r));
    if (!(base > 1.0f)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: rope.freq_base is %g, YaRN needs more than 1", r->gguf->path, (double)base);
    }
    double low = floor(pair_of_turns(c, (double)base, original, (double)fast)), high;
    high = ceil(pair_of_turns(c, (double)base, original, (double)slow));
    low = low > 0 ? low : 0;
    high = high < c->rope_dim - 1 ? high : c->rope_dim - 1;
    high += high == low ? 0.001 : 0;
    for (uint32_t i = 0; i < c->rope_dim / 2; i++) {
        double inv = 1.0 / pow((double)base, 2.0 * i / c->rope_dim), share = (i - low) / (high - low);
        share = share < 0 ? 0 : share > 1 ? 1 : share; // of interpolation
        c->rope_inv_freq[i] = (float)(inv / (double)factor * share + inv * (1 - share));
    }
    c->rope_magnitude = attention * (factor > 1.0f ? 0.1f * logf(factor) + 1.0f : 1.0f);
    return GRAFT_OK;
}

enum graft_status graft_arch_scaled_rope(struct graft_arch_reader *r, const float *factors)
{
    float base, linear;
    char key[GRAFT_ARCH_KEY_BYTES];
    struct graft_text type;
    graft_arch_key(r, "rope.scaling.type", key);
    GRAFT_TRY(graft_arch_positive(r, "rope.freq_base", false, 10000.0f, &base));
    GRAFT_TRY(graft_gguf_text_or_none(r->gguf, key, &type));
    if (graft_text_is(type, "yarn")) {
        return !factors ? yarn(r, base)
                        : graft_fail(GRAFT_E_UNSUPPORTED, "%s: %s is \"yarn\", not supported together with rope_freqs.weight",
                                     r->gguf->path, key);
    }
    GRAFT_TRY(graft_arch_linear_scaling(r, &linear));
    graft_rope_frequencies(&r->source->config, base, linear, factors, r->source->config.rope_inv_freq);
    return GRAFT_OK;
}

enum graft_status graft_arch_plain_rope(struct graft_arch_reader *r)
{
    return graft_arch_scaled_rope(r, NULL);
}

enum graft_status graft_arch_cap(struct graft_arch_reader *r, const char *suffix, float *out)
{
    char key[GRAFT_ARCH_KEY_BYTES];
    graft_arch_key(r, suffix, key);
    *out = 0.0f;
    return graft_gguf_find(r->gguf, key) ? graft_arch_positive(r, suffix, false, 1.0f, out) : GRAFT_OK;
}

enum graft_status graft_arch_gemma_scales(struct graft_arch_reader *r, uint32_t layers_27b)
{
    struct graft_config *c = &r->source->config;
    c->embedding_scale = sqrtf((float)c->n_embd);
    c->activation = GRAFT_ACTIVATION_GELU;
    c->norms_plus_one = true;
    float scale = c->n_layer == layers_27b ? 1.0f / sqrtf((float)c->n_embd / (float)c->n_head) : c->attention_scale;
    return graft_arch_positive(r, "attention.scale", false, scale, &c->attention_scale);
}

static enum graft_status read_all(struct graft_arch_reader *r, const struct graft_arch_rules *rules)
{
    struct graft_source *s = r->source;
    struct graft_config *c = &s->config;
    GRAFT_TRY(read_shape(r, rules));
    note_missing_tensors(r, rules->parts);
    GRAFT_TRY(graft_arch_check_missing(r));
    GRAFT_TRY(read_vocab_size(r));
    GRAFT_TRY(GRAFT_NEW(s->ctx, GRAFT_MEM_HOST, &s->layers, c->n_layer, "the model's layers"));
    GRAFT_TRY(graft_arch_labels(r, c->n_layer * MAX_SLOTS + OTHER_WEIGHTS));
    GRAFT_TRY(rules->finish(r));
    GRAFT_TRY(graft_arch_weight(r, &s->embd, "token_embd.weight", true, c->n_embd, c->n_vocab));
    GRAFT_TRY(graft_arch_vector(r, &s->output_norm, "output_norm.weight", true, c->n_embd));
    GRAFT_TRY(graft_arch_weight(r, &s->output, "output.weight", false, c->n_embd, c->n_vocab));
    for (uint32_t i = 0; i < c->n_layer; i++) {
        GRAFT_TRY(read_layer(r, i, rules->parts));
    }
    GRAFT_TRY(graft_arch_check_tensors(r));
    s->fused = rules->parts & GRAFT_ARCH_FUSED;
    if (!s->output.data) {
        s->output = s->embd;
        s->tied = true;
    }
    return GRAFT_OK;
}

enum graft_status graft_arch_read_dense(struct graft_source *source, const struct graft_gguf *gguf, const char *prefix,
                                        const struct graft_arch_rules *rules)
{
    struct graft_arch_reader reader;
    GRAFT_TRY(graft_arch_begin(&reader, source, gguf, prefix));
    enum graft_status status = read_all(&reader, rules);
    graft_arch_end(&reader);
    return status;
}
