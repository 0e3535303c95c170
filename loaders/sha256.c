// SPDX-License-Identifier: Apache-2.0
// SHA-256 on nettle; hexadecimal forms on libsodium.
#include "loaders/sha256.h"

#include <nettle/version.h>
#include <sodium.h>
#include <string.h>

_Static_assert(SHA256_DIGEST_SIZE == GRAFT_SHA256_BYTES, "a SHA-256 digest has 32 bytes");

void graft_sha256_begin(struct graft_sha256 *hash)
{
    sha256_init(&hash->state);
}

void graft_sha256_add(struct graft_sha256 *hash, const void *data, uint64_t size)
{
    if (size > 0) {
        sha256_update(&hash->state, (size_t)size, data);
    }
}

void graft_sha256_end(struct graft_sha256 *hash, uint8_t digest[GRAFT_SHA256_BYTES])
{
#if NETTLE_VERSION_MAJOR >= 4
    sha256_digest(&hash->state, digest);
#else
    sha256_digest(&hash->state, SHA256_DIGEST_SIZE, digest);
#endif
}

void graft_sha256_hex(const uint8_t digest[GRAFT_SHA256_BYTES], char hex[GRAFT_SHA256_HEX_BYTES])
{
    (void)sodium_bin2hex(hex, GRAFT_SHA256_HEX_BYTES, digest, GRAFT_SHA256_BYTES);
}

bool graft_sha256_parse(const char *text, uint8_t digest[GRAFT_SHA256_BYTES])
{
    if (strlen(text) != GRAFT_SHA256_HEX_BYTES - 1 || strspn(text, "0123456789abcdef") != GRAFT_SHA256_HEX_BYTES - 1) {
        return false;
    }
    size_t written = 0;
    return sodium_hex2bin(digest, GRAFT_SHA256_BYTES, text, GRAFT_SHA256_HEX_BYTES - 1, NULL, &written, NULL) == 0 &&
           written == GRAFT_SHA256_BYTES;
}
