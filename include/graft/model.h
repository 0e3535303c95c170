// SPDX-License-Identifier: Apache-2.0
// graft/model.h: model files: look inside, plan their memory, open them on a device, run batches of tokens.
//
// The low level. A model holds sequences (its KV cache, in pages) and computes batches whose rows may belong to different
// sequences:
//
//     graft_model_open(&model, device, "model.gguf", NULL);
//     graft_seq_create(model, &seq);
//     graft_decode(model, rows, n_rows);                 // rows: token, sequence, whether an answer is wanted
//     graft_model_candidates(model, row, ...);           // the k best next tokens of that row
//
// chat.h offers the same one level up: messages in, text out.
#ifndef GRAFT_MODEL_H
#define GRAFT_MODEL_H

#include "graft/device.h"

#ifdef __cplusplus
extern "C" {
#endif

// ---- looking into a file (no device) ----

struct graft_file;
// Map and validate a GGUF file. Errors: GRAFT_E_IO, GRAFT_E_FORMAT, GRAFT_E_UNSUPPORTED, GRAFT_E_LIMIT. Tensor types that
// cannot be run are accepted here. On failure *out is NULL. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_file_open(struct graft_ctx *ctx, struct graft_file **out, const char *path);
GRAFT_API void graft_file_close(struct graft_file **file);

struct graft_file_tensor {
    const char *name; // NUL-terminated, valid until the next call with the same file
    const char *type; // "Q4_K"
    uint32_t n_dims;
    uint64_t dims[4];
    uint64_t offset, bytes; // offset: from the start of its file
    bool supported;
    uint32_t part; // which file it lies in, from 0
};
GRAFT_API uint64_t graft_file_tensor_count(const struct graft_file *file);
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_file_tensor(struct graft_file *file, uint64_t index,
                                                               struct graft_file_tensor *out);
// The values of a tensor, all read once (about 0.4 thousand million a second).
struct graft_tensor_values {
    uint64_t looked_at; // 0: a type that cannot be run
    uint64_t bad;       // NaN or infinite, as weights or through their scales
    uint64_t first;     // index of the first bad one
};
// Errors: GRAFT_E_ARGUMENT (no such tensor), GRAFT_E_IO (the file was cut short), GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_file_tensor_values(struct graft_file *file, uint64_t index,
                                                                      struct graft_tensor_values *out);
GRAFT_API uint64_t graft_file_key_count(const struct graft_file *file);
// Key i as JSON text: name and value; arrays longer than max_items are cut, *cut says so. Both texts are valid until the next
// call.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_file_key(struct graft_file *file, uint64_t index, uint32_t max_items,
                                                            const char **name, const char **type, const char **json, bool *cut);
GRAFT_API uint64_t graft_file_bytes(const struct graft_file *file);
// Files of the model: 1, or more if it is split (NAME-00001-of-0000N.gguf), when it is opened by the first of them. Path and
// bytes of one of them; GRAFT_E_ARGUMENT for a number that is not there. *path is valid until graft_file_close.
GRAFT_API uint32_t graft_file_part_count(const struct graft_file *file);
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_file_part(const struct graft_file *file, uint32_t index, const char **path,
                                                             uint64_t *bytes);
// Container version, 2 or 3.
GRAFT_API uint32_t graft_file_version(const struct graft_file *file);

// ---- opening ----

enum graft_weights_mode {
    GRAFT_WEIGHTS_AUTO, // import the mapping where memory is unified and the driver allows it, else copy
    GRAFT_WEIGHTS_MAP,  // import or fail
    GRAFT_WEIGHTS_COPY  // copy to device memory
};

// How keys and values are kept. Q8_0 and Q4_0 are blocks of 32 values with a scale, as the weight formats of these names: 8.5
// and 4.5 bits a value (9 and 5 where a head has an odd number of blocks), for heads of a multiple of 32 values. What they cost
// in quality: docs/memory.md.
enum graft_kv_type { GRAFT_KV_DEFAULT, GRAFT_KV_F16, GRAFT_KV_F32, GRAFT_KV_Q8_0, GRAFT_KV_Q4_0 }; // f16; exact: f32

