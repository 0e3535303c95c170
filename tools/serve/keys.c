// SPDX-License-Identifier: Apache-2.0
// API keys: the file read strictly, hashes compared in constant time, token buckets per key.
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tools/serve/http_trusted.h"
#include "tools/serve/keys.h"

// Tokens that drip in at a rate; may go below zero when charged afterwards.
struct bucket {
    double level, capacity, per_ns; // capacity 0: no limit
    uint64_t filled_ns;
};

struct key {
    uint32_t references; // the list's and one per request
    uint8_t hash[crypto_hash_sha256_BYTES];
    char id[20], tenant[HTTP_MAX_TENANT], expires[11];
    enum http_role role;
    uint32_t n_adapters; // 0 and !restricted: all
    bool restricted;
    char adapters[HTTP_MAX_ALLOWED][HTTP_MAX_NAME];
    uint32_t concurrent, running;
    struct bucket requests, tokens;
};

struct keys {
    struct graft_ctx *ctx;
    struct graft_mutex *mutex;
    char *path;
    struct key **list;
    uint32_t count;
};

// ---- the file ----

static enum graft_status bad(const struct keys *keys, size_t i, const char *what)
{
    return graft_fail(GRAFT_E_FORMAT, "%s: keys[%zu]: %s", keys->path, i, what);
}

static bool copy_text(json_t *object, const char *name, char *out, size_t bytes)
{
    const char *text = json_string_value(json_object_get(object, name));
    size_t length = json_string_length(json_object_get(object, name));
    if (!text || length == 0 || length >= bytes || strlen(text) != length) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f) {
            return false;
        }
    }
    memcpy(out, text, length + 1);
    return true;
}

static bool is_date(const char *text)
{
    for (int i = 0; i < 10; i++) {
        if (i == 4 || i == 7 ? text[i] != '-' : text[i] < '0' || text[i] > '9') {
            return false;
        }
    }
    return text[10] == '\0';
}

// An optional count; false if it is there and no whole number in range.
static bool get_count(json_t *object, const char *name, json_int_t high, json_int_t *out)
{
    json_t *value = json_object_get(object, name);
    *out = 0;
    if (!value) {
        return true;
    }
    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= 1 && *out <= high;
}

static void bucket_set(struct bucket *bucket, json_int_t per_minute)
{
    if ((double)per_minute != bucket->capacity) {
        *bucket =
            (struct bucket){.level = (double)per_minute, .capacity = (double)per_minute, .per_ns = (double)per_minute / 60e9};
    }
}

