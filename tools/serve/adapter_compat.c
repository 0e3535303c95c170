// SPDX-License-Identifier: Apache-2.0
// Routes of adapters in the form of others: vLLM's /v1/load_lora_adapter and /v1/unload_lora_adapter, llama.cpp's
// /lora-adapters.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/serve/serve.h"

// ---- vLLM ----

struct load {
    struct server *server;
    struct http_exchange *exchange;
    char name[ADAPTER_NAME_BYTES];
};

// Their clients know three types.
static int reply_error(struct http_exchange *exchange, const struct api_error *error)
{
    int status = error->status == 409 || error->status == 422 || error->status == 413 ? 400 : error->status;
    const char *type = status == 400   ? "InvalidUserInput"
                       : status == 404 ? "NotFoundError"
                       : status == 500 ? "InternalServerError"
                                       : api_error_type(error);
    http_error(exchange, status, type, error->code, *error->param ? error->param : NULL, "%s", error->message);
    return status;
}

static void refuse(struct server *server, struct http_exchange *exchange, const struct api_error *error)
{
    count_error(server, reply_error(exchange, error));
}

// Under the lock that counting takes.
static void on_loaded(void *user, struct adapter_version *version, const struct api_error *error)
{
    struct load *load = user;
    if (version) {
        char text[160];
        int n = snprintf(text, sizeof text, "Success: LoRA adapter '%s' added successfully.", load->name);
        http_reply(load->exchange, 200, "text/plain; charset=utf-8", text, (size_t)n);
    } else {
        reply_error(load->exchange, error);
    }
    free(load);
}

void serve_load_lora(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error = {0};
    struct adapter_change change = {0};
    const char *name = NULL, *path = NULL;
    bool is_3d = false;
    json_t *body = serve_body(server, exchange);
    if (!body) {
        return;
    }
    const json_t *given_name = body_member(body, "lora_name"), *given_path = body_member(body, "lora_path");
    bool there = json_string_length(given_name) && json_string_length(given_path);
    bool ok = there || api_fail(&error, 400, "invalid_value", given_name ? "lora_path" : "lora_name",
                                "Both 'lora_name' and 'lora_path' must be provided.");
    ok = ok && body_text(body, "lora_name", 256, &name, &error) &&
         body_text(body, "lora_path", PATH_BYTES - 1, &path, &error) &&
         body_bool(body, "load_inplace", &change.replace, &error) && body_bool(body, "is_3d_lora_weight", &is_3d, &error);
    if (ok && is_3d) {
        ok = api_fail(&error, 400, "unsupported_parameter", "is_3d_lora_weight", "three-dimensional weights are not supported");
    }
    ok = ok && adapter_name_check(&server->adapters, name, "lora_name", &error) &&
         adapter_path_check(&server->adapters, path, change.path, &error);
    struct load *load = NULL;
    if (ok) {
        load = try_memory(1, sizeof *load);
        ok = load || api_no_memory(&error);
    }
    if (ok) {
        *load = (struct load){.server = server, .exchange = exchange};
        snprintf(load->name, sizeof load->name, "%s", name);
        snprintf(change.name, sizeof change.name, "%s", name);
        ok = adapters_load(&server->adapters, &change, on_loaded, load, &error);
    }
    if (!ok) {
        free(load);
        refuse(server, exchange, &error);
    }
    json_decref(body);
}

void serve_unload_lora(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error = {0};
    json_t *body = serve_body(server, exchange);
    if (!body) {
        return;
    }
    const json_t *name = body_member(body, "lora_name");
    bool ok = json_string_length(name) ||
              api_fail(&error, 400, "invalid_value", "lora_name", "'lora_name' needs to be provided to unload a LoRA adapter.");
    ok = ok && adapters_unload(&server->adapters, json_string_value(name), "", &error);
    if (ok) {
        char text[160];
        int n = snprintf(text, sizeof text, "Success: LoRA adapter '%.64s' removed successfully.", json_string_value(name));
        http_reply(exchange, 200, "text/plain; charset=utf-8", text, (size_t)n);
    } else {
        if (error.status == 404) {
            snprintf(error.message, sizeof error.message, "The lora adapter '%.64s' cannot be found.", json_string_value(name));
        }
        refuse(server, exchange, &error);
    }
    json_decref(body);
}

