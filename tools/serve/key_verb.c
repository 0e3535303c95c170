// SPDX-License-Identifier: Apache-2.0
// graft key: makes an API key, adds its entry to the keys file, prints the key once; and the server's options as a struct.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/serve/keys.h"
#include "tools/serve/server_files.h"
#include "tools/serve/verbs.h"

static json_t *entry_of(const struct options *options, const char *id, const char *sha256)
{
    json_t *entry =
        json_pack("{s:s,s:s,s:s}", "id", id, "sha256", sha256, "role", options->key_role ? options->key_role : "user");
    if (options->key_tenant) {
        json_object_set_new(entry, "tenant", json_text(options->key_tenant, strlen(options->key_tenant)));
    }
    if (options->key_adapters.count) {
        json_t *list = json_array();
        for (uint32_t i = 0; i < options->key_adapters.count; i++) {
            json_array_append_new(list, json_text(options->key_adapters.values[i], strlen(options->key_adapters.values[i])));
        }
        json_object_set_new(entry, "adapters", list);
    }
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {{"requests_per_minute", options->key_requests},
                  {"tokens_per_minute", options->key_tokens},
                  {"concurrent", options->key_concurrent}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (counts[i].value > 0) {
            json_object_set_new(entry, counts[i].name, json_integer(counts[i].value));
        }
    }
    if (options->key_expires) {
        json_object_set_new(entry, "expires", json_text(options->key_expires, strlen(options->key_expires)));
    }
    return entry;
}

// What keys_open says about these contents, without touching the file that is there.
static enum graft_status write_checked(struct graft_ctx *ctx, const char *path, const char *text)
{
    char beside[PATH_BYTES];
    bool kept;
    int n = snprintf(beside, sizeof beside, "%s.new-%ld", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof beside) {
        return GRAFT_E_ARGUMENT;
    }
    enum graft_status status = replace_private_file(beside, text, strlen(text), &kept);
    struct keys *keys = NULL;
    status = status == GRAFT_OK ? keys_open(ctx, &keys, beside) : status;
    keys_close(&keys);
    file_remove(beside);
    status = status == GRAFT_OK ? replace_private_file(path, text, strlen(text), &kept) : status;
    if (status == GRAFT_OK && !kept) {
        note("%s: its owner and mode could not be kept", path);
    }
    return status;
}

static int add_entry(struct graft_ctx *ctx, const char *path, json_t *entry)
{
    json_t *root;
    if (file_exists(path)) {
        int code = json_read(path, &root);
        if (code != EXIT_GOOD) {
            json_decref(entry);
            return code;
        }
    } else {
        root = json_pack("{s:i,s:[]}", "version", 1, "keys");
    }
    json_t *list = json_object_get(root, "keys");
    if (json_array_append_new(list, entry) != 0) {
        json_decref(root);
        error3("the key was not added", "the file has no list \"keys\"", "graft key --keys NEW.json, which makes one");
        return EXIT_BAD_FILE;
    }
    char *text = json_dumps(root, JSON_INDENT(2));
    enum graft_status status = text ? write_checked(ctx, path, text) : GRAFT_E_MEMORY;
    free(text);
    json_decref(root);
    return status == GRAFT_OK ? EXIT_GOOD : error_status(status, "the key was not added");
}

int key_main(const struct options *options)
{
    char text[KEY_TEXT_BYTES], id[20], sha256[65];
    struct session session = {.ctx = NULL};
    int code = session_context(&session, options);
    if (code == EXIT_GOOD) {
        enum graft_status status = key_make(text, id, sha256);
        code = status == GRAFT_OK ? EXIT_GOOD : error_status(status, "no key was made");
    }
    if (code == EXIT_GOOD && options->keys) {
        code = add_entry(session.ctx, options->keys, entry_of(options, id, sha256));
    } else if (code == EXIT_GOOD) {
        json_t *entry = entry_of(options, id, sha256);
        char *shown = json_dumps(entry, JSON_INDENT(2));
        fprintf(stderr, "%s\n", shown ? shown : "");
        free(shown);
        json_decref(entry);
    }
    if (code == EXIT_GOOD) {
        printf("%s\n", text);
        note("key %s; it is not stored and cannot be shown again", id);
    }
    session_close(&session);
    return code;
}

void http_config_from(const struct options *options, struct http_config *out)
{
    *out = (struct http_config){.n_listen =
                                    options->listen.count < HTTP_MAX_LISTENERS ? options->listen.count : HTTP_MAX_LISTENERS,
                                .operator_listen = options->operator_listen,
                                .operator_routes_public = options->operator_routes_public,
                                .keys_path = options->keys,
                                .jwt_path = options->jwt,
                                .tls_cert = options->tls_cert,
                                .tls_key = options->tls_key,
                                .insecure_plain_http = options->insecure_plain_http,
                                .hosts = options->allow_hosts.values,
                                .n_hosts = options->allow_hosts.count,
                                .max_connections = (uint32_t)options->max_connections,
                                .stall_ms = (uint32_t)options->reader_seconds * 1000,
                                .drain_ms = (uint32_t)options->drain_seconds * 1000,
                                .log = HTTP_LOG_STDERR,
                                .log_bytes = options->log_size,
                                .log_files = (uint32_t)options->log_files,
                                .log_text = options->log_text};
    for (uint32_t i = 0; i < out->n_listen; i++) {
        out->listen[i] = options->listen.values[i];
    }
    if (options->access_log && strcmp(options->access_log, "stderr") != 0) {
        const char *name = options->access_log;
        out->log = strcmp(name, "none") == 0       ? HTTP_LOG_NONE
                   : strcmp(name, "syslog") == 0   ? HTTP_LOG_SYSLOG
                   : strcmp(name, "journald") == 0 ? HTTP_LOG_JOURNAL
                                                   : HTTP_LOG_FILE;
        out->log_path = out->log == HTTP_LOG_FILE ? name : NULL;
    }
}