// What the matrices of block formats (Q4_0, Q4_K ...) are multiplied with. INT16 and INT8: the values of a row are rounded to
// integers of 15 or 8 bits in groups of 32 with a scale each, and multiplied by integer dot products; sums, norms, attention,
// keys, values and adapters are as ever. What that costs in quality: docs/shaders.md.
enum graft_activations {
    GRAFT_ACTIVATIONS_DEFAULT, // INT16 where the device says that integer dot products are fast, else F32; exact: F32
    GRAFT_ACTIVATIONS_F32,
    GRAFT_ACTIVATIONS_INT16, // also where they are slow; F32 where the device has none
    GRAFT_ACTIVATIONS_INT8
};

// What becomes of a model that is larger than the memory budget.
enum graft_stream_mode {
    GRAFT_STREAM_AUTO, // layers that do not fit are copied to the device one after the other, for every batch, while others
                       // compute
    GRAFT_STREAM_OFF   // GRAFT_E_BUDGET
};

struct graft_model_params {
    size_t size;       // sizeof(struct graft_model_params)
    uint32_t n_ctx;    // tokens of KV cache in all, shared by the sequences; 0 = the model's trained length, at most 4096
    uint32_t n_batch;  // most rows in one step; prompts go in chunks of it; 0 = 32 on software, 128 elsewhere
    uint32_t n_seq;    // most sequences at a time; 0 = 1
    bool exact;        // f32 everywhere: activations, keys and values (twice the KV memory)
    bool timed;        // timestamps around every step (bench --stages)
    enum graft_weights_mode weights;
    uint64_t adapter_pool_bytes; // for packed adapters (adapter.h); 0 = none
    uint32_t adapter_slots;      // most adapters resident at a time; 0 = 16 if there is a pool
    // Called now and then while loading, done of total bytes; return false to cancel (GRAFT_E_CANCELLED). NULL = none.
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
    // Read every value of the file first and refuse it if one is not finite (GRAFT_E_FORMAT, with tensor and index). Without,
    // such a value shows as logits that are not finite.
    bool check_values;
    // Of keys and of values. Errors of opening: GRAFT_E_ARGUMENT (no such type, another than f32 with `exact`),
    // GRAFT_E_UNSUPPORTED (heads that are no multiple of 32).
    enum graft_kv_type kv_keys, kv_values;
    enum graft_stream_mode stream;
    // Errors of opening: GRAFT_E_ARGUMENT (no such value, another than F32 with `exact`).
    enum graft_activations activations;
    // Multiply matrices of block formats by cooperative matrices where a batch has 16 rows or more: weights and inputs are
    // rounded to f16 there, sums are f32, and what adapters add is as precise as ever. Where the device and this build have
    // them. What a row computes then depends, within that rounding, on how many share its batch. Errors of opening:
    // GRAFT_E_ARGUMENT (with `exact`).
    bool matrix_cores;
};

// What a model needs, by ledger class, before anything is allocated.
struct graft_estimate {
    uint64_t class_bytes[GRAFT_MEM_CLASSES];
    uint64_t total_bytes;
    uint64_t mapped_bytes;  // file pages used in place (import): not counted, the kernel may drop and reread them
    uint32_t n_ctx, n_batch, n_seq; // after defaults
    uint32_t n_ctx_fits;    // largest n_ctx that fits the context's budget, everything else unchanged; 0 if none does
    uint32_t n_streamed;    // layers that would be streamed for the budget's sake: class_bytes are those of that; 0: none
    uint64_t stream_bytes;  // copied for every batch then
};
// Compute from metadata alone. device may be NULL (no device is opened: a discrete one is assumed). Errors: as graft_model_open
// without the device's; never GRAFT_E_BUDGET for the model itself. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_model_estimate(struct graft_ctx *ctx, const struct graft_device *device,
                                                                  const char *path, const struct graft_model_params *params,
                                                                  struct graft_estimate *out);

