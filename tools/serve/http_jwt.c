// SPDX-License-Identifier: Apache-2.0
// Tokens. The header only chooses among the keys of the file: its alg must be the key's, and what could lead elsewhere (jku,
// jwk, x5u, x5c, crit) is refused. libjwt takes the algorithm from the header, so nothing goes to it before that was checked.
#include "tools/serve/http_jwt.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/serve/http_trusted.h"
#include "tools/serve/server_files.h"

#ifdef GRAFT_HAVE_JWT
#include <jwt.h>
#endif

enum { FILE_BYTES = 64 << 10, KEY_BYTES = 16 << 10, PATH_ROOM = 4096, SECRET_BYTES = 32, RSA_BITS = 2048, AUDIENCES = 16 };
enum { LIFETIME = 3600, LIFETIME_MOST = 366 * 86400 };
static const int64_t clock_sane = 1735689600; // 2025-01-01: a clock in front of it was never set

struct jwt_key {
    char kid[JWT_NAME_BYTES], alg[8];
    char *bytes; // the secret, or PEM
    uint64_t size;
};

// What the file says; replaced as a whole.
struct jwt_table {
    char issuer[256], audience[256];
    char adapter[JWT_NAME_BYTES], adapters[JWT_NAME_BYTES], tenant[JWT_NAME_BYTES]; // names of claims
    int64_t max_lifetime;
    uint32_t n_keys;
    struct jwt_key keys[JWT_MAX_KEYS];
};

struct jwt_rules {
    struct graft_ctx *ctx;
    struct graft_mutex *mutex;
    char *path;
    struct jwt_table *table;
};

// ---- the file ----

static void table_free(struct graft_ctx *ctx, struct jwt_table **table)
{
    for (uint32_t i = 0; *table && i < (*table)->n_keys; i++) {
        if ((*table)->keys[i].bytes) {
            sodium_memzero((*table)->keys[i].bytes, (*table)->keys[i].size);
        }
        GRAFT_FREE(ctx, &(*table)->keys[i].bytes);
    }
    GRAFT_FREE(ctx, table);
}

// A member that is a text of 1 to bytes - 1 printable characters; absent: `otherwise`, or false if that is NULL.
static bool text_member(const json_t *object, const char *name, const char *otherwise, char *out, size_t bytes)
{
    const json_t *value = json_object_get(object, name);
    const char *text = value ? json_string_value(value) : otherwise;
    size_t length = value ? json_string_length(value) : text ? strlen(text) : 0;
    bool good = text && length > 0 && length < bytes && strlen(text) == length;
    for (size_t i = 0; good && i < length; i++) {
        good = text[i] > ' ' && text[i] <= '~';
    }
    if (good) {
        memcpy(out, text, length + 1);
    }
    return good;
}

static enum graft_status known_members(const char *path, const json_t *object, const char *where, const char *const known[])
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        size_t k = 0;
        while (known[k] && strcmp(known[k], name) != 0) {
            k++;
        }
        if (!known[k]) {
            return graft_fail(GRAFT_E_FORMAT, "%s: %s: the field \"%.60s\" is not known", path, where, name);
        }
    }
    return GRAFT_OK;
}

