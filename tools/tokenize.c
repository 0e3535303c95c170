// SPDX-License-Identifier: Apache-2.0
// graft tokenize: text to token ids.
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

// All ids of a text: asks again with more room when the first guess is too small. *out is to be freed.
static enum graft_status tokenize_all(const struct graft_vocabulary *vocabulary, const struct text *text, bool special,
                                      bool bos, int32_t **out, size_t *count)
{
    size_t capacity = text->length + 16;
    for (int attempt = 0; attempt < 2; attempt++) {
        *out = grow_memory(attempt ? *out : NULL, capacity, sizeof **out);
        enum graft_status status =
            graft_vocabulary_tokenize(vocabulary, text->data, text->length, special, bos, *out, capacity, count);
        if (status != GRAFT_E_LIMIT || *count <= capacity) {
            return status;
        }
        capacity = *count;
    }
    return GRAFT_E_LIMIT;
}

static int print_ids(const struct graft_vocabulary *vocabulary, const int32_t *ids, size_t count, bool json)
{
    if (json) {
        json_t *array = json_array();
        for (size_t i = 0; i < count; i++) {
            json_array_append_new(array, json_integer(ids[i]));
        }
        json_dumpf(array, stdout, 0);
        json_decref(array);
        return fputc('\n', stdout) == EOF || fflush(stdout) ? EXIT_FAILED : EXIT_GOOD;
    }
    for (size_t i = 0; i < count; i++) {
        char piece[1024];
        size_t length = 0;
        if (graft_vocabulary_detokenize(vocabulary, &ids[i], 1, true, piece, sizeof piece, &length) != GRAFT_OK) {
            length = 0;
        }
        json_t *quoted = json_text(piece, length);
        printf("%8d  ", ids[i]);
        json_dumpf(quoted, stdout, JSON_ENCODE_ANY);
        json_decref(quoted);
        putchar('\n');
    }
    return EXIT_GOOD;
}

int verb_TOKENIZE(const struct options *options)
{
    struct session session = {0};
    struct text text = {0};
    int32_t *ids = NULL;
    size_t count = 0;
    if (options->n_operands > 1 || (options->prompt && (options->n_operands || options->file)) ||
        (options->file && options->n_operands)) {
        return error_usage("there is more than one text", "one of TEXT, -p and -f is taken",
                           "graft tokenize \"words with spaces\"");
    }
    const char *given = options->prompt ? options->prompt : options->n_operands ? options->operands[0] : NULL;
    int code = session_vocabulary(&session, options);
    if (code == EXIT_GOOD && !given) {
        code = text_read(options->file, &text);
    } else if (code == EXIT_GOOD) {
        text.length = strlen(given);
        text.data = get_memory(text.length + 1, 1);
        memcpy(text.data, given, text.length);
    }
    if (code == EXIT_GOOD) {
        enum graft_status status = tokenize_all(session.vocabulary, &text, options->special, !options->no_bos, &ids, &count);
        code = status == GRAFT_OK ? print_ids(session.vocabulary, ids, count, options->json)
                                  : error_status(status, "the text cannot be tokenized");
    }
    free(ids);
    text_free(&text);
    session_close(&session);
    return code;
}
