// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/body.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tools/serve/http.h"

// ---- errors ----

bool(api_fail)(struct api_error *error, int status, const char *code, const char *param, const char *format, ...)
{
    *error = (struct api_error){.status = status};
    snprintf(error->code, sizeof error->code, "%s", code);
    snprintf(error->param, sizeof error->param, "%s", param ? param : "");
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    return false;
}

bool(api_no_memory)(struct api_error *error)
{
    api_fail(error, 503, "out_of_memory", NULL, "there is no memory for this request now");
    error->retry_after = 1;
    return false;
}

const char *api_error_type(const struct api_error *error)
{
    switch (error->status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 500:
        return "server_error";
    case 501:
        return "not_implemented_error";
    case 503:
        return "unavailable_error";
    default:
        return "invalid_request_error";
    }
}

void api_reply(struct http_exchange *exchange, const struct api_error *error)
{
    if (error->retry_after) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%u", error->retry_after);
        http_reply_header(exchange, "Retry-After", seconds);
    }
    http_error(exchange, error->status, api_error_type(error), *error->code ? error->code : NULL,
               *error->param ? error->param : NULL, "%s", error->message);
}

// ---- JSON inside bounds ----

// Depth, lengths of keys and number of values, before any memory is taken for them. What is not JSON is left to the parser.
static bool check_bounds(const char *data, size_t length, struct api_error *error)
{
    size_t depth = 0, values = 1;
    for (size_t i = 0; i < length; i++) {
        if (data[i] == '"') {
            size_t begin = ++i;
            while (i < length && data[i] != '"') {
                i += data[i] == '\\' ? 2 : 1;
            }
            size_t end = i, next = i + 1;
            while (next < length && strchr(" \t\r\n", data[next]) && data[next]) {
                next++;
            }
            if (next < length && data[next] == ':' && end - begin > BODY_KEY_BYTES) {
                return api_fail(error, 400, "malformed_json", NULL, "a name of %zu bytes at byte %zu, allowed are %d",
                                end - begin, begin, BODY_KEY_BYTES);
            }
        } else if (data[i] == '{' || data[i] == '[') {
            if (++depth > BODY_DEPTH) {
                return api_fail(error, 400, "malformed_json", NULL, "more than %d levels at byte %zu", BODY_DEPTH, i);
            }
        } else if (data[i] == '}' || data[i] == ']') {
            depth -= depth > 0;
        } else if (data[i] == ',' && ++values > BODY_VALUES) {
            return api_fail(error, 400, "malformed_json", NULL, "more than %d values at byte %zu", BODY_VALUES, i);
        }
    }
    return true;
}

json_t *body_parse(const char *data, size_t length, struct api_error *error)
{
    json_error_t why;
    if (!check_bounds(data, length, error)) {
        return NULL;
    }
    json_t *value = json_loadb(data, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!value && (!why.text[0] || json_error_code(&why) == json_error_out_of_memory)) {
        api_no_memory(error);
        return NULL;
    }
    if (!value) {
        api_fail(error, 400, "malformed_json", NULL, "the body is not JSON: %s (byte %d)", why.text, why.position);
        return NULL;
    }
    if (!json_is_object(value)) {
        json_decref(value);
        api_fail(error, 400, "malformed_json", NULL, "the body must be a JSON object");
        return NULL;
    }
    return value;
}

// ---- members ----

json_t *body_member(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

bool body_bool(const json_t *object, const char *name, bool *out, struct api_error *error)
{
    const json_t *value = body_member(object, name);
    if (value && !json_is_boolean(value)) {
        return api_bad(error, name, "%s must be true or false", name);
    }
    *out = value ? json_is_true(value) : *out;
    return true;
}

bool body_integer(const json_t *object, const char *name, int64_t low, int64_t high, int64_t *out, struct api_error *error)
{
    const json_t *value = body_member(object, name);
    if (!value) {
        return true;
    }
    double number = json_number_value(value);
    if (!json_is_number(value) || (json_is_real(value) && (number != floor(number) || fabs(number) > 9007199254740992.0))) {
        return api_bad(error, name, "%s must be a whole number", name);
    }
    int64_t whole = json_is_integer(value) ? json_integer_value(value) : (int64_t)number;
    if (whole < low || whole > high) {
        return api_bad(error, name, "%s is %lld, allowed are %lld to %lld", name, (long long)whole, (long long)low,
                       (long long)high);
    }
    *out = whole;
    return true;
}

bool body_number(const json_t *object, const char *name, double low, double high, double *out, struct api_error *error)
{
    const json_t *value = body_member(object, name);
    if (!value) {
        return true;
    }
    double number = json_number_value(value);
    if (!json_is_number(value)) {
        return api_bad(error, name, "%s must be a number", name);
    }
    if (!(number >= low && number <= high)) {
        return api_bad(error, name, "%s is %g, allowed are %g to %g", name, number, low, high);
    }
    *out = number;
    return true;
}

bool body_text(const json_t *object, const char *name, size_t most, const char **out, struct api_error *error)
{
    const json_t *value = body_member(object, name);
    if (!value) {
        return true;
    }
    if (!json_is_string(value) || json_string_length(value) == 0 || json_string_length(value) > most) {
        return api_bad(error, name, "%s must be a text of 1 to %zu bytes", name, most);
    }
    *out = json_string_value(value);
    return true;
}