// The key is of the kind that the algorithm needs, so that a public key can never be taken for a secret.
static enum graft_status check_kind(const char *path, const struct jwt_key *key)
{
    if (strcmp(key->alg, "HS256") == 0) {
        if (key->size < SECRET_BYTES || strncmp(key->bytes, "-----BEGIN", 10) == 0) {
            return graft_fail(GRAFT_E_FORMAT, "%s: HS256 needs a secret of %d random bytes or more, and no PEM; it has %llu",
                              path, SECRET_BYTES, (unsigned long long)key->size);
        }
        return GRAFT_OK;
    }
    gnutls_pubkey_t public;
    gnutls_datum_t pem = {(unsigned char *)key->bytes, (unsigned)key->size};
    unsigned bits = 0;
    gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
    if (gnutls_pubkey_init(&public) != 0) {
        return graft_fail(GRAFT_E_MEMORY, "%s: no memory for a key", path);
    }
    bool good = gnutls_pubkey_import(public, &pem, GNUTLS_X509_FMT_PEM) == 0;
    int kind = good ? gnutls_pubkey_get_pk_algorithm(public, &bits) : GNUTLS_PK_UNKNOWN;
    bool ec = good && kind == GNUTLS_PK_ECDSA && gnutls_pubkey_export_ecc_raw2(public, &curve, NULL, NULL, 0) == 0;
    gnutls_pubkey_deinit(public);
    good =
        strcmp(key->alg, "RS256") == 0 ? kind == GNUTLS_PK_RSA && bits >= RSA_BITS : ec && curve == GNUTLS_ECC_CURVE_SECP256R1;
    return good ? GRAFT_OK
                : graft_fail(GRAFT_E_FORMAT, "%s: %s needs a public %s in PEM (BEGIN PUBLIC KEY)", path, key->alg,
                             strcmp(key->alg, "RS256") == 0 ? "RSA key of 2048 bits or more" : "P-256 key");
}

static enum graft_status read_key(const struct jwt_rules *rules, size_t i, const json_t *object, struct jwt_key *key)
{
    static const char *const known[] = {"kid", "alg", "file", "note", NULL};
    char where[32], file[PATH_ROOM], path[PATH_ROOM];
    snprintf(where, sizeof where, "keys[%zu]", i);
    if (!json_is_object(object) || !text_member(object, "kid", NULL, key->kid, sizeof key->kid) ||
        !text_member(object, "alg", NULL, key->alg, sizeof key->alg) || !text_member(object, "file", NULL, file, sizeof file)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s: it must be {\"kid\", \"alg\", \"file\"}", rules->path, where);
    }
    GRAFT_TRY(known_members(rules->path, object, where, known));
    bool secret = strcmp(key->alg, "HS256") == 0;
    if (!secret && strcmp(key->alg, "RS256") != 0 && strcmp(key->alg, "ES256") != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s: alg is \"%s\", allowed are RS256, ES256 and HS256", rules->path, where,
                          key->alg);
    }
    int folder = graft_path_absolute(file) ? 0 : (int)(graft_path_name(rules->path) - rules->path);
    if (snprintf(path, sizeof path, "%.*s%s", folder, rules->path, file) >= (int)sizeof path) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s: the file's path is too long", rules->path, where);
    }
    if (others_may_write(path) || (secret && others_may_read(path))) {
        return graft_fail(GRAFT_E_IO, "%s: others than its owner may %s it; %s makes it acceptable", path,
                          secret ? "read or write" : "write", secret ? others_read_advice : others_write_advice);
    }
    GRAFT_TRY(graft_file_read(rules->ctx, path, KEY_BYTES, &key->bytes, &key->size));
    while (secret && key->size > 0 && (key->bytes[key->size - 1] == '\n' || key->bytes[key->size - 1] == '\r')) {
        key->size--; // of an editor
    }
    return check_kind(path, key);
}

