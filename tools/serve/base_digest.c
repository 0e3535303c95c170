// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/base_digest.h"

#include <sodium.h>
#include <string.h>

#include "tools/tool.h"

enum { PIECE_BYTES = 64 << 10 };

// False: it cannot be read, or nobody waits for it any more.
static bool add_file(struct base_digest *digest, const char *path, crypto_hash_sha256_state *hash)
{
    uint8_t piece[PIECE_BYTES];
    const char *why;
    FILE *file = system_open(path, &why);
    if (!file) {
        return false;
    }
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, file)) > 0 && !atomic_load(&digest->ending)) {
        crypto_hash_sha256_update(hash, piece, n);
    }
    bool whole = n == 0 && !ferror(file);
    fclose(file);
    return whole;
}

static void run(void *user)
{
    struct base_digest *digest = user;
    graft_thread_give_way();
    unsigned part, parts;
    const char *ending = split_ending(digest->path, &part, &parts);
    crypto_hash_sha256_state hash;
    crypto_hash_sha256_init(&hash);
    bool good = ending || add_file(digest, digest->path, &hash);
    for (unsigned i = 1; ending && good && i <= parts; i++) {
        char path[PATH_BYTES + 8];
        snprintf(path, sizeof path, "%.*s-%05u%s", (int)(ending - digest->path), digest->path, i, ending + strlen("-00001"));
        good = add_file(digest, path, &hash);
    }
    if (!good) {
        return;
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
