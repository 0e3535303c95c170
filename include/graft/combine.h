// SPDX-License-Identifier: Apache-2.0
// graft/combine.h: several adapters of one base become one adapter, offline, on the host alone.
//
//     struct graft_combine_adapter both[] = {{.path = "legal", .weight = 0.6}, {.path = "tone", .weight = 0.4}};
//     graft_combine(ctx, "legal-tone", &(struct graft_combine_params){.size = sizeof(struct graft_combine_params),
//                   .method = "cat", .adapters = both, .n_adapters = 2}, &report);
//
// Methods, names and arithmetic are those of PEFT's add_weighted_adapter (PEFT 0.21, peft/tuners/lora/model.py and
// peft/utils/merge_utils.py), for each module that some adapter changes, over the adapters that change it. With s_i an
// adapter's scale (alpha / r, rsLoRA alpha / sqrt(r)), w_i its weight, c_i = |w_i s_i|^1/2:
//   cat      A = rows of w_i s_i A_i below each other, B = B_i beside each other: exactly the weighted sum; ranks add up
//   svd      the weighted sum's best approximation of rank svd_rank: B = U S, A = V^T
//   linear   A = sum of sign(w_i s_i) c_i A_i, B = sum of c_i B_i: what adapters say together only if they are alike
//   magnitude_prune   linear, of each A_i and B_i only the `density` largest magnitudes
//   ties              the same, then of each value's sign the one that has the majority, then the mean of those that have it
//   dare_linear       linear, each value of A_i and B_i kept with probability `density` and divided by it
//   dare_ties         that, with the majority's sign
//   magnitude_prune_svd, ties_svd, dare_linear_svd, dare_ties_svd   the same on the matrices s_i B_i A_i with weights w_i,
//                     then the best approximation of rank svd_rank
// A single adapter stays itself, its weight in its scale, whatever the method, unless svd_rank asks for a smaller rank.
//
// The scale in the result is right for every input, where PEFT leaves use_rslora on and so multiplies by sqrt(r).
#ifndef GRAFT_COMBINE_H
#define GRAFT_COMBINE_H

#include "graft/common.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GRAFT_COMBINE_MAX_ADAPTERS = 16 };

struct graft_combine_adapter {
    const char *path; // a PEFT folder, its .safetensors file, or a GGUF adapter
    double weight;    // 1 = as trained; finite, may be negative
    double density;   // of this adapter, in (0, 1]; 0 = that of the params
};

struct graft_combine_params {
    size_t size; // sizeof(struct graft_combine_params)
    const struct graft_combine_adapter *adapters;
    uint32_t n_adapters; // 1 to GRAFT_COMBINE_MAX_ADAPTERS
    const char *method;  // NULL = "svd"
    double density;      // share of values that stay, in (0, 1]; needed by ties, dare and magnitude_prune, refused by others
    // of ties and dare_ties: "total" = the sign of the values' sum (NULL), "frequency" = that of most values
    const char *majority_sign_method;
    uint64_t seed;       // of dare: the same seed gives the same bytes, whatever else is in the adapters
    uint32_t svd_rank;   // of svd and ..._svd, at most 256; 0 = the largest rank of the adapters
    double svd_clamp;    // of svd and ..._svd: the result's values are cut off at this quantile, in (0, 1]; 0 = not
    const char *dtype;   // "f32", "f16", "bf16"; NULL or "auto" = that of the adapters if they have one, else f32
    // The base's GGUF file, or NULL. With it every adapter is checked against the base; it is needed only to mix PEFT and GGUF
    // adapters of q and k, or to go from one to the other, as these formats have the rows in different orders.
    const char *base;
    // Called with the number of modules that are done; return false to cancel (GRAFT_E_CANCELLED). NULL = none. On the calling
    // thread.
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
};

struct graft_combine_report;

// Combine into `out`: a PEFT folder, or a GGUF adapter if it ends in .gguf. It is written beside its final place, synced and
// renamed. The same adapters, params and processor type give the same bytes, whatever the number of processors.
//
// Adapters may have different ranks (cat and svd; the others refuse a module with unequal ranks) and change different modules.
// What has no A and B, or more than them:
//   rsLoRA, rank and alpha patterns   folded into the result
//   lora_bias         sum of w_i s_i bias_i, with linear, cat and svd; refused with the others
//   DoRA              its multiplier depends on the base: kept where the adapter is the only one, or the only one that changes
//                     a module, with weight 1 and linear, cat or svd; everything else is refused
//   modules_to_save   replaces the base's tensor: kept where the weights of the adapters that have it sum to 1 (then their
//                     weighted sum is exact without the base), with linear, cat and svd; everything else is refused
//   aLoRA             kept if all adapters have the same invocation tokens; else refused
//   copies of the base (save_embedding_layers)   kept; refused if two adapters have different ones
//
// Memory, all from ctx's ledger: the adapters' files, the result, and scratch of one module: for svd (n_in + n_out) x ranks,
// for ..._svd min(n_in, n_out)^2, as f64. OpenBLAS' own buffers are not counted. report may be NULL; free it with
// graft_combine_report_free. On failure *report is NULL and `out` is as it was.
//
// Errors: GRAFT_E_ARGUMENT (params; what is refused above; `out` is an input), those of graft_adapter_load, GRAFT_E_FORMAT
// (adapters whose shapes disagree, named), GRAFT_E_UNSUPPORTED (a build without LAPACK; what an output format cannot hold; a
// value beyond the dtype), GRAFT_E_LIMIT (a rank above 256), GRAFT_E_IO, GRAFT_E_BUDGET, GRAFT_E_MEMORY, GRAFT_E_CANCELLED.
// Thread-safety: one thread at a time in a process for svd and ..._svd, which set OpenBLAS to one thread and back; else safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_combine(struct graft_ctx *ctx, const char *out,
                                                           const struct graft_combine_params *params,
                                                           struct graft_combine_report **report);
// Free; *report becomes NULL. NULL is accepted.
GRAFT_API void graft_combine_report_free(struct graft_combine_report **report);

// Name of a method by its number, in the order above; NULL behind the last. Thread-safety: safe.
GRAFT_API const char *graft_combine_method(uint32_t index);

// What became of a module, against D = sum of w_i s_i B_i A_i, the weighted sum of what its adapters do; norms are Frobenius
// norms. A tensor that replaces the base's, and a module that is kept as it is, has error 0.
struct graft_combine_module {
    char name[64];       // "model.layers.0.self_attn.q_proj"
    uint32_t n_adapters; // that change it
    uint32_t rank;       // of the result; 0 for a tensor that replaces the base's
    uint64_t bytes;      // of its tensors in the result
    double norm;         // ||D||
    double error;        // ||result - D|| / ||D||; 0 if D is zero. Computed to about 1e-8
};

struct graft_combine_summary {
    const char *method;  // "copy": a single adapter
    const char *dtype;   // of the tensors that were computed
    uint32_t n_modules;
    uint32_t rank;       // largest
    uint64_t n_parameters;
    uint64_t bytes;      // of all tensors
    double norm, error;  // of all modules as one vector
    uint64_t combine_ns, write_ns;
};
GRAFT_API void graft_combine_summarize(const struct graft_combine_report *report, struct graft_combine_summary *out);
// A module, index < n_modules, by layer. Errors: GRAFT_E_ARGUMENT.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_combine_module(const struct graft_combine_report *report, uint32_t index,
                                                                  struct graft_combine_module *out);

#ifdef __cplusplus
}
#endif
#endif
