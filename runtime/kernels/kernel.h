// SPDX-License-Identifier: Apache-2.0
// Kernels as seen by the executor: from a device's capabilities and a shape to a pipeline, its grid and its push constants.
// Pure functions: nothing here touches a device, so every choice can be tested for any device without having one.
#ifndef GRAFT_RUNTIME_KERNELS_KERNEL_H
#define GRAFT_RUNTIME_KERNELS_KERNEL_H

#include "graft/model.h"
#include "runtime/quant/kv.h"
#include "runtime/vk/vk.h"
#include "shaders/params.h"

enum { GRAFT_MAX_COLS = 8 }; // widest column tile of any variant

enum graft_variant_kind {
    GRAFT_VARIANT_LANE,
    GRAFT_VARIANT_TEAM,
    GRAFT_VARIANT_SUBGROUP,
    GRAFT_VARIANT_DOT,
    GRAFT_VARIANT_MATRIX
};

// Adapters of a batch, as kernels distinguish them: GRAFT_LORA_SOME have A and B only.
enum graft_lora_kind { GRAFT_LORA_NONE, GRAFT_LORA_SOME, GRAFT_LORA_EXTRAS };

// How a matrix kernel is cut: see shaders/lib/matmul.glsl.
struct graft_variant {
    enum graft_variant_kind kind;
    uint32_t workgroup;        // invocations
    uint32_t owners;           // tiles a workgroup computes
    uint32_t rows;             // R: weight rows of a tile (even)
    uint32_t cols;             // C: batch rows of a tile
    uint32_t subgroup;         // required subgroup size, 0 = the driver's choice
    uint32_t planes, chunk;    // of DOT: see shaders/lib/dot.glsl
    uint32_t column_owners;    // tiles side by side in a workgroup: MATRIX, else 1
    uint32_t part_rows;        // of a part of SS, in a kernel that writes them
    uint32_t ksubs;            // of MATRIX: see shaders/lib/matrix.glsl
    enum graft_lora_kind lora; // adapters to add: set by the caller, never chosen
    bool fold;                 // kernels shrink for the step that reads what they write; else it has a shrink in front of it
};

// One recorded dispatch, without its buffers.
struct graft_kernel {
    struct graft_vk_pipeline_params pipeline;
    char name[48]; // "qkv.q4_1.lane": pipeline.name points here after graft_kernel_name
    uint32_t groups[3];
    union {
        struct graft_matmul_push matmul;
        struct graft_embed_push embed;
        struct graft_attention_push attention;
        struct graft_shrink_push shrink;
        struct graft_experts_push experts;
        struct graft_top_push top;
        uint32_t n_quads;
    } push;
};

// The variant for a device and a number of batch rows. Rule: processors that pretend to be GPUs get `lane` (needs subgroup
// arithmetic and texel buffers); GPUs with subgroup arithmetic get `subgroup`; everything else `team`.
struct graft_variant graft_variant_choose(const struct graft_vk_caps *caps, uint32_t batch_rows);

// What a model computes with on the device: `wanted` resolved, never GRAFT_ACTIVATIONS_DEFAULT. INT16 and INT8 only where
// kernels of the `subgroup` variant run and the device has integer dot products; by default only where it says that they are
// fast.
enum graft_activations graft_activations_choose(const struct graft_vk_caps *caps, enum graft_activations wanted);
// Make the variant chosen for a matrix kernel one with integer dot products, if activations (as resolved) and the weights' type
// ask for it. free_rows: of the weights, if a workgroup may have more of them than part_rows; 0: it may not.
void graft_variant_use_dot(struct graft_variant *variant, const struct graft_vk_caps *caps, uint32_t type,
                           enum graft_activations activations, uint32_t free_rows);

// Make it one with cooperative matrices, if the device has them, this build has the kernels, and `batch_rows` are whole tiles
// of columns (16 or more). Sums are those of weights and inputs rounded to f16: a row's bits are not what they are in other
// variants.
void graft_variant_use_matrix(struct graft_variant *variant, const struct graft_vk_caps *caps, uint32_t type,
                              uint32_t batch_rows);
// Does this build have such kernels, and the device what they need?
bool graft_matrix_cores(const struct graft_vk_caps *caps);

// Weight rows one workgroup of the variant covers (gate_up: half of it).
static inline uint32_t graft_variant_rows(const struct graft_variant *variant)
{
    return variant->owners * variant->rows;
}

// Specialization constants of qkv: the formats of keys and values (graft_kernel_kv); of gate_up: which matrices
// (shaders/gate_up.comp).
enum { GRAFT_QKV_CONSTANT_K = 3, GRAFT_QKV_CONSTANT_V = 13, GRAFT_QKV_CONSTANT_RING = 14, GRAFT_GATE_UP_CONSTANT_PART = 3 };
// One that the caller sets, 0 by default: gate_up: GELU instead of silu; head: the bits of a cap on logits. residual's is set
// by
// graft_kernel_post_norm.
enum { GRAFT_MATMUL_CONSTANT = 7 };

