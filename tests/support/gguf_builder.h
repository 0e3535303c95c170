// SPDX-License-Identifier: Apache-2.0
// An in-memory GGUF writer for tests: whole and deliberately damaged files.
//
//     struct graft_test_gguf b = {0};
//     graft_test_gguf_text(&b, "general.architecture", "llama");
//     graft_test_gguf_tensor(&b, "output.weight", GRAFT_TYPE_F32, 2, (uint64_t[]){8, 4}, data, 128);
//     graft_test_gguf_finish(&b);         // b.file, b.file_size
//     graft_test_gguf_patch_u32(&b, 4, 9); // any byte may be changed now
//     graft_test_gguf_save(&b, path);
//     graft_test_gguf_free(&b);
#ifndef GRAFT_TESTS_GGUF_BUILDER_H
#define GRAFT_TESTS_GGUF_BUILDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GRAFT_TEST_GGUF_MARKS = 64 };

struct graft_test_bytes {
    uint8_t *data;
    size_t size, room;
};

struct graft_test_gguf {
    uint32_t version;   // 0 = 3
    uint32_t alignment; // of tensor data; 0 = 32. Only used for the layout: add the key general.alignment yourself.
    uint64_t n_keys, n_tensors;
    struct graft_test_bytes keys, tensors, data;
    // Where the first entries start in the finished file; field offsets follow from the names' lengths.
    size_t key_at[GRAFT_TEST_GGUF_MARKS], tensor_at[GRAFT_TEST_GGUF_MARKS];
    uint8_t *file; // after finish
    size_t file_size, data_offset;
};

// Keys. `value` is the raw little-endian value; an array has `count` items in `items`. NULL = nothing but zeros.
void graft_test_gguf_key(struct graft_test_gguf *b, const char *name, uint32_t type, const void *value, size_t bytes);
void graft_test_gguf_array(struct graft_test_gguf *b, const char *name, uint32_t item_type, uint64_t count, const void *items,
                           size_t bytes);
void graft_test_gguf_u32(struct graft_test_gguf *b, const char *name, uint32_t value);
void graft_test_gguf_f32(struct graft_test_gguf *b, const char *name, float value);
void graft_test_gguf_bool(struct graft_test_gguf *b, const char *name, bool value);
void graft_test_gguf_text(struct graft_test_gguf *b, const char *name, const char *value);
void graft_test_gguf_texts(struct graft_test_gguf *b, const char *name, const char *const *items, uint64_t count);
void graft_test_gguf_f32s(struct graft_test_gguf *b, const char *name, const float *items, uint64_t count);
void graft_test_gguf_i32s(struct graft_test_gguf *b, const char *name, const int32_t *items, uint64_t count);

// A tensor; its data go behind those of the tensor before, at the next multiple of the alignment. data NULL = zeros.
void graft_test_gguf_tensor(struct graft_test_gguf *b, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *dims,
                            const void *data, size_t bytes);

// Put the file together. Call it once.
void graft_test_gguf_finish(struct graft_test_gguf *b);
// Change the finished file; stops the program if the place is outside it.
void graft_test_gguf_patch(struct graft_test_gguf *b, size_t offset, const void *bytes, size_t count);
void graft_test_gguf_patch_u32(struct graft_test_gguf *b, size_t offset, uint32_t value);
void graft_test_gguf_patch_u64(struct graft_test_gguf *b, size_t offset, uint64_t value);
// Write the finished file to `path`.
void graft_test_gguf_save(const struct graft_test_gguf *b, const char *path);
// Read everything an open file offers. Returns NULL, or what is wrong with it: a view outside the file, overlapping tensors, an
// entry that cannot be found by its name.
struct graft_gguf;
const char *graft_test_gguf_walk(const struct graft_gguf *gguf);
void graft_test_gguf_free(struct graft_test_gguf *b);

#endif