static enum graft_status read_table(const struct jwt_rules *rules, const json_t *root, struct jwt_table *out)
{
    static const char *const known[] = {"version",      "issuer",       "audience", "adapter_claim", "adapters_claim",
                                        "tenant_claim", "max_lifetime", "keys",     "note",          NULL};
    json_t *keys = json_object_get(root, "keys"), *lifetime = json_object_get(root, "max_lifetime");
    GRAFT_TRY(known_members(rules->path, root, "the object", known));
    if (json_integer_value(json_object_get(root, "version")) != 1 || json_array_size(keys) == 0 ||
        json_array_size(keys) > JWT_MAX_KEYS) {
        return graft_fail(GRAFT_E_FORMAT, "%s: it must have \"version\": 1 and 1 to %d \"keys\"", rules->path, JWT_MAX_KEYS);
    }
    if (!text_member(root, "issuer", NULL, out->issuer, sizeof out->issuer) ||
        !text_member(root, "audience", NULL, out->audience, sizeof out->audience)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: \"issuer\" and \"audience\" must be texts of 1 to 255 bytes without blanks",
                          rules->path);
    }
    if (!text_member(root, "adapter_claim", "adapter", out->adapter, sizeof out->adapter) ||
        !text_member(root, "adapters_claim", "adapters", out->adapters, sizeof out->adapters) ||
        !text_member(root, "tenant_claim", "tenant", out->tenant, sizeof out->tenant)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: the name of a claim must be a text of 1 to 63 bytes without blanks",
                          rules->path);
    }
    out->max_lifetime = lifetime ? json_integer_value(lifetime) : LIFETIME;
    if ((lifetime && !json_is_integer(lifetime)) || out->max_lifetime < 1 || out->max_lifetime > LIFETIME_MOST) {
        return graft_fail(GRAFT_E_FORMAT, "%s: \"max_lifetime\" must be 1 to %d seconds", rules->path, LIFETIME_MOST);
    }
    for (size_t i = 0; i < json_array_size(keys); i++) {
        out->n_keys++;
        GRAFT_TRY(read_key(rules, i, json_array_get(keys, i), &out->keys[i]));
        for (size_t k = 0; k < i; k++) {
            if (strcmp(out->keys[k].kid, out->keys[i].kid) == 0) {
                return graft_fail(GRAFT_E_FORMAT, "%s: keys[%zu]: the kid \"%s\" is there twice", rules->path, i,
                                  out->keys[i].kid);
            }
        }
    }
    return GRAFT_OK;
}

static enum graft_status read_file(const struct jwt_rules *rules, struct jwt_table **out)
{
    json_t *root;
    *out = NULL;
    GRAFT_TRY(http_trusted_json(rules->ctx, rules->path, FILE_BYTES, &root));
    struct jwt_table *table;
    enum graft_status status = GRAFT_NEW(rules->ctx, GRAFT_MEM_HOST, &table, 1, "rules for tokens");
    status = status == GRAFT_OK ? read_table(rules, root, table) : status;
    json_decref(root);
    if (status != GRAFT_OK) {
        table_free(rules->ctx, &table);
    }
    *out = table;
    return status;
}

enum graft_status jwt_rules_open(struct graft_ctx *ctx, struct jwt_rules **out, const char *path)
{
    *out = NULL;
#ifndef GRAFT_HAVE_JWT
    return graft_fail(GRAFT_E_UNSUPPORTED,
                      "%s: this graft was built without libjwt, so it takes no tokens (Debian: libjwt-dev)", path);
#endif
    struct jwt_rules *rules;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &rules, 1, "rules for tokens"));
    rules->ctx = ctx;
    enum graft_status status = graft_mutex_create(ctx, &rules->mutex);
    status = status == GRAFT_OK ? graft_strdup(ctx, &rules->path, path, strlen(path)) : status;
    status = status == GRAFT_OK ? read_file(rules, &rules->table) : status;
    if (status != GRAFT_OK) {
        jwt_rules_close(&rules);
        return status;
    }
    *out = rules;
    return GRAFT_OK;
}

enum graft_status jwt_rules_reload(struct jwt_rules *rules)
{
    struct jwt_table *table;
    GRAFT_TRY(read_file(rules, &table));
    graft_mutex_lock(rules->mutex);
    struct jwt_table *before = rules->table;
    rules->table = table;
    graft_mutex_unlock(rules->mutex);
    table_free(rules->ctx, &before);
    return GRAFT_OK;
}

void jwt_rules_close(struct jwt_rules **rules)
{
    if (!rules || !*rules) {
        return;
    }
    struct graft_ctx *ctx = (*rules)->ctx;
    table_free(ctx, &(*rules)->table);
    GRAFT_FREE(ctx, &(*rules)->path);
    graft_mutex_destroy(&(*rules)->mutex);
    GRAFT_FREE(ctx, rules);
}

