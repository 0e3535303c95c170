// SPDX-License-Identifier: Apache-2.0
// graft/signature.h: adapters only from whom one trusts: minisign signatures, checked before a byte of a tensor is looked at.
//
//     minisign -G -p graft.pub -s graft.key                        a key pair
//     minisign -S -s graft.key -m legal.gguf                       a GGUF adapter: legal.gguf.minisig beside it
//     cd legal && sha256sum adapter_config.json adapter_model.safetensors > SHA256SUMS
//     minisign -S -s graft.key -m SHA256SUMS                       a PEFT folder: one signature over both of its files
//
// A GGUF adapter FILE needs FILE.minisig. A PEFT folder (or its .safetensors file) needs SHA256SUMS, which lists the two files,
// and SHA256SUMS.minisig: so that a configuration cannot be paired with other tensors of the same signer. Both forms of the
// signature are known, of the file (Ed) and of its BLAKE2b-512 hash (ED); the trusted comment is verified, too.
// Format: https://jedisct1.github.io/minisign/ ("Signature format", "Public key format").
#ifndef GRAFT_SIGNATURE_H
#define GRAFT_SIGNATURE_H

#include "graft/common.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GRAFT_MAX_TRUSTED_KEYS = 16 };

// From now on every adapter that is read with this context must have a signature by one of these keys: keys is the text of a
// minisign public key file, or of several, one behind the other. Called again, it replaces the keys. GRAFT_E_SIGNATURE is what
// reading returns then: signature missing, of another key, or not of these bytes. Errors: GRAFT_E_FORMAT (no such text; no
// key), GRAFT_E_LIMIT (more than GRAFT_MAX_TRUSTED_KEYS), GRAFT_E_MEMORY, GRAFT_E_BUDGET: what was trusted before stays.
// Thread-safety: one thread at a time, and while nothing reads adapters.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_require_signed(struct graft_ctx *ctx, const char *keys, size_t length);

#ifdef __cplusplus
}
#endif
#endif
