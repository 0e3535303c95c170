// SPDX-License-Identifier: Apache-2.0
// Architecture "llama": Llama 1 to 3, Mistral, SmolLM and everything converted with that name: RMS norm, rotary positions on
// adjacent pairs, grouped queries, SwiGLU, no biases; Mixtral's experts. Source: Touvron et al. 2023; Jiang et al. 2024; key and tensor names: the GGUF
// specification.
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
    MAX_SLOTS = 10,
    OTHER_WEIGHTS = 4
};

static const char *const known_keys[] = {
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "attention.key_length", "attention.value_length",
    "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear", "vocab_size", GRAFT_ARCH_EXPERT_KEYS,
    // these describe the past of the file and change nothing:
    "rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout", NULL};

static const struct graft_arch_neutral neutral_keys[] = {{"attention.sliding_window", 0, "sliding-window attention"},
                                                         {"attention.causal", 1, "attention that is not causal"},
                                                         {"attention.clamp_kqv", 0, "clamped attention inputs"},
                                                         {"attention.max_alibi_bias", 0, "ALiBi positions"},
                                                         GRAFT_ARCH_EXPERT_NEUTRAL_KEYS,
                                                         {"logit_scale", 1, "scaled logits"},
                                                         {"embedding_scale", 1, "scaled embeddings"},
                                                         {"residual_scale", 1, "scaled residuals"},
                                                         {"rope.scaling.attn_factor", 1, "a rotary attention factor"},
                                                         {"use_parallel_residual", 0, "parallel residuals"},
                                                         {NULL, 0, NULL}};

// Metadata -> config. Missing keys are noted, not yet an error.
static enum graft_status read_config(struct graft_arch_reader *r)
{
    struct graft_config *c = &r->source->config;
    const char *path = r->gguf->path;
    GRAFT_TRY(graft_arch_check_keys(r, known_keys, neutral_keys));
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
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: llama.attention.head_count is %u, no multiple of llama.attention.head_count_kv %u", path,
                          c->n_head, c->n_head_kv);
    }
    if (!graft_gguf_find(r->gguf, "llama.attention.key_length") && c->n_embd % c->n_head != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: llama.embedding_length is %u, no multiple of llama.attention.head_count %u",
                          path, c->n_embd, c->n_head);
    }
    GRAFT_TRY(graft_arch_u32_or(r, "attention.key_length", c->n_embd / c->n_head, 1, MAX_HEAD_DIM, &c->head_dim));
    uint32_t value_length;
    GRAFT_TRY(graft_arch_u32_or(r, "attention.value_length", c->head_dim, 1, MAX_HEAD_DIM, &value_length));
    if (value_length != c->head_dim) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "%s: llama.attention.value_length is %u, llama.attention.key_length %u; they must be equal", path,
                          value_length, c->head_dim);
    }
    if (c->head_dim % 8 != 0) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: a head has %u values, allowed are multiples of 8", path, c->head_dim);
    }
    if (c->n_embd % 32 != 0 || c->n_ff % 32 != 0 || c->n_head * c->head_dim % 32 != 0) {
        return graft_fail(
            GRAFT_E_UNSUPPORTED,
            "%s: llama.embedding_length is %u, llama.feed_forward_length %u, heads times their length %u; allowed are "
            "multiples of 32",
            path, c->n_embd, c->n_ff, c->n_head * c->head_dim);
    }
    GRAFT_TRY(graft_arch_expert_keys(r));
    GRAFT_TRY(graft_arch_u32_or(r, "rope.dimension_count", c->head_dim, 2, c->head_dim, &c->rope_dim));
    if (c->rope_dim % 2 != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: llama.rope.dimension_count is %u, allowed are even numbers", path, c->rope_dim);
    }
    c->attention_scale = 1.0f / sqrtf((float)c->head_dim);
    c->rope_pairs = GRAFT_ROPE_ADJACENT;
    c->rope_magnitude = 1.0f;
    return GRAFT_OK;
}

