// SPDX-License-Identifier: Apache-2.0
// Folders by the XDG rules, models in the data folder, reading files and standard input.
#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/tool.h"

void folder_path(enum folder folder, char out[PATH_BYTES])
{
    static const struct {
        const char *variable, *below_home;
    } rules[] = {
        [FOLDER_DATA] = {"XDG_DATA_HOME", ".local/share"},
        [FOLDER_STATE] = {"XDG_STATE_HOME", ".local/state"},
        [FOLDER_CACHE] = {"XDG_CACHE_HOME", ".cache"},
    };
    const char *base = getenv(rules[folder].variable), *home = getenv("HOME");
    int length;
    if (base && base[0] == '/') { // the XDG rules: a relative one is to be ignored
        length = snprintf(out, PATH_BYTES, "%s/graft", base);
    } else {
        if (!home || home[0] != '/') {
            struct passwd *user = getpwuid(getuid());
            home = user ? user->pw_dir : NULL;
        }
        length = home ? snprintf(out, PATH_BYTES, "%s/%s/graft", home, rules[folder].below_home) : -1;
    }
    if (length < 0 || length >= PATH_BYTES - 300) {
        out[0] = 0;
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void models_list(struct models *out)
{
    *out = (struct models){0};
    char folder[PATH_BYTES];
    folder_path(FOLDER_DATA, folder);
    DIR *directory = *folder ? opendir(folder) : NULL;
    if (!directory) {
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL && out->count < 10000) {
        size_t length = strlen(entry->d_name);
        if (length <= 5 || strcasecmp(entry->d_name + length - 5, ".gguf") != 0) {
            continue;
        }
        unsigned part = 1;
        int used = 0;
        if (length > 20 && sscanf(entry->d_name + length - 20, "-%5u-of-%*5u.%n", &part, &used) == 1 && used == 16 &&
            part != 1) {
            continue; // a split model is opened by its first file
        }
        out->names = grow_memory(out->names, out->count + 1, sizeof *out->names);
        char *name = get_memory(length + 1, 1);
        memcpy(name, entry->d_name, length);
        out->names[out->count++] = name;
    }
    closedir(directory);
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

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
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
    snprintf(out, PATH_BYTES, "%s", given);
    if (file_exists(given)) {
        goto out;
    }
    if (!strchr(given, '/') && *folder && strlen(given) < 250) {
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
    if (strchr(given, '/')) {
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
    FILE *file = input ? stdin : fopen(path, "rb");
    char what[PATH_BYTES + 64];
    snprintf(what, sizeof what, "%.*s cannot be read", PATH_BYTES, input ? "standard input" : path);
    if (!file) {
        error3(what, strerror(errno), "check the path and its permissions");
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
