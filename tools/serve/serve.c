// SPDX-License-Identifier: Apache-2.0
// graft serve: opens the model, the engine and the adapters, and names the routes.
#include "tools/serve/serve.h"

#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"
#include "tools/serve/aliases.h"
#include "tools/serve/verbs.h"

enum { LOAD_BODY = 64 << 10 };

static const struct http_route routes[] = {
    {HTTP_GET, "/livez", HTTP_OPEN, 0, serve_livez},
    {HTTP_GET, "/readyz", HTTP_OPEN, 0, serve_readyz},
    {HTTP_GET, "/health", HTTP_OPEN, 0, serve_health},
    {HTTP_GET, "/v1/health", HTTP_OPEN, 0, serve_health},
    {HTTP_POST, "/v1/chat/completions", HTTP_USER, 0, serve_chat},
    {HTTP_POST, "/v1/{name}/chat/completions", HTTP_USER, 0, serve_chat},
    {HTTP_POST, "/v1/completions", HTTP_USER, 0, serve_completions},
    {HTTP_POST, "/v1/embeddings", HTTP_USER, 0, serve_embeddings},
    {HTTP_GET, "/v1/models", HTTP_USER, 0, serve_models},
    {HTTP_GET, "/models", HTTP_USER, 0, serve_models},
    {HTTP_GET, "/v1/models/{name}", HTTP_USER, 0, serve_model},
    {HTTP_POST, "/tokenize", HTTP_USER, 0, serve_tokenize},
    {HTTP_POST, "/detokenize", HTTP_USER, 0, serve_detokenize},
    {HTTP_POST, "/apply-template", HTTP_USER, 0, serve_apply_template},
    {HTTP_GET, "/props", HTTP_USER, 0, serve_props},
    {HTTP_GET, "/slots", HTTP_USER, 0, serve_slots},
    {HTTP_GET, "/v1/requests", HTTP_USER, 0, serve_requests},
    {HTTP_GET, "/metrics", HTTP_USER, 0, serve_metrics},
    {HTTP_GET, "/v1/adapters", HTTP_USER, 0, serve_adapters},
    {HTTP_GET, "/v1/adapters/{name}", HTTP_USER, 0, serve_adapter},
    {HTTP_GET, "/lora-adapters", HTTP_USER, 0, serve_lora_list},
    {HTTP_GET, "/v1/aliases", HTTP_USER, 0, serve_aliases},
    {HTTP_GET, "/v1/memory", HTTP_OPERATOR, 0, serve_memory},
    {HTTP_POST, "/v1/adapters", HTTP_OPERATOR, LOAD_BODY, serve_adapters_add},
    {HTTP_PUT, "/v1/adapters/{name}", HTTP_OPERATOR, LOAD_BODY, serve_adapter_put},
    {HTTP_DELETE, "/v1/adapters/{name}", HTTP_OPERATOR, 0, serve_adapter_delete},
    {HTTP_POST, "/v1/adapters/{name}/pin", HTTP_OPERATOR, LOAD_BODY, serve_adapter_pin},
    {HTTP_POST, "/v1/adapters/{name}/unpin", HTTP_OPERATOR, LOAD_BODY, serve_adapter_unpin},
    {HTTP_POST, "/v1/adapters/{name}/warm", HTTP_OPERATOR, LOAD_BODY, serve_adapter_warm},
    {HTTP_PUT, "/v1/aliases/{name}", HTTP_OPERATOR, LOAD_BODY, serve_alias_put},
    {HTTP_DELETE, "/v1/aliases/{name}", HTTP_OPERATOR, 0, serve_alias_delete},
    {HTTP_POST, "/v1/scan-adapters", HTTP_OPERATOR, LOAD_BODY, serve_adapters_scan},
    {HTTP_POST, "/v1/load_lora_adapter", HTTP_OPERATOR, LOAD_BODY, serve_load_lora},
    {HTTP_POST, "/v1/unload_lora_adapter", HTTP_OPERATOR, LOAD_BODY, serve_unload_lora},
    {HTTP_POST, "/lora-adapters", HTTP_OPERATOR, LOAD_BODY, serve_lora_scales},
};

