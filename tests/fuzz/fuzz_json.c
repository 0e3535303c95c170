// SPDX-License-Identifier: Apache-2.0
// Any bytes as a request's body and as the JSON text of a file: both refuse with a place or give a value that is written and
// read back as itself; the body's bounds of depth, keys and values hold; what the body takes, jansson takes.
#include "fuzz/fuzz.h"
#include "loaders/safetensors.h"
#include "tools/serve/body.h"
#include "tools/serve/http.h"

// body.c answers with these; nothing is answered here.
void http_reply_header(struct http_exchange *exchange, const char *name, const char *value)
{
    (void)exchange;
    (void)name;
    (void)value;
    abort();
}

void http_error(struct http_exchange *exchange, int status, const char *type, const char *code, const char *param,
                const char *format, ...)
{
    (void)exchange;
    (void)status;
    (void)type;
    (void)code;
    (void)param;
    (void)format;
    abort();
}

static void check_bounds(const json_t *value, int depth, uint32_t *values)
{
    const char *key;
    json_t *item;
    size_t i;
    FUZZ_CHECK(++*values <= BODY_VALUES, "more than allowed");
    if (json_is_object(value) || json_is_array(value)) { // what is in the innermost is no level of its own
        FUZZ_CHECK(depth <= BODY_DEPTH, "deeper than allowed");
    }
    if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            FUZZ_CHECK(strlen(key) <= BODY_KEY_BYTES, "a key is too long");
            check_bounds(item, depth + 1, values);
        }
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, item)
        {
            check_bounds(item, depth + 1, values);
        }
    }
}

static void check_round_trip(const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(17) | JSON_ENCODE_ANY);
    FUZZ_CHECK(text != NULL, "cannot be written");
    json_t *again = json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    FUZZ_CHECK(again && json_equal(value, again), "does not come back");
    json_decref(again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct api_error error = {0};
    json_t *body = body_parse((const char *)data, size, &error);
    if (body) {
        uint32_t values = 0;
        FUZZ_CHECK(json_is_object(body), "no object");
        check_bounds(body, 1, &values);
        check_round_trip(body);
        json_t *plain = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        FUZZ_CHECK(plain && json_equal(plain, body), "jansson reads something else");
        json_decref(plain);
        json_decref(body);
    } else {
        FUZZ_CHECK(error.status >= 400 && error.status < 500 && *error.message && *error.code, "refused without a word");
    }
    json_t *file = NULL;
    if (graft_json_load(&file, (const char *)data, size, "fuzz.json", "the text") == GRAFT_OK) {
        check_round_trip(file);
        json_decref(file);
    } else {
        FUZZ_CHECK(strncmp(graft_last_error(), "fuzz.json: ", 11) == 0, "refused without the file's name");
    }
    return 0;
}
