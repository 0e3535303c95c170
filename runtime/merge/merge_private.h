// SPDX-License-Identifier: Apache-2.0
// Shared by the files of this folder: what a merge reads, plans, computes and reports.
//
//     read (plan.c) -> formats (choose.c) -> offsets (plan.c) -> header (header.c) -> tensors in file order (pass.c, rows.c)
//       -> digest into the header -> commit (merge.c); report.c holds what was measured
#ifndef GRAFT_RUNTIME_MERGE_PRIVATE_H
#define GRAFT_RUNTIME_MERGE_PRIVATE_H

#include "graft/merge.h"
#include "loaders/adapter.h"
#include "loaders/gguf.h"
#include "loaders/sha256.h"
#include "runtime/model/config.h"
#include "runtime/model/workers.h"

enum {
    GRAFT_MERGE_TILE = 4,       // rows computed together
    GRAFT_MERGE_UNIT_ROWS = 16, // rows a thread takes at a time; sums are added up by these, whatever the number of threads
    GRAFT_MERGE_UNIT_BYTES = 1 << 20 // the same for bytes that are copied
};

// Inner products over values of one or more rows: D intended change, R actual one, W the base.
struct graft_merge_sums {
    double dd, rd, rr, ww;
};

// One adapter's change of one tensor. Exactly one of pair and whole is there.
struct graft_merge_link {
    uint32_t tensor, adapter; // indices into outs, adapters
    const struct graft_adapter_pair *pair;
    const struct graft_adapter_whole *whole;
};

// A tensor of the output.
struct graft_merge_item {
    const struct graft_gguf_tensor *from; // the base's bytes
    struct graft_text name;               // not that of `from` for a head that was tied
    bool added;
    uint32_t type;
    uint64_t offset, bytes; // in the output, from the start of the data
    uint32_t first_link, n_links;
    struct graft_merge_sums sums;
};

struct graft_merge {
    struct graft_ctx *ctx;
    struct graft_merge_params params;
    struct graft_gguf *gguf;
    struct graft_source *source;
    struct graft_adapter_desc *adapters[GRAFT_MERGE_MAX_ADAPTERS];
    float weights[GRAFT_MERGE_MAX_ADAPTERS];
    struct graft_text names[GRAFT_MERGE_MAX_ADAPTERS]; // last parts of the paths
    struct graft_merge_link *links;                    // sorted by tensor, then expert, then adapter
    uint32_t n_links;
    struct graft_merge_item *items; // in the output's order
    uint32_t n_items;
    uint64_t out_header_bytes, out_data_offset, out_bytes;
    struct graft_workers *workers;
    struct graft_merge_scratch **scratch; // [threads]
    uint32_t n_threads;
    struct graft_output *output;
    struct graft_sha256 hash; // of the base, up to `hashed`
    uint64_t hashed;
    uint8_t digest[GRAFT_SHA256_BYTES];
    uint64_t progress_done, progress_total;
};

// ---- plan.c ----

// Read base and adapters, check that they fit and can be merged, list what changes what. merge is zeroed but for ctx and
// params. Release in any case.
GRAFT_MUST_CHECK enum graft_status graft_merge_read(struct graft_merge *merge, const char *base);
// The matrix of its tensor that a link changes: an expert's, else 0.
uint32_t graft_merge_expert(const struct graft_merge_link *link);
// Offsets in the output once every item has its type.
GRAFT_MUST_CHECK enum graft_status graft_merge_layout(struct graft_merge *merge);
void graft_merge_release(struct graft_merge *merge);

// ---- rows.c: the arithmetic ----

// One adapter's part, ready for rows of one tensor.
struct graft_merge_part {
    const struct graft_adapter_pair *pair;
    const struct graft_adapter_whole *whole;
    float weight;
    float plus;         // added to what replaces a tensor: Gemma's gains are 1 + PEFT's
    float *a;           // of a pair: what the coefficients multiply, [rank][n_in]; owned by pass.c
    float *multipliers; // DoRA of the embedding: [n_in]; owned by pass.c
    bool embed;         // the coefficients of a row are a column of A
    uint32_t head_dim;  // rows of B lie in halves of heads of this size, the base's in adjacent pairs; 0 = in the same order
};

