// SPDX-License-Identifier: Apache-2.0
// Routes of adapters in graft's own form: /v1/adapters.
#include <stdlib.h>
#include <string.h>

#include "tools/serve/aliases.h"
#include "tools/serve/serve.h"

json_t *adapter_json(const struct server *server, const struct adapter_entry *entry, bool with_paths)
{
    const struct adapter_version *v = entry->current;
    bool seen = *v->info.digest != 0;
    json_t *old = json_array();
    for (const struct adapter_version *o = entry->versions; o; o = o->next) {
        if (o != v) {
            json_array_append_new(old, json_pack("{s:I, s:s, s:b, s:I}", "version", (json_int_t)o->number, "generation",
                                                 adapter_generation(o).text, "resident", o->handle != NULL, "requests",
                                                 (json_int_t)o->refs));
        }
    }
    json_t *labels = json_object();
    for (const struct adapter_label *label = entry->labels; label; label = label->next) {
        json_object_set_new(labels, label->name, json_integer(label->version->number));
    }
    json_t *out = json_pack(
        "{s:s, s:I, s:I, s:o, s:o, s:o, s:s, s:b, s:b, s:b, s:b, s:o, s:o, s:o, s:f, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o}",
        "name", entry->name, "id", (json_int_t)entry->id, "version", (json_int_t)v->number, "generation",
        seen ? json_string(adapter_generation(v).text) : json_null(), "digest",
        seen ? json_string(v->info.digest) : json_null(), "signed_by",
        *v->info.signer ? json_string(v->info.signer) : json_null(), "residency",
        v->handle    ? "device"
        : v->loading ? "loading"
                     : "none",
        "pinned", (int)entry->pinned, "changing", (int)entry->busy, "draining", (int)v->draining, "quarantined",
        (int)adapter_quarantined(v), "bytes", seen ? json_integer((json_int_t)v->info.bytes) : json_null(), "rank",
        seen ? json_integer(v->info.rank) : json_null(), "base",
        seen && *v->info.base_name ? json_string(v->info.base_name) : json_null(), "scale", (double)entry->scale, "running",
        (json_int_t)v->holds, "loads", (json_int_t)entry->loads, "evictions", (json_int_t)entry->evictions, "failures",
        (json_int_t)entry->failures, "faults", (json_int_t)entry->faults, "load_seconds", (double)entry->load_ns * 1e-9,
        "retired", old, "aliases", labels);
    if (with_paths && out) {
        bool inside = *server->adapters.dir && strncmp(v->path, server->adapters.dir, strlen(server->adapters.dir)) == 0;
        json_object_set_new(out, "path", json_string(inside ? v->path + strlen(server->adapters.dir) + 1 : v->path));
    }
    return out;
}

static bool is_operator(const struct http_exchange *exchange)
{
    return http_caller(exchange)->role == HTTP_OPERATOR;
}

void serve_adapters(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct adapters *table = &server->adapters;
    json_t *data = json_array();
    uint32_t count;
    pthread_mutex_lock(&table->mutex);
    for (uint32_t i = 0; i < table->n_entries; i++) {
        if (table->entries[i]->known && serve_allows(exchange, table->entries[i]->name)) {
            json_array_append_new(data, adapter_json(server, table->entries[i], is_operator(exchange)));
        }
    }
    uint64_t bytes = adapters_resident(table, &count);
    pthread_mutex_unlock(&table->mutex);
    http_reply_json(exchange, 200,
                    json_pack("{s:s, s:o, s:{s:I, s:I, s:I, s:I, s:i, s:i}}", "object", "list", "data", data, "limits",
                              "pool_bytes", (json_int_t)table->pool_bytes, "resident_bytes", (json_int_t)bytes, "slots",
                              (json_int_t)table->pool_slots, "resident", (json_int_t)count, "names", (int)ADAPTERS_MOST,
                              "blend", (int)GRAFT_MAX_BLEND));
}

void serve_adapter(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error = {0};
    pthread_mutex_lock(&server->adapters.mutex);
    const struct adapter_entry *entry = adapters_find(&server->adapters, http_name(exchange));
    bool allowed = serve_allows(exchange, http_name(exchange));
    json_t *out = entry && allowed ? adapter_json(server, entry, is_operator(exchange)) : NULL;
    pthread_mutex_unlock(&server->adapters.mutex);
    if (out) {
        http_reply_json(exchange, 200, out);
        return;
    }
    api_fail(&error, 404, "lora_adapter_not_found", "name", "there is no adapter '%.64s'", http_name(exchange));
    serve_refuse(server, exchange, &error);
}