// ---- what the handlers share ----

void serve_refuse(struct server *server, struct http_exchange *exchange, const struct api_error *error)
{
    count_error(server, error->status);
    api_reply(exchange, error);
}

json_t *serve_body(struct server *server, struct http_exchange *exchange)
{
    struct api_error error = {0};
    size_t length;
    const char *text = http_body(exchange, &length);
    json_t *body = body_parse(text, length, &error);
    if (!body) {
        serve_refuse(server, exchange, &error);
    }
    return body;
}

bool serve_allows(const void *exchange, const char *name)
{
    return http_caller_allows(exchange, name);
}

// ---- starting ----

// The base's id: the name in the file, or that of the file, without what would be syntax in a model's id.
static void name_base(struct server *server)
{
    snprintf(server->base, sizeof server->base, "%s", graft_path_name(server->session.path));
    size_t length = strlen(server->base);
    if (length > 5 && strcmp(server->base + length - 5, ".gguf") == 0) {
        server->base[length - 5] = 0;
    }
    for (char *p = server->base; *p; p++) {
        *p = *p == ':' || *p == '@' || *p == '/' || (unsigned char)*p <= ' ' ? '-' : *p;
    }
}

// --adapter [NAME=]PATH[:SCALE]: with a scale it is part of the default set.
static int add_named(struct server *server, const char *text)
{
    char path[PATH_BYTES], name[256];
    const char *equals = strchr(text, '=');
    struct api_error error;
    float scale = 0;
    snprintf(path, sizeof path, "%s", equals ? equals + 1 : text);
    char *colon = strrchr(path, ':'), *end;
    if (colon && colon[1]) {
        scale = strtof(colon + 1, &end);
        if (*end || !(scale >= -100 && scale <= 100)) {
            scale = 0;
        } else {
            *colon = 0;
        }
    }
    snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - text) : 255, equals ? text : graft_path_name(path));
    if (!adapter_name_check(&server->adapters, name, NULL, &error) || !adapters_add(&server->adapters, name, path, &error)) {
        char what[400];
        snprintf(what, sizeof what, "adapter %.300s cannot be used", text);
        return error_usage(what, error.message, "graft serve --adapter NAME=FOLDER");
    }
    adapters_find(&server->adapters, name)->scale = scale;
    return EXIT_GOOD;
}

// A load that somebody waits for.
struct warming {
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool done;
    struct api_error error;
};

static void on_warm(void *user, struct adapter_version *version, const struct api_error *error)
{
    struct warming *warming = user;
    (void)version;
    pthread_mutex_lock(&warming->mutex);
    warming->error = *error;
    warming->done = true;
    pthread_cond_signal(&warming->ended);
    pthread_mutex_unlock(&warming->mutex);
}

static bool warm(struct server *server, const char *name, struct api_error *error)
{
    struct warming warming = {.done = false};
    pthread_mutex_init(&warming.mutex, NULL);
    pthread_cond_init(&warming.ended, NULL);
    bool ok = adapters_warm(&server->adapters, name, on_warm, &warming, error);
    pthread_mutex_lock(&warming.mutex);
    while (ok && !warming.done) {
        pthread_cond_wait(&warming.ended, &warming.mutex);
    }
    pthread_mutex_unlock(&warming.mutex);
    *error = ok ? warming.error : *error;
    pthread_cond_destroy(&warming.ended);
    pthread_mutex_destroy(&warming.mutex);
    return ok && !error->status;
}

static int warm_or_say(struct server *server, const char *name)
{
    struct api_error error;
    char what[200];
    if (warm(server, name, &error)) {
        return EXIT_GOOD;
    }
    snprintf(what, sizeof what, "adapter %.100s cannot be loaded", name);
    error3(what, error.message, "another file, or a larger --adapter-pool");
    return EXIT_BAD_FILE;
}