struct graft_model;
// Map the file, check it, plan, take memory, upload or import the weights, record the plan. On failure *out is NULL and all is
// given back.
// Errors: those of graft_file_open; GRAFT_E_UNSUPPORTED (architecture, type, tokenizer: what is supported is listed);
// GRAFT_E_BUDGET (the table, the shortfall, what would fit); GRAFT_E_DEVICE (also: the device computes wrong results, see
// graft_device_params.no_self_test; kernel and values are named); GRAFT_E_DEVICE_LOST; GRAFT_E_CANCELLED;
// GRAFT_E_MEMORY.
// Thread-safety: one thread at a time per device.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_model_open(struct graft_device *device, struct graft_model **out,
                                                              const char *path, const struct graft_model_params *params);
// A model of a real shape with random weights made in place, for measuring: shape is "NAME:TYPE", NAME one of llama-8b,
// llama-1b, llama-135m, moe-7b (a mixture of experts), TYPE any supported format ("q4_0"). It has no vocabulary: text functions
// return GRAFT_E_UNSUPPORTED.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_model_open_synthetic(struct graft_device *device, struct graft_model **out,
                                                                        const char *shape,
                                                                        const struct graft_model_params *params);
// Close; all sequences and chats of it must be destroyed before. *model becomes NULL.
GRAFT_API void graft_model_close(struct graft_model **model);

// After GRAFT_E_DEVICE_LOST: open the device again, as it was chosen, and put everything back: the weights from the mapped
// file, the adapters that are held from their files. Handles stay; sequences keep their adapters and have no tokens any more:
// decode them again. An adapter whose file is not what it was is marked (graft_adapter_info.gone) and refused until it is
// loaded anew; those that nothing held are dropped. The model must be the only one on its device. Allowed at any time; without
// a loss it is a slow way to forget all sequences. Errors: GRAFT_E_ARGUMENT (other models on the device), those of
// graft_device_open and graft_model_open; the model is lost then still, and it may be tried again. Thread-safety: one thread at
// a time per device.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_model_rebuild(struct graft_model *model);

struct graft_model_info {
    char architecture[32];
    char name[128];       // general.name or the file's name
    char quantization[32]; // the most common type of the matrices
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx_train;
    uint32_t n_expert, n_expert_used, n_ff_expert; // a mixture of experts: of each layer, of a token, values of one; 0: dense
    uint32_t n_ctx, n_batch, n_seq; // as opened
    uint64_t n_parameters;
    uint64_t weight_bytes;         // of all tensors
    uint64_t token_weight_bytes;   // read from memory for one decoded token
    bool imported;                 // weights are used in place
    bool has_chat_template;
    uint32_t n_streamed;   // layers that are copied to the device for every batch (graft_stream_mode)
    uint64_t stream_bytes; // of them, a batch
    enum graft_activations activations; // in use, never DEFAULT
    bool matrix_cores;                  // in use
};
GRAFT_API void graft_model_describe(const struct graft_model *model, struct graft_model_info *out);

// Seconds that one decoded token takes a model whose layers are streamed: the copies alone, with nothing computed; computing
// alone, with nothing copied, as if all layers were resident; and both, which can be no less than the larger of the two.
struct graft_stream_times {
    double copy_s, compute_s, token_s;
};
// Measure them, one after the other; takes a few tokens' time, allocates nothing, changes no sequence. Errors:
// GRAFT_E_UNSUPPORTED (no layer is streamed), GRAFT_E_DEVICE_LOST. Thread-safety: one thread at a time per device.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_model_stream_times(struct graft_model *model,
                                                                      struct graft_stream_times *out);
// True once the model's file was cut short, or its disk failed, while it was in use (graft_guard_mapped_files): batches fail
// with GRAFT_E_IO from then on, and the model can only be closed. Thread-safety: safe.
GRAFT_API bool graft_model_damaged(const struct graft_model *model);

// ---- text ----

// Tokenize. special: text like <|im_start|> becomes its token. bos: BOS in front if the file says so. *count gets the number of
// ids; at most `capacity` are written: GRAFT_E_LIMIT if that is too few. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_tokenize(const struct graft_model *model, const char *text, size_t length,
                                                            bool special, bool bos, int32_t *ids, size_t capacity,
                                                            size_t *count);
