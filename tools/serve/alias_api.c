// SPDX-License-Identifier: Apache-2.0
// Routes of aliases: /v1/aliases, /v1/aliases/{name}, where the name is one of its own or NAME@LABEL.
#include <string.h>

#include "tools/serve/aliases.h"
#include "tools/serve/serve.h"

// May the caller see where an alias leads? That of the base everybody, others whoever may use the adapter.
static bool may_see(const struct server *server, const struct http_exchange *exchange, const struct adapter_alias *alias)
{
    char name[ALIAS_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(alias->target, "@"), alias->target);
    return strcmp(alias->target, server->base) == 0 || serve_allows(exchange, name);
}

void serve_aliases(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    json_t *data = json_array();
    pthread_mutex_lock(&server->adapters.mutex);
    for (uint32_t i = 0; i < server->adapters.n_aliases; i++) {
        const struct adapter_alias *alias = &server->adapters.aliases[i];
        if (may_see(server, exchange, alias)) {
            json_array_append_new(data, json_pack("{s:s, s:s}", "alias", alias->name, "model", alias->target));
        }
    }
    pthread_mutex_unlock(&server->adapters.mutex);
    http_reply_json(exchange, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

// {"member": ...} and nothing else.
static bool only_members(const json_t *body, const char *const *members, struct api_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, key, value)
    {
        size_t i = 0;
        while (members[i] && strcmp(members[i], key) != 0) {
            i++;
        }
        if (!members[i]) {
            return api_fail(error, 422, "invalid_request_body", key, "'%.60s' is not known here", key);
        }
    }
    return true;
}

// {"model": TARGET}.
static bool put_alias(struct server *server, const char *name, const json_t *body, struct api_error *error)
{
    static const char *const members[] = {"model", NULL};
    const char *target = NULL;
    return only_members(body, members, error) && body_text(body, "model", ALIAS_BYTES - 1, &target, error) &&
           (target || api_bad(error, "model", "model is missing: the base, NAME, NAME@VERSION or NAME@ALIAS")) &&
           alias_set(&server->adapters, name, target, true, false, error);
}

// {"version": NUMBER} or {"generation": DIGITS}; {}: the current one.
static bool put_label(struct server *server, const char *adapter, const char *label, const json_t *body,
                      struct api_error *error)
{
    static const char *const members[] = {"version", "generation", NULL};
    int64_t number = 0;
    const char *generation = "";
    char which[24] = "";
    if (!only_members(body, members, error) || !body_integer(body, "version", 1, 9999999, &number, error) ||
        !body_text(body, "generation", 64, &generation, error)) {
        return false;
    }
    if (*generation && (number || strlen(generation) < 8)) {
        return api_bad(error, "generation", "generation has 8 to 64 digits, and stands without version");
    }
    snprintf(which, sizeof which, "%lld", (long long)number);
    return label_set(&server->adapters, adapter, label, number ? which : generation, false, error);
}

// The adapter in front of the @, and what is behind it; NULL: there is none.
static const char *label_of(struct http_exchange *exchange, char adapter[ADAPTER_NAME_BYTES])
{
    const char *name = http_name(exchange), *at = strchr(name, '@');
    snprintf(adapter, ADAPTER_NAME_BYTES, "%.*s", (int)(at ? at - name : 0), name);
    return at ? at + 1 : NULL;
}

void serve_alias_put(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error = {0};
    char adapter[ADAPTER_NAME_BYTES];
    const char *label = label_of(exchange, adapter);
    json_t *body = serve_body(server, exchange);
    if (!body) {
        return;
    }
    if (label ? put_label(server, adapter, label, body, &error) : put_alias(server, http_name(exchange), body, &error)) {
        http_reply_json(exchange, 200, json_pack("{s:s, s:b}", "alias", http_name(exchange), "set", 1));
    } else {
        serve_refuse(server, exchange, &error);
    }
    json_decref(body);
}

void serve_alias_delete(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error = {0};
    char adapter[ADAPTER_NAME_BYTES];
    const char *label = label_of(exchange, adapter);
    if (label ? label_remove(&server->adapters, adapter, label, &error)
              : alias_remove(&server->adapters, http_name(exchange), &error)) {
        http_reply_json(exchange, 200, json_pack("{s:s, s:b}", "alias", http_name(exchange), "deleted", 1));
    } else {
        serve_refuse(server, exchange, &error);
    }
}
