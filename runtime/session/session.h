// SPDX-License-Identifier: Apache-2.0
// What the public handles hold, and what the files of runtime/session share.
#ifndef GRAFT_RUNTIME_SESSION_H
#define GRAFT_RUNTIME_SESSION_H

#include <jansson.h>

#include "graft/graft.h"
#include "runtime/adapter/pool.h"
#include "runtime/model/exec.h"
#include "runtime/model/kv.h"
#include "runtime/text/template.h"
#include "runtime/text/vocab.h"
#include "runtime/vk/vk.h"

struct graft_device {
    struct graft_ctx *ctx;
    struct graft_vk *vk;             // NULL: the reference
    struct graft_vk_options options; // as it was opened, to open it again; its texts are those below
    char select[256], build[48];
    uint32_t n_models; // open on it
    bool self_test;    // models are opened after their kernels have computed the right results
    // Of the last self-test: the largest error of logits, as a share of the row's largest one, with kernels that passed, and
    // that with kernels that did not.
    float self_test_error, self_test_fault;
};

struct graft_vocabulary {
    struct graft_ctx *ctx;
    struct graft_vocab *vocab;
    char *chat_template; // of the file; NULL if it has none
    uint64_t template_bytes;
};

struct graft_seq {
    struct graft_model *model;
    uint32_t index;
    bool alive;
    bool gone;       // an adapter of it did not come back with the device
    uint32_t n_uses; // adapters of every row of it
    struct graft_seq_use {
        uint32_t slot;
        float weight;
        uint32_t from;
    } uses[GRAFT_MAX_BLEND];
};

enum { GRAFT_ADAPTER_PATH_BYTES = 1024 };

struct graft_adapter {
    struct graft_model *model;
    uint32_t slot;
};

struct graft_model {
    struct graft_ctx *ctx;
    struct graft_device *device;         // NULL while an estimate is made without one
    struct graft_gguf *gguf;             // NULL: synthetic
    struct graft_vocabulary *vocabulary; // NULL: synthetic
    struct graft_source *source;
    struct graft_plan *plan;
    struct graft_exec *exec;
    struct graft_kv *kv;
    struct graft_pool *pool;          // NULL without adapters
    struct graft_adapter_info *infos; // [n_slots] of the adapters in the pool
    uint32_t *entries; // [n_slots][n_layer][GRAFT_LORA_TARGETS][GRAFT_LORA_ENTRY] as packed: offsets from the adapter's begin
    char (*paths)[GRAFT_ADAPTER_PATH_BYTES]; // [n_slots] where the adapter of a slot was read from; "": it was longer
    struct graft_adapter_load *loads, *placing; // in the background, oldest first; the one that has a slot but is not whole yet
    uint64_t run_ns;                            // of the last batch
    struct graft_limits limits;
    uint32_t n_ctx;
    enum graft_activations activations; // as asked for
    bool exact, matrix_cores, timed, lost, opened;
    enum graft_weights_mode weights;
    enum graft_stream_mode stream;
    struct graft_seq *seqs; // [n_seq]
    // The batch: what graft_decode hands to the executor, and what it needs to take everything back.
    struct graft_exec_row *rows, *sorted; // [n_batch] as they were given; those with the same first adapter together
    uint32_t *sorted_at, *key_ends;       // [n_batch] place of a row among the sorted; [n_slots + 1] scratch
    uint32_t *out, *out_of;               // [n_batch] rows that want logits; their number by row, GRAFT_NO_SLOT = not wanted
    uint32_t *lengths;                    // [n_seq] before the batch
    uint32_t n_rows;                      // of the last batch; 0 after a failed one
    uint64_t n_batches;                   // so far: whose results there are
    bool has_logits;
    struct graft_candidate *candidates; // [GRAFT_MAX_CANDIDATES]
};

// model.c: everything of a model but its executor, from a file (path) or synthetic (shape); one of them is NULL. Used by
// opening and estimating.
GRAFT_MUST_CHECK enum graft_status graft_model_prepare(struct graft_ctx *ctx, struct graft_device *device,
                                                       struct graft_model **out, const char *path, const char *shape,
                                                       const struct graft_model_params *params);
// values.c: as graft_file_tensor_values; GRAFT_E_FORMAT naming the first tensor with a value that is not finite.
GRAFT_MUST_CHECK enum graft_status graft_gguf_tensor_values(const struct graft_gguf *gguf,
                                                            const struct graft_gguf_tensor *tensor,
                                                            struct graft_tensor_values *out);
GRAFT_MUST_CHECK enum graft_status graft_gguf_check_values(const struct graft_gguf *gguf);

