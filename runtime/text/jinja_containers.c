// SPDX-License-Identifier: Apache-2.0
// Methods of Python's list, tuple and dict, of loop and of cycler. Lists and dicts can be changed (append, pop, update ...),
// which Jinja's immutable sandbox refuses: templates written for other runtimes use it.
#include "runtime/text/jinja.h"

#define METHOD(name)                                                                                                           \
    static enum graft_status name(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,         \
                                  const struct jinja_args *args, struct jinja_value *out)
#define UNUSED (void)run, (void)argv, (void)args

METHOD(list_append)
{
    (void)args;
    *out = jinja_none();
    return graft_jinja_push(run, in->as.list, &argv[0]);
}
METHOD(list_extend)
{
    (void)args;
    struct jinja_list *more;
    GRAFT_TRY(graft_jinja_elements(run, &argv[0], &more));
    uint64_t count = more->count; // may be the same list
    GRAFT_TRY(graft_jinja_charge(run, count));
    for (uint64_t i = 0; i < count; i++) {
        struct jinja_value item = more->items[i];
        GRAFT_TRY(graft_jinja_push(run, in->as.list, &item));
    }
    *out = jinja_none();
    return GRAFT_OK;
}
METHOD(list_insert)
{
    (void)args;
    struct jinja_list *list = in->as.list;
    int64_t at, count = (int64_t)list->count;
    if (!jinja_as_int(&argv[0], &at)) {
        return graft_fail(GRAFT_E_ARGUMENT, "insert: the index must be an integer");
    }
    at = at < -count ? 0 : at < 0 ? at + count : at > count ? count : at;
    GRAFT_TRY(graft_jinja_charge(run, list->count / 16));
    GRAFT_TRY(graft_jinja_push(run, list, &argv[1]));
    memmove(list->items + at + 1, list->items + at, (size_t)(count - at) * sizeof *list->items);
    list->items[at] = argv[1];
    *out = jinja_none();
    return GRAFT_OK;
}
METHOD(list_pop)
{
    (void)args;
    struct jinja_list *list = in->as.list;
    int64_t at = -1;
    jinja_as_int(&argv[0], &at);
    at += at < 0 ? (int64_t)list->count : 0;
    if (at < 0 || (uint64_t)at >= list->count) {
        return graft_fail(GRAFT_E_ARGUMENT, "pop index out of range");
    }
    *out = list->items[at];
    list->count--;
    memmove(list->items + at, list->items + at + 1, (size_t)(list->count - (uint64_t)at) * sizeof *list->items);
    return graft_jinja_charge(run, (list->count - (uint64_t)at) / 16);
}
METHOD(list_index)
{
    (void)args;
    for (uint64_t i = 0; i < in->as.list->count; i++) {
        bool equal;
        GRAFT_TRY(graft_jinja_equal(run, &in->as.list->items[i], &argv[0], 0, &equal));
        if (equal) {
            *out = jinja_int((int64_t)i);
            return GRAFT_OK;
        }
    }
    return graft_fail(GRAFT_E_ARGUMENT, "index: the value is not in the list");
}
METHOD(list_count)
{
    (void)args;
    int64_t count = 0;
    for (uint64_t i = 0; i < in->as.list->count; i++) {
        bool equal;
        GRAFT_TRY(graft_jinja_equal(run, &in->as.list->items[i], &argv[0], 0, &equal));
        count += equal;
    }
    *out = jinja_int(count);
    return GRAFT_OK;
}
METHOD(list_reverse)
{
    UNUSED;
    struct jinja_list *list = in->as.list;
    for (uint64_t i = 0, j = list->count; i + 1 < j; i++) {
        struct jinja_value swap = list->items[i];
        list->items[i] = list->items[--j];
        list->items[j] = swap;
    }
    *out = jinja_none();
    return graft_jinja_charge(run, list->count);
}
METHOD(list_copy)
{
    UNUSED;
    struct jinja_value none = jinja_none();
    return graft_jinja_slice(run, in, &none, &none, &none, out);
}

