// SPDX-License-Identifier: Apache-2.0
// A graft serve on the tiny model of tests/golden/peft, and requests to it over plain sockets.
#ifndef GRAFT_TESTS_SERVED_H
#define GRAFT_TESTS_SERVED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "e2e/command.h"

// Start it in the working directory of command_begin with these arguments behind -m, on a free port, with a Unix socket for
// operators. Waits until it is ready; fails the test if it does not get there.
__attribute__((format(printf, 1, 2))) void served_begin(const char *format, ...);
// The same by a command that executes its arguments at its end.
__attribute__((format(printf, 2, 3))) void served_begin_under(const char *under, const char *format, ...);
// SIGTERM, and the exit code must be 0.
void served_end(void);
// Wait for it to end by itself; its exit code.
int served_wait(void);
uint16_t served_port(void);
pid_t served_pid(void);

// A member of a request: its answer does not end by the model's end, which is token 0.
#define NO_END "\"logit_bias\": {\"0\": -100}"

enum { SERVED_BODY = 1 << 20 };
struct reply {
    int status; // 0: none came
    char head[8192], body[SERVED_BODY];
    size_t length;
};
// One request on a connection of its own; body NULL: none. headers: more lines, each with \r\n, or "". The result is valid
// until the next one.
const struct reply *ask_server(const char *method, const char *path, const char *headers, const char *body);
// The same by the operator's socket.
const struct reply *ask_operator(const char *method, const char *path, const char *body);
// POST, and the reply as JSON, with this status or the test fails.
json_t *post_json(const char *path, const char *body, int status);
// Value of a header of the last reply, or NULL; valid until the next call.
const char *reply_header(const struct reply *reply, const char *name);
// A connection that has sent this request and not read yet.
int open_request(const char *path, const char *body);
int open_request_with(const char *path, const char *headers, const char *body);
// The number behind a metric's name and labels; -1 if it is not there.
double metric(const char *series);
// Wait until it has this value, at most 5 seconds.
bool metric_becomes(const char *series, double value);

#endif
