// SPDX-License-Identifier: Apache-2.0
// The table of adapters: names, versions, paths, and the line of requests that wait for theirs.
#include "tools/serve/adapters.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"
#include "tools/serve/aliases.h"
#include "tools/serve/server_files.h"

// ---- opening and closing ----

int adapters_open(struct adapters *table, const struct adapters_params *params)
{
    *table = (struct adapters){.engine = params->engine,
                               .pool_bytes = params->pool_bytes,
                               .pool_slots = params->pool_slots,
                               .max_leases = params->max_leases};
    pthread_mutex_init(&table->mutex, NULL);
    pthread_cond_init(&table->wake, NULL);
    table->leases_end = &table->leases;
    table->aliases = get_memory(ALIASES_MOST, sizeof *table->aliases);
    snprintf(table->base, sizeof table->base, "%s", params->base);
    const char *why;
    if (params->dir && !real_path(params->dir, table->dir, &why)) {
        char what[PATH_BYTES + 64];
        snprintf(what, sizeof what, "the folder of adapters %.*s cannot be used", PATH_BYTES, params->dir);
        error3(what, why, "--adapter-dir FOLDER, with a folder per adapter in it");
        return EXIT_BAD_FILE;
    }
    return EXIT_GOOD;
}

int adapters_start(struct adapters *table)
{
    if (pthread_create(&table->thread, NULL, adapters_thread, table) != 0) {
        error3("the server cannot start", "the system refuses a thread", "close other programs");
        return EXIT_FAILED;
    }
    table->started = true;
    return EXIT_GOOD;
}

static void free_version(struct adapter_version *version)
{
    free(version->path);
    free(version);
}

struct adapter_version *adapter_version_new(const char *path)
{
    struct adapter_version *version = try_memory(1, sizeof *version);
    if (version) {
        version->path = strdup(path);
    }
    if (version && !version->path) {
        free(version);
        version = NULL;
    }
    return version;
}

static enum graft_status release_all(struct graft_model *model, void *user)
{
    struct adapters *table = user;
    (void)model;
    for (uint32_t i = 0; i < table->n_entries; i++) {
        for (struct adapter_version *v = table->entries[i]->versions; v; v = v->next) {
            graft_adapter_release(&v->handle);
        }
    }
    return GRAFT_OK;
}

void adapters_close(struct adapters *table)
{
    if (!table->leases_end) {
        return; // was never opened
    }
    if (table->started) {
        pthread_mutex_lock(&table->mutex);
        table->quit = true;
        pthread_cond_broadcast(&table->wake);
        pthread_mutex_unlock(&table->mutex);
        pthread_join(table->thread, NULL);
        table->started = false;
    }
    if (table->engine && graft_engine_run(table->engine, release_all, table) != GRAFT_OK) {
        note("adapters were not given back: %s", graft_last_error());
    }
    for (uint32_t i = 0; i < table->n_entries; i++) {
        while (table->entries[i]->versions) {
            struct adapter_version *v = table->entries[i]->versions;
            table->entries[i]->versions = v->next;
            free_version(v);
        }
        while (table->entries[i]->labels) {
            struct adapter_label *label = table->entries[i]->labels;
            table->entries[i]->labels = label->next;
            free(label);
        }
        free(table->entries[i]);
    }
    free(table->aliases);
    pthread_cond_destroy(&table->wake);
    pthread_mutex_destroy(&table->mutex);
    *table = (struct adapters){0};
}

// ---- names and paths ----

bool adapter_name_check(const struct adapters *table, const char *name, const char *param, struct api_error *error)
{
    size_t length = strlen(name);
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (length == 0 || length >= ADAPTER_NAME_BYTES || name[0] == '.' || strspn(name, allowed) != length) {
        return api_fail(error, 400, "invalid_lora_name", param,
                        "an adapter's name has 1 to %d of A-Z a-z 0-9 . _ - and does not begin with a dot",
                        ADAPTER_NAME_BYTES - 1);
    }
    if (strcmp(name, table->base) == 0) {
        return api_fail(error, 409, "lora_alias_conflict", param, "'%s' is the name of the base model", name);
    }
    return true;
}

static bool is_inside(const char *folder, const char *path)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == '/' || (n == 1 && path[0] == '/'));
}

// A folder that is looked through, and whether its links stay inside --adapter-dir.
struct links {
    const struct adapters *table;
    const char *folder;
    bool stay;
};