// The factor that stretches positions; older files have it as rope.scale_linear, newer ones as rope.scaling.*.
static enum graft_status read_linear_scaling(struct graft_arch_reader *r, float *out)
{
    struct graft_text type;
    GRAFT_TRY(graft_arch_positive(r, "rope.scale_linear", false, 1.0f, out));
    GRAFT_TRY(graft_gguf_text_or_none(r->gguf, "llama.rope.scaling.type", &type));
    float factor;
    GRAFT_TRY(graft_arch_positive(r, "rope.scaling.factor", false, 1.0f, &factor));
    if (!type.data || (type.length == 4 && memcmp(type.data, "none", 4) == 0)) {
        return GRAFT_OK; // a factor without a type means nothing
    }
    if (type.length == 6 && memcmp(type.data, "linear", 6) == 0) {
        *out = factor;
        return GRAFT_OK;
    }
    int shown = type.length < 64 ? (int)type.length : 64;
    return graft_fail(GRAFT_E_UNSUPPORTED,
                      "%s: llama.rope.scaling.type is \"%.*s\"; supported are none, linear, and Llama 3's factors in "
                      "rope_freqs.weight",
                      r->gguf->path, shown, type.data);
}

static enum graft_status read_rope(struct graft_arch_reader *r)
{
    struct graft_config *c = &r->source->config;
    float base, linear;
    GRAFT_TRY(graft_arch_positive(r, "rope.freq_base", false, 10000.0f, &base));
    GRAFT_TRY(read_linear_scaling(r, &linear));
    struct graft_weight weight;
    GRAFT_TRY(graft_arch_vector(r, &weight, "rope_freqs.weight", false, c->rope_dim / 2));
    float factors[GRAFT_MAX_ROPE_PAIRS];
    for (uint32_t i = 0; weight.data && i < c->rope_dim / 2; i++) {
        memcpy(&factors[i], weight.data + 4 * (size_t)i, 4);
        if (!(factors[i] > 0.0f) || !isfinite(factors[i])) {
            return graft_fail(GRAFT_E_FORMAT, "%s: tensor rope_freqs.weight holds %g at %u, allowed are finite numbers above 0",
                              r->gguf->path, (double)factors[i], i);
        }
    }
    graft_rope_frequencies(c, base, linear, weight.data ? factors : NULL);
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
        return graft_fail(GRAFT_E_FORMAT, "%s: llama.vocab_size is %u, tensor token_embd.weight has %u rows", r->gguf->path,
                          declared, c->n_vocab);
    }
    const struct graft_gguf_key *tokens = graft_gguf_find(r->gguf, "tokenizer.ggml.tokens");
    if (tokens && tokens->count != c->n_vocab) {
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: tokenizer.ggml.tokens has %" PRIu64 " items, tensor token_embd.weight has %u rows",
                          r->gguf->path, tokens->count, c->n_vocab);
    }
    return GRAFT_OK;
}

// The slots of a layer, in the order of their names here.
struct slot {
    const char *suffix;
    struct graft_weight *weight;
    uint32_t n_in, n_out, n_expert;
};

static int layer_slots(const struct graft_config *c, struct graft_layer *layer, struct slot slots[MAX_SLOTS])
{
    uint32_t heads = c->n_head * c->head_dim, heads_kv = c->n_head_kv * c->head_dim;
    const struct slot all[] = {
        {"attn_norm", &layer->attn_norm, c->n_embd, 1, 0}, {"attn_q", &layer->q, c->n_embd, heads, 0},
        {"attn_k", &layer->k, c->n_embd, heads_kv, 0},     {"attn_v", &layer->v, c->n_embd, heads_kv, 0},
        {"attn_output", &layer->o, heads, c->n_embd, 0},   {"ffn_norm", &layer->ffn_norm, c->n_embd, 1, 0},
        {"ffn_gate", &layer->gate, c->n_embd, c->n_ff, 0}, {"ffn_up", &layer->up, c->n_embd, c->n_ff, 0},
        {"ffn_down", &layer->down, c->n_ff, c->n_embd, 0},
    };
    const struct slot experts[] = {
        {"ffn_gate_inp", &layer->router, c->n_embd, c->n_expert, 0},
        {"ffn_gate_exps", &layer->gate, c->n_embd, c->n_ff_expert, c->n_expert},
        {"ffn_up_exps", &layer->up, c->n_embd, c->n_ff_expert, c->n_expert},
        {"ffn_down_exps", &layer->down, c->n_ff_expert, c->n_embd, c->n_expert},
    };
    memcpy(slots, all, sizeof all);
    if (c->n_expert) {
        memcpy(slots + 6, experts, sizeof experts);
    }
    return c->n_expert ? 10 : 9;
}

