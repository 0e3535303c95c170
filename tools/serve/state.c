// SPDX-License-Identifier: Apache-2.0
// Routes about the server: its models, its settings, whether it is well.
#include <string.h>

#include "tools/serve/aliases.h"
#include "tools/serve/serve.h"

// ---- /v1/models ----

static json_t *base_card(const struct server *server)
{
    json_t *meta = json_pack("{s:I, s:I, s:I, s:I, s:s, s:s?}", "n_ctx", (json_int_t)server->info.n_ctx, "n_ctx_train",
                             (json_int_t)server->info.n_ctx_train, "n_params", (json_int_t)server->info.n_parameters, "size",
                             (json_int_t)server->info.weight_bytes, "quantization", server->info.quantization, "digest",
                             base_digest_text(&server->digest));
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:n, s:o}", "id", server->base, "object", "model", "created",
                     (json_int_t)server->created, "owned_by", "graft", "root", server->base, "parent", "meta", meta);
}

// Under the adapters' lock: a version by the name that was asked for.
static json_t *version_card(const struct server *server, const char *id, const struct adapter_version *v)
{
    const struct adapter_entry *entry = v->entry;
    bool seen = *v->info.digest != 0;
    json_t *meta =
        json_pack("{s:I, s:o, s:o, s:o, s:o, s:I, s:b}", "n_ctx", (json_int_t)server->info.n_ctx, "size",
                  seen ? json_integer((json_int_t)v->info.bytes) : json_null(), "rank",
                  seen ? json_integer(v->info.rank) : json_null(), "digest", seen ? json_string(v->info.digest) : json_null(),
                  "generation", seen ? json_string(adapter_generation(v).text) : json_null(), "version", (json_int_t)v->number,
                  "resident", v->handle != NULL);
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:o}", "id", id, "object", "model", "created", (json_int_t)server->created,
                     "owned_by", "graft", "root", entry->name, "parent", server->base, "meta", meta);
}

// Under the adapters' lock: what an alias stands for, by its name; NULL: it is not there, or not the caller's.
static json_t *alias_card(const struct server *server, const struct http_exchange *exchange, const struct adapter_alias *alias)
{
    char name[ALIAS_BYTES];
    const char *at = strchr(alias->target, '@');
    snprintf(name, sizeof name, "%.*s", (int)strcspn(alias->target, "@"), alias->target);
    if (strcmp(alias->target, server->base) == 0) {
        json_t *card = base_card(server);
        json_object_set_new(card, "id", json_string(alias->name));
        return card;
    }
    const struct adapter_entry *entry = adapters_find(&server->adapters, name);
    const struct adapter_version *v =
        entry && serve_allows(exchange, name) ? adapter_find_version(entry, at ? at + 1 : "") : NULL;
    return v ? version_card(server, alias->name, v) : NULL;
}

// Under the adapters' lock: the adapter, and each of its labels.
static void add_cards(const struct server *server, const struct adapter_entry *entry, json_t *data)
{
    json_array_append_new(data, version_card(server, entry->name, entry->current));
    for (const struct adapter_label *label = entry->labels; label; label = label->next) {
        char id[2 * ADAPTER_NAME_BYTES];
        snprintf(id, sizeof id, "%s@%s", entry->name, label->name);
        json_array_append_new(data, version_card(server, id, label->version));
    }
}

