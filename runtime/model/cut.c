// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/cut.h"

#include "platform/bytes.h"

enum { ALIGNMENT = 64 };

struct cut {
    const struct graft_source *from;
    struct graft_source *to;
    uint64_t used;
    bool fits;
};

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

// The corner of a matrix (of each of n_expert matrices), laid out behind what there is; copied when memory is there.
static void corner(struct cut *c, struct graft_weight *to, const struct graft_weight *from, uint32_t n_in, uint32_t n_out,
                   uint32_t n_expert)
{
    *to = *from;
    if (!from->data) {
        return;
    }
    to->n_in = n_in;
    to->n_out = n_out;
    to->n_expert = n_expert;
    to->offset = c->used;
    c->fits = c->fits && n_in <= from->n_in && n_out <= from->n_out && n_expert <= from->n_expert &&
              graft_type_row_bytes(from->type, n_in, &to->row_bytes);
    if (!c->fits) {
        return;
    }
    c->used += (graft_weight_bytes(to) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!c->to->memory) {
        return;
    }
    uint8_t *at = c->to->memory + to->offset;
    to->data = at;
    for (uint32_t e = 0; e < (n_expert ? n_expert : 1); e++) {
        const uint8_t *matrix = from->data + (uint64_t)e * from->n_out * from->row_bytes;
        for (uint32_t o = 0; o < n_out; o++, at += to->row_bytes) {
            memcpy(at, matrix + o * from->row_bytes, (size_t)to->row_bytes);
        }
    }
}

static void cut_layer(struct cut *c, struct graft_layer *to, const struct graft_layer *from)
{
    _Static_assert(sizeof(struct graft_layer) == 17 * sizeof(struct graft_weight) + 8, "everything of a layer is cut here");
    const struct graft_config *s = &c->to->config;
    uint32_t n = s->n_embd, heads = s->n_head * s->head_dim, heads_kv = s->n_head_kv * s->head_dim;
    uint32_t ff = s->n_expert ? s->n_ff_expert : s->n_ff;
    corner(c, &to->attn_norm, &from->attn_norm, n, 1, 0);
    corner(c, &to->q, &from->q, n, heads, 0);
    corner(c, &to->k, &from->k, n, heads_kv, 0);
    corner(c, &to->v, &from->v, n, heads_kv, 0);
    corner(c, &to->o, &from->o, heads, n, 0);
    corner(c, &to->ffn_norm, &from->ffn_norm, n, 1, 0);
    corner(c, &to->router, &from->router, n, s->n_expert, 0);
    corner(c, &to->gate, &from->gate, n, ff, s->n_expert);
    corner(c, &to->up, &from->up, n, ff, s->n_expert);
    corner(c, &to->down, &from->down, ff, n, s->n_expert);
    corner(c, &to->q_bias, &from->q_bias, heads, 1, 0);
    corner(c, &to->k_bias, &from->k_bias, heads_kv, 1, 0);
    corner(c, &to->v_bias, &from->v_bias, heads_kv, 1, 0);
    corner(c, &to->q_norm, &from->q_norm, s->head_dim, 1, 0);
    corner(c, &to->k_norm, &from->k_norm, s->head_dim, 1, 0);
    corner(c, &to->post_attn_norm, &from->post_attn_norm, n, 1, 0);
    corner(c, &to->post_ffn_norm, &from->post_ffn_norm, n, 1, 0);
    to->window = from->window;
    to->rope_local = from->rope_local;
}

static bool same_formats(const struct graft_layer *a, const struct graft_layer *b)
{
    return a->q.type == b->q.type && a->k.type == b->k.type && a->v.type == b->v.type && a->o.type == b->o.type &&
           a->router.type == b->router.type && a->gate.type == b->gate.type && a->up.type == b->up.type &&
           a->down.type == b->down.type && a->window == b->window && a->rope_local == b->rope_local;
}

// Layers that differ from all before them.
static uint32_t choose_layers(const struct graft_source *source, uint32_t out[GRAFT_CUT_LAYERS])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < source->config.n_layer && n < GRAFT_CUT_LAYERS; i++) {
        bool known = false;
        for (uint32_t k = 0; k < n; k++) {
            known = known || same_formats(&source->layers[i], &source->layers[out[k]]);
        }
        if (!known) {
            out[n++] = i;
        }
    }
    return n;
}

static void cut_all(struct cut *c, const uint32_t *layers)
{
    struct graft_source *to = c->to;
    c->used = 0;
    corner(c, &to->embd, &c->from->embd, to->config.n_embd, to->config.n_vocab, 0);
    corner(c, &to->output_norm, &c->from->output_norm, to->config.n_embd, 1, 0);
    for (uint32_t i = 0; i < to->config.n_layer; i++) {
        cut_layer(c, &to->layers[i], &c->from->layers[layers[i]]);
    }
    if (to->tied) {
        to->output = to->embd;
    } else {
        corner(c, &to->output, &c->from->output, to->config.n_embd, to->config.n_vocab, 0);
    }
}

// All heads stay: kernels are made for their number and size.
static void shrink(struct graft_config *to, const struct graft_config *from)
{
    *to = *from;
    to->n_embd = least(from->n_embd, GRAFT_CUT_WIDTH);
    to->n_ff = least(from->n_ff, GRAFT_CUT_WIDTH);
    to->n_ff_expert = least(from->n_ff_expert, GRAFT_CUT_WIDTH);
    to->n_vocab = least(from->n_vocab, GRAFT_CUT_VOCAB);
    to->n_expert = least(from->n_expert, from->n_expert_used > GRAFT_CUT_EXPERTS ? from->n_expert_used : GRAFT_CUT_EXPERTS);
}

enum graft_status graft_source_cut(struct graft_ctx *ctx, struct graft_source **out, const struct graft_source *source)
{
    *out = NULL;
    uint32_t layers[GRAFT_CUT_LAYERS];
    struct graft_source *to;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &to, 1, "a small model"));
    to->ctx = ctx;
    to->tied = source->tied;
    shrink(&to->config, &source->config);
    to->config.n_layer = choose_layers(source, layers);
    struct cut c = {.from = source, .to = to, .fits = true};
    enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &to->layers, to->config.n_layer, "layers of a small model");
    if (status == GRAFT_OK) {
        cut_all(&c, layers); // measures
        status = c.fits ? graft_alloc(ctx, GRAFT_MEM_WEIGHTS, (void **)&to->memory, c.used, 1, "weights of a small model")
                        : graft_fail(GRAFT_E_UNSUPPORTED, "no small model can be cut out of this one");
    }
    if (status == GRAFT_OK) {
        cut_all(&c, layers);
        to->base = to->memory;
        to->base_bytes = c.used;
        *out = to;
        return GRAFT_OK;
    }
    graft_source_close(&to);
    return status;
}
