// SPDX-License-Identifier: Apache-2.0
// A PEFT adapter with random F32 matrices for a tiny model, written to a folder.
#ifndef GRAFT_TESTS_ADAPTER_FOLDER_H
#define GRAFT_TESTS_ADAPTER_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

struct graft_test_adapter {
    uint32_t n_layer, n_embd, n_ff, q_rows, kv_rows, n_vocab, rank;
    bool layers, embed, head; // all seven targets of every layer; embed_tokens; lm_head
    bool zero;                // B of zeros
    float size;               // values are in -size to size; 0 = 0.1
    uint64_t seed;
    const char *base_name; // base_model_name_or_path; NULL = null
};
// The folder must be there.
void graft_test_adapter_folder(const struct graft_test_adapter *adapter, const char *folder);

#endif