void serve_models(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    json_t *data = json_array();
    json_array_append_new(data, base_card(server));
    pthread_mutex_lock(&server->adapters.mutex);
    for (uint32_t i = 0; i < server->adapters.n_entries; i++) {
        const struct adapter_entry *entry = server->adapters.entries[i];
        if (entry->known && serve_allows(exchange, entry->name)) {
            add_cards(server, entry, data);
        }
    }
    for (uint32_t i = 0; i < server->adapters.n_aliases; i++) {
        json_t *card = alias_card(server, exchange, &server->adapters.aliases[i]);
        if (card) {
            json_array_append_new(data, card);
        }
    }
    pthread_mutex_unlock(&server->adapters.mutex);
    http_reply_json(exchange, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

void serve_model(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct selected selected;
    struct api_error error = {0};
    struct selection selection = {.model = http_name(exchange), .allows = serve_allows, .user = exchange};
    if (strcmp(selection.model, server->base) == 0) {
        http_reply_json(exchange, 200, base_card(server));
        return;
    }
    pthread_mutex_lock(&server->adapters.mutex);
    const struct adapter_alias *alias = alias_find(&server->adapters, selection.model);
    json_t *card = alias ? alias_card(server, exchange, alias) : NULL;
    pthread_mutex_unlock(&server->adapters.mutex);
    if (card) {
        http_reply_json(exchange, 200, card);
        return;
    }
    if (!adapters_select(&server->adapters, &selection, &selected, &error)) {
        serve_refuse(server, exchange, &error);
        return;
    }
    pthread_mutex_lock(&server->adapters.mutex);
    card = version_card(server, selection.model, selected.lease.versions[0]); // by the name that was asked for
    pthread_mutex_unlock(&server->adapters.mutex);
    selected_drop(&server->adapters, &selected);
    http_reply_json(exchange, 200, card);
}

// ---- /props, /slots, /v1/memory ----

// How tool calls are written: by the template, or in messages.
static const char *tool_calls(const struct server *server)
{
    static const char *const styles[] = {"object", "named", "parameters"};
    struct graft_tool_format_info info;
    if (!server->format) {
        return "";
    }
    graft_tool_format_describe(server->format, &info);
    return info.native_calls ? styles[info.style] : "messages";
}

void serve_props(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    json_t *settings = json_pack("{s:f, s:i, s:f, s:f, s:f, s:i, s:i}", "temperature", 0.8, "top_k", 40, "top_p", 0.95, "min_p",
                                 0.05, "repeat_penalty", 1.0, "seed", -1, "n_predict", -1);
    json_t *general = json_pack("{s:I, s:o}", "n_ctx", (json_int_t)server->info.n_ctx, "params", settings);
    http_reply_json(exchange, 200,
                    json_pack("{s:o, s:I, s:s, s:s, s:b, s:s, s:{s:b, s:b}, s:s, s:I, s:I, s:b}", "default_generation_settings",
                              general, "total_slots", (json_int_t)server->info.n_seq, "model_alias", server->base, "build_info",
                              "graft " GRAFT_VERSION_STRING, "has_chat_template", (int)server->info.has_chat_template,
                              "tool_calls", tool_calls(server), "modalities", "vision", 0, "audio", 0, "device",
                              server->session.device_info.name, "adapter_pool_bytes", (json_int_t)server->adapters.pool_bytes,
                              "adapter_slots", (json_int_t)server->adapters.pool_slots, "is_sleeping", 0));
}

void serve_slots(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct graft_engine_stats stats;
    graft_engine_describe(server->engine, &stats);
    json_t *slots = json_array();
    for (uint32_t i = 0; i < server->info.n_seq; i++) {
        json_array_append_new(slots, json_pack("{s:I, s:I, s:b}", "id", (json_int_t)i, "n_ctx", (json_int_t)server->info.n_ctx,
                                               "is_processing", i < stats.running));
    }
    http_reply_json(exchange, 200, slots);
}

void serve_memory(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct graft_memory_use use;
    struct graft_engine_stats stats;
    uint32_t count;
    graft_ctx_memory(server->session.ctx, &use);
    graft_engine_describe(server->engine, &stats);
    pthread_mutex_lock(&server->adapters.mutex);
    uint64_t bytes = adapters_resident(&server->adapters, &count);
    pthread_mutex_unlock(&server->adapters.mutex);
    http_reply_json(exchange, 200,
                    json_pack("{s:o, s:{s:I, s:I, s:I}, s:{s:I, s:I, s:I, s:I}}", "memory", json_memory(&use), "kv_pages",
                              "total", (json_int_t)stats.pages, "free", (json_int_t)stats.free_pages, "cached",
                              (json_int_t)stats.cached_pages, "adapter_pool", "bytes", (json_int_t)server->adapters.pool_bytes,
                              "used", (json_int_t)bytes, "slots", (json_int_t)server->adapters.pool_slots, "resident",
                              (json_int_t)count));
}

// ---- probes ----

static bool is_well(struct server *server, struct api_error *error)
{
    struct graft_engine_stats stats;
    graft_engine_describe(server->engine, &stats);
    if (graft_model_damaged(server->session.model)) {
        return api_fail(error, 503, "model_file_damaged", NULL, "the model's file was cut while it was in use");
    }
    if (stats.lost) {
        return api_fail(error, 503, "device_lost", NULL, "the device was lost");
    }
    return true;
}

void serve_health(struct http_exchange *exchange, void *user)
{
    struct api_error error = {0};
    if (is_well(user, &error)) {
        http_reply_json(exchange, 200, json_pack("{s:s}", "status", "ok"));
    } else {
        api_reply(exchange, &error);
    }
}

void serve_livez(struct http_exchange *exchange, void *user)
{
    (void)user;
    http_reply(exchange, 200, "text/plain", "ok\n", 3);
}

void serve_readyz(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error = {0};
    struct graft_engine_stats stats;
    graft_engine_describe(server->engine, &stats);
    bool ready = is_well(server, &error);
    if (ready && http_server_draining(server->http)) {
        ready = api_fail(&error, 503, "draining", NULL, "the server is ending");
    } else if (ready && stats.waiting >= (uint32_t)server->options->max_waiting) {
        ready = api_fail(&error, 503, "queue_full", NULL, "the queue is full");
    }
    if (ready) {
        http_reply(exchange, 200, "text/plain", "ready\n", 6);
    } else {
        api_reply(exchange, &error);
    }
}
