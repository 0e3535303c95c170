// SPDX-License-Identifier: Apache-2.0
// graft/merge.h: adapters merged into a base model's file, offline: on the host alone, in little memory, with each tensor's own
// format kept.
//
//     struct graft_merge_adapter legal = {.path = "adapters/legal", .weight = 1};
//     graft_merge(ctx, "base.gguf", "legal.gguf", &(struct graft_merge_params){.size = sizeof(struct graft_merge_params),
//                 .adapters = &legal, .n_adapters = 1}, &report);
//
// A tensor W that adapters change becomes quantize(dequantize(W) + sum of weight_i * change_i), change_i as the runtime
// computes it (adapter.h): scale B A; DoRA's m / ||W + scale B A|| (W + scale B A) - W; the difference to a tensor that is
// replaced. All other tensors are copied byte for byte.
#ifndef GRAFT_MERGE_H
#define GRAFT_MERGE_H

#include "graft/common.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GRAFT_MERGE_MAX_ADAPTERS = 16 };

struct graft_merge_adapter {
    const char *path; // a PEFT folder, its .safetensors file, or a GGUF adapter
    float weight;     // 1 = as trained; finite
};

struct graft_merge_params {
    size_t size; // sizeof(struct graft_merge_params)
    const struct graft_merge_adapter *adapters;
    uint32_t n_adapters; // 1 to GRAFT_MERGE_MAX_ADAPTERS
    // Format of the matrices that are changed: NULL or "keep" = each tensor's own; "q8_0", "f16" ... in any case = this one;
    // "auto" = of each tensor's own format and the larger ones the smallest that keeps keep_effect of the intended change: its
    // share, and the cosine between intended and actual change, so that what comes in beside it stays small; and with no larger
    // error than the own format's. Vectors stay F32.
    const char *type;
    double keep_effect; // share that "auto" has to reach and below which there is a warning; 0 = 0.95
    uint32_t n_threads; // 0 = one for each processor; at most 16. The file does not depend on it
    // Called now and then with the bytes worked through; return false to cancel (GRAFT_E_CANCELLED). NULL = none. On the
    // calling thread.
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
};

struct graft_merge_report;

// Merge. The output is written beside its final place, synced and renamed: at any moment `out` holds what it held before or the
// whole new file. What a killed merge left in out's folder (.NAME.XXXXXXXX.graft-merge) is removed by the next one there.
// The same base, adapters, names, weights and type give the same bytes. Metadata is the base's, then keys graft.merge.*:
// digests, weights, formats before and after; those of a base that is a merge itself become graft.merge.base.merge.*.
//
// An adapter on the head or on the embeddings of a tied model gives the file an output.weight of its own, as the runtime
// computes it: the head without the embeddings' adapter and the other way round.
//
// Memory: the adapters' files, the matrices A of one tensor as f32, and a few rows for each thread, all from ctx's ledger; the
// base and the output are mapped and written in pieces. Fewer threads are taken where the budget asks for it.
//
// report may be NULL; free it with graft_merge_report_free. On failure *report is NULL, `out` is untouched and nothing is left
// in its folder. Errors: GRAFT_E_ARGUMENT (params, type, `out` is one of the inputs), GRAFT_E_IO (also: no room on the disk),
// those of graft_file_open and graft_adapter_load, GRAFT_E_UNSUPPORTED (aLoRA, which acts from a token on; lora_bias, which a
// base without biases cannot hold; a tensor whose rows the format does not divide; a format that is not written),
// GRAFT_E_BUDGET, GRAFT_E_MEMORY, GRAFT_E_CANCELLED. Thread-safety: safe; two merges to one `out` at a time: one of the two.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_merge(struct graft_ctx *ctx, const char *base, const char *out,
                                                         const struct graft_merge_params *params,
                                                         struct graft_merge_report **report);
// Free; *report becomes NULL. NULL is accepted.
GRAFT_API void graft_merge_report_free(struct graft_merge_report **report);

// What became of a tensor. D is the intended change, R = dequantized new - dequantized old the actual one; norms are
// Frobenius norms.
struct graft_merge_tensor {
    char name[64];
    char type_before[16], type_after[16];
    uint64_t n_values;
    uint64_t bytes_before, bytes_after; // before: 0 for a tensor that was added
    double change;                      // ||D|| / ||W||
    double share;                       // <R, D> / <D, D>: 1 = all of it survived, 0 = nothing; 1 if D is zero
    double residual;                    // ||R - share D|| / ||D||: what came in that was not asked for; 0 if D is zero
};

struct graft_merge_summary {
    char base_digest[65];                   // SHA-256 of the file, hexadecimal
    char base_type[16];                     // the most common format of its matrices
    uint64_t base_bytes, out_bytes;         // of the files
    uint64_t touched_before, touched_after; // bytes of the tensors that changed; before: without those that were added
    uint32_t n_tensors;                     // of the output
    uint32_t n_touched;                     // entries of graft_merge_tensor
    uint32_t n_below;                       // of them with a share below keep_effect
    double change, share, residual;         // of all changed tensors as one vector
    uint32_t n_threads;
    uint32_t n_warnings;
    uint64_t decide_ns, merge_ns, sync_ns; // choosing formats ("auto"); reading, computing and writing; making it durable
};
GRAFT_API void graft_merge_summarize(const struct graft_merge_report *report, struct graft_merge_summary *out);
// A changed tensor, index < n_touched, in the output's order. Errors: GRAFT_E_ARGUMENT.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_merge_tensor(const struct graft_merge_report *report, uint32_t index,
                                                                struct graft_merge_tensor *out);
// An adapter by its index in params: its digest (adapter.h) and what it says it was made for ("" if nothing). The texts live as
// long as the report. Errors: GRAFT_E_ARGUMENT.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_merge_adapter(const struct graft_merge_report *report, uint32_t index,
                                                                 const char **digest, const char **base_name);
// A sentence, index < n_warnings; the same goes to the log. NULL outside. Lives as long as the report.
GRAFT_API const char *graft_merge_warning(const struct graft_merge_report *report, uint32_t index);

#ifdef __cplusplus
}
#endif
#endif
