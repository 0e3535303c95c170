// SPDX-License-Identifier: Apache-2.0
// What running servers say about themselves: found on this machine, asked over HTTP, put into one JSON object each, printed.
// For graft ps and graft top.
#ifndef GRAFT_TOOLS_STATUS_H
#define GRAFT_TOOLS_STATUS_H

#include <jansson.h>
#include <stdbool.h>

// The processes of this machine that are `graft serve`: [{"pid", "addresses": [operator's first]}]. Addresses are those that a
// process listens on, else those of its command line (processes.h). Never fails; what is not to be seen is left out.
json_t *servers_find(void);

// Ask one server for everything: its settings, adapters, requests and metrics. NULL with a sentence in `why` if it does not
// answer or does not let us in. Numbers are absolute; status_rates adds the rates.
//
//     {"address", "model", "device", "version", "uptime_seconds", "context", "slots", "running", "waiting",
//      "waiting_for_adapter", "requests_total", "errors_total", "draining", "device_lost", "prompt_tokens", "answer_tokens",
//      "memory": {"budget" (null: none), "used", "peak", CLASS ...}, "kv_pages": {"total", "free", "cached"},
//      "adapter_pool": {"bytes", "used", "slots", "resident"},
//      "adapters": [{"name", "version", "generation", "residency", "pinned", "bytes", "rank", "running", "requests",
//                    "answer_tokens", "loads", "evictions"}],
//      "requests": [{"id", "tenant", "adapter", "state", "prompt_tokens", "answer_tokens", "seconds", ...}]}
//
// The first of the adapters is the base, named "". Blocks for at most 5 seconds a call.
// key: sent as a bearer token, or NULL; authorities: see client_place.
json_t *status_fetch(const char *address, const char *key, const char *authorities, char *why, size_t why_bytes);
// Put "..._per_second" beside the tokens of the server, its adapters and requests: the difference to an earlier status of the
// same server, `seconds` before. An answer that began since then counts from its beginning.
void status_rates(json_t *now, const json_t *before, double seconds);

enum status_sort { SORT_NAME, SORT_RATE, SORT_RUNNING, SORT_REQUESTS, SORT_SIZE, SORTS };
extern const char *const status_sort_names[SORTS];
struct status_view {
    enum status_sort sort; // of the adapters; the largest first, names by the alphabet
    bool reverse;
    bool idle;     // show adapters that nobody asked for so far and that are not resident
    bool bold;     // escape sequences for heads
    bool utf8;     // lines that are not ASCII
    unsigned skip; // rows of the tables that are left out at the top
};
// The whole table, as text.
struct out;
void status_print(struct out *out, const json_t *status, const struct status_view *view);
// "3 h 12 min", "4.2 s". Returns the buffer.
struct span_text {
    char text[64];
};
struct span_text span_text(double seconds);

#endif
