// SPDX-License-Identifier: Apache-2.0
// graft adapter: the actions on adapter files. inspect and diff print in files of their own.
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/tool.h"

// The same as error_status, with advice for adapters.
static int fail(enum graft_status status, const char *what)
{
    char detail[1024];
    snprintf(detail, sizeof detail, "%s", graft_last_error());
    if (status == GRAFT_E_ARGUMENT && strstr(detail, "base model is needed")) {
        error3(what, detail, "-m BASE.gguf, the model it was made for");
        return EXIT_USAGE;
    }
    const char *advice = status == GRAFT_E_UNSUPPORTED && strstr(detail, "GGUF adapter")
                             ? "the PEFT folder itself, which graft reads as it is"
                         : status == GRAFT_E_UNSUPPORTED ? "an adapter of a supported kind; docs/loading-adapters.md lists them"
                         : status == GRAFT_E_FORMAT ? "fetch or make the adapter again; if shapes differ, another base (-m)"
                         : status == GRAFT_E_ARGUMENT && strstr(detail, "folder holds") ? "a new folder for -o"
                                                                                        : NULL;
    if (!advice) {
        return error_status(status, what);
    }
    error3(what, detail, "%s", advice);
    return exit_code_of(status);
}

static int open_file(struct graft_ctx *ctx, struct graft_adapter_file **out, const char *path)
{
    enum graft_status status = graft_adapter_file_open(ctx, out, path);
    if (status == GRAFT_OK) {
        return EXIT_GOOD;
    }
    char what[PATH_BYTES + 64];
    snprintf(what, sizeof what, "%.*s cannot be used as an adapter", PATH_BYTES, path);
    return fail(status, what);
}

static int does_not_fit(enum graft_status status, const char *path, const char *model)
{
    char what[2 * PATH_BYTES];
    snprintf(what, sizeof what, "%.3000s cannot be used with %.3000s", path, model);
    return fail(status, what);
}

static int inspect(const struct options *options, struct session *session, struct graft_adapter_file **file)
{
    enum graft_status status = *session->path ? graft_adapter_file_fit(*file, session->path) : GRAFT_OK;
    char misfit[1024];
    snprintf(misfit, sizeof misfit, "%s", status == GRAFT_OK ? "" : graft_last_error());
    int code = adapter_inspect(options, *file, *misfit ? misfit : NULL);
    if (status != GRAFT_OK && code == EXIT_GOOD) {
        error3("the adapter cannot be used with this model", misfit, "the base it was made for (-m)");
        code = exit_code_of(status);
    }
    return code;
}

