// SPDX-License-Identifier: Apache-2.0
// minisign signatures (Ed25519, RFC 8032, by libsodium) of bytes in memory.
#ifndef GRAFT_LOADERS_MINISIGN_H
#define GRAFT_LOADERS_MINISIGN_H

#include "graft/signature.h"
#include "platform/ctx.h"

enum { GRAFT_KEY_ID_BYTES = 8, GRAFT_KEY_BYTES = 32, GRAFT_SIGNER_BYTES = 17 };

struct graft_trust {
    uint32_t count;
    struct graft_trusted_key {
        uint8_t id[GRAFT_KEY_ID_BYTES], key[GRAFT_KEY_BYTES];
    } keys[GRAFT_MAX_TRUSTED_KEYS];
};

// Public keys of a text: lines of comments, and lines of base64 of "Ed", id, key. Errors: GRAFT_E_FORMAT, GRAFT_E_LIMIT.
GRAFT_MUST_CHECK enum graft_status graft_trust_parse(struct graft_trust *out, const char *text, uint64_t length);

// Are these bytes what the signature (the text of a .minisig file) is of, by a trusted key? The trusted comment belongs to it.
// signer gets the key's id as 16 hexadecimal digits, as minisign prints it. `file` is for errors. Errors: GRAFT_E_SIGNATURE.
GRAFT_MUST_CHECK enum graft_status graft_minisign_verify(const struct graft_trust *trust, const void *bytes, uint64_t n_bytes,
                                                         const char *signature, uint64_t length, const char *file,
                                                         char signer[GRAFT_SIGNER_BYTES]);

// What a context asks of adapters, before they are parsed; GRAFT_OK with signer "" where it asks nothing.
// A file and FILE.minisig beside it:
GRAFT_MUST_CHECK enum graft_status graft_check_signed(struct graft_ctx *ctx, const char *path, const void *bytes,
                                                      uint64_t n_bytes, char signer[GRAFT_SIGNER_BYTES]);
// Two files of a folder, as read, in the signed list SHA256SUMS beside them:
struct graft_listed_file {
    const char *path;
    const void *bytes;
    uint64_t n_bytes;
};
GRAFT_MUST_CHECK enum graft_status graft_check_listed(struct graft_ctx *ctx, const struct graft_listed_file files[2],
                                                      char signer[GRAFT_SIGNER_BYTES]);

#endif