// Matrix kernels. type: enum graft_type of the weights. Bindings, in order:
//   qkv       weights, xn, ss, state, q, kv, new, count, vectors, raw heads, counters
//   residual  weights, in, X, vectors, xn, ss, raw, counters
//   gate_up   weights, xn, ss, h, weights           head      weights, xn, ss, state, logits
//   gate, up  as gate_up, for two matrices of different types: one after the other, each bound in both places
// and with variant->lora behind them: pool, table, t, state (residual and gate_up: and the next step's t, counters).
// push is filled by the caller except groups[] of the segments and part counts; grid: n_groups workgroups in x.
// Errors: GRAFT_E_UNSUPPORTED (no such format), GRAFT_E_LIMIT (grid larger than the device allows).
enum graft_matmul_kind {
    GRAFT_MATMUL_QKV,
    GRAFT_MATMUL_RESIDUAL,
    GRAFT_MATMUL_GATE_UP,
    GRAFT_MATMUL_GATE,
    GRAFT_MATMUL_UP,
    GRAFT_MATMUL_HEAD
};
GRAFT_MUST_CHECK enum graft_status graft_kernel_matmul(struct graft_kernel *out, enum graft_matmul_kind kind,
                                                       const struct graft_vk_caps *caps, const struct graft_variant *variant,
                                                       uint32_t type, uint32_t n_segments, const uint32_t *segment_rows,
                                                       uint32_t batch_rows);
// What a qkv kernel writes keys and values as. Without it: f16.
void graft_kernel_kv(struct graft_kernel *qkv, enum graft_kv_format keys, enum graft_kv_format values);
// What qkv knows of the heads, set after graft_kernel_matmul. With head_norm raw heads are [n][n_head + n_head_kv][head_dim]
// f32, counters [n][n_head + n_head_kv], zeros; a head may not be cut between two dispatches.
struct graft_qkv_shape {
    uint32_t head_dim, rope_dim, n_head_kv;
    bool rope_halves; // rotary pairs of the weights are rows (i, i + rope_dim / 2) of a head
    bool bias;        // biases of q, k and v stand at push.vector
    bool head_norm;   // gains of q's and k's head norms stand at push.norm
    bool ring;        // the layer keeps only the pages of its window
};
void graft_kernel_qkv_shape(struct graft_kernel *qkv, const struct graft_qkv_shape *shape);
// residual norms what it adds, by the gain at push.norm: raw [n][n_embd], counters [n], zeros. SS has one part then.
void graft_kernel_post_norm(struct graft_kernel *residual);
// embed: weights, state, gain, X, xn, ss; lora: and pool, table, the next step's t, counters, state.  parts of SS it writes:
// out->groups[0].
GRAFT_MUST_CHECK enum graft_status graft_kernel_embed(struct graft_kernel *out, const struct graft_vk_caps *caps, uint32_t type,
                                                      uint32_t n_embd, uint32_t batch_rows, enum graft_lora_kind lora);
// attention: q, kv, kv, state, ao, part, counter; lora (where kernels shrink for the next step alone): and pool, table, the
// next step's t, counters, state.
struct graft_attention_shape {
    uint32_t n_head, n_head_kv, head_dim, n_ctx; // n_ctx: longest sequence
    enum graft_kv_format kv_k, kv_v;             // of keys and values
    uint32_t window;                             // positions a row attends to, itself included; 0: all
    float cap;                                   // scores s become cap * tanh(s / cap); 0: they stay
};
GRAFT_MUST_CHECK enum graft_status graft_kernel_attention(struct graft_kernel *out, const struct graft_vk_caps *caps,
                                                          const struct graft_attention_shape *shape, uint32_t batch_rows,
                                                          bool lora);
// Splits of the positions, and query-head groups per KV head, that attention uses: sizes of its part and counter buffers.
uint32_t graft_attention_splits(const struct graft_vk_caps *caps, const struct graft_attention_shape *shape,
                                uint32_t batch_rows);
uint32_t graft_attention_head_groups(const struct graft_attention_shape *shape);
// shrink: pool, input, state, table, t, state.  n_in: length of the input; n_targets: that share it.
GRAFT_MUST_CHECK enum graft_status graft_kernel_shrink(struct graft_kernel *out, const struct graft_vk_caps *caps,
                                                       uint32_t n_in, uint32_t n_targets, uint32_t batch_rows);
// top: logits, top.  Chunks of a row: out->groups[0].
GRAFT_MUST_CHECK enum graft_status graft_kernel_top(struct graft_kernel *out, const struct graft_vk_caps *caps,
                                                    uint32_t n_vocab, uint32_t n_out);
// read: data, sums.  quads: 16-byte groups to read.
GRAFT_MUST_CHECK enum graft_status graft_kernel_read(struct graft_kernel *out, const struct graft_vk_caps *caps,
                                                     uint32_t quads);

