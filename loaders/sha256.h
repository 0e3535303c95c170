// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4) of memory, in pieces. The arithmetic is nettle's, which uses the processor's SHA instructions where it
// has them.
#ifndef GRAFT_LOADERS_SHA256_H
#define GRAFT_LOADERS_SHA256_H

#include <nettle/sha2.h>

#include "platform/err.h"

enum { GRAFT_SHA256_BYTES = 32, GRAFT_SHA256_HEX_BYTES = 65 }; // the hex form has 64 lowercase digits and a NUL

struct graft_sha256 {
    struct sha256_ctx state;
};

// begin, add any number of pieces, end. `data` may be NULL if size is 0. After end, begin again. Thread-safety: one thread at a
// time on one struct.
void graft_sha256_begin(struct graft_sha256 *hash);
void graft_sha256_add(struct graft_sha256 *hash, const void *data, uint64_t size);
void graft_sha256_end(struct graft_sha256 *hash, uint8_t digest[GRAFT_SHA256_BYTES]);

// Lowercase hex form.
void graft_sha256_hex(const uint8_t digest[GRAFT_SHA256_BYTES], char hex[GRAFT_SHA256_HEX_BYTES]);
// True if `text` is exactly 64 lowercase hex digits; digest is written only then. Never takes anything else for a digest: such
// texts come from files and become parts of paths.
bool graft_sha256_parse(const char *text, uint8_t digest[GRAFT_SHA256_BYTES]);

#endif
