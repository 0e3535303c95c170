// SPDX-License-Identifier: Apache-2.0
// TLS for the client: 1.2 with forward secrecy or 1.3 (GnuTLS), the server's name checked against its certificate (RFC 9525).
#ifndef GRAFT_TOOLS_CLIENT_TLS_H
#define GRAFT_TOOLS_CLIENT_TLS_H

#include <sys/types.h>

#include "tools/client.h"

struct client_tls; // a session over a connected socket, which stays the caller's

// Shake hands. NULL with a sentence in `why`: no TLS there, a certificate that nobody known has signed, another name.
struct client_tls *client_tls_begin(int fd, const struct client_place *place, char *why, size_t why_bytes);
// As recv and send. -1: see client_tls_error.
ssize_t client_tls_receive(struct client_tls *tls, void *bytes, size_t room);
ssize_t client_tls_send(struct client_tls *tls, const void *bytes, size_t length);
// What the last call that failed ran into.
const char *client_tls_error(const struct client_tls *tls);
void client_tls_end(struct client_tls **tls);

#endif