static void look_at_link(void *user, const char *name)
{
    struct links *links = user;
    char path[PATH_BYTES + 300], real[PATH_BYTES];
    const char *why;
    snprintf(path, sizeof path, "%s/%s", links->folder, name);
    if (links->stay && path_is_link(path)) {
        links->stay = real_path(path, real, &why) && is_inside(links->table->dir, real);
    }
}

// No symbolic link in an adapter's folder leads out of --adapter-dir.
static bool links_stay(const struct adapters *table, const char *folder)
{
    struct links links = {.table = table, .folder = folder, .stay = true};
    system_list(folder, look_at_link, &links);
    return links.stay;
}

// No step of the way leads out of the folder, not even to come back.
static bool steps_stay(const struct adapters *table, const char *path)
{
    char part[2 * PATH_BYTES], real[PATH_BYTES];
    const char *why;
    size_t length = strlen(table->dir);
    if (strncmp(path, table->dir, length) != 0 || path[length] != '/') {
        return true; // an absolute path by another name: only where it ends is looked at
    }
    for (const char *slash = strchr(path + length + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        if (!real_path(part, real, &why) || (strcmp(real, table->dir) != 0 && !is_inside(table->dir, real))) {
            return false;
        }
    }
    return true;
}

bool adapter_path_check(const struct adapters *table, const char *asked, char out[PATH_BYTES], struct api_error *error)
{
    char path[2 * PATH_BYTES];
    if (!*table->dir) {
        return api_fail(error, 403, "adapter_path_forbidden", "lora_path",
                        "adapters cannot be loaded by path: the server was started without --adapter-dir");
    }
    char given[PATH_BYTES];
    size_t length = strlen(asked);
    const char *why;
    bool absolute = graft_path_absolute(asked);
    snprintf(given, sizeof given, "%s", asked);
    for (char *p = given; *p; p++) {
        *p = graft_path_separator(*p) ? '/' : *p;
    }
    for (const char *part = given; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL) {
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == 0)) {
            return api_fail(error, 403, "adapter_path_forbidden", "lora_path", "a path may not have '..' in it");
        }
    }
    snprintf(path, sizeof path, "%s%s%s", absolute ? "" : table->dir, absolute ? "" : "/", given);
    if (length >= PATH_BYTES || !real_path(path, out, &why)) {
        bool inside = !absolute || is_inside(table->dir, given);
        return inside
                   ? api_fail(error, 404, "adapter_file_not_found", "lora_path", "there is no '%.200s'", given)
                   : api_fail(error, 403, "adapter_path_forbidden", "lora_path", "only paths inside --adapter-dir are loaded");
    }
    if (!is_inside(table->dir, out) || !steps_stay(table, path) || !links_stay(table, out)) {
        return api_fail(error, 403, "adapter_path_forbidden", "lora_path", "only paths inside --adapter-dir are loaded");
    }
    return true;
}

struct adapter_entry *adapters_find(const struct adapters *table, const char *name)
{
    struct adapter_entry *found = NULL;
    for (uint32_t i = 0; i < table->n_entries; i++) { // to the end: known and unknown names take the same time
        bool same = strcmp(table->entries[i]->name, name) == 0;
        found = same && table->entries[i]->known ? table->entries[i] : found;
    }
    return found;
}

struct adapter_entry *adapters_entry(struct adapters *table, const char *name)
{
    for (uint32_t i = 0; i < table->n_entries; i++) {
        if (strcmp(table->entries[i]->name, name) == 0) {
            return table->entries[i]; // its counters go on
        }
    }
    struct adapter_entry *entry = NULL;
    for (uint32_t i = 0; i < table->n_entries && !entry && table->n_entries == ADAPTERS_MOST; i++) {
        struct adapter_entry *old = table->entries[i];
        entry = !old->known && !old->versions && !old->busy ? old : NULL;
    }
    if (entry) {
        *entry = (struct adapter_entry){.id = entry->id};
    } else if (table->n_entries < ADAPTERS_MOST) {
        entry = try_memory(1, sizeof *entry);
        if (entry) {
            entry->id = table->n_entries;
            table->entries[table->n_entries++] = entry;
        }
    }
    if (entry) {
        snprintf(entry->name, sizeof entry->name, "%s", name);
    }
    return entry;
}