static int verify(const struct options *options, struct session *session, struct graft_adapter_file **file)
{
    const char *path = options->operands[1];
    struct graft_adapter_file_info info;
    graft_adapter_file_describe(*file, &info);
    if (options->digest && strcasecmp(options->digest, info.digest) != 0) {
        char what[PATH_BYTES + 64], because[256];
        snprintf(what, sizeof what, "%.*s is another adapter", PATH_BYTES, path);
        snprintf(because, sizeof because, "its digest is %s, not %.100s", info.digest, options->digest);
        error3(what, because, "the adapter that this digest was taken of");
        return EXIT_BAD_FILE;
    }
    enum graft_status status = *session->path ? graft_adapter_file_fit(*file, session->path) : GRAFT_OK;
    if (status != GRAFT_OK) {
        return does_not_fit(status, path, session->path);
    }
    if (options->json) {
        return print_json(json_pack("{s:o, s:s, s:s, s:o, s:o}", "path", json_text(path, strlen(path)), "digest", info.digest,
                                    "kind", info.kind, "signed_by", *info.signer ? json_string(info.signer) : json_null(),
                                    "fits", *session->path ? json_true() : json_null()));
    }
    printf("%s  %s\n", info.digest, path);
    return EXIT_GOOD;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static int convert(const struct options *options, struct session *session, struct graft_adapter_file **file)
{
    const char *path = options->operands[1];
    if (!options->output) {
        return error_usage("there is no place for the converted adapter", "-o was not given", "-o FOLDER, or -o FILE.gguf");
    }
    if (ends_with(options->output, ".safetensors")) {
        return error_usage("the output's name does not match its format", "a PEFT adapter is a folder with two files in it",
                           "-o FOLDER");
    }
    bool named = ends_with(options->output, ".gguf"), gguf = options->to ? strcmp(options->to, "gguf") == 0 : named;
    if (gguf != named) {
        return error_usage("the output's name does not match its format",
                           gguf ? "a GGUF adapter is recognized by its ending" : "a PEFT adapter is a folder",
                           gguf ? "-o %s.gguf" : "-o FOLDER", options->output);
    }
    char what[2 * PATH_BYTES];
    snprintf(what, sizeof what, "%.3000s cannot be converted to %.3000s", path, options->output);
    enum graft_status status = *session->path ? graft_adapter_file_fit(*file, session->path) : GRAFT_OK;
    if (status != GRAFT_OK) {
        return does_not_fit(status, path, session->path);
    }
    status = graft_adapter_file_convert(*file, options->output, gguf ? GRAFT_ADAPTER_GGUF : GRAFT_ADAPTER_PEFT);
    if (status != GRAFT_OK) {
        return fail(status, what);
    }
    graft_adapter_file_close(file); // one of them in memory is enough
    struct graft_adapter_file *written;
    struct graft_adapter_file_info info;
    int code = open_file(session->ctx, &written, options->output); // what was written can be read, and has this digest
    if (code != EXIT_GOOD) {
        return code;
    }
    graft_adapter_file_describe(written, &info);
    graft_adapter_file_close(&written);
    if (options->json) {
        return print_json(json_pack("{s:o, s:s, s:s, s:s, s:I}", "path", json_text(options->output, strlen(options->output)),
                                    "format", gguf ? "gguf" : "peft", "kind", info.kind, "digest", info.digest, "bytes",
                                    (json_int_t)info.file_bytes));
    }
    printf("%s  %s\n", info.digest, options->output);
    return EXIT_GOOD;
}

static int diff(const struct options *options, struct session *session, struct graft_adapter_file **file)
{
    struct graft_adapter_file *other;
    int code = open_file(session->ctx, &other, options->operands[2]);
    if (code != EXIT_GOOD) {
        return code;
    }
    enum graft_status status = *session->path ? graft_adapter_file_fit(*file, session->path) : GRAFT_OK;
    if (status != GRAFT_OK) {
        code = does_not_fit(status, options->operands[1], session->path);
    } else {
        status = adapter_diff(options, session->ctx, *file, other, &code);
        code = status == GRAFT_OK ? code : fail(status, "the adapters cannot be compared");
    }
    graft_adapter_file_close(&other);
    return code;
}

int verb_ADAPTER(const struct options *options)
{
    static const struct {
        const char *name;
        int operands;
        int (*run)(const struct options *options, struct session *session, struct graft_adapter_file **file);
        const char *usage;
    } actions[] = {{"inspect", 2, inspect, "graft adapter inspect A"},
                   {"verify", 2, verify, "graft adapter verify A"},
                   {"convert", 2, convert, "graft adapter convert A -o OUT"},
                   {"diff", 3, diff, "graft adapter diff A B"}};
    enum { ACTIONS = sizeof actions / sizeof *actions };
    size_t action = 0;
    while (action < ACTIONS && (options->n_operands == 0 || strcmp(options->operands[0], actions[action].name) != 0)) {
        action++;
    }
    if (action == ACTIONS) {
        return error_usage("it is not clear what to do",
                           options->n_operands ? "the first word is none of inspect, verify, convert, diff"
                                               : "the first word says what: inspect, verify, convert or diff",
                           "graft adapter inspect A");
    }
    if (options->n_operands != actions[action].operands) {
        return error_usage(
            options->n_operands < actions[action].operands ? "an adapter is missing" : "there are too many adapters",
            actions[action].operands == 3 ? "two are compared" : "this is done with one", "%s", actions[action].usage);
    }
    if ((options->output || options->to) && actions[action].run != convert) {
        return error_usage("nothing is written here", "-o and --to belong to graft adapter convert",
                           "graft adapter convert %s -o OUT", options->operands[1]);
    }
    if (options->digest && actions[action].run != verify) {
        return error_usage("no digest is compared here", "--digest belongs to graft adapter verify",
                           "graft adapter verify %s --digest %s", options->operands[1], options->digest);
    }
    struct session session = {0};
    struct graft_adapter_file *file = NULL;
    int code = options->model ? model_find(options->model, session.path) : EXIT_GOOD;
    code = code == EXIT_GOOD ? session_context(&session, options) : code;
    code = code == EXIT_GOOD ? open_file(session.ctx, &file, options->operands[1]) : code;
    code = code == EXIT_GOOD ? actions[action].run(options, &session, &file) : code;
    if (file) {
        graft_adapter_file_close(&file);
    }
    session_close(&session);
    return code;
}