static void layer_tensor_name(char name[64], uint32_t layer, const char *suffix)
{
    snprintf(name, 64, "blk.%u.%s.weight", layer, suffix);
}

// Names only, so that missing keys and missing tensors come in one message.
static void note_missing_tensors(struct graft_arch_reader *r)
{
    static const char *const single[] = {"token_embd.weight", "output_norm.weight"};
    for (size_t i = 0; i < sizeof single / sizeof *single; i++) {
        if (!graft_gguf_tensor(r->gguf, single[i])) {
            graft_arch_missing(r, single[i]);
        }
    }
    struct graft_layer unused;
    struct slot slots[MAX_SLOTS];
    int n = layer_slots(&r->source->config, &unused, slots);
    for (uint32_t i = 0; i < r->source->config.n_layer; i++) {
        for (int k = 0; k < n; k++) {
            char name[64];
            layer_tensor_name(name, i, slots[k].suffix);
            if (!graft_gguf_tensor(r->gguf, name)) {
                graft_arch_missing(r, name);
            }
        }
    }
}

static enum graft_status read_layer(struct graft_arch_reader *r, uint32_t i)
{
    struct slot slots[MAX_SLOTS];
    int n = layer_slots(&r->source->config, &r->source->layers[i], slots);
    for (int k = 0; k < n; k++) {
        char name[64];
        layer_tensor_name(name, i, slots[k].suffix);
        if (slots[k].n_out == 1 && slots[k].weight != &r->source->layers[i].router) {
            GRAFT_TRY(graft_arch_vector(r, slots[k].weight, name, true, slots[k].n_in));
        } else {
            GRAFT_TRY(graft_arch_matrices(r, slots[k].weight, name, true, slots[k].n_in, slots[k].n_out, slots[k].n_expert));
        }
    }
    return GRAFT_OK;
}

static enum graft_status read_all(struct graft_arch_reader *r)
{
    struct graft_source *s = r->source;
    struct graft_config *c = &s->config;
    GRAFT_TRY(read_config(r));
    note_missing_tensors(r);
    GRAFT_TRY(graft_arch_check_missing(r));
    GRAFT_TRY(read_vocab_size(r));
    GRAFT_TRY(GRAFT_NEW(s->ctx, GRAFT_MEM_HOST, &s->layers, c->n_layer, "the model's layers"));
    GRAFT_TRY(graft_arch_labels(r, c->n_layer * MAX_SLOTS + OTHER_WEIGHTS));
    GRAFT_TRY(read_rope(r));
    GRAFT_TRY(graft_arch_weight(r, &s->embd, "token_embd.weight", true, c->n_embd, c->n_vocab));
    GRAFT_TRY(graft_arch_vector(r, &s->output_norm, "output_norm.weight", true, c->n_embd));
    GRAFT_TRY(graft_arch_weight(r, &s->output, "output.weight", false, c->n_embd, c->n_vocab));
    for (uint32_t i = 0; i < c->n_layer; i++) {
        GRAFT_TRY(read_layer(r, i));
    }
    GRAFT_TRY(graft_arch_check_tensors(r));
    if (!s->output.data) {
        s->output = s->embd;
        s->tied = true;
    }
    return GRAFT_OK;
}

static enum graft_status read_llama(struct graft_source *source, const struct graft_gguf *gguf)
{
    struct graft_arch_reader reader;
    GRAFT_TRY(graft_arch_begin(&reader, source, gguf, "llama"));
    enum graft_status status = read_all(&reader);
    graft_arch_end(&reader);
    return status;
}

const struct graft_arch graft_arch_llama = {"llama", read_llama};
