// SPDX-License-Identifier: Apache-2.0
// graft/adapter_file.h: adapter files without a device: look inside, check, convert between PEFT folders and GGUF, compare.
//
//     graft_adapter_file_open(ctx, &file, "adapters/legal");
//     graft_adapter_file_fit(file, "base.gguf");                       // does it fit? needed where rows change their order
//     graft_adapter_file_convert(file, "legal.gguf", GRAFT_ADAPTER_GGUF);
#ifndef GRAFT_ADAPTER_FILE_H
#define GRAFT_ADAPTER_FILE_H

#include "graft/common.h"

#ifdef __cplusplus
extern "C" {
#endif

struct graft_adapter_file;

// Read a PEFT folder, its .safetensors file, or a GGUF adapter: everything is read and checked (shapes, ranks, every value
// finite) and stays in memory (class HOST) until it is closed. Errors: GRAFT_E_IO, GRAFT_E_FORMAT, GRAFT_E_UNSUPPORTED (a part
// or a key that is not known is refused by name), GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET. On failure *out is NULL.
// Thread-safety: safe; one handle is for one thread at a time.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_adapter_file_open(struct graft_ctx *ctx, struct graft_adapter_file **out,
                                                                     const char *path);
// Close; *file becomes NULL. NULL is accepted.
GRAFT_API void graft_adapter_file_close(struct graft_adapter_file **file);

enum graft_adapter_format { GRAFT_ADAPTER_PEFT, GRAFT_ADAPTER_GGUF };

struct graft_adapter_file_info {
    enum graft_adapter_format format;
    char kind[64];       // "LoRA", "rsLoRA", "DoRA", "DoRA, rsLoRA"; then ", aLoRA" and ", lora_bias" where they apply
    char digest[65];     // SHA-256 of file and configuration, hexadecimal: the adapter's identity
    char base_name[256]; // what it says it was made for; "" if nothing
    char signer[17];     // id of the key it is signed with; "" where graft_require_signed was not called
    bool use_rslora, use_dora, lora_bias;
    uint32_t n_invocation; // aLoRA: tokens at graft_adapter_file_invocation; 0: active from the start
    uint32_t n_parts;      // for graft_adapter_file_part
    uint32_t rank_least, rank_most;
    uint64_t n_parameters;    // that were trained: copies of the base's tensors do not count
    uint64_t file_bytes;      // of the tensor file
    uint64_t pool_bytes;      // that it takes in the adapter pool
    uint64_t base_parameters; // of the base, after graft_adapter_file_fit; 0 before
};
GRAFT_API void graft_adapter_file_describe(const struct graft_adapter_file *file, struct graft_adapter_file_info *out);
// The invocation's token ids, n_invocation of them.
GRAFT_API const int32_t *graft_adapter_file_invocation(const struct graft_adapter_file *file);

enum graft_adapter_part_kind {
    GRAFT_ADAPTER_PAIR,         // W + scale * B A
    GRAFT_ADAPTER_WHOLE_TENSOR, // replaces the base's tensor (modules_to_save)
    GRAFT_ADAPTER_COPY_OF_BASE  // the base's own tensor, saved beside the adapter (save_embedding_layers)
};

// One module that the adapter changes.
struct graft_adapter_file_part {
    char module[128];   // "model.layers.0.self_attn.q_proj"
    const char *target; // "q_proj"
    enum graft_adapter_part_kind kind;
    int32_t layer;               // -1: of no layer
    uint32_t rank;               // 0 for tensors
    float scale;                 // alpha / r, with rsLoRA alpha / sqrt(r); 0 for tensors
    uint64_t n_in, n_out;        // of the base's matrix; a norm has n_out 1
    const char *type_a, *type_b; // "F32", "F16", "BF16"; a tensor has type_b NULL
    bool magnitude, bias;        // DoRA, lora_bias
    uint64_t n_parameters;
};
// Part `index`, which is less than n_parts, in the order of layers.
GRAFT_API void graft_adapter_file_part(const struct graft_adapter_file *file, uint32_t index,
                                       struct graft_adapter_file_part *out);

// Does it fit the base model at `model_path`, a GGUF file? Checks every layer and shape, and that copies of the base's tensors
// are copies. What conversion must know of the base is remembered in the handle. Errors: those of opening a model file,
// GRAFT_E_FORMAT and GRAFT_E_UNSUPPORTED (layer, target and both shapes).
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_adapter_file_fit(struct graft_adapter_file *file, const char *model_path);

// Write the adapter in another format, or in the same: a PEFT folder (adapter_model.safetensors, adapter_config.json) or a GGUF
// file as llama.cpp has them. Tensors keep their types and every bit of their values; scales are the same. What the format
// cannot hold is refused by name (GRAFT_E_UNSUPPORTED): GGUF has neither DoRA, lora_bias, whole heads or routers nor different
// scales that no one alpha gives; rsLoRA becomes LoRA with the alpha that gives its scale (where no f32 alpha gives it exactly,
// one unit in its last place off, and a line in the log). Rows of q and k change their order between the formats:
// GRAFT_E_ARGUMENT if there are some and graft_adapter_file_fit was not called. The output is written aside, synced and
// renamed: `path` has its old content or all of the new at any moment. Other errors: GRAFT_E_IO; GRAFT_E_ARGUMENT (a folder
// with other files in it).
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_adapter_file_convert(const struct graft_adapter_file *file, const char *path,
                                                                        enum graft_adapter_format format);

// ---- two adapters ----

enum graft_adapter_difference_kind {
    GRAFT_ADAPTER_SAME,   // the same bytes and the same scale
    GRAFT_ADAPTER_DIFFER, // by `relative`
    GRAFT_ADAPTER_ONLY_A,
    GRAFT_ADAPTER_ONLY_B,
    GRAFT_ADAPTER_UNLIKE // shapes that cannot be compared
};

struct graft_adapter_difference {
    char module[128];
    const char *part; // "delta" (scale * B A), "magnitude", "bias", "weight" (a whole tensor), "copy of the base"
    enum graft_adapter_difference_kind kind;
    // || a - b || / || a ||, Frobenius norms; deltas are compared as matrices, whatever their ranks and scales. Infinite if
    // only a is 0. Where ranks differ, below about 1e-8 rounding is all there is.
    double relative;
    double norm_a, norm_b;
    uint32_t rank_a, rank_b; // 0 where there is none
    float scale_a, scale_b;
};

struct graft_adapter_diff;
// Compare two adapters part by part, by r x r Gram matrices in double precision: || B A ||^2 = trace(B'B AA'), so that nothing
// of the size n_out x n_in is made. One of them PEFT and one GGUF: rows of q and k are in another order, call
// graft_adapter_file_fit for one of them before (GRAFT_E_ARGUMENT otherwise). Other errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET. On
// failure *out is NULL. The files may be closed before it.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_adapter_diff_open(struct graft_ctx *ctx, struct graft_adapter_diff **out,
                                                                     const struct graft_adapter_file *a,
                                                                     const struct graft_adapter_file *b);
GRAFT_API void graft_adapter_diff_close(struct graft_adapter_diff **diff);
GRAFT_API uint32_t graft_adapter_diff_count(const struct graft_adapter_diff *diff);
GRAFT_API void graft_adapter_diff_item(const struct graft_adapter_diff *diff, uint32_t index,
                                       struct graft_adapter_difference *out);

#ifdef __cplusplus
}
#endif
#endif