// ---- llama.cpp ----

void serve_lora_list(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct adapters *table = &server->adapters;
    json_t *list = json_array();
    pthread_mutex_lock(&table->mutex);
    for (uint32_t i = 0; i < table->n_entries; i++) {
        const struct adapter_entry *entry = table->entries[i];
        if (!entry->known || !serve_allows(exchange, entry->name)) {
            continue;
        }
        const struct graft_adapter_info *info = &entry->current->info;
        json_t *item = json_pack("{s:I, s:s, s:f, s:s, s:s, s:s}", "id", (json_int_t)entry->id, "path", entry->name, "scale",
                                 (double)entry->scale, "task_name", "", "prompt_prefix", "", "digest", info->digest);
        if (info->n_invocation) {
            char text[2048];
            size_t length = 0;
            json_t *ids = json_array();
            for (uint32_t k = 0; k < info->n_invocation; k++) {
                json_array_append_new(ids, json_integer(info->invocation[k]));
            }
            bool ok = graft_detokenize(server->session.model, info->invocation, info->n_invocation, true, text, sizeof text,
                                       &length) == GRAFT_OK;
            json_object_set_new(item, "alora_invocation_string", json_text(text, ok ? length : 0));
            json_object_set_new(item, "alora_invocation_tokens", ids);
        }
        json_array_append_new(list, item);
    }
    pthread_mutex_unlock(&table->mutex);
    http_reply_json(exchange, 200, list);
}

// Under the lock: what every entry's scale is to be; nothing is changed before all is right.
static bool read_scales(const struct adapters *table, const json_t *list, float *scales, struct api_error *error)
{
    bool given[ADAPTERS_MOST] = {false};
    uint32_t n = 0;
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        int64_t id = -1;
        double scale = NAN;
        char param[72];
        snprintf(param, sizeof param, "[%zu]", i);
        if (!json_is_object(item) || !json_is_integer(json_object_get(item, "id")) ||
            !json_is_number(json_object_get(item, "scale"))) {
            return api_bad(error, param, "entry %zu must be {\"id\": number, \"scale\": number}", i);
        }
        id = json_integer_value(json_object_get(item, "id"));
        scale = json_number_value(json_object_get(item, "scale"));
        if (id < 0 || id >= table->n_entries || !table->entries[id]->known) {
            return api_bad(error, param, "entry %zu: there is no adapter %lld", i, (long long)id);
        }
        if (given[id]) {
            return api_bad(error, param, "entry %zu: adapter %lld is there twice", i, (long long)id);
        }
        if (!(scale >= -100 && scale <= 100)) {
            return api_bad(error, param, "entry %zu: a scale is a number from -100 to 100", i);
        }
        given[id] = true;
        scales[id] = (float)scale;
        n += scale != 0;
    }
    return n <= GRAFT_MAX_BLEND || api_bad(error, NULL, "at most %d adapters can be blended", GRAFT_MAX_BLEND);
}

void serve_lora_scales(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct adapters *table = &server->adapters;
    struct api_error error = {0};
    size_t length;
    float scales[ADAPTERS_MOST] = {0};
    const char *text = http_body(exchange, &length);
    // The one body that is an array: the bounds are those of an object around it.
    struct out wrapped = {0};
    out_bytes(&wrapped, "{\"list\":", 8);
    out_bytes(&wrapped, text, length);
    out_bytes(&wrapped, "}", 1);
    json_t *body = wrapped.failed ? NULL : body_parse(wrapped.data, wrapped.length, &error);
    const json_t *list = json_object_get(body, "list");
    bool ok = body != NULL;
    if (ok && (!json_is_array(list) || json_object_size(body) != 1)) {
        ok = api_bad(&error, NULL, "Request body must be an array");
    }
    if (ok) {
        pthread_mutex_lock(&table->mutex);
        ok = read_scales(table, list, scales, &error);
        for (uint32_t i = 0; i < table->n_entries && ok; i++) {
            table->entries[i]->scale = scales[i];
        }
        pthread_mutex_unlock(&table->mutex);
    }
    if (ok) {
        http_reply_json(exchange, 200, json_pack("{s:b}", "success", 1));
    } else {
        serve_refuse(server, exchange, &error);
    }
    json_decref(body);
    out_free(&wrapped);
}
