// SPDX-License-Identifier: Apache-2.0
// graft serve: opens what the options name and serves it.
#include "tools/serve/verbs.h"

static void livez(struct http_exchange *exchange, void *user)
{
    (void)user;
    http_reply_json(exchange, 200, json_pack("{s:s}", "status", "ok"));
}

int serve_main(const struct options *options)
{
    static const struct http_route routes[] = {{HTTP_GET, "/livez", HTTP_OPEN, 0, livez}};
    struct session session = {.ctx = NULL};
    http_block_signals();
    int code = session_context(&session, options);
    if (code == EXIT_GOOD) {
        struct http_config config;
        struct http_server *server = NULL;
        http_config_from(options, &config);
        enum graft_status status = http_server_create(session.ctx, &server, &config);
        status = status == GRAFT_OK ? http_server_start(server, routes, 1, NULL) : status;
        if (status == GRAFT_OK) {
            http_server_run(server, NULL, NULL);
        } else {
            code = error_status(status, "the server did not start");
        }
        http_server_destroy(&server);
    }
    session_close(&session);
    return code;
}
