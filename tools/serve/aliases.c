// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/aliases.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES = 256 << 10 };
static const char name_characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/:";

// ---- labels ----

struct adapter_version *label_find(const struct adapter_entry *entry, const char *name)
{
    for (const struct adapter_label *label = entry->labels; label; label = label->next) {
        if (strcmp(label->name, name) == 0) {
            return label->version;
        }
    }
    return NULL;
}

static void label_free(struct adapters *table, struct adapter_label **at)
{
    struct adapter_label *label = *at;
    *at = label->next;
    adapter_version_drop(table, label->version);
    free(label);
    table->changes++;
}

void labels_drop(struct adapters *table, struct adapter_entry *entry)
{
    while (entry->labels) {
        label_free(table, &entry->labels);
    }
}

static bool label_check(const char *label, struct api_error *error)
{
    size_t length = strlen(label), digits = strspn(label, "0123456789"), hex = strspn(label, "0123456789abcdefABCDEF");
    bool good = length > 0 && length < ADAPTER_NAME_BYTES && label[0] != '.' && strspn(label, name_characters) == length &&
                !strpbrk(label, "/:");
    if (!good || digits == length || (hex == length && length >= 8)) {
        return api_fail(error, 400, "invalid_alias", "alias",
                        "an alias of an adapter's versions has 1 to %d of A-Z a-z 0-9 . _ -, and does not look like a version",
                        ADAPTER_NAME_BYTES - 1);
    }
    return true;
}

static bool no_adapter(const char *name, struct api_error *error)
{
    return api_fail(error, 404, "lora_adapter_not_found", "name", "there is no adapter '%.64s'", name);
}

bool label_set(struct adapters *table, const char *adapter, const char *label, const char *version, bool from_file,
               struct api_error *error)
{
    if (!label_check(label, error)) {
        return false;
    }
    pthread_mutex_lock(&table->mutex);
    struct adapter_entry *entry = adapters_find(table, adapter);
    struct adapter_version *found = entry ? adapter_find_version(entry, version) : NULL;
    struct adapter_label *at = entry ? entry->labels : NULL;
    while (at && strcmp(at->name, label) != 0) {
        at = at->next;
    }
    if (found && !at) {
        at = get_memory(1, sizeof *at);
        snprintf(at->name, sizeof at->name, "%s", label);
        at->next = entry->labels;
        entry->labels = at;
    }
    if (found) {
        found->refs++;
        if (at->version) {
            adapter_version_drop(table, at->version);
        }
        at->version = found;
        at->from_file = from_file;
        table->changes++;
    }
    pthread_mutex_unlock(&table->mutex);
    return found   ? true
           : entry ? api_fail(error, 404, "lora_version_not_found", "version", "'%.64s' has no version '%.64s' now", adapter,
                              version)
                   : no_adapter(adapter, error);
}

bool label_remove(struct adapters *table, const char *adapter, const char *label, struct api_error *error)
{
    pthread_mutex_lock(&table->mutex);
    struct adapter_entry *entry = adapters_find(table, adapter);
    struct adapter_label **at = entry ? &entry->labels : NULL;
    while (at && *at && strcmp((*at)->name, label) != 0) {
        at = &(*at)->next;
    }
    bool there = at && *at;
    if (there) {
        label_free(table, at);
    }
    pthread_mutex_unlock(&table->mutex);
    return there || api_fail(error, 404, "alias_not_found", "alias", "'%.64s' has no alias '%.64s'", adapter, label);
}

// ---- aliases ----

const struct adapter_alias *alias_find(const struct adapters *table, const char *name)
{
    const struct adapter_alias *found = NULL;
    for (uint32_t i = 0; i < table->n_aliases; i++) { // to the end, as adapters_find
        found = strcmp(table->aliases[i].name, name) == 0 ? &table->aliases[i] : found;
    }
    return found;
}

static bool alias_check(const struct adapters *table, const char *alias, const char *target, struct api_error *error)
{
    size_t length = strlen(alias), more = strlen(target);
    if (length == 0 || length >= ALIAS_BYTES || alias[0] == '.' || strspn(alias, name_characters) != length) {
        return api_fail(error, 400, "invalid_alias", "alias",
                        "an alias has 1 to %d of A-Z a-z 0-9 . _ - / : and begins with no dot", ALIAS_BYTES - 1);
    }
    if (more == 0 || more >= ALIAS_BYTES) {
        return api_fail(error, 400, "invalid_alias", "model", "the alias '%s' must stand for the base or an adapter", alias);
    }
    if (strcmp(alias, table->base) == 0) {
        return api_fail(error, 409, "alias_conflict", "alias", "'%s' is the name of the base model", alias);
    }
    return true;
}

// Under the lock: is the target there?
static bool target_exists(const struct adapters *table, const char *target)
{
    char name[ALIAS_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(target, "@"), target);
    const struct adapter_entry *entry = adapters_find(table, name);
    const char *at = strchr(target, '@');
    return strcmp(target, table->base) == 0 || (entry && (!at || (at[1] && adapter_find_version(entry, at + 1))));
}

