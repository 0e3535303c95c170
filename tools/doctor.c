// SPDX-License-Identifier: Apache-2.0
// graft doctor: one look at the machine: driver, devices, folders, models; each line good or with what helps.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"
#include "tools/tool.h"

// Findings as they come: printed, or collected for --json.
struct findings {
    bool json;
    json_t *array;
};

GRAFT_PRINTF(4, 5) static void finding(struct findings *findings, const char *level, const char *topic, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (findings->json) {
        json_array_append_new(findings->array, json_pack("{s:s, s:s, s:o}", "level", level, "topic", topic, "text",
                                                         json_text(text, strlen(text))));
    } else {
        printf("%-5s %-8s %s\n", level, topic, text);
    }
}

static void on_gpu(void *user, const char *level, const char *text)
{
    finding(user, level, "nodes", "%s", text);
}

static bool look_at_devices(struct findings *findings, struct session *session, int *code)
{
    struct graft_device_info *infos = NULL;
    uint32_t count = 0;
    const char *missing = NULL;
    bool any = false;
    *code = devices_list(session->ctx, &infos, &count, &missing);
    if (*code != EXIT_GOOD) {
        return false;
    }
    if (missing) {
        finding(findings, "bad", "vulkan", "%s", missing);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct graft_device_info *d = &infos[i];
        bool reference = d->kind == GRAFT_DEVICE_REFERENCE;
        any = any || (d->usable && !reference);
        finding(findings, d->usable ? "good" : "bad", "device", "%" PRIu32 ": %s, %s%s%s%s%s", i, d->name,
                device_kind_name(d->kind), *d->driver ? ", " : "", d->driver, *d->reason ? ": " : "", d->reason);
        if (d->usable && !reference) {
            finding(findings, "note", "device", "%" PRIu32 ": subgroups of %" PRIu32 "%s%s%s%s, %s", i, d->subgroup_size,
                    d->f16 ? ", f16" : "", d->dot8 ? ", int8 dot product" : "", d->matrix_cores ? ", matrix cores" : "",
                    d->host_import ? ", file import" : "", bytes_text(d->memory_bytes).text);
        }
    }
    if (!any) {
        finding(findings, "bad", "device",
                "no Vulkan device is usable; try: %s; or --device ref, which is slow and needs none", graft_driver_advice);
    }
    free(infos);
    return any;
}

static void look_at_folders(struct findings *findings)
{
    char data[PATH_BYTES], cache[PATH_BYTES];
    folder_path(FOLDER_DATA, data);
    folder_path(FOLDER_CACHE, cache);
    struct models models;
    models_list(&models);
    for (size_t i = 0; i < models.count; i++) {
        finding(findings, "good", "model", "%s/%s", data, models.names[i]);
    }
    if (models.count == 0) {
        finding(findings, "note", "model", "none in %s; try: tools/fetch-model, or put .gguf files there", data);
    }
    models_free(&models);
    if (!*cache) {
        finding(findings, "note", "cache",
                "there is no home folder: compiled pipelines are not kept, every start is a first start");
        return;
    }
    char parent[PATH_BYTES];
    snprintf(parent, sizeof parent, "%s", cache);
    while (!file_exists(parent) && strrchr(parent, '/') != parent) { // the nearest folder that exists decides
        *strrchr(parent, '/') = 0;
    }
    if (system_writable(parent)) {
        finding(findings, "good", "cache", "%s", cache);
    } else {
        finding(findings, "bad", "cache", "%s cannot be written: every start is a first start; try: XDG_CACHE_HOME", cache);
    }
}

int verb_DOCTOR(const struct options *options)
{
    struct session session = {0};
    struct findings findings = {options->json, options->json ? json_array() : NULL};
    char name[300];
    int code = session_context(&session, options);
    if (code != EXIT_GOOD) {
        json_decref(findings.array);
        return code;
    }
    system_name(name, sizeof name);
    finding(&findings, "good", "graft", "version %s", graft_version());
    finding(&findings, "note", "system", "%s, %" PRIu32 " processors, %s memory", name, graft_cpu_count(),
            bytes_text(system_memory_bytes()).text);
    system_look_at_gpu(on_gpu, &findings);
    bool usable = look_at_devices(&findings, &session, &code);
    look_at_folders(&findings);
    if (options->json) {
        int printed = print_json(findings.array);
        code = code != EXIT_GOOD ? code : printed;
    }
    session_close(&session);
    return code != EXIT_GOOD ? code : usable ? EXIT_GOOD : EXIT_NO_DEVICE;
}