static enum graft_status read_key(const struct keys *keys, size_t i, json_t *object, struct key *key)
{
    static const char *const known[] = {
        "id",         "sha256",  "role", "tenant", "adapters", "requests_per_minute", "tokens_per_minute",
        "concurrent", "expires", "note"};
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        bool good = false;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
            good |= strcmp(name, known[k]) == 0;
        }
        if (!good) {
            return graft_fail(GRAFT_E_FORMAT, "%s: keys[%zu]: the field \"%.60s\" is not known", keys->path, i, name);
        }
    }
    char hash[2 * crypto_hash_sha256_BYTES + 1], role[16];
    size_t hash_bytes = 0;
    if (!json_is_object(object) || !copy_text(object, "id", key->id, sizeof key->id)) {
        return bad(keys, i, "\"id\" must be a text of 1 to 19 bytes without blanks");
    }
    if (!copy_text(object, "sha256", hash, sizeof hash) || strlen(hash) != sizeof hash - 1 ||
        sodium_hex2bin(key->hash, sizeof key->hash, hash, sizeof hash - 1, NULL, &hash_bytes, NULL) != 0 ||
        hash_bytes != sizeof key->hash) {
        return bad(keys, i, "\"sha256\" must be the key's hash in 64 hexadecimal digits");
    }
    if (!copy_text(object, "role", role, sizeof role) || (strcmp(role, "user") != 0 && strcmp(role, "operator") != 0)) {
        return bad(keys, i, "\"role\" must be \"user\" or \"operator\"");
    }
    key->role = strcmp(role, "user") == 0 ? HTTP_USER : HTTP_OPERATOR;
    if (json_object_get(object, "tenant") && !copy_text(object, "tenant", key->tenant, sizeof key->tenant)) {
        return bad(keys, i, "\"tenant\" must be a text of 1 to 63 bytes without blanks");
    }
    if (json_object_get(object, "expires") && (!copy_text(object, "expires", key->expires, sizeof key->expires) ||
                                               strlen(key->expires) != 10 || !is_date(key->expires))) {
        return bad(keys, i, "\"expires\" must be a date such as 2027-01-31");
    }
    json_int_t requests, tokens, concurrent;
    if (!get_count(object, "requests_per_minute", 1000000, &requests) ||
        !get_count(object, "tokens_per_minute", 1000000000, &tokens) || !get_count(object, "concurrent", 10000, &concurrent)) {
        return bad(keys, i,
                   "\"requests_per_minute\", \"tokens_per_minute\" and \"concurrent\" must be whole numbers from 1 on");
    }
    bucket_set(&key->requests, requests);
    bucket_set(&key->tokens, tokens);
    key->concurrent = (uint32_t)concurrent;
    json_t *adapters = json_object_get(object, "adapters");
    key->restricted = adapters != NULL;
    if (adapters && (!json_is_array(adapters) || json_array_size(adapters) > HTTP_MAX_ALLOWED)) {
        return bad(keys, i, "\"adapters\" must be a list of at most 32 names");
    }
    for (size_t k = 0; k < json_array_size(adapters); k++) {
        const char *text = json_string_value(json_array_get(adapters, k));
        if (!text || !text[0] || strlen(text) >= HTTP_MAX_NAME) {
            return bad(keys, i, "a name in \"adapters\" is no text of 1 to 127 bytes");
        }
        memcpy(key->adapters[key->n_adapters++], text, strlen(text) + 1);
    }
    return GRAFT_OK;
}

static void list_free(struct keys *keys, struct key ***list, uint32_t count)
{
    for (uint32_t i = 0; *list && i < count; i++) {
        if ((*list)[i] && --(*list)[i]->references == 0) {
            GRAFT_FREE(keys->ctx, &(*list)[i]);
        }
    }
    GRAFT_FREE(keys->ctx, list);
}

static enum graft_status read_list(struct keys *keys, json_t *root, struct key ***out, uint32_t *count)
{
    *out = NULL;
    *count = 0;
    json_t *array = json_object_get(root, "keys");
    if (json_integer_value(json_object_get(root, "version")) != 1 || !json_is_array(array)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: it must be {\"version\": 1, \"keys\": [...]}", keys->path);
    }
    size_t n = json_array_size(array);
    if (n > KEYS_MAX) {
        return graft_fail(GRAFT_E_LIMIT, "%s: %zu keys, at most %d are allowed", keys->path, n, KEYS_MAX);
    }
    struct key **list;
    GRAFT_TRY(GRAFT_NEW(keys->ctx, GRAFT_MEM_HOST, &list, n, "API keys"));
    enum graft_status status = GRAFT_OK;
    for (size_t i = 0; i < n && status == GRAFT_OK; i++) {
        status = GRAFT_NEW(keys->ctx, GRAFT_MEM_HOST, &list[i], 1, "an API key");
        if (status == GRAFT_OK) {
            list[i]->references = 1;
            status = read_key(keys, i, json_array_get(array, i), list[i]);
        }
        for (size_t k = 0; k < i && status == GRAFT_OK; k++) {
            if (strcmp(list[k]->id, list[i]->id) == 0 || memcmp(list[k]->hash, list[i]->hash, sizeof list[i]->hash) == 0) {
                status = bad(keys, i, "the same \"id\" or \"sha256\" is there twice");
            }
        }
    }
    if (status != GRAFT_OK) {
        list_free(keys, &list, (uint32_t)n);
        return status;
    }
    *out = list;
    *count = (uint32_t)n;
    return GRAFT_OK;
}

