// SPDX-License-Identifier: Apache-2.0
// Any bytes as a GGUF file: what is accepted lies inside the file, does not overlap and is found by name
// (graft_test_gguf_walk); a refusal names the file; looking at all values (inspect --deep) stays inside as well.
#include "fuzz/fuzz.h"
#include "loaders/gguf.h"
#include "runtime/session/session.h"
#include "support/gguf_builder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int allow_unknown = 0; allow_unknown < 2; allow_unknown++) {
        struct graft_test_alloc alloc;
        struct graft_ctx *ctx = fuzz_begin(&alloc, 64 << 20);
        struct graft_gguf *gguf;
        if (graft_gguf_open_memory(ctx, &gguf, data, size, "fuzz.gguf", allow_unknown) == GRAFT_OK) {
            const char *wrong = graft_test_gguf_walk(gguf);
            FUZZ_CHECK(!wrong, wrong ? wrong : "");
            for (uint64_t i = 0; i < gguf->n_tensors && i < 8; i++) {
                struct graft_tensor_values values;
                FUZZ_CHECK(graft_gguf_tensor_values(gguf, &gguf->tensors[i], &values) == GRAFT_OK, "values cannot be read");
                FUZZ_CHECK(values.bad <= values.looked_at && (!values.bad || values.first < values.looked_at), "values");
            }
            graft_gguf_close(&gguf);
        } else {
            FUZZ_CHECK(!gguf && strncmp(graft_last_error(), "fuzz.gguf: ", 11) == 0, "refused without the file's name");
        }
        fuzz_end(&ctx, &alloc);
    }
    return 0;
}