METHOD(dict_get)
{
    (void)args;
    struct jinja_entry *entry;
    GRAFT_TRY(graft_jinja_dict_get(run, in->as.dict, &argv[0], &entry));
    *out = entry ? entry->value : argv[1].type == JINJA_UNSET ? jinja_none() : argv[1];
    return GRAFT_OK;
}
static enum graft_status view(struct jinja_run *run, const struct jinja_dict *dict, int what, struct jinja_value *out)
{
    struct jinja_value list;
    GRAFT_TRY(graft_jinja_list(run, JINJA_VIEW, dict->count, &list));
    GRAFT_TRY(graft_jinja_charge(run, dict->count));
    list.as.list->kind = what == 0 ? "dict_keys" : what == 1 ? "dict_values" : "dict_items";
    for (uint64_t i = 0; i < dict->count; i++) {
        struct jinja_value item = what == 0 ? dict->entries[i].key : dict->entries[i].value;
        if (what == 2) {
            GRAFT_TRY(graft_jinja_pair(run, &dict->entries[i].key, &dict->entries[i].value, &item));
        }
        GRAFT_TRY(graft_jinja_push(run, list.as.list, &item));
    }
    *out = list;
    return GRAFT_OK;
}
METHOD(dict_keys)
{
    UNUSED;
    return view(run, in->as.dict, 0, out);
}
METHOD(dict_values)
{
    UNUSED;
    return view(run, in->as.dict, 1, out);
}
METHOD(dict_items)
{
    UNUSED;
    return view(run, in->as.dict, 2, out);
}
METHOD(dict_update)
{
    (void)argv;
    for (uint64_t i = 0; i < args->count; i++) {
        if (args->plain[i].type != JINJA_DICT) {
            return graft_fail(GRAFT_E_ARGUMENT, "update: needs a dict, not %s", graft_jinja_type_name(&args->plain[i]));
        }
    }
    for (uint64_t i = 0; i <= args->count; i++) {
        const struct jinja_dict *more = i < args->count ? args->plain[i].as.dict : args->keywords;
        for (uint64_t k = 0; more && k < more->count; k++) {
            GRAFT_TRY(graft_jinja_charge(run, 1));
            GRAFT_TRY(graft_jinja_dict_set(run, in->as.dict, &more->entries[k].key, &more->entries[k].value));
        }
    }
    *out = jinja_none();
    return GRAFT_OK;
}
METHOD(dict_pop)
{
    (void)args;
    struct jinja_entry *entry;
    GRAFT_TRY(graft_jinja_dict_get(run, in->as.dict, &argv[0], &entry));
    if (entry) {
        *out = entry->value;
        return graft_jinja_dict_remove(run, in->as.dict, entry);
    }
    *out = argv[1];
    return argv[1].type != JINJA_UNSET ? GRAFT_OK : graft_fail(GRAFT_E_ARGUMENT, "pop: the dict has no such key");
}
METHOD(dict_setdefault)
{
    (void)args;
    struct jinja_entry *entry;
    GRAFT_TRY(graft_jinja_dict_get(run, in->as.dict, &argv[0], &entry));
    *out = entry ? entry->value : argv[1].type == JINJA_UNSET ? jinja_none() : argv[1];
    return entry ? GRAFT_OK : graft_jinja_dict_set(run, in->as.dict, &argv[0], out);
}
METHOD(dict_copy)
{
    UNUSED;
    struct jinja_value copy = {.type = JINJA_DICT};
    struct jinja_args one = {.plain = &(struct jinja_value){.type = JINJA_DICT, .as.dict = in->as.dict}, .count = 1};
    GRAFT_TRY(graft_jinja_dict(run, &copy.as.dict));
    GRAFT_TRY(dict_update(run, &copy, NULL, &one, out));
    *out = copy;
    return GRAFT_OK;
}

METHOD(loop_cycle)
{
    (void)argv, (void)run;
    if (args->count == 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "no items for cycling given");
    }
    *out = args->plain[in->as.loop->at % args->count];
    return GRAFT_OK;
}
METHOD(loop_changed)
{
    (void)argv;
    struct jinja_value now;
    bool same = false;
    GRAFT_TRY(graft_jinja_list(run, JINJA_TUPLE, args->count, &now));
    for (uint64_t i = 0; i < args->count; i++) {
        GRAFT_TRY(graft_jinja_push(run, now.as.list, &args->plain[i]));
    }
    GRAFT_TRY(graft_jinja_equal(run, &now, &in->as.loop->last_changed, 0, &same));
    in->as.loop->last_changed = now;
    *out = jinja_bool(!same);
    return GRAFT_OK;
}
METHOD(cycler_next)
{
    UNUSED;
    struct jinja_cycler *cycler = in->as.cycler;
    *out = cycler->items->items[cycler->at];
    cycler->at = (cycler->at + 1) % cycler->items->count;
    return GRAFT_OK;
}
METHOD(cycler_reset)
{
    UNUSED;
    in->as.cycler->at = 0;
    *out = jinja_none();
    return GRAFT_OK;
}

const struct jinja_method_def graft_jinja_container_methods[] = {
    {JINJA_LIST, "append", "object!", list_append},
    {JINJA_LIST, "extend", "iterable!", list_extend},
    {JINJA_LIST, "insert", "index! object!", list_insert},
    {JINJA_LIST, "pop", "index", list_pop},
    {JINJA_LIST, "index", "value!", list_index},
    {JINJA_LIST, "count", "value!", list_count},
    {JINJA_LIST, "reverse", "", list_reverse},
    {JINJA_LIST, "copy", "", list_copy},
    {JINJA_TUPLE, "index", "value!", list_index},
    {JINJA_TUPLE, "count", "value!", list_count},
    {JINJA_DICT, "get", "key! default", dict_get},
    {JINJA_DICT, "keys", "", dict_keys},
    {JINJA_DICT, "values", "", dict_values},
    {JINJA_DICT, "items", "", dict_items},
    {JINJA_DICT, "update", NULL, dict_update},
    {JINJA_DICT, "pop", "key! default", dict_pop},
    {JINJA_DICT, "setdefault", "key! default", dict_setdefault},
    {JINJA_DICT, "copy", "", dict_copy},
    {JINJA_LOOP, "cycle", NULL, loop_cycle},
    {JINJA_LOOP, "changed", NULL, loop_changed},
    {JINJA_CYCLER, "next", "", cycler_next},
    {JINJA_CYCLER, "reset", "", cycler_reset},
    {JINJA_UNSET, NULL, NULL, NULL},
};