static enum graft_status read_file(struct keys *keys, struct key ***list, uint32_t *count)
{
    json_t *root;
    GRAFT_TRY(http_trusted_json(keys->ctx, keys->path, KEYS_MAX_FILE, &root));
    enum graft_status status = read_list(keys, root, list, count);
    json_decref(root);
    return status;
}

enum graft_status keys_open(struct graft_ctx *ctx, struct keys **out, const char *path)
{
    *out = NULL;
    struct keys *keys;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &keys, 1, "API keys"));
    keys->ctx = ctx;
    enum graft_status status = graft_mutex_create(ctx, &keys->mutex);
    status = status == GRAFT_OK ? graft_strdup(ctx, &keys->path, path, strlen(path)) : status;
    status = status == GRAFT_OK ? read_file(keys, &keys->list, &keys->count) : status;
    if (status != GRAFT_OK) {
        keys_close(&keys);
        return status;
    }
    *out = keys;
    return GRAFT_OK;
}

enum graft_status keys_reload(struct keys *keys)
{
    struct key **list;
    uint32_t count;
    GRAFT_TRY(read_file(keys, &list, &count));
    graft_mutex_lock(keys->mutex);
    for (uint32_t i = 0; i < count; i++) { // a key that was there before stays the same object, with its new settings
        for (uint32_t k = 0; k < keys->count; k++) {
            struct key *old = keys->list[k], *new = list[i];
            if (memcmp(old->hash, new->hash, sizeof old->hash) != 0) {
                continue;
            }
            uint32_t references = old->references, running = old->running;
            struct bucket requests = old->requests, tokens = old->tokens;
            bucket_set(&requests, (json_int_t) new->requests.capacity);
            bucket_set(&tokens, (json_int_t) new->tokens.capacity);
            *old = *new;
            old->references = references + 1;
            old->running = running;
            old->requests = requests;
            old->tokens = tokens;
            GRAFT_FREE(keys->ctx, &list[i]);
            list[i] = old;
            break;
        }
    }
    struct key **before = keys->list;
    uint32_t before_count = keys->count;
    keys->list = list;
    keys->count = count;
    list_free(keys, &before, before_count);
    graft_mutex_unlock(keys->mutex);
    return GRAFT_OK;
}

void keys_close(struct keys **keys)
{
    if (!keys || !*keys) {
        return;
    }
    list_free(*keys, &(*keys)->list, (*keys)->count);
    GRAFT_FREE((*keys)->ctx, &(*keys)->path);
    graft_mutex_destroy(&(*keys)->mutex);
    GRAFT_FREE((*keys)->ctx, keys);
}

uint32_t keys_count(struct keys *keys)
{
    graft_mutex_lock(keys->mutex);
    uint32_t count = keys->count;
    graft_mutex_unlock(keys->mutex);
    return count;
}

// ---- in use ----

static void fill(struct bucket *bucket, uint64_t now_ns)
{
    if (bucket->filled_ns && now_ns > bucket->filled_ns) {
        bucket->level += (double)(now_ns - bucket->filled_ns) * bucket->per_ns;
    }
    bucket->level = bucket->level > bucket->capacity ? bucket->capacity : bucket->level;
    bucket->filled_ns = now_ns;
}

// Nanoseconds until the bucket holds `need`; 0 = it does.
static uint64_t wait_for(struct bucket *bucket, double need, uint64_t now_ns)
{
    if (bucket->capacity == 0) {
        return 0;
    }
    fill(bucket, now_ns);
    return bucket->level >= need ? 0 : (uint64_t)((need - bucket->level) / bucket->per_ns) + 1;
}

static bool expired(const struct key *key)
{
    char today[11];
    time_t now = time(NULL);
    struct tm utc;
    return key->expires[0] &&
           (!gmtime_r(&now, &utc) || strftime(today, sizeof today, "%Y-%m-%d", &utc) != 10 || strcmp(today, key->expires) > 0);
}

