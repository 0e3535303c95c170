// SPDX-License-Identifier: Apache-2.0
// Any bytes as a safetensors image: the tensors of what is accepted cover the data without overlap or hole, have the size of
// their shape and names that are printable UTF-8.
#include "fuzz/fuzz.h"
#include "loaders/safetensors.h"
#include "platform/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct graft_test_alloc alloc;
    struct graft_ctx *ctx = fuzz_begin(&alloc, 64 << 20);
    struct graft_safetensors *st;
    if (graft_safetensors_open(ctx, &st, data, size, "fuzz.safetensors") == GRAFT_OK) {
        FUZZ_CHECK(size >= 8, "eight bytes are not there");
        const uint8_t *at = data + 8 + graft_load_u64(data);
        for (uint64_t i = 0; i < st->n_tensors; i++) {
            const struct graft_safetensor *t = &st->tensors[i];
            uint64_t item = t->type == GRAFT_TYPE_F32 ? 4 : 2;
            FUZZ_CHECK(t->data == at, "a hole or an overlap");
            FUZZ_CHECK((t->n_dims == 1 || t->n_dims == 2) && t->rows * t->cols * item == t->bytes, "shape and size differ");
            FUZZ_CHECK(t->n_dims == 2 || t->rows == 1, "a vector of several rows");
            size_t length = strlen(t->name);
            FUZZ_CHECK(length > 0 && length <= GRAFT_SAFETENSORS_MAX_NAME, "length of a name");
            FUZZ_CHECK(graft_utf8_valid((const uint8_t *)t->name, length), "a name is no UTF-8");
            at += t->bytes;
        }
        FUZZ_CHECK(at == data + size, "bytes that no tensor has");
        graft_safetensors_close(&st);
    } else {
        FUZZ_CHECK(!st && strncmp(graft_last_error(), "fuzz.safetensors: ", 18) == 0, "refused without the file's name");
    }
    fuzz_end(&ctx, &alloc);
    return 0;
}