// selftest.c: a small model cut out of this one on the device and in scalar C. Where they differ, simpler kernels are tried,
// and the device is restricted to those that pass. Runs once per device, driver, build and formats where the context has a
// cache folder. Too little memory for it is no error. Errors: GRAFT_E_DEVICE (wrong results: the kernel, the step, both
// values), GRAFT_E_DEVICE_LOST.
GRAFT_MUST_CHECK enum graft_status graft_self_test(struct graft_model *model);

// estimate.c: what the executor will take, added to bytes.
void graft_model_exec_bytes(const struct graft_model *model, const struct graft_device *device,
                            const struct graft_limits *limits, uint64_t bytes[GRAFT_MEM_CLASSES], uint64_t *mapped_bytes);
// GRAFT_E_BUDGET with the table, the shortfall and what would fit, if the executor does not fit into what the budget leaves.
// With stream `auto` the model's layers are streamed instead, as few as need be.
GRAFT_MUST_CHECK enum graft_status graft_model_check_budget(struct graft_model *model);

// vocabulary.c
GRAFT_MUST_CHECK enum graft_status graft_vocabulary_create(struct graft_ctx *ctx, struct graft_vocabulary **out,
                                                           const struct graft_gguf *gguf);
// Add bos_token and eos_token to a template's variables unless they are there. vocabulary may be NULL.
GRAFT_MUST_CHECK enum graft_status graft_vocabulary_add_tokens(const struct graft_vocabulary *vocabulary, json_t *variables);
// The model's vocabulary; GRAFT_E_UNSUPPORTED for a synthetic model.
GRAFT_MUST_CHECK enum graft_status graft_model_vocabulary(const struct graft_model *model, const struct graft_vocabulary **out);

// model.c: make the executor of a prepared model, on its device as it is.
GRAFT_MUST_CHECK enum graft_status graft_model_start(struct graft_model *model, const struct graft_model_params *params);
// device.c: open the Vulkan device again, as it was chosen before; the lost one is closed. On failure that one stays. Nothing
// of it may be alive.
GRAFT_MUST_CHECK enum graft_status graft_device_reopen(struct graft_device *device);

// adapter_load.c: between two batches: go on with the loads in the background, for a small share of the time that the last
// batch took. Whether a slot belongs to a load that is not finished.
void graft_adapter_loads_go_on(struct graft_model *model);
bool graft_adapter_loading(const struct graft_model *model, uint32_t slot);
// adapter_load.c: after the executor was made anew: the adapters that are held are read from their files again and written to
// where they were; the others are dropped, as are loads that were being placed, which begin again. One whose file is not what
// it was is marked as gone. Errors: those of writing; nothing may run then.
GRAFT_MUST_CHECK enum graft_status graft_adapters_restore(struct graft_model *model);
// adapter.c: the sequence runs with the base model again.
void graft_seq_drop_adapters(struct graft_seq *seq);
// adapter.c: uses of a sequence that are aLoRA begin where ids invoke them last; what that changes is truncated: how many
// tokens.
uint32_t graft_seq_invoke(struct graft_seq *seq, const int32_t *ids, uint32_t count);

// candidates.c: sort by logit downwards, ties by the smaller id; NaN first. In place, n log n at worst.
void graft_candidates_sort(struct graft_candidate *candidates, uint32_t count);

// sampler.c: how many of the first candidates are enough to choose from, whatever the others are; UINT32_MAX: all.
uint32_t graft_sampler_enough(const struct graft_sampler *sampler);
// Forget the tokens accepted so far.
void graft_sampler_forget(struct graft_sampler *sampler);

// json.c: compact JSON text in memory from graft_alloc, NUL-terminated.
GRAFT_MUST_CHECK enum graft_status graft_json_text(struct graft_ctx *ctx, const json_t *value, char **out);

// utf8.c: one step over bytes: the length of the character they start with (1 to 4); 0: its bytes are not there yet; -1: the
// first byte does not start one. RFC 3629.
int graft_utf8_step(const uint8_t *bytes, uint64_t count);
// Copy text, with U+FFFD for every byte that is no UTF-8 and for NUL. out: room for 3 * count bytes. Returns the bytes written.
// With `partial`, an incomplete character at the end is not copied and *partial gets its length; without it counts as invalid.
uint64_t graft_utf8_clean(const uint8_t *bytes, uint64_t count, char *out, uint32_t *partial);

// prompt.c: messages through a template to tokens. Text of messages that spells a control token stays text. *count <= capacity,
// or GRAFT_E_CONTEXT_FULL.
GRAFT_MUST_CHECK enum graft_status graft_prompt_tokens(const struct graft_model *model, const struct graft_template *template_,
                                                       const json_t *messages, int32_t *ids, uint32_t capacity,
                                                       uint32_t *count);

#endif
