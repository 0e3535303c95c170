// SPDX-License-Identifier: Apache-2.0
// What tools/serve.c calls when there is an HTTP library, and what the options say about the server.
#ifndef GRAFT_TOOLS_SERVE_VERBS_H
#define GRAFT_TOOLS_SERVE_VERBS_H

#include "tools/serve/http.h"
#include "tools/tool.h"

// The verbs; return exit codes.
int serve_main(const struct options *options);
int key_main(const struct options *options);

// The options of the network, keys, TLS and logs. *out points into options.
void http_config_from(const struct options *options, struct http_config *out);

#endif