// A mixture of experts, as its kernels see it.
struct graft_experts_shape {
    uint32_t n_expert, n_used;
    uint32_t n_embd, n_ff; // n_ff: of one expert
};
// How a batch of rows goes to its experts: in tiles of `cols` (row, expert) pairs of one expert, or (grouped false, cols 1)
// each pair alone, where rows hardly share experts. n_tiles: of experts_up and experts_down; grouped: the most there can be.
struct graft_experts_tiling {
    bool grouped;
    uint32_t cols, n_tiles;
};
struct graft_experts_tiling graft_experts_tiles(const struct graft_vk_caps *caps, const struct graft_experts_shape *shape,
                                                uint32_t batch_rows);
// Kernels, in the order they run; bindings:
//   router            weights, xn, ss, scores, counter, route
//   experts_group     route, tiles                        only where the tiling is grouped
//   experts_shrink    pool, input, route, table, t, state adapters with targets among the experts, before each of the next two
//   experts_up        weights, xn, ss, work, h, weights   work: tiles (grouped) or route
//   experts_gate, _up as experts_up, for two matrices of different types: one after the other, each bound in both places
//   experts_down      weights, h, work, y
//   experts_residual  weights, h, X, vectors, xn, ss, route, y; lora: and pool, table, the next step's t, counters, state, t
// With GRAFT_LORA_EXTRAS router, experts_up and experts_down have pool, table, t, state behind their own.
// type: of the weights. activations: as resolved; the router's stay f32. Without experts_down, experts_residual computes its
// products itself: only if all experts are in one binding and the tiling is not grouped. The caller fills what depends on
// places and the model (base, window, n_used's neighbours); sizes, grids and part counts are filled here. scores [n][n_expert +
// n_used], y [n][n_used][n_embd]; rows of the last tile of router reach beyond the batch. Errors: GRAFT_E_UNSUPPORTED (no such
// format), GRAFT_E_LIMIT (more experts than kernels take, grid too large).
enum graft_experts_kind {
    GRAFT_EXPERTS_ROUTER,
    GRAFT_EXPERTS_GROUP,
    GRAFT_EXPERTS_SHRINK_UP,   // of n_embd, for gate and up
    GRAFT_EXPERTS_SHRINK_DOWN, // of n_ff, for down
    GRAFT_EXPERTS_GATE_UP,
    GRAFT_EXPERTS_GATE,
    GRAFT_EXPERTS_UP,
    GRAFT_EXPERTS_DOWN,
    GRAFT_EXPERTS_RESIDUAL, // with its products
    GRAFT_EXPERTS_SUM       // of experts_down's products
};
GRAFT_MUST_CHECK enum graft_status graft_kernel_experts(struct graft_kernel *out, enum graft_experts_kind kind,
                                                        const struct graft_vk_caps *caps,
                                                        const struct graft_experts_shape *shape, uint32_t type,
                                                        enum graft_activations activations, uint32_t batch_rows,
                                                        enum graft_lora_kind lora);

// A weight format in shaders: the module knows a whole family (shaders/quant/format.glsl), the specialization constant
// GRAFT_FORMAT_CONSTANT with the type's number chooses the format.
struct graft_kernel_format {
    uint32_t type;
    const char *name;   // lower case: "q4_1"
    const char *family; // "plain", "blocks"
};
// NULL if the type has no shader.
const struct graft_kernel_format *graft_kernel_format(uint32_t type);
// Add bindings, a letter each: w words of weights, v fours of floats, p fours of words (views of texels with `texel`), r read,
// o written, x both.
void graft_kernel_bind(struct graft_vk_pipeline_params *params, const char *bindings, bool texel);
// GRAFT_E_LIMIT if the device does not allow as many workgroups as the kernel has now.
GRAFT_MUST_CHECK enum graft_status graft_kernel_check_grid(const struct graft_kernel *kernel, const struct graft_vk_caps *caps);
// What shrink and experts_shrink share, which is all but their push constants: `parts` workgroups for the rows of A (one in
// software) of every one of n_targets targets of every pair of each of n inputs.
GRAFT_MUST_CHECK enum graft_status graft_kernel_shrink_as(struct graft_kernel *out, const char *name,
                                                          const struct graft_vk_caps *caps, uint32_t parts, uint32_t n_targets,
                                                          uint32_t n, uint32_t push_bytes);
// Fill name, module and push bytes of out->pipeline. The name is "<kernel>[.<format>].<variant>", the module
// "<kernel>[.<family>].<variant>". format NULL: the kernel reads no weights.
GRAFT_MUST_CHECK enum graft_status graft_kernel_name(struct graft_kernel *out, const char *kernel,
                                                     const struct graft_kernel_format *format, enum graft_variant_kind kind,
                                                     uint32_t push_bytes);

#endif
