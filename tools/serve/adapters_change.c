// SPDX-License-Identifier: Apache-2.0
// Changes of the table of adapters, as operators ask for them: load, warm, unload, pin. What has to be loaded is put into the
// line of the table's thread.
#include <string.h>

#include "platform/plat.h"
#include "tools/serve/aliases.h"

void adapters_add_task(struct adapters *table, struct adapter_task *task)
{
    struct adapter_task **at = &table->tasks;
    while (*at) {
        at = &(*at)->next;
    }
    task->next = NULL;
    *at = task;
}

static bool begin_task(struct adapters *table, struct adapter_entry *entry, const struct adapter_change *change, bool warm,
                       adapter_done *done, void *user, struct api_error *error)
{
    struct adapter_task *task = try_memory(1, sizeof *task);
    if (!task) {
        return api_no_memory(error);
    }
    *task = (struct adapter_task){
        .change = *change, .entry = entry, .warm = warm, .done = done, .user = user, .begun_ns = graft_clock_ns()};
    entry->busy = true;
    adapters_add_task(table, task);
    pthread_cond_broadcast(&table->wake);
    return true;
}

// Under the lock: is the entry as the caller expects it?
static bool check_expected(const struct adapter_entry *entry, const char *name, const char *expected, struct api_error *error)
{
    if (entry && entry->busy) {
        error->retry_after = 1;
        return api_fail(error, 429, "lora_load_busy", NULL, "adapter '%s' is being changed", name);
    }
    if (!*expected) {
        return true;
    }
    struct adapter_generation now = {""};
    if (entry) {
        now = adapter_generation(entry->current);
    }
    return (strlen(expected) >= 8 && entry && *now.text &&
            strncmp(entry->current->info.digest, expected, strlen(expected)) == 0)
               ? true
               : api_fail(error, 409, "lora_generation_mismatch", "expected_generation",
                          "the generation of '%s' is %s, not %s: nothing was changed", name, *now.text ? now.text : "none",
                          expected);
}

bool adapters_load(struct adapters *table, const struct adapter_change *change, adapter_done *done, void *user,
                   struct api_error *error)
{
    *error = (struct api_error){0};
    pthread_mutex_lock(&table->mutex);
    struct adapter_entry *known = adapters_find(table, change->name);
    bool ok = check_expected(known, change->name, change->expected, error);
    if (ok && alias_find(table, change->name)) {
        ok = api_fail(error, 409, "alias_conflict", "lora_name", "'%s' is an alias", change->name);
    }
    if (ok && known && !change->replace) {
        ok = api_fail(error, 409, "lora_adapter_already_loaded", "lora_name",
                      "the adapter '%s' is known already; set load_inplace to true to give the name another content",
                      change->name);
    }
    struct adapter_entry *entry = ok ? adapters_entry(table, change->name) : NULL;
    if (ok && !entry) {
        ok = api_fail(error, 409, "lora_adapter_limit_exceeded", NULL, "%d names are known, more cannot be", ADAPTERS_MOST);
    } else if (ok && entry->busy) {
        ok = api_fail(error, 429, "lora_load_busy", NULL, "adapter '%s' is being changed", change->name);
        error->retry_after = 1;
    }
    ok = ok && begin_task(table, entry, change, false, done, user, error);
    pthread_mutex_unlock(&table->mutex);
    return ok;
}

bool adapters_warm(struct adapters *table, const char *name, adapter_done *done, void *user, struct api_error *error)
{
    static const struct adapter_change nothing;
    *error = (struct api_error){0};
    pthread_mutex_lock(&table->mutex);
    struct adapter_entry *known = adapters_find(table, name);
    bool ok = known ? check_expected(known, name, "", error)
                    : api_fail(error, 404, "lora_adapter_not_found", "name", "there is no adapter '%.64s'", name);
    ok = ok && begin_task(table, known, &nothing, true, done, user, error);
    pthread_mutex_unlock(&table->mutex);
    return ok;
}

bool adapters_unload(struct adapters *table, const char *name, const char *expected, struct api_error *error)
{
    *error = (struct api_error){0};
    pthread_mutex_lock(&table->mutex);
    struct adapter_entry *entry = adapters_find(table, name);
    bool ok = entry ? check_expected(entry, name, expected, error)
                    : api_fail(error, 404, "lora_adapter_not_found", "lora_name", "there is no adapter '%.64s'", name);
    if (ok) {
        struct adapter_version *current = entry->current;
        entry->known = entry->pinned = false;
        entry->scale = 0;
        entry->current = NULL;
        table->changes++;
        labels_drop(table, entry);
        adapter_version_drop(table, current);
    }
    pthread_mutex_unlock(&table->mutex);
    return ok;
}

bool adapters_pin(struct adapters *table, const char *name, bool pinned, struct api_error *error)
{
    *error = (struct api_error){0};
    uint32_t n_pinned = 0;
    pthread_mutex_lock(&table->mutex);
    struct adapter_entry *entry = adapters_find(table, name);
    for (uint32_t i = 0; i < table->n_entries; i++) {
        n_pinned += table->entries[i]->pinned && table->entries[i] != entry;
    }
    bool ok = entry || api_fail(error, 404, "lora_adapter_not_found", "name", "there is no adapter '%.64s'", name);
    if (ok && pinned && n_pinned + 1 >= table->pool_slots) { // the others would starve
        ok = api_fail(error, 409, "lora_pin_limit_exceeded", "pinned", "%u adapters are pinned; one of %u slots must stay free",
                      n_pinned, table->pool_slots);
    }
    if (ok) {
        entry->pinned = pinned;
        pthread_cond_broadcast(&table->wake);
    }
    pthread_mutex_unlock(&table->mutex);
    return ok;
}
