// SPDX-License-Identifier: Apache-2.0
// The inside of an adapter file's handle.
#ifndef GRAFT_RUNTIME_SESSION_ADAPTER_FILE_H
#define GRAFT_RUNTIME_SESSION_ADAPTER_FILE_H

#include "graft/adapter_file.h"
#include "loaders/adapter_parts.h"

struct graft_adapter_file {
    struct graft_ctx *ctx;
    struct graft_adapter_desc *desc;
    enum graft_adapter_format format;
    struct graft_adapter_base base; // of graft_adapter_file_fit
    uint64_t base_parameters;       // 0: not fitted
    bool base_tied;                 // its head is its embedding
};

#endif