// Those of --adapter and --warm are loaded before the first request.
static int warm_adapters(struct server *server)
{
    const struct options *o = server->options;
    int code = EXIT_GOOD;
    bool all = o->warm.count == 1 && strcmp(o->warm.values[0], "all") == 0;
    uint32_t n = all ? server->adapters.n_entries : o->adapters.count;
    for (uint32_t i = 0; i < n && code == EXIT_GOOD; i++) {
        code = warm_or_say(server, server->adapters.entries[i]->name); // those of --adapter stand in front
    }
    for (uint32_t i = 0; i < o->warm.count && code == EXIT_GOOD && !all; i++) {
        code = warm_or_say(server, o->warm.values[i]);
    }
    return code;
}

// --alias and --alias-file.
static int set_aliases(struct server *server)
{
    const struct options *o = server->options;
    struct api_error error;
    if (o->alias_file && !aliases_read(&server->adapters, o->alias_file, &error)) {
        error3("the file of aliases cannot be used", error.message, "{\"NAME\": \"MODEL\", \"ADAPTER@ALIAS\": \"VERSION\"}");
        return EXIT_BAD_FILE;
    }
    for (uint32_t i = 0; i < o->aliases.count; i++) {
        if (!alias_set_text(&server->adapters, o->aliases.values[i], &error)) {
            char what[200];
            snprintf(what, sizeof what, "the alias %.150s cannot be used", o->aliases.values[i]);
            return error_usage(what, error.message, "graft serve --alias NAME=MODEL");
        }
    }
    return EXIT_GOOD;
}

static int open_adapters(struct server *server)
{
    const struct options *o = server->options;
    struct adapters_params params = {.engine = server->engine,
                                     .dir = o->adapter_dir,
                                     .base = server->base,
                                     .pool_bytes = o->adapter_pool ? o->adapter_pool : SERVE_POOL_BYTES,
                                     .pool_slots = (uint32_t)o->adapter_slots,
                                     .max_leases = (uint32_t)o->max_waiting};
    int code = adapters_open(&server->adapters, &params);
    for (uint32_t i = 0; i < o->adapters.count && code == EXIT_GOOD; i++) {
        code = add_named(server, o->adapters.values[i]);
    }
    if (code == EXIT_GOOD) {
        adapters_scan(&server->adapters);
        code = adapters_start(&server->adapters);
    }
    code = code == EXIT_GOOD ? warm_adapters(server) : code;
    return code == EXIT_GOOD ? set_aliases(server) : code;
}

// On the engine's thread. A device that does not come back ends the server, for its supervisor to start it again.
static void on_device(void *user, enum graft_device_state state, const char *detail)
{
    struct server *server = user;
    switch (state) {
    case GRAFT_DEVICE_LOST:
        note("error: the device was lost, and is set up again: %s", detail);
        break;
    case GRAFT_DEVICE_WORKS:
        adapters_revise(&server->adapters);
        note("the device works again");
        break;
    case GRAFT_DEVICE_GIVEN_UP:
        note("error: the device does not come back, the server ends: %s", detail);
        atomic_store(&server->device_gone, true);
        http_ask_to_end();
        break;
    }
}

void serve_file_lost(struct server *server, const char *detail)
{
    if (!atomic_exchange(&server->file_lost, true)) {
        note("error: %s; the server ends", detail);
        http_server_drain(server->http);
    }
}

