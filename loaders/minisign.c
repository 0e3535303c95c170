// SPDX-License-Identifier: Apache-2.0
// Public key: base64 of "Ed", id [8], key [32]. Signature file, four lines: an untrusted comment; base64 of "Ed" or "ED", id
// [8], signature [64] of the file or of its BLAKE2b-512 hash; "trusted comment: " and text; base64 of the signature [64] of
// the first signature and that text. Source: https://jedisct1.github.io/minisign/.
#include "loaders/minisign.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "loaders/sha256.h"
#include "platform/plat.h"

enum {
    MAX_LINE = 8192 + 64, // minisign's own bound of a trusted comment, and its beginning
    MAX_SIGNATURE = 16 << 10,
    MAX_LIST = 64 << 10,
    SIGNATURE_BYTES = 64,
    KEY_LINE = 2 + GRAFT_KEY_ID_BYTES + GRAFT_KEY_BYTES,
    SIGNATURE_LINE = 2 + GRAFT_KEY_ID_BYTES + SIGNATURE_BYTES
};

struct line {
    const char *p;
    size_t n;
};

// The next line without its end; false behind the last.
static bool next_line(const char **at, const char *end, struct line *out)
{
    if (*at == end) {
        return false;
    }
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    *out = (struct line){*at, (size_t)((stop ? stop : end) - *at)};
    *at = stop ? stop + 1 : end;
    out->n -= out->n && out->p[out->n - 1] == '\r';
    return true;
}

static bool decode(struct line line, uint8_t *out, size_t bytes)
{
    size_t got = 0;
    return sodium_base642bin(out, bytes, line.p, line.n, NULL, &got, NULL, sodium_base64_VARIANT_ORIGINAL) == 0 && got == bytes;
}

static bool begins(struct line line, const char *text)
{
    return line.n >= strlen(text) && memcmp(line.p, text, strlen(text)) == 0;
}

// ---- keys ----

enum graft_status graft_trust_parse(struct graft_trust *out, const char *text, uint64_t length)
{
    const char *at = text, *end = text + length;
    struct line line;
    struct graft_trust trust = {0};
    for (uint32_t number = 1; next_line(&at, end, &line); number++) {
        uint8_t key[KEY_LINE];
        if (line.n == 0 || begins(line, "untrusted comment:")) {
            continue;
        }
        if (!decode(line, key, sizeof key) || key[0] != 'E' || key[1] != 'd') {
            return graft_fail(GRAFT_E_FORMAT, "line %" PRIu32 " is no minisign public key", number);
        }
        if (trust.count == GRAFT_MAX_TRUSTED_KEYS) {
            return graft_fail(GRAFT_E_LIMIT, "more than %d public keys", GRAFT_MAX_TRUSTED_KEYS);
        }
        memcpy(trust.keys[trust.count].id, key + 2, GRAFT_KEY_ID_BYTES);
        memcpy(trust.keys[trust.count++].key, key + 2 + GRAFT_KEY_ID_BYTES, GRAFT_KEY_BYTES);
    }
    if (!trust.count) {
        return graft_fail(GRAFT_E_FORMAT, "no minisign public key is in it");
    }
    *out = trust;
    return GRAFT_OK;
}

enum graft_status graft_require_signed(struct graft_ctx *ctx, const char *keys, size_t length)
{
    struct graft_trust trust, *kept;
    if (sodium_init() < 0) {
        return graft_fail(GRAFT_E_INTERNAL, "libsodium cannot be used");
    }
    GRAFT_TRY(graft_trust_parse(&trust, keys, length));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &kept, 1, "trusted keys"));
    *kept = trust;
    graft_ctx_set_trust(ctx, kept);
    return GRAFT_OK;
}

// ---- signatures ----

struct signature {
    uint8_t line[SIGNATURE_LINE], whole[SIGNATURE_BYTES];
    struct line comment;
};

