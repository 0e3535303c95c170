// SPDX-License-Identifier: Apache-2.0
// Inside of graft_combine: a plan of modules, and the five ways in which a module is computed.
#ifndef GRAFT_RUNTIME_MERGE_COMBINE_H
#define GRAFT_RUNTIME_MERGE_COMBINE_H

#include "graft/combine.h"
#include "loaders/adapter_write.h"
#include "runtime/merge/elements.h"

enum graft_combine_way {
    GRAFT_COMBINE_KEEP,  // the only adapter's A and B as they are
    GRAFT_COMBINE_PARTS, // A and B each by the rules of elements.h
    GRAFT_COMBINE_CAT,
    GRAFT_COMBINE_SVD,  // of the weighted sum, without ever making it
    GRAFT_COMBINE_DENSE // of a matrix by the rules of elements.h
};

struct graft_combine_rules {
    const char *name;
    enum graft_combine_way way;
    enum graft_prune prune;
    bool elect;
};

// An adapter's part in a module.
struct graft_combine_source {
    const struct graft_adapter_pair *pair;
    uint32_t adapter; // index
    double weight;
    double scaled;     // weight * scale
    uint32_t head_dim; // not 0: rows of B lie where a GGUF file has them and are wanted where PEFT has them
};

struct graft_combine_part {
    enum graft_target target;
    uint32_t layer, expert;
    enum graft_combine_way way;
    uint32_t n, rank;
    uint64_t n_in, n_out;
    bool bias;
    float scale;     // of the result
    double to_scale; // B is multiplied with it, so that scale * to_scale is what the method means
    struct graft_combine_source *sources; // [n]
    double norm, difference;              // squared
};

struct graft_combine {
    struct graft_ctx *ctx;
    const struct graft_combine_params *params;
    const struct graft_combine_rules *rules;
    enum graft_elect elect;
    double density[GRAFT_COMBINE_MAX_ADAPTERS];
    struct graft_adapter_desc *adapters[GRAFT_COMBINE_MAX_ADAPTERS];
    uint32_t n_adapters;
    bool single; // one adapter, kept
    bool to_gguf;
    enum graft_type type;           // of computed tensors
    struct graft_adapter_base base; // zero without params->base
    uint32_t head_dim;
    struct graft_combine_part *parts;
    uint32_t n_parts;
    struct graft_combine_source *sources; // backing of the parts'
    struct graft_adapter_desc *out;       // bytes: all computed tensors
    uint64_t at;                          // taken of out->bytes
};

// combine_plan.c: rules by name (NULL = svd). Errors: GRAFT_E_ARGUMENT with the names there are.
GRAFT_MUST_CHECK enum graft_status graft_combine_rules_find(const char *name, const struct graft_combine_rules **out);
// Check what the adapters say against each other and fill parts; adapters are read, params checked. Errors: those of
// graft_combine.
GRAFT_MUST_CHECK enum graft_status graft_combine_plan(struct graft_combine *combine);
// Key of the mask of one adapter's tensor (philox.h): the first 8 bytes, little-endian, of SHA-256 of the text
// "graft dare SEED INDEX MODULE TENSOR", TENSOR being lora_A, lora_B or delta.
uint64_t graft_combine_key(uint64_t seed, uint32_t adapter, const struct graft_combine_part *part, const char *tensor);

// combine_keep.c: room for everything that is computed, taken at once; a module of one adapter as it is, or with the sign of
// its weight or another scale in B; its bias, sum of w s bias; tensors that replace the base's, sum of w T.
GRAFT_MUST_CHECK enum graft_status graft_combine_room(struct graft_combine *combine);
GRAFT_MUST_CHECK enum graft_status graft_combine_keep(struct graft_combine *combine, const struct graft_combine_part *part,
                                                      struct graft_adapter_pair *pair);
GRAFT_MUST_CHECK enum graft_status graft_combine_bias(struct graft_combine *combine, const struct graft_combine_part *part,
                                                      struct graft_adapter_pair *pair);
GRAFT_MUST_CHECK enum graft_status graft_combine_wholes(struct graft_combine *combine);
// Both replace the same tensor of the base, or are copies of it. And: how many adapters have such a tensor.
bool graft_combine_same_whole(const struct graft_adapter_whole *a, const struct graft_adapter_whole *b);
uint32_t graft_combine_holders(const struct graft_combine *combine, const struct graft_adapter_whole *whole);

// combine_values.c: reading the adapters' values and writing the result's.
// Rows [first, first + count) of a source's A [rank][n_in] or B [n_out][rank] as f32.
void graft_combine_read_a(const struct graft_combine_source *source, uint64_t first, uint64_t count, float *out);
void graft_combine_read_b(const struct graft_combine_source *source, uint64_t first, uint64_t count, float *out);
// Bytes of `rows` x `cols` computed values in the result, rounded up to whole cache lines.
uint64_t graft_combine_bytes(const struct graft_combine *combine, uint64_t rows, uint64_t cols);
// A place for a computed tensor.
struct graft_adapter_view graft_combine_take(struct graft_combine *combine, uint64_t rows, uint64_t cols);
// values[count] * scale -> the view from value `first` on. `what` names the tensor. Errors: GRAFT_E_UNSUPPORTED (beyond the
// type).
GRAFT_MUST_CHECK enum graft_status graft_combine_put(const struct graft_adapter_view *view, uint64_t first,
                                                     const double *values, uint64_t count, double scale, const char *what);
// part->norm and part->difference, from the sources and what was written to `pair`.
GRAFT_MUST_CHECK enum graft_status graft_combine_measure(struct graft_combine *combine, struct graft_combine_part *part,
                                                         const struct graft_adapter_pair *pair);
// How the elements of a part are merged: weights, densities and keys for `tensor`.
void graft_combine_elements(const struct graft_combine *combine, const struct graft_combine_part *part, const char *tensor,
                            struct graft_elements *out);

// One module -> pair->a and pair->b, whose views are taken. Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_UNSUPPORTED.
GRAFT_MUST_CHECK enum graft_status graft_combine_by_parts(struct graft_combine *combine, const struct graft_combine_part *part,
                                                          struct graft_adapter_pair *pair);
GRAFT_MUST_CHECK enum graft_status graft_combine_by_cat(struct graft_combine *combine, const struct graft_combine_part *part,
                                                        struct graft_adapter_pair *pair);
GRAFT_MUST_CHECK enum graft_status graft_combine_by_svd(struct graft_combine *combine, const struct graft_combine_part *part,
                                                        struct graft_adapter_pair *pair);
GRAFT_MUST_CHECK enum graft_status graft_combine_by_dense(struct graft_combine *combine, const struct graft_combine_part *part,
                                                          struct graft_adapter_pair *pair);
// The end of both: a = rows of V^T [rank][n_in], b = columns of U S [rank][n_out], signs made definite, clamped, written.
GRAFT_MUST_CHECK enum graft_status graft_combine_finish_svd(struct graft_combine *combine,
                                                            const struct graft_combine_part *part, double *a, double *b,
                                                            struct graft_adapter_pair *pair);

#endif
