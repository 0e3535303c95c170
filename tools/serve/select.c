// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/select.h"

#include "tools/serve/aliases.h"

#include <math.h>
#include <string.h>

// What one way says.
struct choice {
    bool said;
    const char *param;
    struct adapter_version *versions[GRAFT_MAX_BLEND];
    float weights[GRAFT_MAX_BLEND];
    uint32_t n;
};

static bool may_use(const struct selection *selection, const char *name)
{
    return !selection->allows || selection->allows(selection->user, name);
}

static const char *next_name(const void *user, size_t i)
{
    const char *const *names = user;
    return names[i];
}

static bool not_found(const struct adapters *table, const struct selection *selection, const char *param, const char *asked,
                      struct api_error *error)
{
    char shown[100];
    snprintf(shown, sizeof shown, "%.90s", asked);
    const char *names[ADAPTERS_MOST + 2]; // that the caller may see
    size_t n = 0;
    for (uint32_t i = 0; i < table->n_entries; i++) {
        if (table->entries[i]->known && may_use(selection, table->entries[i]->name)) {
            names[n++] = table->entries[i]->name;
        }
    }
    names[n++] = table->base;
    names[n] = NULL;
    const char *near = suggest(shown, next_name, names);
    return near ? api_fail(error, 404, "model_not_found", param, "The model `%s` does not exist. Did you mean `%s`?", shown,
                           near)
                : api_fail(error, 404, "model_not_found", param, "The model `%s` does not exist.", shown);
}

// "NAME", "NAME@VERSION", each with the version of `version` if that is not NULL; or an alias of such, or of the base.
static bool add(const struct adapters *table, const struct selection *selection, const char *asked, const char *version,
                double weight, struct choice *choice, struct api_error *error)
{
    char name[ADAPTER_NAME_BYTES] = "";
    const char *given = asked;
    const struct adapter_alias *alias = alias_find(table, asked);
    if (alias && !version && strcmp(alias->target, table->base) == 0) {
        return true; // it says: no adapter
    }
    asked = alias ? alias->target : asked;
    const char *at = strchr(asked, '@');
    size_t length = at ? (size_t)(at - asked) : strlen(asked);
    if (length > 0 && length < sizeof name) {
        memcpy(name, asked, length);
    }
    if (at && version) {
        return api_bad(error, choice->param, "the version is said twice");
    }
    const struct adapter_entry *entry = adapters_find(table, name);
    bool allowed = may_use(selection, name);
    const char *which = at ? at + 1 : version ? version : "";
    struct adapter_version *found = entry && allowed && !(at && !at[1]) ? adapter_find_version(entry, which) : NULL;
    if (!found) {
        return not_found(table, selection, choice->param, given, error);
    }
    if (choice->n == GRAFT_MAX_BLEND) {
        return api_bad(error, choice->param, "at most %d adapters can be blended", GRAFT_MAX_BLEND);
    }
    for (uint32_t i = 0; i < choice->n; i++) {
        if (choice->versions[i]->entry == entry) {
            return api_bad(error, choice->param, "the adapter '%s' is there twice", entry->name);
        }
    }
    choice->versions[choice->n] = found;
    choice->weights[choice->n++] = (float)weight;
    return true;
}

// A scale of 0 is no adapter at all: the base, bit by bit.
static void drop_zeros(struct choice *choice)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < choice->n; i++) {
        if (choice->weights[i] != 0) {
            choice->versions[n] = choice->versions[i];
            choice->weights[n++] = choice->weights[i];
        }
    }
    choice->n = n;
}

