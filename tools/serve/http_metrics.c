// SPDX-License-Identifier: Apache-2.0
// What the HTTP layer adds to /metrics beside http_server_describe: replies by route and status, and their time.
#include <stdio.h>

#include "tools/serve/http_private.h"

static const double seconds[] = {0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};

enum { REPLIES, DURATION, OPEN, DRAINING, INFOS };

static const struct metric_info infos[INFOS] = {
    [REPLIES] = {METRIC_COUNTER, "graft_http_replies_total", "Replies by route and status.", {"route", "status"}, NULL, 0},
    [DURATION] = {METRIC_HISTOGRAM,
                  "graft_http_request_seconds",
                  "From the complete head to the end of the reply.",
                  {"route"},
                  seconds,
                  sizeof seconds / sizeof *seconds},
    [OPEN] = {METRIC_GAUGE, "graft_http_requests_open", "Requests that have not ended.", {NULL}, NULL, 0},
    [DRAINING] = {METRIC_GAUGE, "graft_http_draining", "1: the server takes no more requests.", {NULL}, NULL, 0},
};

enum graft_status http_metrics_create(struct http_server *server)
{
    return metrics_create(server->ctx, &server->metrics, infos, INFOS, 256); // routes times statuses, the rest is "other"
}

void http_metrics_count(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    char status[8];
    snprintf(status, sizeof status, "%d", exchange->status);
    const char *const values[] = {exchange->route ? exchange->route->pattern : "none", status};
    metric_add(server->metrics, REPLIES, values, 1);
    metric_observe(server->metrics, DURATION, values, (double)(graft_clock_ns() - exchange->started_ns) * 1e-9);
}

size_t http_server_metrics(struct http_server *server, char *out, size_t bytes)
{
    metric_set(server->metrics, OPEN, NULL, http_busy(server));
    metric_set(server->metrics, DRAINING, NULL, http_server_draining(server));
    return metrics_render(server->metrics, out, bytes);
}

size_t http_server_metrics_bytes(struct http_server *server)
{
    return metrics_bytes(server->metrics) + 4096; // a few series more may have come when they are written
}
