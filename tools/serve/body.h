// SPDX-License-Identifier: Apache-2.0
// What comes in: JSON bodies inside bounds, their fields one by one, and the errors that name them.
#ifndef GRAFT_TOOLS_SERVE_BODY_H
#define GRAFT_TOOLS_SERVE_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "graft/common.h"
#include "tools/out.h"

struct http_exchange;

// An answer that is an error: {"error": {"message", "type", "param", "code"}}; the type follows from the status.
struct api_error {
    int status; // of HTTP; 0: there is none
    char code[40], param[72], message[640];
    uint32_t retry_after; // seconds; 0: not said
};
// Fill it in; param may be NULL. Always false, so that a check can end with it.
GRAFT_PRINTF(5, 6)
bool api_fail(struct api_error *error, int status, const char *code, const char *param, const char *format, ...);
#define api_bad(error, param, ...) api_fail(error, 400, "invalid_value", param, __VA_ARGS__)
// 503 out_of_memory: this request ends, the server goes on. Always false.
bool api_no_memory(struct api_error *error);
#ifdef GRAFT_ANALYZE // static analyzers see one file at a time: a failure is no success
#define api_fail(...)        ((api_fail)(__VA_ARGS__), false)
#define api_no_memory(error) ((api_no_memory)(error), false)
#endif
const char *api_error_type(const struct api_error *error);
// Finish the exchange with it.
void api_reply(struct http_exchange *exchange, const struct api_error *error);

enum { BODY_DEPTH = 32, BODY_KEY_BYTES = 256, BODY_VALUES = 262144 };

// An object of at most BODY_DEPTH levels, keys of at most BODY_KEY_BYTES and BODY_VALUES values; NULL with the byte at which it
// is wrong: not JSON, two members of one name, text behind it, numbers or characters that do not exist.
json_t *body_parse(const char *data, size_t length, struct api_error *error);

// Members of an object; what is absent or null leaves *out as it is. False: of another type or outside its range, and *error
// names it.
bool body_bool(const json_t *object, const char *name, bool *out, struct api_error *error);
bool body_integer(const json_t *object, const char *name, int64_t low, int64_t high, int64_t *out, struct api_error *error);
bool body_number(const json_t *object, const char *name, double low, double high, double *out, struct api_error *error);
bool body_text(const json_t *object, const char *name, size_t most, const char **out, struct api_error *error);
// NULL if it is absent or null.
json_t *body_member(const json_t *object, const char *name);

#endif