bool adapters_add(struct adapters *table, const char *name, const char *path, struct api_error *error)
{
    char real[PATH_BYTES];
    const char *why;
    if (!real_path(path, real, &why)) {
        return api_fail(error, 404, "adapter_file_not_found", "lora_path", "%.200s: %s", path, why);
    }
    struct adapter_version *version = adapter_version_new(real);
    if (!version) {
        return api_no_memory(error);
    }
    pthread_mutex_lock(&table->mutex);
    bool alias = alias_find(table, name) != NULL;
    struct adapter_entry *entry = alias || adapters_find(table, name) ? NULL : adapters_entry(table, name);
    if (entry) {
        entry->known = true;
        adapter_publish(entry, version, table);
    }
    pthread_mutex_unlock(&table->mutex);
    if (!entry) {
        free_version(version);
        return api_fail(error, 409, alias ? "alias_conflict" : "lora_adapter_already_loaded", "lora_name",
                        "there is an adapter or alias '%s' already, or %d are known", name, ADAPTERS_MOST);
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Names of what may be an adapter in --adapter-dir.
struct found {
    const struct adapters *table;
    char **names; // [ADAPTERS_MOST], or NULL
    size_t n;
};

static bool is_gguf(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".gguf") == 0;
}

static void find_one(void *user, const char *name)
{
    struct found *found = user;
    char path[PATH_BYTES], inner[PATH_BYTES + 32];
    struct api_error error;
    if (!found->names || found->n == ADAPTERS_MOST || name[0] == '.' || !adapter_path_check(found->table, name, path, &error)) {
        return;
    }
    snprintf(inner, sizeof inner, "%s/adapter_config.json", path);
    if (is_gguf(name) || file_exists(inner)) {
        found->names[found->n] = strdup(name);
        found->n += found->names[found->n] != NULL; // without memory it is not found this time
    }
}

uint32_t adapters_scan(struct adapters *table)
{
    char **names = *table->dir ? try_memory(ADAPTERS_MOST, sizeof *names) : NULL;
    struct found found = {.table = table, .names = names};
    size_t added = 0;
    if (names) {
        system_list(table->dir, find_one, &found);
    }
    size_t n = found.n;
    if (n) {
        qsort(names, n, sizeof *names, by_name);
    }
    for (size_t i = 0; i < n; i++) {
        char name[256], path[PATH_BYTES + 260];
        struct api_error error;
        size_t length = strlen(names[i]);
        snprintf(name, sizeof name, "%.*s", (int)(is_gguf(names[i]) ? length - 5 : length), names[i]);
        snprintf(path, sizeof path, "%s/%s", table->dir, names[i]);
        added += adapter_name_check(table, name, NULL, &error) && adapters_add(table, name, path, &error);
        free(names[i]);
    }
    free(names);
    return (uint32_t)added;
}

// ---- versions ----

struct adapter_generation adapter_generation(const struct adapter_version *version)
{
    struct adapter_generation out;
    snprintf(out.text, sizeof out.text, "%.16s", version->info.digest);
    return out;
}

struct adapter_version *adapter_find_version(const struct adapter_entry *entry, const char *which)
{
    size_t length = strlen(which);
    char *end = NULL;
    unsigned long number = *which >= '1' && *which <= '9' ? strtoul(which, &end, 10) : 0;
    struct adapter_version *labelled = label_find(entry, which);
    if (!length || labelled) {
        return length ? labelled : entry->current;
    }
    for (struct adapter_version *v = entry->versions; v; v = v->next) {
        bool by_number = number && length < 8 && !*end && v->number == number;
        bool by_digest = length >= 8 && length <= 64 && *v->info.digest && strncmp(v->info.digest, which, length) == 0;
        if ((v == entry->current || v->refs) && (by_number || by_digest)) {
            return v;
        }
    }
    return NULL;
}

void adapter_version_drop(struct adapters *table, struct adapter_version *version)
{
    if (--version->refs) {
        return;
    }
    struct adapter_version **at = &version->entry->versions;
    while (*at != version) {
        at = &(*at)->next;
    }
    *at = version->next;
    version->next = table->dead;
    table->dead = version;
    pthread_cond_broadcast(&table->wake);
}

void adapter_publish(struct adapter_entry *entry, struct adapter_version *version, struct adapters *table)
{
    struct adapter_version *old = entry->current;
    version->entry = entry;
    version->number = ++entry->n_versions;
    version->refs++;
    version->next = entry->versions;
    entry->versions = entry->current = version;
    table->changes++;
    if (old) {
        adapter_version_drop(table, old);
    }
}

uint64_t adapters_resident(const struct adapters *table, uint32_t *count)
{
    uint64_t bytes = 0;
    *count = 0;
    for (uint32_t i = 0; i < table->n_entries; i++) {
        for (const struct adapter_version *v = table->entries[i]->versions; v; v = v->next) {
            bytes += v->handle ? v->info.bytes : 0;
            *count += v->handle != NULL;
        }
    }
    return bytes;
}

struct adapter_version *adapters_oldest(const struct adapters *table, bool held)
{
    struct adapter_version *oldest = NULL;
    for (uint32_t i = 0; i < table->n_entries; i++) {
        for (struct adapter_version *v = table->entries[i]->versions; v; v = v->next) {
            bool pinned = table->entries[i]->pinned && v == table->entries[i]->current;
            if (v->handle && !pinned && (held || !v->holds) && (!oldest || v->used < oldest->used)) {
                oldest = v;
            }
        }
    }
    return oldest;
}

// ---- a request's adapters ----

static bool is_there(const struct adapter_lease *lease)
{
    for (uint32_t i = 0; i < lease->n; i++) {
        const struct adapter_version *v = lease->versions[i];
        if (!v->handle || v->gone || v->draining) {
            return false;
        }
    }
    return true;
}

void adapters_revise(struct adapters *table)
{
    pthread_mutex_lock(&table->mutex);
    for (uint32_t i = 0; i < table->n_entries; i++) {
        for (struct adapter_version *v = table->entries[i]->versions; v; v = v->next) {
            struct graft_adapter_info info = {.gone = false};
            if (v->handle) {
                graft_adapter_describe(v->handle, &info);
            }
            v->gone = info.gone;
        }
    }
    pthread_cond_broadcast(&table->wake);
    pthread_mutex_unlock(&table->mutex);
}

void adapters_lease_begin(struct adapters *table, struct adapter_lease *lease)
{
    struct api_error error = {0};
    lease->next = NULL;
    lease->begun_ns = graft_clock_ns();
    pthread_mutex_lock(&table->mutex);
    bool there = is_there(lease);
    for (uint32_t i = 0; i < lease->n; i++) {
        lease->versions[i]->used = ++table->clock;
        lease->versions[i]->holds += there;
    }
    lease->n_held = there ? lease->n : 0;
    if (!there && table->n_leases >= table->max_leases) {
        api_fail(&error, 429, "queue_full", NULL, "%u requests wait for their adapters, more may not", table->n_leases);
        error.retry_after = 1;
        for (uint32_t i = 0; i < lease->n; i++) {
            adapter_version_drop(table, lease->versions[i]);
        }
    } else if (!there) {
        *table->leases_end = lease;
        table->leases_end = &lease->next;
        table->n_leases++;
        pthread_cond_broadcast(&table->wake);
    }
    pthread_mutex_unlock(&table->mutex);
    if (there || error.status) {
        lease->ready(lease->user, &error);
    }
}

void adapters_lease_end(struct adapters *table, struct adapter_lease *lease)
{
    pthread_mutex_lock(&table->mutex);
    for (uint32_t i = 0; i < lease->n; i++) {
        lease->versions[i]->holds -= i < lease->n_held;
        adapter_version_drop(table, lease->versions[i]);
    }
    if (table->leases) {
        pthread_cond_broadcast(&table->wake);
    }
    pthread_mutex_unlock(&table->mutex);
    lease->n = lease->n_held = 0;
}

void adapters_blame(struct adapters *table, const struct adapter_lease *lease)
{
    pthread_mutex_lock(&table->mutex);
    struct adapter_version *version = lease->n == 1 ? lease->versions[0] : NULL;
    ++*(version ? &version->entry->faults : &table->base_faults);
    if (version && fabsf(lease->weights[0]) <= 1 && ++version->faults == ADAPTER_FAULTS) {
        note("adapter %s, version %u: what it computes was no number %d times; requests are refused until it is loaded again",
             version->entry->name, version->number, ADAPTER_FAULTS);
    }
    pthread_mutex_unlock(&table->mutex);
}

uint32_t adapters_lease_uses(const struct adapter_lease *lease, struct graft_adapter_use uses[GRAFT_MAX_BLEND])
{
    for (uint32_t i = 0; i < lease->n; i++) {
        uses[i] = (struct graft_adapter_use){.adapter = lease->versions[i]->handle, .weight = lease->weights[i]};
    }
    return lease->n;
}
