// SPDX-License-Identifier: Apache-2.0
// Models in the data folder, reading files and standard input.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "platform/plat.h"
#include "tools/tool.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

const char *split_ending(const char *path, unsigned *part, unsigned *parts)
{
    enum { BYTES = 20, SUFFIX = 4 };
    size_t length = strlen(path);
    const char *ending = path + (length > BYTES ? length - BYTES : length);
    int used = 0;
    bool split = sscanf(ending, "-%5u-of-%5u.%n", part, parts, &used) == 2 && used == BYTES - SUFFIX &&
                 strcasecmp(ending + used, "gguf") == 0;
    return split ? ending : NULL;
}

// Keep a file's name if it is a model's.
static void keep_model(void *user, const char *file)
{
    struct models *out = user;
    size_t length = strlen(file);
    if (out->count >= 10000 || length <= 5 || strcasecmp(file + length - 5, ".gguf") != 0) {
        return;
    }
    unsigned part, parts;
    if (split_ending(file, &part, &parts) && part != 1) {
        return; // a split model is opened by its first file
    }
    out->names = grow_memory(out->names, out->count + 1, sizeof *out->names);
    char *name = get_memory(length + 1, 1);
    memcpy(name, file, length);
    out->names[out->count++] = name;
}

void models_list(struct models *out)
{
    *out = (struct models){0};
    char folder[PATH_BYTES];
    folder_path(FOLDER_DATA, folder);
    if (*folder) {
        system_list(folder, keep_model, out);
    }
    if (out->count > 0) {
        qsort(out->names, out->count, sizeof *out->names, by_name);
    }
}

void models_free(struct models *models)
{
    for (size_t i = 0; i < models->count; i++) {
        free(models->names[i]);
    }
    free(models->names);
    *models = (struct models){0};
}

static const char *next_model(const void *user, size_t i)
{
    const struct models *models = user;
    return i < models->count ? models->names[i] : NULL;
}

static int no_model_given(const char *folder, const struct models *models)
{
    if (models->count == 0) {
        char because[PATH_BYTES + 64];
        snprintf(because, sizeof because, "none was given with -m, and %s holds none", *folder ? folder : "the data folder");
        return error_usage("there is no model to use", because,
                           "graft VERB -m FILE.gguf; or tools/fetch-model, which fetches a small one");
    }
    char because[512];
    int used = snprintf(because, sizeof because, "none was given with -m, and the data folder holds %zu:", models->count);
    for (size_t i = 0; i < models->count && used > 0 && (size_t)used < sizeof because; i++) {
        used += snprintf(because + used, sizeof because - (size_t)used, " %s", models->names[i]);
    }
    return error_usage("it is not clear which model to use", because, "-m %s", models->names[0]);
}

int model_find(const char *given, char out[PATH_BYTES])
{
    char folder[PATH_BYTES];
    folder_path(FOLDER_DATA, folder);
    struct models models;
    models_list(&models);
    int code = EXIT_GOOD;
    if (!given) {
        if (models.count == 1) {
            snprintf(out, PATH_BYTES, "%.*s/%s", PATH_BYTES - 300, folder, models.names[0]);
        } else {
            code = no_model_given(folder, &models);
        }
        goto out;
    }
    if (strlen(given) >= PATH_BYTES - 300) {
        code = error_usage("the model cannot be opened", "its path is too long", "a shorter one");
        goto out;
    }
    bool has_folder = graft_path_name(given) != given;
    snprintf(out, PATH_BYTES, "%s", given);
    if (file_exists(given)) {
        goto out;
    }
    if (!has_folder && *folder && strlen(given) < 250) {
        static const char *const endings[] = {"", ".gguf"};
        for (size_t i = 0; i < 2; i++) {
            snprintf(out, PATH_BYTES, "%.*s/%s%s", PATH_BYTES - 300, folder, given, endings[i]);
            if (file_exists(out)) {
                goto out;
            }
        }
    }
    char what[PATH_BYTES + 64], because[PATH_BYTES + 64];
    bool has_ending = strlen(given) > 5 && strcasecmp(given + strlen(given) - 5, ".gguf") == 0;
    snprintf(out, PATH_BYTES, "%s%s", given, has_ending ? "" : ".gguf");
    const char *near = suggest(out, next_model, &models);
    snprintf(what, sizeof what, "there is no model %s", given);
    if (has_folder) {
        snprintf(because, sizeof because, "there is no such file");
    } else {
        snprintf(because, sizeof because, "neither this folder nor %s has it", folder);
    }
    if (near) {
        error3(what, because, "-m %s", near);
    } else {
        error3(what, because, "the path of a .gguf file; graft doctor lists the models in the data folder");
    }
    code = EXIT_BAD_FILE;
out:
    models_free(&models);
    return code;
}

int text_read(const char *path, struct text *out)
{
    enum { PIECE = 65536 };
    const size_t most = (size_t)1 << 30;
    *out = (struct text){0};
    bool input = !path || strcmp(path, "-") == 0;
    const char *why = NULL;
    FILE *file = input ? stdin : system_open(path, &why);
    char what[PATH_BYTES + 64];
    snprintf(what, sizeof what, "%.*s cannot be read", PATH_BYTES, input ? "standard input" : path);
    if (!file) {
        error3(what, why, "check the path and its permissions");
        return EXIT_BAD_FILE;
    }
    size_t capacity = 0, got = 0;
    do {
        if (out->length + PIECE + 1 > capacity) {
            capacity = capacity * 2 + PIECE + 1;
            out->data = grow_memory(out->data, capacity, 1);
        }
        errno = 0;
        got = fread(out->data + out->length, 1, PIECE, file);
        out->length += got;
    } while (got > 0 && out->length <= most);
    int error = ferror(file) ? (errno ? errno : EIO) : 0;
    if (!input) {
        fclose(file);
    }
    out->data[out->length] = 0;
    if (error || out->length > most) {
        error3(what, error ? strerror(error) : "it is larger than 1 GiB", "another file");
        text_free(out);
        return EXIT_BAD_FILE;
    }
    return EXIT_GOOD;
}

void text_free(struct text *text)
{
    free(text->data);
    *text = (struct text){0};
}

int json_read(const char *path, json_t **out)
{
    struct text text;
    *out = NULL;
    int code = text_read(path, &text);
    if (code != EXIT_GOOD) {
        return code;
    }
    json_error_t error;
    *out = json_loadb(text.data, text.length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    text_free(&text);
    if (!*out) {
        char what[PATH_BYTES + 64], because[256];
        snprintf(what, sizeof what, "%.*s is not JSON", PATH_BYTES, path ? path : "standard input");
        snprintf(because, sizeof because, "line %d, column %d: %s", error.line, error.column, error.text);
        error3(what, because, "python3 -m json.tool FILE shows the place");
        return EXIT_BAD_FILE;
    }
    return EXIT_GOOD;
}