static bool read_adapter(const struct adapters *table, const struct selection *selection, struct choice *choice,
                         struct api_error *error)
{
    const json_t *adapter = selection->adapter;
    choice->param = "adapter";
    choice->said = adapter && !json_is_null(adapter);
    if (!choice->said) {
        return true;
    }
    if (json_is_string(adapter)) {
        return add(table, selection, json_string_value(adapter), NULL, 1, choice, error);
    }
    const char *name = NULL, *generation = NULL;
    double scale = 1;
    int64_t number = 0;
    if (!json_is_object(adapter)) {
        return api_bad(error, "adapter", "adapter must be a name, or an object with name, generation or version, and scale");
    }
    if (!body_text(adapter, "name", ADAPTER_NAME_BYTES * 2, &name, error) ||
        !body_text(adapter, "generation", 64, &generation, error) ||
        !body_integer(adapter, "version", 1, 9999999, &number, error) ||
        !body_number(adapter, "scale", -100, 100, &scale, error)) {
        char inner[72];
        snprintf(inner, sizeof inner, "adapter.%.60s", error->param);
        snprintf(error->param, sizeof error->param, "%s", inner);
        return false;
    }
    if (!name || (generation && (number || strlen(generation) < 8))) {
        return api_bad(error, name ? "adapter.generation" : "adapter.name",
                       name ? "generation has 8 to 64 digits, and stands without version" : "adapter.name is missing");
    }
    char text[16];
    snprintf(text, sizeof text, "%lld", (long long)number);
    return add(table, selection, name, generation ? generation : number ? text : NULL, scale, choice, error);
}

static bool read_lora(const struct adapters *table, const struct selection *selection, struct choice *choice,
                      struct api_error *error)
{
    const json_t *lora = selection->lora;
    size_t i;
    json_t *item;
    choice->param = "lora";
    choice->said = lora && !json_is_null(lora);
    if (choice->said && !json_is_array(lora)) {
        return api_bad(error, "lora", "lora must be an array of {\"id\" or \"name\", \"scale\"}; [] is the base model");
    }
    json_array_foreach(choice->said ? lora : NULL, i, item)
    {
        const char *name = NULL;
        double scale = 1;
        int64_t id = -1;
        if (!json_is_object(item)) {
            return api_bad(error, "lora", "lora[%zu] must be an object", i);
        }
        if (!body_text(item, "name", ADAPTER_NAME_BYTES * 2, &name, error) ||
            !body_integer(item, "id", 0, ADAPTERS_MOST, &id, error) || !body_number(item, "scale", -100, 100, &scale, error)) {
            char inner[72];
            snprintf(inner, sizeof inner, "lora[%zu].%.40s", i, error->param);
            snprintf(error->param, sizeof error->param, "%s", inner);
            return false;
        }
        if (!name == (id < 0)) {
            return api_bad(error, "lora", "lora[%zu] must have either id or name", i);
        }
        char asked[24];
        snprintf(asked, sizeof asked, "lora id %lld", (long long)id);
        bool known = id >= 0 && id < table->n_entries && table->entries[id]->known;
        if (!add(table, selection, name ? name : known ? table->entries[id]->name : asked, NULL, scale, choice, error)) {
            return false;
        }
    }
    return true;
}

static bool read_model(const struct adapters *table, const struct selection *selection, struct choice *choice,
                       struct api_error *error)
{
    const char *model = selection->model;
    size_t n = strlen(table->base);
    choice->param = "model";
    if (!model || strcmp(model, table->base) == 0) {
        return true;
    }
    const struct adapter_alias *alias = alias_find(table, model);
    choice->said = !alias || strcmp(alias->target, table->base) != 0; // another name of the base says nothing either
    bool of_base = strncmp(model, table->base, n) == 0 && model[n] == ':' && !alias;
    if (of_base && strlen(model + n + 1) == 0) {
        return not_found(table, selection, "model", model, error);
    }
    return add(table, selection, of_base ? model + n + 1 : model, NULL, 1, choice, error);
}

static bool same(const struct choice *a, const struct choice *b)
{
    bool equal = a->n == b->n;
    for (uint32_t i = 0; i < a->n && equal; i++) {
        bool there = false;
        for (uint32_t k = 0; k < b->n; k++) {
            there = there || (a->versions[i] == b->versions[k] && a->weights[i] == b->weights[k]);
        }
        equal = there;
    }
    return equal;
}

static void take_defaults(const struct adapters *table, const struct selection *selection, struct choice *choice)
{
    for (uint32_t i = 0; i < table->n_entries && choice->n < GRAFT_MAX_BLEND; i++) {
        const struct adapter_entry *entry = table->entries[i];
        if (entry->known && entry->scale != 0 && may_use(selection, entry->name)) {
            choice->versions[choice->n] = entry->current;
            choice->weights[choice->n++] = entry->scale;
        }
    }
}