// Bytes of ids as text; no NUL. *length as *count above. special: control tokens are shown by name.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_detokenize(const struct graft_model *model, const int32_t *ids, size_t count,
                                                              bool special, char *text, size_t capacity, size_t *length);
// True if the token ends a turn or the text.
GRAFT_API bool graft_token_is_end(const struct graft_model *model, int32_t id);
// Render the file's chat template: variables_json is a JSON object (messages, tools, add_generation_prompt, ...); bos_token and
// eos_token are filled in from the vocabulary if absent. template_text: another template instead of the file's, or NULL. *text
// must be freed with graft_text_free. Errors: GRAFT_E_ARGUMENT, GRAFT_E_UNSUPPORTED (the file has none), GRAFT_E_FORMAT,
// GRAFT_E_LIMIT. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_render(const struct graft_model *model, const char *template_text,
                                                          const char *variables_json, char **text, size_t *length);
GRAFT_API void graft_text_free(const struct graft_model *model, char **text);

// The same without a device: the vocabulary and template of a file.
struct graft_vocabulary;
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_vocabulary_open(struct graft_ctx *ctx, struct graft_vocabulary **out,
                                                                   const char *path);
GRAFT_API void graft_vocabulary_close(struct graft_vocabulary **vocabulary);
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_vocabulary_tokenize(const struct graft_vocabulary *vocabulary,
                                                                       const char *text, size_t length, bool special, bool bos,
                                                                       int32_t *ids, size_t capacity, size_t *count);
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_vocabulary_detokenize(const struct graft_vocabulary *vocabulary,
                                                                         const int32_t *ids, size_t count, bool special,
                                                                         char *text, size_t capacity, size_t *length);
// vocabulary may be NULL when template_text is given.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_vocabulary_render(struct graft_ctx *ctx,
                                                                     const struct graft_vocabulary *vocabulary,
                                                                     const char *template_text, const char *variables_json,
                                                                     char **text, size_t *length);
GRAFT_API void graft_ctx_text_free(struct graft_ctx *ctx, char **text);

// ---- sequences and batches ----

struct graft_seq;
// An empty sequence. Errors: GRAFT_E_LIMIT (n_seq are alive), GRAFT_E_MEMORY. Thread-safety: one thread at a time per model.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_seq_create(struct graft_model *model, struct graft_seq **out);
GRAFT_API void graft_seq_destroy(struct graft_seq **seq);
// Tokens in the sequence.
GRAFT_API uint32_t graft_seq_length(const struct graft_seq *seq);
// Forget everything from position `length` on; pages no longer needed are free again. Where layers have a window, a sequence
// cut back by more than about a page may have lost what the next token would attend to: it is emptied then, which its length
// tells.
GRAFT_API void graft_seq_truncate(struct graft_seq *seq, uint32_t length);

// When a sequence has grown to its end: forget n_drop tokens behind the first n_keep and move the rest down, their keys rotated
// to their new positions (as StreamingLLM does, Xiao 2023; rotary positions add up, Su 2021). Works in whole pages of 32
// tokens: n_keep is rounded up, n_drop down but at least to one page; *dropped gets how many tokens went, from position n_keep
// rounded up on. Quantized keys are quantized again, f16 ones rounded again. What the rest had learned from the forgotten
// tokens stays in it, so that computing the remaining tokens anew gives other numbers. Pages that other sequences share are
// copied first. Takes a page of memory while it lasts. Errors: GRAFT_E_ARGUMENT (fewer tokens than that), GRAFT_E_CONTEXT_FULL
// (no page is free for a copy), GRAFT_E_MEMORY, GRAFT_E_BUDGET: nothing has changed; GRAFT_E_DEVICE_LOST. Thread-safety: as
// graft_decode.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_seq_shift(struct graft_seq *seq, uint32_t n_keep, uint32_t n_drop,
                                                             uint32_t *dropped);

