// SPDX-License-Identifier: Apache-2.0
// Context, device and model from the options, with what is said when one of them cannot be had.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"

#include "tools/tool.h"

enum { DEFAULT_POOL_BYTES = 64 << 20 };

// --require-signed: the public keys of whom adapters may be signed by.
static int trust_keys(struct session *session, const char *path)
{
    char *text, what[300];
    uint64_t length;
    enum graft_status status = graft_file_read(session->ctx, path, 64 << 10, &text, &length);
    if (status == GRAFT_OK) {
        status = graft_require_signed(session->ctx, text, (size_t)length);
        graft_ctx_text_free(session->ctx, &text);
    }
    snprintf(what, sizeof what, "the keys of --require-signed, %.200s, cannot be used", path);
    return status == GRAFT_OK ? EXIT_GOOD : error_status(status, what);
}

int session_context(struct session *session, const struct options *options)
{
    if (options->threads > 0 && !system_use_processors(options->threads)) {
        note("the number of processors cannot be limited on this system");
    }
    folder_path(FOLDER_CACHE, session->cache);
    struct graft_ctx_params params = {
        .size = sizeof params,
        .budget_bytes = options->memory,
        .log = log_line,
        .log_level = options->verbose ? GRAFT_LOG_DEBUG : GRAFT_LOG_WARN,
        .cache_dir = *session->cache ? session->cache : NULL,
    };
    enum graft_status status = graft_ctx_create(&session->ctx, &params);
    if (status != GRAFT_OK) {
        return error_status(status, "graft cannot start");
    }
    return options->require_signed ? trust_keys(session, options->require_signed) : EXIT_GOOD;
}

int session_device(struct session *session, const struct options *options)
{
    int code = session->ctx ? EXIT_GOOD : session_context(session, options);
    if (code != EXIT_GOOD) {
        return code;
    }
    struct graft_device_params params = {.size = sizeof params,
                                         .select = options->device,
                                         .validation = options->validation,
                                         .no_self_test = options->no_self_test};
    enum graft_status status = graft_device_open(session->ctx, &session->device, &params);
    if (status != GRAFT_OK) {
        char what[300];
        snprintf(what, sizeof what, "device '%.200s' cannot be used", options->device ? options->device : "auto");
        return error_status(status, what);
    }
    graft_device_describe(session->device, &session->device_info);
    return EXIT_GOOD;
}

static enum graft_kv_type kv_type(const char *name)
{
    return !name                       ? GRAFT_KV_DEFAULT
           : strcmp(name, "f16") == 0  ? GRAFT_KV_F16
           : strcmp(name, "f32") == 0  ? GRAFT_KV_F32
           : strcmp(name, "q8_0") == 0 ? GRAFT_KV_Q8_0
                                       : GRAFT_KV_Q4_0;
}

static const char *const activation_names[] = {"auto", "f32", "int16", "int8"}; // by enum graft_activations

const char *session_activations(const struct session *session)
{
    return activation_names[session->info.activations];
}

static enum graft_activations activations(const char *name)
{
    uint32_t i = 0;
    while (name && i < GRAFT_ACTIVATIONS_INT8 && strcmp(name, activation_names[i]) != 0) {
        i++;
    }
    return (enum graft_activations)i;
}

struct graft_model_params session_params(const struct options *options)
{
    return (struct graft_model_params){
        .size = sizeof(struct graft_model_params),
        .check_values = options->check_values,
        .n_ctx = (uint32_t)options->n_ctx,
        .n_batch = (uint32_t)options->n_batch,
        .n_seq = (uint32_t)options->n_seq,
        .exact = options->exact,
        .matrix_cores = options->matrix_cores,
        .activations = activations(options->activations),
        .adapter_pool_bytes = options->adapters.count ? options->adapter_pool ? options->adapter_pool : DEFAULT_POOL_BYTES : 0,
        .timed = options->stages,
        .stream = options->stream && strcmp(options->stream, "off") == 0 ? GRAFT_STREAM_OFF : GRAFT_STREAM_AUTO,
        .kv_keys = kv_type(options->kv_keys ? options->kv_keys : options->kv),
        .kv_values = kv_type(options->kv_values ? options->kv_values : options->kv),
        .weights = strcmp(options->weights, "map") == 0    ? GRAFT_WEIGHTS_MAP
                   : strcmp(options->weights, "copy") == 0 ? GRAFT_WEIGHTS_COPY
                                                           : GRAFT_WEIGHTS_AUTO,
    };
}

static bool on_progress(void *user, uint64_t done, uint64_t total)
{
    progress_show(user, done, total, "");
    return true;
}

void adapter_spec_parse(const char *text, struct adapter_spec *out)
{
    const char *equals = strchr(text, '='), *from = equals ? equals + 1 : text;
    snprintf(out->path, sizeof out->path, "%s", from);
    out->weight = 1;
    char *colon = strrchr(out->path, ':'), *end;
    if (colon && colon[1]) {
        float weight = strtof(colon + 1, &end);
        if (!*end) {
            out->weight = weight;
            *colon = 0;
        }
    }
    const char *last = graft_path_name(out->path);
    const char *name = equals ? text : *last ? last : out->path;
    size_t length = equals ? (size_t)(equals - text) : strlen(name);
    snprintf(out->name, sizeof out->name, "%.*s", (int)(length < 63 ? length : 63), name);
}

