// SPDX-License-Identifier: Apache-2.0
// A small HTTP/1.1 client: one request per connection, the reply's body as it comes. For graft load-test, ps and top.
#ifndef GRAFT_TOOLS_CLIENT_H
#define GRAFT_TOOLS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

enum { CLIENT_LINE = 65536 }; // bytes of a line of a head or of an event stream

// Where a server is: "127.0.0.1:8080", "[::1]:8080", "http://HOST:PORT", "https://HOST:PORT", "unix:/PATH"; port 8080 if it has
// none.
struct client_place {
    char host[256], port[16], path[108]; // path: of a Unix socket, or ""
    bool tls;
    const char *authorities; // with TLS: file of certificates that may have signed the server's; NULL: the system's list
};
bool client_place(const char *text, const char *authorities, struct client_place *out);

struct client_request {
    const char *method, *path, *body; // body NULL: none
    const char *key;                  // bearer token, or NULL
    unsigned timeout_seconds;         // between two bytes; 0 = 300
    // Called for every line of the body, without its end; false: hang up. NULL: the body is skipped.
    bool (*on_line)(void *user, const char *line, size_t length);
    void *user;
};

// A connection, or -1 with a sentence in `why`.
int client_connect(const struct client_place *place, char *why, size_t why_bytes);
// Send it and read the whole reply. Returns the status, or 0 with a sentence in `why`. Blocks.
int client_do(const struct client_place *place, const struct client_request *request, char *why, size_t why_bytes);

#endif