static void describe(struct selected *out)
{
    const struct adapter_lease *lease = &out->lease;
    size_t used = 0;
    for (uint32_t i = 0; i < lease->n && used < sizeof out->label; i++) {
        char weight[24] = "";
        if (lease->weights[i] != 1 && lease->n > 1) {
            snprintf(weight, sizeof weight, ":%g", (double)lease->weights[i]);
        }
        used += (size_t)snprintf(out->label + used, sizeof out->label - used, "%s%s%s", i ? "+" : "",
                                 lease->versions[i]->entry->name, weight);
    }
    if (lease->n == 1) {
        snprintf(out->version, sizeof out->version, "%u", lease->versions[0]->number);
    }
}

// Under the lock.
static bool choose(const struct adapters *table, const struct selection *selection, struct choice *out, bool *fell_back,
                   struct api_error *error)
{
    enum { CLAIM, ROUTE, HEADER, ADAPTER, LORA, MODEL, WAYS };
    struct choice choices[WAYS] = {{.param = "token"}, {.param = "route"}, {.param = "X-Adapter-ID"}};
    const struct choice *first = NULL;
    choices[CLAIM].said = selection->claim != NULL;
    if (selection->claim && !add(table, selection, selection->claim, NULL, 1, &choices[CLAIM], error)) {
        return false;
    }
    if (selection->route && *selection->route) {
        choices[ROUTE].said = true;
        if (strchr(selection->route, '@')) {
            return not_found(table, selection, "route", selection->route, error);
        }
        if (!add(table, selection, selection->route, NULL, 1, &choices[ROUTE], error)) {
            return false;
        }
    }
    choices[HEADER].said = selection->header != NULL;
    if ((selection->header && !add(table, selection, selection->header, NULL, 1, &choices[HEADER], error)) ||
        !read_adapter(table, selection, &choices[ADAPTER], error) || !read_lora(table, selection, &choices[LORA], error)) {
        return false;
    }
    if (!read_model(table, selection, &choices[MODEL], error)) {
        if (!selection->fallback || error->status != 404) {
            return false;
        }
        *fell_back = true;
        choices[MODEL].said = false;
    }
    if (choices[ADAPTER].said && choices[LORA].said) {
        return api_bad(error, "adapter", "adapter and lora both choose: one of them is taken");
    }
    for (int i = 0; i < WAYS; i++) {
        drop_zeros(&choices[i]);
        if (!choices[i].said) {
            continue;
        }
        if (first && !same(first, &choices[i])) {
            return api_bad(error, choices[i].param, "%s and %s choose different adapters", first->param, choices[i].param);
        }
        first = first ? first : &choices[i];
    }
    *out = first ? *first : (struct choice){0};
    if (!first) {
        take_defaults(table, selection, out);
    }
    return true;
}

static bool check_quarantine(const struct choice *choice, struct api_error *error)
{
    for (uint32_t i = 0; i < choice->n; i++) {
        const struct adapter_version *version = choice->versions[i];
        if (adapter_quarantined(version)) {
            return api_fail(error, 503, "adapter_quarantined", "model",
                            "what adapter '%s' computes was no number %u times: it is set aside until it is loaded again",
                            version->entry->name, version->faults);
        }
    }
    return true;
}

bool adapters_select(struct adapters *table, const struct selection *selection, struct selected *out, struct api_error *error)
{
    struct choice choice;
    *out = (struct selected){0};
    pthread_mutex_lock(&table->mutex);
    bool ok = choose(table, selection, &choice, &out->fell_back, error) && check_quarantine(&choice, error);
    if (ok) {
        out->lease.n = choice.n;
        for (uint32_t i = 0; i < choice.n; i++) {
            out->lease.versions[i] = choice.versions[i];
            out->lease.weights[i] = choice.weights[i];
            choice.versions[i]->refs++;
        }
        describe(out);
    }
    pthread_mutex_unlock(&table->mutex);
    return ok;
}

void selected_drop(struct adapters *table, struct selected *selected)
{
    pthread_mutex_lock(&table->mutex);
    for (uint32_t i = 0; i < selected->lease.n; i++) {
        adapter_version_drop(table, selected->lease.versions[i]);
    }
    selected->lease.n = 0;
    pthread_mutex_unlock(&table->mutex);
}