static int load_adapter(struct session *session, const char *text)
{
    struct session_adapter *adapter = &session->adapters[session->n_adapters];
    struct adapter_spec spec;
    adapter_spec_parse(text, &spec);
    memcpy(adapter->name, spec.name, sizeof adapter->name);
    memcpy(adapter->path, spec.path, sizeof adapter->path);
    adapter->weight = spec.weight;
    uint64_t begin = graft_clock_ns();
    enum graft_status status = graft_adapter_load(session->model, &adapter->handle, spec.path);
    adapter->load_ns = graft_clock_ns() - begin;
    if (status != GRAFT_OK) {
        char what[PATH_BYTES + 64];
        snprintf(what, sizeof what, "adapter %s cannot be loaded", spec.path);
        return error_status(status, what);
    }
    adapter->active = true;
    session->n_adapters++;
    return EXIT_GOOD;
}

static int load_adapters(struct session *session, const struct options *options)
{
    for (uint32_t i = 0; i < options->adapters.count; i++) {
        int code = load_adapter(session, options->adapters.values[i]);
        if (code != EXIT_GOOD) {
            return code;
        }
    }
    return EXIT_GOOD;
}

uint32_t session_blend(const struct session *session, struct graft_adapter_use uses[GRAFT_MAX_BLEND])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < session->n_adapters && n < GRAFT_MAX_BLEND; i++) {
        if (session->adapters[i].active) {
            uses[n++] =
                (struct graft_adapter_use){.adapter = session->adapters[i].handle, .weight = session->adapters[i].weight};
        }
    }
    return n;
}

int session_model(struct session *session, const struct options *options, const struct graft_model_params *given)
{
    int code = options->synthetic ? EXIT_GOOD : model_find(options->model, session->path);
    if (code == EXIT_GOOD) {
        code = session_device(session, options);
    }
    if (code != EXIT_GOOD) {
        return code;
    }
    struct graft_model_params params = given ? *given : session_params(options);
    struct progress progress;
    progress_begin(&progress, "Loading");
    params.progress = on_progress;
    params.progress_user = &progress;
    enum graft_status status = options->synthetic
                                   ? graft_model_open_synthetic(session->device, &session->model, options->synthetic, &params)
                                   : graft_model_open(session->device, &session->model, session->path, &params);
    progress_end(&progress);
    if (status != GRAFT_OK) {
        char what[PATH_BYTES + 64];
        snprintf(what, sizeof what, "%s cannot be opened", options->synthetic ? options->synthetic : session->path);
        return error_status(status, what);
    }
    graft_model_describe(session->model, &session->info);
    return load_adapters(session, options);
}

int session_vocabulary(struct session *session, const struct options *options)
{
    int code = model_find(options->model, session->path);
    if (code == EXIT_GOOD) {
        code = session_context(session, options);
    }
    if (code != EXIT_GOOD) {
        return code;
    }
    enum graft_status status = graft_vocabulary_open(session->ctx, &session->vocabulary, session->path);
    if (status != GRAFT_OK) {
        char what[PATH_BYTES + 64];
        snprintf(what, sizeof what, "the vocabulary of %s cannot be used", session->path);
        return error_status(status, what);
    }
    return EXIT_GOOD;
}

void session_close(struct session *session)
{
    if (session->vocabulary) {
        graft_vocabulary_close(&session->vocabulary);
    }
    if (session->model) {
        for (uint32_t i = 0; i < session->n_adapters; i++) {
            graft_adapter_release(&session->adapters[i].handle);
        }
        session->n_adapters = 0;
        graft_model_close(&session->model);
    }
    if (session->device) {
        graft_device_close(&session->device);
    }
    graft_ctx_destroy(&session->ctx);
}

const char *device_kind_name(enum graft_device_kind kind)
{
    switch (kind) {
    case GRAFT_DEVICE_DISCRETE:
        return "discrete";
    case GRAFT_DEVICE_INTEGRATED:
        return "integrated";
    case GRAFT_DEVICE_VIRTUAL:
        return "virtual";
    case GRAFT_DEVICE_SOFTWARE:
        return "software";
    case GRAFT_DEVICE_REFERENCE:
        return "reference";
    }
    return "?";
}

int devices_list(struct graft_ctx *ctx, struct graft_device_info **out, uint32_t *count, const char **missing)
{
    enum { MOST = 64 };
    struct graft_device_info *infos = get_memory(MOST, sizeof *infos);
    *missing = NULL;
    enum graft_status status = graft_device_list(ctx, infos, MOST, count, missing);
    if (status != GRAFT_OK) {
        free(infos);
        return error_status(status, "the devices cannot be listed");
    }
    if (*count > MOST) {
        *count = MOST;
    }
    *out = infos;
    return EXIT_GOOD;
}

json_t *device_json(const struct graft_device_info *info, uint32_t number)
{
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:b, s:s, s:I, s:b, s:i, s:b, s:b, s:b, s:b, s:I}", "number", (int)number,
                     "name", info->name, "kind", device_kind_name(info->kind), "driver", info->driver, "api_version",
                     info->api_version, "usable", (int)info->usable, "reason", info->reason, "memory_bytes",
                     (json_int_t)info->memory_bytes, "unified", (int)info->unified, "subgroup_size", (int)info->subgroup_size,
                     "f16", (int)info->f16, "dot8", (int)info->dot8, "matrix_cores", (int)info->matrix_cores, "host_import",
                     (int)info->host_import, "max_buffer_bytes", (json_int_t)info->max_buffer_bytes);
}
