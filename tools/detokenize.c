// SPDX-License-Identifier: Apache-2.0
// graft detokenize: token ids to text.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

struct ids {
    int32_t *data;
    size_t count;
};

// Ids from text: a JSON array or numbers with anything of spaces, commas and line breaks between.
static int ids_parse(const char *text, struct ids *out)
{
    static const char between[] = " \t\r\n,[]";
    const char *p = text;
    while (p += strspn(p, between), *p) {
        char *end;
        errno = 0;
        long value = strtol(p, &end, 10);
        if (end == p || errno || value < 0 || value > INT32_MAX || (*end && !strchr(between, *end))) {
            char because[96];
            snprintf(because, sizeof because, "'%.*s' is not a token id", (int)strcspn(p, between) % 40, p);
            return error_usage("the ids cannot be read", because,
                               "graft detokenize 504 3575, or a JSON array on standard input");
        }
        if ((out->count & (out->count + 1)) == 0) { // a power of two is reached
            out->data = grow_memory(out->data, 2 * (out->count + 1), sizeof *out->data);
        }
        out->data[out->count++] = (int32_t)value;
        p = end;
    }
    return EXIT_GOOD;
}

static int print_text(const struct session *session, const struct ids *ids, const struct options *options)
{
    size_t capacity = ids->count * 16 + 64, length = 0;
    char *text = NULL;
    enum graft_status status = GRAFT_E_LIMIT;
    for (int attempt = 0; attempt < 2 && status == GRAFT_E_LIMIT; attempt++) {
        text = grow_memory(text, capacity, 1);
        status =
            graft_vocabulary_detokenize(session->vocabulary, ids->data, ids->count, options->special, text, capacity, &length);
        if (length > capacity) {
            capacity = length;
        }
    }
    int code = EXIT_GOOD;
    if (status != GRAFT_OK) {
        code = error_status(status, "the ids cannot be turned into text");
    } else if (options->json) {
        code = print_json(json_text(text, length));
    } else if (fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0) {
        code = EXIT_FAILED;
    }
    free(text);
    return code;
}

int verb_DETOKENIZE(const struct options *options)
{
    struct session session = {0};
    struct ids ids = {0};
    struct text text = {0};
    int code = EXIT_GOOD;
    if (options->n_operands > 0 && options->file) {
        return error_usage("there are ids in two places", "they stand behind the options and in -f", "one of the two");
    }
    for (int i = 0; i < options->n_operands && code == EXIT_GOOD; i++) {
        code = ids_parse(options->operands[i], &ids);
    }
    if (options->n_operands == 0) {
        code = text_read(options->file, &text);
        if (code == EXIT_GOOD) {
            code = ids_parse(text.data, &ids);
        }
    }
    if (code == EXIT_GOOD) {
        code = session_vocabulary(&session, options);
    }
    if (code == EXIT_GOOD) {
        code = print_text(&session, &ids, options);
    }
    free(ids.data);
    text_free(&text);
    session_close(&session);
    return code;
}