// ---- changes ----

struct change {
    struct server *server;
    struct http_exchange *exchange;
};

static void on_done(void *user, struct adapter_version *version, const struct api_error *error)
{
    struct change *change = user;
    if (version) {
        http_reply_json(change->exchange, 200, adapter_json(change->server, version->entry, true));
    } else {
        api_reply(change->exchange, error);
    }
    free(change);
}

// NULL: no memory, and *error says so.
static struct change *new_change(struct server *server, struct http_exchange *exchange, struct api_error *error)
{
    struct change *change = try_memory(1, sizeof *change);
    if (change) {
        *change = (struct change){server, exchange};
    } else {
        api_no_memory(error);
    }
    return change;
}

// What a request to load says; members that nobody knows are mistakes here: {"load_inpalce": true} must not load.
static bool read_change(const struct server *server, const json_t *body, const char *name, struct adapter_change *out,
                        struct api_error *error)
{
    static const char *const known[] = {"name", "path", "replace", "load_inplace", "expected_generation", "pin"};
    const char *key, *given = name, *path = NULL, *expected = "";
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, key, value)
    {
        size_t i = 0;
        while (i < 6 && strcmp(known[i], key) != 0) {
            i++;
        }
        if (i == 6) {
            return api_fail(error, 422, "invalid_request_body", key, "'%.60s' is not known here", key);
        }
    }
    if (!body_text(body, "name", 256, &given, error) || !body_text(body, "path", PATH_BYTES - 1, &path, error) ||
        !body_bool(body, "replace", &out->replace, error) || !body_bool(body, "load_inplace", &out->replace, error) ||
        !body_text(body, "expected_generation", 64, &expected, error) || !body_bool(body, "pin", &out->pin, error)) {
        return false;
    }
    if (!given || (name && strcmp(given, name) != 0)) {
        return api_bad(error, "name", given ? "the name is not that of the address" : "name is missing");
    }
    if (!adapter_name_check(&server->adapters, given, "name", error) ||
        !adapter_path_check(&server->adapters, path ? path : given, out->path, error)) {
        return false;
    }
    snprintf(out->name, sizeof out->name, "%s", given);
    snprintf(out->expected, sizeof out->expected, "%s", expected);
    return true;
}

static void load(struct http_exchange *exchange, struct server *server, const char *name, bool replace)
{
    struct api_error error = {0};
    struct adapter_change change = {.replace = replace};
    json_t *body = serve_body(server, exchange);
    if (!body) {
        return;
    }
    bool ok = read_change(server, body, name, &change, &error);
    json_decref(body);
    struct change *user = ok ? new_change(server, exchange, &error) : NULL;
    if (!user || !adapters_load(&server->adapters, &change, on_done, user, &error)) {
        free(user);
        serve_refuse(server, exchange, &error);
    }
}

// POST /v1/adapters: a new name.
void serve_adapters_add(struct http_exchange *exchange, void *server)
{
    load(exchange, server, NULL, false);
}

// PUT /v1/adapters/{name}: this name has this content from now on.
void serve_adapter_put(struct http_exchange *exchange, void *server)
{
    load(exchange, server, http_name(exchange), true);
}

void serve_adapter_warm(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error = {0};
    struct change *change = new_change(server, exchange, &error);
    if (!change || !adapters_warm(&server->adapters, http_name(exchange), on_done, change, &error)) {
        free(change);
        serve_refuse(server, exchange, &error);
    }
}

static void reply_adapter(struct http_exchange *exchange, struct server *server, bool ok, const struct api_error *error)
{
    if (ok) {
        serve_adapter(exchange, server);
    } else {
        serve_refuse(server, exchange, error);
    }
}

void serve_adapter_pin(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error;
    bool ok = adapters_pin(&server->adapters, http_name(exchange), true, &error);
    reply_adapter(exchange, server, ok, &error);
}

void serve_adapter_unpin(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error;
    bool ok = adapters_pin(&server->adapters, http_name(exchange), false, &error);
    reply_adapter(exchange, server, ok, &error);
}

void serve_adapter_delete(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error;
    const char *expected = http_query(exchange, "expected_generation");
    if (adapters_unload(&server->adapters, http_name(exchange), expected ? expected : "", &error)) {
        http_reply_json(exchange, 200, json_pack("{s:s, s:b}", "name", http_name(exchange), "deleted", 1));
    } else {
        serve_refuse(server, exchange, &error);
    }
}

void serve_adapters_scan(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    http_reply_json(exchange, 200, json_pack("{s:I}", "added", (json_int_t)adapters_scan(&server->adapters)));
}
