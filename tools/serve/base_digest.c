// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/base_digest.h"

#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "tools/tool.h"

enum { PIECE_BYTES = 64 << 10, ENDING_BYTES = 20 }; // the ending of a part: -00001-of-00003.gguf

// False: it cannot be read, or nobody waits for it any more.
static bool add_file(struct base_digest *digest, const char *path, crypto_hash_sha256_state *hash)
{
    uint8_t piece[PIECE_BYTES];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return false;
    }
    ssize_t n;
    while ((n = read(file, piece, sizeof piece)) > 0 && !atomic_load(&digest->ending)) {
        crypto_hash_sha256_update(hash, piece, (unsigned long long)n);
    }
    close(file);
    return n == 0;
}

static void run(void *user)
{
    struct base_digest *digest = user;
    graft_thread_give_way();
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s", digest->path);
    size_t length = strlen(path);
    char *ending = length > ENDING_BYTES ? path + length - ENDING_BYTES : path;
    unsigned parts = 1;
    int used = 0;
    bool split = sscanf(ending, "-%*5u-of-%5u.gguf%n", &parts, &used) == 1 && used == ENDING_BYTES;
    crypto_hash_sha256_state hash;
    crypto_hash_sha256_init(&hash);
    for (unsigned i = 1; i <= parts; i++) {
        if (split) {
            snprintf(ending, ENDING_BYTES + 1, "-%05u-of-%05u.gguf", i % 100000, parts % 100000);
        }
        if (!add_file(digest, path, &hash)) {
            return;
        }
    }
    uint8_t bytes[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&hash, bytes);
    sodium_bin2hex(digest->text, sizeof digest->text, bytes, sizeof bytes);
    atomic_store(&digest->known, true);
}

void base_digest_start(struct base_digest *digest, struct graft_ctx *ctx, const char *path)
{
    digest->path = path;
    if (*path && graft_thread_start(ctx, &digest->thread, run, digest) != GRAFT_OK) {
        note("warning: the digest of the model file will not be known: %s", graft_last_error());
    }
}

void base_digest_end(struct base_digest *digest)
{
    atomic_store(&digest->ending, true);
    graft_thread_join(&digest->thread);
}

const char *base_digest_text(const struct base_digest *digest)
{
    return atomic_load(&digest->known) ? digest->text : NULL;
}