static int open_model(struct server *server)
{
    struct options o = *server->options;
    o.adapters.count = 0; // they are the table's
    o.n_seq = o.serve_seq;
    struct graft_model_params params = session_params(&o);
    params.adapter_pool_bytes = o.adapter_pool ? o.adapter_pool : SERVE_POOL_BYTES;
    params.adapter_slots = (uint32_t)o.adapter_slots;
    params.n_batch = params.n_batch && params.n_batch < params.n_seq ? params.n_seq : params.n_batch;
    int code = session_model(&server->session, &o, &params);
    if (code != EXIT_GOOD) {
        return code;
    }
    server->info = server->session.info;
    name_base(server);
    struct graft_engine_params engine = {.size = sizeof engine,
                                         .max_waiting = (uint32_t)o.max_waiting,
                                         .context_shift = o.context_shift,
                                         .no_speculation = o.draft_max == 0,
                                         .draft_tokens = (uint32_t)o.draft_max,
                                         .on_device = on_device,
                                         .user = server};
    enum graft_status status = graft_engine_create(server->session.model, &server->engine, &engine);
    if (status != GRAFT_OK) {
        return error_status(status, "the engine cannot start");
    }
    status = server->info.has_chat_template ? graft_model_tool_format(server->session.model, &server->format) : GRAFT_OK;
    if (status == GRAFT_E_FORMAT || status == GRAFT_E_UNSUPPORTED || status == GRAFT_E_LIMIT) {
        note("warning: the chat template cannot be used, only /v1/completions answers: %s", graft_last_error());
    } else if (status != GRAFT_OK) {
        return error_status(status, "the chat template cannot be looked at");
    }
    server->limits = (struct ask_limits){.ctx = server->session.ctx,
                                         .model = server->session.model,
                                         .n_ctx = server->info.n_ctx,
                                         .n_vocab = server->info.n_vocab,
                                         .format = server->format};
    return EXIT_GOOD;
}

static void on_hangup(void *user)
{
    struct server *server = user;
    uint32_t added = adapters_scan(&server->adapters);
    struct api_error error;
    if (server->options->alias_file && !aliases_read(&server->adapters, server->options->alias_file, &error)) {
        note("the aliases stay as they were: %s", error.message);
    }
    note("the folder of adapters has %u new ones", added);
}

// Addresses, keys, certificate and log: what is wrong with them is said before a large model is loaded.
static int open_doors(struct server *server)
{
    struct http_config config;
    int code = session_context(&server->session, server->options);
    if (code != EXIT_GOOD) {
        return code;
    }
    http_config_from(server->options, &config);
    enum graft_status status = http_server_create(server->session.ctx, &server->http, &config);
    return status == GRAFT_OK ? EXIT_GOOD : error_status(status, "the server cannot start");
}

static int serve(struct server *server)
{
    uint32_t known = server->adapters.n_entries; // requests may add to them soon
    base_digest_start(&server->digest, server->session.ctx, server->session.path);
    enum graft_status status = http_server_start(server->http, routes, sizeof routes / sizeof *routes, server);
    if (status != GRAFT_OK) {
        return error_status(status, "the server cannot start");
    }
    const char *address = server->options->listen.count ? server->options->listen.values[0] : "127.0.0.1:8080";
    const char *colon = strrchr(address, ':');
    char place[PATH_BYTES];
    snprintf(place, sizeof place, "%s", address);
    if (colon && strcmp(colon, ":0") == 0) { // any free port: say which
        snprintf(place, sizeof place, "%.*s:%u", (int)(colon - address), address, http_server_port(server->http, 0));
    }
    note("%s on %s, %u adapters known; listening on %s", server->base, server->session.device_info.name, known, place);
    http_server_run(server->http, on_hangup, server);
    return atomic_load(&server->file_lost) ? EXIT_FILE_LOST : atomic_load(&server->device_gone) ? EXIT_NO_DEVICE : EXIT_GOOD;
}

int serve_main(const struct options *options)
{
    struct server *server = get_memory(1, sizeof *server);
    server->options = options;
    server->created = time(NULL);
    server->fallback = options->model_fallback && strcmp(options->model_fallback, "base") == 0;
    server->begun_ns = graft_clock_ns();
    server->request_ns = (uint64_t)options->request_seconds * 1000000000u;
    http_block_signals();
    int code = open_doors(server);
    code = code == EXIT_GOOD ? open_model(server) : code;
    code = code == EXIT_GOOD ? open_adapters(server) : code;
    code = code == EXIT_GOOD ? jobs_start(server) : code;
    code = code == EXIT_GOOD ? serve(server) : code;
    http_server_destroy(&server->http); // every exchange is finished then
    base_digest_end(&server->digest);
    jobs_end(server);
    adapters_close(&server->adapters);
    if (server->engine) {
        graft_engine_destroy(&server->engine);
    }
    graft_tool_format_destroy(&server->format);
    session_close(&server->session);
    free(server);
    return code;
}
