// SPDX-License-Identifier: Apache-2.0
// Bearer tokens of an identity provider: JSON Web Tokens (RFC 7519) signed with a pinned algorithm (RFC 8725), whose claims say
// the tenant and the adapter. libjwt verifies signatures; what a token may look like is decided here.
//
//     {"version": 1, "issuer": "https://login.example", "audience": "graft", "adapter_claim": "adapter",
//      "adapters_claim": "adapters", "tenant_claim": "tenant", "max_lifetime": 3600,
//      "keys": [{"kid": "2026-11", "alg": "RS256", "file": "login.pem"}]}
//
// alg: RS256 (a public RSA key of 2048 bits or more, PEM), ES256 (a public P-256 key, PEM) or HS256 (a file with a secret of 32
// bytes or more that others may not read). A file's path is relative to the folder of this one.
#ifndef GRAFT_TOOLS_SERVE_HTTP_JWT_H
#define GRAFT_TOOLS_SERVE_HTTP_JWT_H

#include "tools/serve/http.h"

enum {
    JWT_MAX_TOKEN = 8 << 10,     // bytes
    JWT_MAX_KEYS = 16,           // overlapping while they are rotated
    JWT_SKEW = 60,               // seconds that clocks may differ
    JWT_ALLOWED_BYTES = 1 << 10, // of the names of adapters_claim, with their NULs
    JWT_NAME_BYTES = 64          // of a kid or a claim's name, with its NUL
};

struct jwt_rules;

struct jwt_claims {
    char kid[JWT_NAME_BYTES];        // of the key that signed
    char tenant[HTTP_MAX_TENANT];    // tenant_claim, else sub
    char adapter[HTTP_MAX_NAME];     // adapter_claim: NAME or NAME@VERSION; "" = none
    bool restricted;                 // adapters_claim is there
    char allowed[JWT_ALLOWED_BYTES]; // then: NAME, NAME*, each with its NUL, an empty one behind the last
};

// Read the file and the keys it names. On failure *out is NULL. Errors, with file and field: GRAFT_E_IO (also for permissions),
// GRAFT_E_FORMAT, GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_UNSUPPORTED (built without libjwt).
GRAFT_MUST_CHECK enum graft_status jwt_rules_open(struct graft_ctx *ctx, struct jwt_rules **out, const char *path);
// Read them again; on failure the old ones stay. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status jwt_rules_reload(struct jwt_rules *rules);
void jwt_rules_close(struct jwt_rules **rules);
// Judge a token (length bytes, a NUL behind). now: seconds since 1970. NULL: good, *out is filled; else why not, in a word or
// two for the log. What the client is told must not depend on it. Thread-safety: safe.
const char *jwt_rules_check(struct jwt_rules *rules, const char *token, size_t length, int64_t now, struct jwt_claims *out);
// The token allows this adapter: it is the one of adapter_claim, or on the list of adapters_claim, or there is neither.
bool jwt_claims_allow(const struct jwt_claims *claims, const char *adapter);

#endif
