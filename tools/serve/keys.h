// SPDX-License-Identifier: Apache-2.0
// API keys: a JSON file of hashes, roles, tenants and limits. `graft key` makes the keys and the entries.
//
//     {"version": 1, "keys": [
//        {"id": "k-3f9a1c20", "sha256": "...64 hex...", "role": "user", "tenant": "finance", "adapters": ["finance", "mail-*"],
//         "requests_per_minute": 60, "tokens_per_minute": 20000, "concurrent": 4, "expires": "2027-01-31"}]}
//
// A key is "graft_" and 43 characters of base64url: 256 random bits. Against so much randomness no dictionary helps, so the
// file holds plain SHA-256 hashes: a slow password hash would buy nothing and cost every request its time. All hashes are
// compared, each in constant time.
#ifndef GRAFT_TOOLS_SERVE_KEYS_H
#define GRAFT_TOOLS_SERVE_KEYS_H

#include "tools/serve/http.h"

enum {
    KEYS_MAX = 1024,
    KEYS_MAX_FILE = 1 << 20, // bytes
    KEY_TEXT_BYTES = 64      // of a key, with its NUL
};

struct keys;
struct key;

// A key in use by one request: stays valid when the file is read again.
struct key_use {
    struct keys *keys;
    struct key *key; // NULL: none
    bool answered;   // it does not count as running any more
};

// Read the file. On failure *out is NULL. Errors, with file, key and field: GRAFT_E_IO (also when others than the owner may
// write it), GRAFT_E_FORMAT, GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK enum graft_status keys_open(struct graft_ctx *ctx, struct keys **out, const char *path);
// Read it again; what is in use stays, buckets of keys that are still there go on. On failure the old keys stay.
// Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status keys_reload(struct keys *keys);
void keys_close(struct keys **keys);
uint32_t keys_count(struct keys *keys);

enum key_verdict { KEY_GOOD, KEY_UNKNOWN, KEY_RATE, KEY_CONCURRENT };
// Who has this key (a text of any length), and may it make one more request now? now_ns is graft_clock_ns. KEY_GOOD: *use is
// held and must be released. Else *retry_ns says how long to wait (KEY_RATE, KEY_CONCURRENT). Thread-safety: safe.
enum key_verdict keys_take(struct keys *keys, const char *text, size_t length, uint64_t now_ns, struct key_use *use,
                           struct http_caller *caller, uint64_t *retry_ns);
// The request is answered: another one may run, even if the client has not read everything yet. More than once does no harm.
void key_answered(struct key_use *use);
void key_release(struct key_use *use);
// False if the key has a list and the adapter matches nothing on it.
bool key_allows(const struct key_use *use, const char *adapter);
void key_charge(const struct key_use *use, uint64_t tokens, uint64_t now_ns);

// A new random key, and its entry for the file. Errors: GRAFT_E_MEMORY.
GRAFT_MUST_CHECK enum graft_status key_make(char text[KEY_TEXT_BYTES], char id[20], char sha256[65]);

#endif