enum key_verdict keys_take(struct keys *keys, const char *text, size_t length, uint64_t now_ns, struct key_use *use,
                           struct http_caller *caller, uint64_t *retry_ns)
{
    uint8_t hash[crypto_hash_sha256_BYTES];
    *use = (struct key_use){.keys = NULL};
    *retry_ns = 0;
    crypto_hash_sha256(hash, (const unsigned char *)text, length);
    graft_mutex_lock(keys->mutex);
    struct key *key = NULL;
    for (uint32_t i = 0; i < keys->count; i++) { // all of them, so that time tells nothing
        if (sodium_memcmp(hash, keys->list[i]->hash, sizeof hash) == 0) {
            key = keys->list[i];
        }
    }
    enum key_verdict verdict = key && !expired(key) ? KEY_GOOD : KEY_UNKNOWN;
    if (verdict == KEY_GOOD) {
        uint64_t requests = wait_for(&key->requests, 1, now_ns), tokens = wait_for(&key->tokens, 1, now_ns);
        if (requests || tokens) {
            verdict = KEY_RATE;
            *retry_ns = requests > tokens ? requests : tokens;
        } else if (key->concurrent && key->running >= key->concurrent) {
            verdict = KEY_CONCURRENT;
        } else {
            key->requests.level -= key->requests.capacity > 0;
            key->references++;
            key->running++;
            *use = (struct key_use){.keys = keys, .key = key};
        }
        *caller = (struct http_caller){.role = key->role, .max_concurrent = key->concurrent};
        memcpy(caller->key, key->id, sizeof caller->key);
        memcpy(caller->tenant, key->tenant, sizeof caller->tenant);
    }
    graft_mutex_unlock(keys->mutex);
    return verdict;
}

void key_answered(struct key_use *use)
{
    if (use->key) {
        graft_mutex_lock(use->keys->mutex);
        use->key->running -= !use->answered;
        use->answered = true;
        graft_mutex_unlock(use->keys->mutex);
    }
}

void key_release(struct key_use *use)
{
    if (!use->key) {
        return;
    }
    key_answered(use);
    graft_mutex_lock(use->keys->mutex);
    if (--use->key->references == 0) {
        GRAFT_FREE(use->keys->ctx, &use->key);
    }
    graft_mutex_unlock(use->keys->mutex);
    use->key = NULL;
}

bool key_allows(const struct key_use *use, const char *adapter)
{
    if (!use->key) {
        return true;
    }
    graft_mutex_lock(use->keys->mutex);
    const struct key *key = use->key;
    bool good = !key->restricted;
    for (uint32_t i = 0; i < key->n_adapters && !good; i++) {
        size_t length = strlen(key->adapters[i]);
        bool prefix = key->adapters[i][length - 1] == '*';
        good = prefix ? strncmp(key->adapters[i], adapter, length - 1) == 0 : strcmp(key->adapters[i], adapter) == 0;
    }
    graft_mutex_unlock(use->keys->mutex);
    return good;
}

void key_charge(const struct key_use *use, uint64_t tokens, uint64_t now_ns)
{
    if (!use->key) {
        return;
    }
    graft_mutex_lock(use->keys->mutex);
    if (use->key->tokens.capacity > 0) {
        fill(&use->key->tokens, now_ns);
        use->key->tokens.level -= (double)tokens;
    }
    graft_mutex_unlock(use->keys->mutex);
}

enum graft_status key_make(char text[KEY_TEXT_BYTES], char id[20], char sha256[65])
{
    uint8_t bytes[32], hash[crypto_hash_sha256_BYTES];
    if (sodium_init() < 0) {
        return graft_fail(GRAFT_E_INTERNAL, "libsodium could not be started");
    }
    randombytes_buf(bytes, sizeof bytes);
    memcpy(text, "graft_", 6);
    sodium_bin2base64(text + 6, KEY_TEXT_BYTES - 6, bytes, sizeof bytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    crypto_hash_sha256(hash, (const unsigned char *)text, strlen(text));
    sodium_bin2hex(sha256, 65, hash, sizeof hash);
    snprintf(id, 20, "k-%.8s", sha256);
    sodium_memzero(bytes, sizeof bytes);
    return GRAFT_OK;
}