bool alias_set(struct adapters *table, const char *alias, const char *target, bool must_exist, bool from_file,
               struct api_error *error)
{
    if (!alias_check(table, alias, target, error)) {
        return false;
    }
    pthread_mutex_lock(&table->mutex);
    bool known = target_exists(table, target), taken = adapters_find(table, alias) != NULL;
    struct adapter_alias *there = (struct adapter_alias *)(uintptr_t)alias_find(table, alias);
    bool room = there || table->n_aliases < ALIASES_MOST;
    bool ok = !taken && room && (known || !must_exist);
    if (ok) {
        there = there ? there : &table->aliases[table->n_aliases++];
        snprintf(there->name, sizeof there->name, "%s", alias);
        snprintf(there->target, sizeof there->target, "%s", target);
        there->from_file = from_file;
        table->changes++;
    }
    pthread_mutex_unlock(&table->mutex);
    if (ok && !known) {
        note("warning: the alias %s stands for %s, which is not there", alias, target);
    }
    return ok      ? true
           : taken ? api_fail(error, 409, "alias_conflict", "alias", "there is an adapter '%.64s'", alias)
           : !room ? api_fail(error, 409, "alias_limit_exceeded", "alias", "there are %d aliases, more cannot be", ALIASES_MOST)
                   : api_fail(error, 404, "model_not_found", "model", "The model `%.90s` does not exist.", target);
}

static void remove_at(struct adapters *table, uint32_t i)
{
    table->aliases[i] = table->aliases[--table->n_aliases];
    table->changes++;
}

bool alias_remove(struct adapters *table, const char *alias, struct api_error *error)
{
    pthread_mutex_lock(&table->mutex);
    const struct adapter_alias *there = alias_find(table, alias);
    if (there) {
        remove_at(table, (uint32_t)(there - table->aliases));
    }
    pthread_mutex_unlock(&table->mutex);
    return there || api_fail(error, 404, "alias_not_found", "alias", "there is no alias '%.90s'", alias);
}

// ---- the command line and the file ----

static bool set_pair(struct adapters *table, const char *name, const char *target, bool from_file, struct api_error *error)
{
    const char *at = strchr(name, '@');
    char adapter[ALIAS_BYTES];
    if (!at) {
        return alias_set(table, name, target, false, from_file, error);
    }
    snprintf(adapter, sizeof adapter, "%.*s", (int)(at - name), name);
    size_t same = strlen(adapter);
    bool own = strncmp(target, adapter, same) == 0 && target[same] == '@'; // legal@prod=legal@2 is legal@prod=2
    return label_set(table, adapter, at + 1, own ? target + same + 1 : target, from_file, error);
}

bool alias_set_text(struct adapters *table, const char *text, struct api_error *error)
{
    char name[ALIAS_BYTES * 2];
    const char *equals = strchr(text, '=');
    if (!equals || (size_t)(equals - text) >= sizeof name) {
        return api_fail(error, 400, "invalid_alias", "alias", "'%.90s' is not NAME=MODEL or NAME@ALIAS=VERSION", text);
    }
    snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
    return set_pair(table, name, equals + 1, false, error);
}

static json_t *read_file(const char *path, struct api_error *error)
{
    const char *why;
    FILE *file = system_open(path, &why);
    if (!file) {
        api_fail(error, 400, "alias_file", NULL, "%.200s: %s", path, why);
        return NULL;
    }
    char *text = get_memory(FILE_BYTES + 1, 1);
    size_t length = fread(text, 1, FILE_BYTES + 1, file);
    fclose(file);
    json_t *pairs = length <= FILE_BYTES ? body_parse(text, length, error) : NULL;
    if (length > FILE_BYTES) {
        api_fail(error, 400, "alias_file", NULL, "%.200s has more than %d bytes", path, FILE_BYTES);
    }
    free(text);
    return pairs;
}

// Under the lock: what an earlier reading set goes; what the file names stays until it is set again.
static void forget_file(struct adapters *table, const json_t *pairs)
{
    for (uint32_t i = table->n_aliases; i-- > 0;) {
        if (table->aliases[i].from_file && !json_object_get(pairs, table->aliases[i].name)) {
            remove_at(table, i);
        }
    }
    for (uint32_t i = 0; i < table->n_entries; i++) {
        for (struct adapter_label **at = &table->entries[i]->labels; *at;) {
            char full[2 * ADAPTER_NAME_BYTES];
            snprintf(full, sizeof full, "%s@%s", table->entries[i]->name, (*at)->name);
            if ((*at)->from_file && !json_object_get(pairs, full)) {
                label_free(table, at);
            } else {
                at = &(*at)->next;
            }
        }
    }
}

bool aliases_read(struct adapters *table, const char *path, struct api_error *error)
{
    const char *name;
    json_t *target;
    bool good = true;
    json_t *pairs = read_file(path, error);
    if (!pairs) {
        return false;
    }
    json_object_foreach(pairs, name, target)
    {
        struct api_error wrong;
        const char *at = strchr(name, '@'), *words = json_string_value(target);
        bool fine = words && (at ? label_check(at + 1, &wrong) : alias_check(table, name, words, &wrong));
        if (good && !fine) {
            good = api_fail(error, 400, "alias_file", NULL, "%.100s, \"%.60s\": %.200s", path, name,
                            words ? wrong.message : "must be a text");
        }
    }
    if (good) {
        pthread_mutex_lock(&table->mutex);
        forget_file(table, pairs);
        pthread_mutex_unlock(&table->mutex);
    }
    for (int labels = 1; labels >= 0 && good; labels--) { // they are what others stand for
        json_object_foreach(pairs, name, target)
        {
            struct api_error wrong;
            bool now = (strchr(name, '@') != NULL) == labels;
            if (now && !set_pair(table, name, json_string_value(target), true, &wrong)) {
                note("warning: the alias %.90s of %.200s is not set: %s", name, path, wrong.message);
            }
        }
    }
    json_decref(pairs);
    return good;
}