static bool read_signature(const char *text, uint64_t length, struct signature *out)
{
    static const char prefix[] = "trusted comment: ";
    const char *at = text, *end = text + length;
    struct line first, line, rest;
    bool good = length <= MAX_SIGNATURE && next_line(&at, end, &first) && begins(first, "untrusted comment:") &&
                next_line(&at, end, &line) && decode(line, out->line, sizeof out->line) && next_line(&at, end, &out->comment) &&
                begins(out->comment, prefix) && out->comment.n <= MAX_LINE && next_line(&at, end, &line) &&
                decode(line, out->whole, sizeof out->whole);
    while (good && next_line(&at, end, &rest)) {
        good = rest.n == 0;
    }
    if (good) {
        out->comment.p += sizeof prefix - 1;
        out->comment.n -= sizeof prefix - 1;
    }
    return good;
}

// As minisign prints ids: a little-endian number.
static void print_id(const uint8_t id[GRAFT_KEY_ID_BYTES], char out[GRAFT_SIGNER_BYTES])
{
    for (int i = 0; i < GRAFT_KEY_ID_BYTES; i++) {
        snprintf(out + 2 * i, 3, "%02X", id[GRAFT_KEY_ID_BYTES - 1 - i]);
    }
}

static bool is_signed(const struct signature *signature, const uint8_t *key, const void *bytes, uint64_t n_bytes)
{
    const uint8_t *first = signature->line + 2 + GRAFT_KEY_ID_BYTES;
    uint8_t hash[crypto_generichash_BYTES_MAX], whole[SIGNATURE_BYTES + MAX_LINE];
    bool hashed = signature->line[1] == 'D';
    if (hashed) {
        crypto_generichash(hash, sizeof hash, bytes, n_bytes, NULL, 0);
    }
    memcpy(whole, first, SIGNATURE_BYTES);
    memcpy(whole + SIGNATURE_BYTES, signature->comment.p, signature->comment.n);
    return crypto_sign_verify_detached(first, hashed ? hash : bytes, hashed ? sizeof hash : n_bytes, key) == 0 &&
           crypto_sign_verify_detached(signature->whole, whole, SIGNATURE_BYTES + signature->comment.n, key) == 0;
}

enum graft_status graft_minisign_verify(const struct graft_trust *trust, const void *bytes, uint64_t n_bytes, const char *text,
                                        uint64_t length, const char *file, char signer[GRAFT_SIGNER_BYTES])
{
    struct signature signature;
    signer[0] = 0;
    if (!read_signature(text, length, &signature)) {
        return graft_fail(GRAFT_E_SIGNATURE, "%s.minisig is no minisign signature", file);
    }
    if (signature.line[0] != 'E' || (signature.line[1] != 'd' && signature.line[1] != 'D')) {
        return graft_fail(GRAFT_E_SIGNATURE, "%s.minisig: its algorithm is not known; minisign writes Ed and ED", file);
    }
    char id[GRAFT_SIGNER_BYTES];
    print_id(signature.line + 2, id);
    const struct graft_trusted_key *key = NULL;
    for (uint32_t i = 0; i < trust->count && !key; i++) {
        bool same = memcmp(trust->keys[i].id, signature.line + 2, GRAFT_KEY_ID_BYTES) == 0;
        key = same ? &trust->keys[i] : NULL;
    }
    if (!key) {
        return graft_fail(GRAFT_E_SIGNATURE, "%s is signed with key %s, which is not trusted", file, id);
    }
    if (!is_signed(&signature, key->key, bytes, n_bytes)) {
        return graft_fail(GRAFT_E_SIGNATURE,
                          "%s: the signature by key %s is not of this file, or its trusted comment was changed", file, id);
    }
    memcpy(signer, id, sizeof id);
    return GRAFT_OK;
}

// ---- beside adapters ----