// Save a sequence: its tokens (ids: [n_ids], the cached ones and at most one more: sequences do not keep them), its keys and
// values, which base and adapters they were computed with, a version and a digest; and `extra`, any bytes of the caller's (at
// most 64 MiB). The file replaces an old one only when it is whole. Takes a page of memory while it lasts. Errors:
// GRAFT_E_ARGUMENT (fewer or more tokens), GRAFT_E_UNSUPPORTED (a synthetic model), GRAFT_E_IO, GRAFT_E_MEMORY, GRAFT_E_BUDGET,
// GRAFT_E_DEVICE_LOST; the old file is still there then. Thread-safety: as graft_decode.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_seq_save(const struct graft_seq *seq, const char *path, const int32_t *ids,
                                                            uint32_t n_ids, const void *extra, size_t extra_bytes);
// The opposite: what the sequence held is forgotten, and it goes on with the bits it had. *n_ids gets the number of tokens (at
// most `capacity` may be there); extra may be NULL, else *extra must be freed with graft_text_free. Errors: GRAFT_E_IO;
// GRAFT_E_FORMAT (not a session, cut short, damaged: the whole file is checked against its digest first); GRAFT_E_UNSUPPORTED
// (another version); GRAFT_E_ARGUMENT (another base, other types of keys and values, adapters or weights than are set: which is
// said); GRAFT_E_CONTEXT_FULL, GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET: the sequence is as before (GRAFT_E_CONTEXT_FULL
// because other sequences have the pages, and GRAFT_E_DEVICE_LOST: it is empty). Thread-safety: as graft_decode.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_seq_restore(struct graft_seq *seq, const char *path, int32_t *ids,
                                                               uint32_t capacity, uint32_t *n_ids, char **extra,
                                                               size_t *extra_bytes);

struct graft_row {
    struct graft_seq *seq;
    int32_t token; // appended to seq
    bool want;     // compute the next token's logits after this one
};
// How many rows of one step may want their next token: n_seq, but at least this many (if n_batch is).
enum { GRAFT_MAX_WANTED = 32 };
// What is computed for the rows that want it.
enum graft_want { GRAFT_WANT_CANDIDATES, GRAFT_WANT_LOGITS };

// Append the rows' tokens to their sequences and compute. Rows of one sequence must be in order; n_rows <= n_batch. Blocks
// until done.
// Errors: GRAFT_E_ARGUMENT (token outside the vocabulary, too many rows, too many wanted), GRAFT_E_CONTEXT_FULL (no KV page
// left: nothing was appended), GRAFT_E_DEVICE_LOST (sequences are as before the call, but the model can only be rebuilt or
// closed), GRAFT_E_IO (the mapped file was cut short or its disk failed, see graft_guard_mapped_files: the model can only be
// closed). Allocates nothing. Thread-safety: one thread at a time per device.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_decode(struct graft_model *model, const struct graft_row *rows,
                                                          uint32_t n_rows, enum graft_want want);

struct graft_candidate {
    int32_t id;
    float logit;
};
// After graft_decode: the best next tokens after row `row`, by logit downwards (ties: smaller id first). *count is in:
// capacity, out: number written; at least min(64, vocabulary) are available. Errors: GRAFT_E_ARGUMENT (that row did not want
// any).
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_model_candidates(struct graft_model *model, uint32_t row,
                                                                    struct graft_candidate *out, uint32_t *count);
// After graft_decode with GRAFT_WANT_LOGITS: all n_vocab logits after row `row`; valid until the next graft_decode.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_model_logits(struct graft_model *model, uint32_t row, const float **out);

// One line per step of the plan for a row count: name, and nanoseconds of its last run (params.timed). *count in: capacity,
// out: number.
struct graft_stage {
    const char *name; // "blk.3.qkv"
    const char *kernel; // "qkv.q4_1.lane"
    uint64_t ns;
    uint32_t workgroups;
    uint64_t weight_bytes;
};
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_model_stages(struct graft_model *model, uint32_t n_rows,
                                                                struct graft_stage *out, uint32_t *count);

#ifdef __cplusplus
}
#endif
#endif