struct graft_merge_rows {
    const struct graft_merge_item *item;
    uint32_t expert;     // which of the tensor's matrices
    const uint8_t *data; // the base's
    const struct graft_quant *from, *to;
    uint64_t n_in, n_out, from_bytes, to_bytes; // bytes of rows
    struct graft_merge_part parts[GRAFT_MERGE_MAX_ADAPTERS];
    uint32_t n_parts;
};

// What a thread needs for its rows; floats are [GRAFT_MERGE_TILE][n_in].
struct graft_merge_scratch {
    float *base, *change, *product, *row; // row: [n_in]
    uint8_t *out;                         // [GRAFT_MERGE_UNIT_ROWS] rows
};

// Rows [first, first + n) of the merged tensor to scratch->out; n at most GRAFT_MERGE_UNIT_ROWS. *sums gets their inner
// products, added up in the order of rows. A row that nothing changes keeps its bytes if the format stays. Errors:
// GRAFT_E_FORMAT (DoRA without a norm), GRAFT_E_UNSUPPORTED (a value that the format cannot hold). Thread-safety: safe, one
// scratch per thread.
GRAFT_MUST_CHECK enum graft_status graft_merge_compute(const struct graft_merge_rows *rows, struct graft_merge_scratch *scratch,
                                                       uint64_t first, uint64_t n, struct graft_merge_sums *sums);

// ---- pass.c: a tensor on all threads ----

// Threads and their scratch, as many as the budget allows.
GRAFT_MUST_CHECK enum graft_status graft_merge_threads(struct graft_merge *merge);
// Measure what a changed tensor would keep in `type`; nothing is written.
GRAFT_MUST_CHECK enum graft_status graft_merge_measure(struct graft_merge *merge, const struct graft_merge_item *item,
                                                       uint32_t type, struct graft_merge_sums *sums);
// Write a tensor at its place, changed or copied; hash the base up to its end on the way.
GRAFT_MUST_CHECK enum graft_status graft_merge_write(struct graft_merge *merge, struct graft_merge_item *item);
// Hash the base's files, one behind the other, from where hashing stopped to `end` of the mapping.
void graft_merge_hash(struct graft_merge *merge, uint64_t end);
// Bytes of work for the progress callback; GRAFT_E_CANCELLED if it says so.
GRAFT_MUST_CHECK enum graft_status graft_merge_progress(struct graft_merge *merge, uint64_t bytes);

// ---- choose.c: formats ----

// Set every item's type.
GRAFT_MUST_CHECK enum graft_status graft_merge_choose(struct graft_merge *merge);
// Share and residual of sums, as struct graft_merge_tensor says; cosine = <R, D> / (|| R || || D ||); error = || R - D || / ||
// D ||. D = 0: 1, 0, 1, 0.
double graft_merge_share(const struct graft_merge_sums *sums);
double graft_merge_residual(const struct graft_merge_sums *sums);
double graft_merge_cosine(const struct graft_merge_sums *sums);
double graft_merge_error(const struct graft_merge_sums *sums);
// The most common format of the base's matrices.
uint32_t graft_merge_base_type(const struct graft_merge *merge);

// ---- header.c ----

// Bytes of the header (merge->output NULL: only counted into out_header_bytes), or written. With merge->digest.
GRAFT_MUST_CHECK enum graft_status graft_merge_header(struct graft_merge *merge, bool write);

// ---- report.c ----

struct graft_merge_report {
    struct graft_ctx *ctx;
    struct graft_merge_summary summary;
    struct graft_merge_tensor *tensors;
    char digests[GRAFT_MERGE_MAX_ADAPTERS][GRAFT_SHA256_HEX_BYTES];
    char made_for[GRAFT_MERGE_MAX_ADAPTERS][256];
    uint32_t n_adapters;
    char warnings[GRAFT_MERGE_MAX_ADAPTERS + 2][512];
};
GRAFT_MUST_CHECK enum graft_status graft_merge_report_make(const struct graft_merge *merge, struct graft_merge_report **out);

#endif