// ---- a token ----

// One part of a token, an object without duplicate members; NULL: it is none. Base64url to the letter: no padding, no blanks,
// no bits left over.
static json_t *part_json(const char *text, size_t length)
{
    static _Thread_local unsigned char bytes[JWT_MAX_TOKEN];
    size_t n = 0;
    const char *end;
    if (sodium_base642bin(bytes, sizeof bytes, text, length, NULL, &n, &end, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        end != text + length) {
        return NULL;
    }
    json_t *json = json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, NULL);
    if (json && !json_is_object(json)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

// The key that the header names; NULL, and *why says what is wrong.
static const struct jwt_key *choose_key(const struct jwt_table *table, const json_t *header, const char **why)
{
    static const char *const elsewhere[] = {"crit", "jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "b64", "enc", "zip", "cty"};
    const json_t *kid = json_object_get(header, "kid"), *type = json_object_get(header, "typ");
    const char *alg = json_string_value(json_object_get(header, "alg"));
    const struct jwt_key *key = NULL;
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        if (json_object_get(header, elsewhere[i])) {
            *why = "jwt header";
            return NULL;
        }
    }
    const char *type_text = type ? json_string_value(type) : "JWT";
    if (!type_text || strcmp(type_text, "JWT") != 0) { // libjwt 1 knows no other
        *why = "jwt type";
        return NULL;
    }
    for (uint32_t i = 0; i < table->n_keys; i++) {
        bool named = kid && json_string_length(kid) == strlen(table->keys[i].kid) &&
                     strcmp(json_string_value(kid), table->keys[i].kid) == 0;
        key = named || (!kid && table->n_keys == 1) ? &table->keys[i] : key;
    }
    *why = !key ? "jwt unknown kid" : !alg || strcmp(alg, key->alg) != 0 ? "jwt algorithm" : NULL;
    return *why ? NULL : key;
}

static bool signature_good(const char *token, const struct jwt_key *key)
{
#ifdef GRAFT_HAVE_JWT
    jwt_t *jwt = NULL;
    bool good = jwt_decode(&jwt, token, (const unsigned char *)key->bytes, (int)key->size) == 0 && jwt &&
                strcmp(jwt_alg_str(jwt_get_alg(jwt)), key->alg) == 0;
    jwt_free(jwt);
    return good;
#else
    (void)token;
    (void)key;
    return false;
#endif
}

static bool for_us(const json_t *audience, const char *own)
{
    const char *text = json_string_value(audience);
    bool found = text && json_string_length(audience) == strlen(own) && strcmp(text, own) == 0;
    for (size_t i = 0; i < json_array_size(audience); i++) {
        const json_t *one = json_array_get(audience, i);
        if (!json_is_string(one) || i == AUDIENCES) {
            return false;
        }
        found |= json_string_length(one) == strlen(own) && strcmp(json_string_value(one), own) == 0;
    }
    return found;
}

static const char *check_times(const struct jwt_table *table, const json_t *claims, int64_t now)
{
    const json_t *expires = json_object_get(claims, "exp"), *begins = json_object_get(claims, "nbf"),
                 *issued = json_object_get(claims, "iat");
    int64_t exp = json_integer_value(expires), nbf = json_integer_value(begins), iat = json_integer_value(issued);
    if (!json_is_integer(expires) || exp <= 0 || (begins && (!json_is_integer(begins) || nbf < 0)) ||
        (issued && (!json_is_integer(issued) || iat < 0))) {
        return "jwt times";
    }
    if (now - JWT_SKEW >= exp) {
        return "jwt expired";
    }
    if (nbf > now + JWT_SKEW || iat > now + JWT_SKEW) {
        return "jwt not yet valid";
    }
    return exp - now > table->max_lifetime + JWT_SKEW || (issued && iat >= exp) ? "jwt lifetime" : NULL;
}

// Names that the token allows.
static bool read_allowed(const json_t *list, struct jwt_claims *out)
{
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *name = json_array_get(list, i);
        size_t n = json_string_length(name) + 1;
        if (!json_is_string(name) || n < 2 || n > HTTP_MAX_NAME || strlen(json_string_value(name)) + 1 != n ||
            used + n + 1 > sizeof out->allowed) {
            return false;
        }
        memcpy(out->allowed + used, json_string_value(name), n);
        used += n;
    }
    out->allowed[used] = '\0';
    out->restricted = true;
    return json_is_array(list);
}

static const char *read_claims(const struct jwt_table *table, const json_t *claims, int64_t now, struct jwt_claims *out)
{
    const char *issuer = json_string_value(json_object_get(claims, "iss"));
    if (!issuer || json_string_length(json_object_get(claims, "iss")) != strlen(table->issuer) ||
        strcmp(issuer, table->issuer) != 0) {
        return "jwt issuer";
    }
    if (!for_us(json_object_get(claims, "aud"), table->audience)) {
        return "jwt audience";
    }
    const char *why = check_times(table, claims, now);
    const char *who = json_object_get(claims, table->tenant) ? table->tenant : "sub";
    const json_t *allowed = json_object_get(claims, table->adapters);
    if (!why && !text_member(claims, who, "jwt", out->tenant, sizeof out->tenant)) {
        why = "jwt tenant";
    }
    if (!why && json_object_get(claims, table->adapter) &&
        !text_member(claims, table->adapter, NULL, out->adapter, sizeof out->adapter)) {
        why = "jwt adapter";
    }
    return !why && allowed && !read_allowed(allowed, out) ? "jwt adapters" : why;
}

const char *jwt_rules_check(struct jwt_rules *rules, const char *token, size_t length, int64_t now, struct jwt_claims *out)
{
    *out = (struct jwt_claims){.restricted = false};
    const char *first = memchr(token, '.', length), *last = strrchr(token, '.'); // a NUL in it is refused below
    if (length > JWT_MAX_TOKEN || !first || first == last || memchr(first + 1, '.', (size_t)(last - first) - 1) ||
        last + 1 == token + length || strlen(token) != length) {
        return "jwt form";
    }
    if (now < clock_sane) {
        return "jwt clock not set";
    }
    unsigned char signature[JWT_MAX_TOKEN];
    const char *end;
    size_t n;
    json_t *header = part_json(token, (size_t)(first - token));
    json_t *claims = part_json(first + 1, (size_t)(last - first) - 1);
    bool formed = header && claims &&
                  sodium_base642bin(signature, sizeof signature, last + 1, (size_t)(token + length - last) - 1, NULL, &n, &end,
                                    sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0 &&
                  end == token + length;
    const char *why = formed ? NULL : "jwt form";
    graft_mutex_lock(rules->mutex);
    const struct jwt_key *key = formed ? choose_key(rules->table, header, &why) : NULL;
    if (key && !signature_good(token, key)) {
        why = "jwt signature";
    }
    if (key && !why) {
        memcpy(out->kid, key->kid, sizeof out->kid);
        why = read_claims(rules->table, claims, now, out);
    }
    graft_mutex_unlock(rules->mutex);
    json_decref(header);
    json_decref(claims);
    return why;
}

static bool name_matches(const char *pattern, const char *name)
{
    size_t length = strlen(pattern);
    return pattern[length - 1] == '*' ? strncmp(pattern, name, length - 1) == 0 : strcmp(pattern, name) == 0;
}

bool jwt_claims_allow(const struct jwt_claims *claims, const char *adapter)
{
    size_t length = strcspn(claims->adapter, "@");
    if (length > 0 && (strncmp(claims->adapter, adapter, length) != 0 || adapter[length] != '\0')) {
        return false;
    }
    bool found = !claims->restricted;
    for (const char *name = claims->allowed; claims->restricted && *name && !found; name += strlen(name) + 1) {
        found = name_matches(name, adapter);
    }
    return found;
}