// The signature of a file that was read. Not there: GRAFT_E_SIGNATURE, as everything is that is wrong with it.
static enum graft_status verify_beside(struct graft_ctx *ctx, const char *path, const void *bytes, uint64_t n_bytes,
                                       char signer[GRAFT_SIGNER_BYTES])
{
    char *name, *text = NULL;
    uint64_t length;
    size_t n = strlen(path);
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &name, n + sizeof ".minisig", "a path"));
    snprintf(name, n + sizeof ".minisig", "%s.minisig", path);
    enum graft_status status = graft_file_read(ctx, name, MAX_SIGNATURE, &text, &length);
    GRAFT_FREE(ctx, &name);
    if (status == GRAFT_E_IO || status == GRAFT_E_LIMIT) {
        char why[300];
        snprintf(why, sizeof why, "%.290s", graft_last_error());
        return graft_fail(GRAFT_E_SIGNATURE, "%s must be signed: %s", path, why);
    }
    GRAFT_TRY(status);
    status = graft_minisign_verify(graft_ctx_trust(ctx), bytes, n_bytes, text, length, path, signer);
    GRAFT_FREE(ctx, &text);
    return status;
}

enum graft_status graft_check_signed(struct graft_ctx *ctx, const char *path, const void *bytes, uint64_t n_bytes,
                                     char signer[GRAFT_SIGNER_BYTES])
{
    signer[0] = 0;
    return graft_ctx_trust(ctx) ? verify_beside(ctx, path, bytes, n_bytes, signer) : GRAFT_OK;
}

// A line of sha256sum: 64 digits, a space, a space or *, the name. How often the file's is in it, and whether it is right.
static enum graft_status check_list(const char *list, uint64_t length, const char *where, const struct graft_listed_file *file)
{
    const char *at = list, *end = list + length, *name = graft_path_name(file->path);
    struct line line;
    uint8_t digest[GRAFT_SHA256_BYTES], listed[GRAFT_SHA256_BYTES];
    uint32_t found = 0;
    struct graft_sha256 hash;
    graft_sha256_begin(&hash);
    graft_sha256_add(&hash, file->bytes, file->n_bytes);
    graft_sha256_end(&hash, digest);
    while (next_line(&at, end, &line)) {
        char hex[GRAFT_SHA256_HEX_BYTES];
        bool form = line.n > 66 && line.p[64] == ' ' && (line.p[65] == ' ' || line.p[65] == '*');
        if (!form || line.n - 66 != strlen(name) || memcmp(line.p + 66, name, strlen(name)) != 0) {
            continue;
        }
        snprintf(hex, sizeof hex, "%.64s", line.p);
        if (found++ || !graft_sha256_parse(hex, listed) || memcmp(listed, digest, sizeof digest) != 0) {
            return graft_fail(GRAFT_E_SIGNATURE, "%s: its SHA-256 is not the one in %s", file->path, where);
        }
    }
    return found ? GRAFT_OK : graft_fail(GRAFT_E_SIGNATURE, "%s does not list %s", where, name);
}

enum graft_status graft_check_listed(struct graft_ctx *ctx, const struct graft_listed_file files[2],
                                     char signer[GRAFT_SIGNER_BYTES])
{
    static const char list_name[] = "SHA256SUMS";
    char *where, *list = NULL;
    uint64_t length;
    signer[0] = 0;
    if (!graft_ctx_trust(ctx)) {
        return GRAFT_OK;
    }
    size_t folder = (size_t)(graft_path_name(files[0].path) - files[0].path);
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &where, folder + sizeof list_name, "a path"));
    snprintf(where, folder + sizeof list_name, "%.*s%s", (int)folder, files[0].path, list_name);
    enum graft_status status = graft_file_read(ctx, where, MAX_LIST, &list, &length);
    if (status == GRAFT_E_IO || status == GRAFT_E_LIMIT) {
        char why[300];
        snprintf(why, sizeof why, "%.290s", graft_last_error());
        status = graft_fail(GRAFT_E_SIGNATURE, "%s must be listed in a signed SHA256SUMS: %s", files[0].path, why);
    }
    status = status == GRAFT_OK ? verify_beside(ctx, where, list, length, signer) : status;
    for (int i = 0; i < 2 && status == GRAFT_OK; i++) {
        status = check_list(list, length, where, &files[i]);
    }
    signer[0] = status == GRAFT_OK ? signer[0] : 0;
    GRAFT_FREE(ctx, &list);
    GRAFT_FREE(ctx, &where);
    return status;
}
