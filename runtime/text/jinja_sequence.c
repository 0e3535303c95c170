// SPDX-License-Identifier: Apache-2.0
// Filters on sequences. What Jinja makes lazily is made at once here; the result is an iterator all the same: it has no length.
#include "runtime/text/jinja.h"

#define FILTER(name)                                                                                                           \
    static enum graft_status name(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,         \
                                  const struct jinja_args *args, struct jinja_value *out)
#define UNUSED (void)run, (void)argv, (void)args

// "a.b.0" of an item, or an integer index; an UNSET attribute is the item itself.
static enum graft_status get_attribute(struct jinja_run *run, const struct jinja_value *item,
                                       const struct jinja_value *attribute, const struct jinja_value *fallback,
                                       struct jinja_value *out)
{
    *out = *item;
    if (attribute->type == JINJA_UNSET || attribute->type == JINJA_NONE) {
        return GRAFT_OK;
    }
    if (attribute->type != JINJA_STRING) {
        GRAFT_TRY(graft_jinja_item(run, item, attribute, out));
    } else {
        const struct jinja_string *path = attribute->as.string;
        for (uint64_t at = 0; at <= path->length;) {
            const char *dot = at < path->length ? memchr(path->data + at, '.', (size_t)(path->length - at)) : NULL;
            uint64_t end = dot ? (uint64_t)(dot - path->data) : path->length;
            struct jinja_value part;
            int64_t number = 0;
            bool digits = end > at && end - at < 10;
            for (uint64_t i = at; i < end; i++) {
                digits &= path->data[i] >= '0' && path->data[i] <= '9';
                number = digits ? number * 10 + (path->data[i] - '0') : 0;
            }
            GRAFT_TRY(graft_jinja_share(&run->arena, path, at, end - at, &part));
            part = digits ? jinja_int(number) : part;
            GRAFT_TRY(graft_jinja_item(run, out, &part, out));
            at = end + 1;
        }
    }
    if (out->type == JINJA_UNDEFINED && fallback && fallback->type != JINJA_UNSET) {
        *out = *fallback;
    }
    return GRAFT_OK;
}

// What things are sorted and compared by: strings in lower case unless case counts.
static enum graft_status sort_key(struct jinja_run *run, const struct jinja_value *item, const struct jinja_value *attribute,
                                  bool case_sensitive, struct jinja_value *out)
{
    GRAFT_TRY(get_attribute(run, item, attribute, NULL, out));
    if (!case_sensitive && out->type == JINJA_STRING) {
        struct jinja_value lower;
        GRAFT_TRY(graft_jinja_case(run, out->as.string, JINJA_LOWER, &lower));
        *out = lower;
    }
    return GRAFT_OK;
}

// Stable merge sort of items by keys (Knuth, The Art of Computer Programming 3, 5.2.4); reverse keeps equal ones in order.
static enum graft_status sort_by(struct jinja_run *run, struct jinja_list *items, struct jinja_value *keys, bool reverse)
{
    uint64_t count = items->count;
    struct jinja_value *spare_items, *spare_keys, *from = items->items;
    GRAFT_TRY(JINJA_NEW(&run->arena, &spare_items, count + 1));
    GRAFT_TRY(JINJA_NEW(&run->arena, &spare_keys, count + 1));
    for (uint64_t width = 1; width < count; width *= 2) {
        for (uint64_t low = 0; low < count; low += 2 * width) {
            uint64_t mid = low + width < count ? low + width : count;
            uint64_t high = mid + width < count ? mid + width : count;
            for (uint64_t i = low, j = mid, k = low; k < high; k++) {
                int order = 0;
                if (i < mid && j < high) {
                    GRAFT_TRY(
                        graft_jinja_compare(run, reverse ? &keys[i] : &keys[j], reverse ? &keys[j] : &keys[i], "<", 0, &order));
                }
                uint64_t take = i == mid || (j < high && order == -1) ? j++ : i++;
                spare_items[k] = from[take];
                spare_keys[k] = keys[take];
            }
        }
        struct jinja_value *swap = from;
        from = spare_items;
        spare_items = swap;
        swap = keys;
        keys = spare_keys;
        spare_keys = swap;
    }
    items->items = from;
    items->capacity = count;
    return GRAFT_OK;
}

static enum graft_status copy_list(struct jinja_run *run, const struct jinja_value *in, enum jinja_type type,
                                   struct jinja_value *out)
{
    struct jinja_list *items;
    struct jinja_value list;
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    GRAFT_TRY(graft_jinja_charge(run, items->count));
    GRAFT_TRY(graft_jinja_list(run, type, items->count, &list));
    for (uint64_t i = 0; i < items->count; i++) {
        GRAFT_TRY(graft_jinja_push(run, list.as.list, &items->items[i]));
    }
    *out = list;
    return GRAFT_OK;
}

FILTER(do_list)
{
    UNUSED;
    return copy_list(run, in, JINJA_LIST, out);
}

FILTER(do_first)
{
    UNUSED;
    struct jinja_list *items;
    *out = jinja_undefined(NULL);
    if (in->type == JINJA_ITERATOR) {
        items = in->as.list;
        if (items->start < items->count) {
            *out = items->items[items->start++];
        }
        return GRAFT_OK;
    }
    if (in->type == JINJA_STRING || in->type == JINJA_LIST || in->type == JINJA_TUPLE) {
        struct jinja_value zero = jinja_int(0);
        return graft_jinja_item(run, in, &zero, out);
    }
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    if (items->count) {
        *out = items->items[0];
    }
    return GRAFT_OK;
}

FILTER(do_last)
{
    UNUSED;
    struct jinja_list *items;
    *out = jinja_undefined(NULL);
    if (in->type == JINJA_ITERATOR) {
        return graft_fail(GRAFT_E_ARGUMENT, "'generator' object is not reversible");
    }
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    if (items->count) {
        *out = items->items[items->count - 1];
    }
    return GRAFT_OK;
}

FILTER(do_join)
{
    (void)args;
    struct jinja_list *items;
    struct jinja_value between;
    struct jinja_buffer buffer = {0};
    GRAFT_TRY(argv[0].type == JINJA_UNSET ? graft_jinja_string(&run->arena, "", 0, &between)
                                          : graft_jinja_str(run, &argv[0], &between));
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    for (uint64_t i = 0; i < items->count; i++) {
        struct jinja_value item;
        GRAFT_TRY(graft_jinja_charge(run, 1));
        GRAFT_TRY(get_attribute(run, &items->items[i], &argv[1], NULL, &item));
        if (i) {
            GRAFT_TRY(graft_jinja_put(run, &buffer, between.as.string->data, between.as.string->length));
        }
        GRAFT_TRY(graft_jinja_put_value(run, &buffer, &item));
    }
    return graft_jinja_finish(run, &buffer, out);
}

FILTER(do_items)
{
    UNUSED;
    struct jinja_value list;
    GRAFT_TRY(graft_jinja_list(run, JINJA_ITERATOR, 0, &list));
    if (in->type != JINJA_UNDEFINED && in->type != JINJA_DICT) {
        return graft_fail(GRAFT_E_ARGUMENT, "Can only get item pairs from a mapping.");
    }
    for (uint64_t i = 0; in->type == JINJA_DICT && i < in->as.dict->count; i++) {
        struct jinja_value pair;
        GRAFT_TRY(graft_jinja_charge(run, 1));
        GRAFT_TRY(graft_jinja_pair(run, &in->as.dict->entries[i].key, &in->as.dict->entries[i].value, &pair));
        GRAFT_TRY(graft_jinja_push(run, list.as.list, &pair));
    }
    *out = list;
    return GRAFT_OK;
}

// The filter or test that map, select and reject are given by name, and its arguments (those behind the first `skip`).
static enum graft_status named(const struct jinja_args *args, uint64_t skip, const char *what, const struct jinja_string **name,
                               struct jinja_args *rest)
{
    *rest = (struct jinja_args){.keywords = args->keywords};
    *name = NULL;
    if (args->count <= skip) {
        return GRAFT_OK;
    }
    if (args->plain[skip].type != JINJA_STRING) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s: the name of the filter or test must be a string", what);
    }
    *name = args->plain[skip].as.string;
    rest->plain = args->plain + skip + 1;
    rest->count = args->count - skip - 1;
    return GRAFT_OK;
}

FILTER(do_map)
{
    (void)argv;
    struct jinja_list *items;
    struct jinja_value result;
    const struct jinja_string *name;
    struct jinja_args rest;
    static const struct jinja_value unset = {.type = JINJA_UNSET};
    GRAFT_TRY(named(args, 0, "map", &name, &rest));
    const struct jinja_value *attribute = graft_jinja_dict_find(args->keywords, "attribute");
    const struct jinja_value *fallback = graft_jinja_dict_find(args->keywords, "default");
    const struct jinja_filter_def *def = name ? graft_jinja_find_filter(name->data, name->length) : NULL;
    if (name && !def) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "map: filter '%.*s' is unknown", (int)(name->length < 100 ? name->length : 100),
                          name->data);
    }
    if (!name && !attribute) {
        return graft_fail(GRAFT_E_ARGUMENT, "map requires a filter argument");
    }
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    GRAFT_TRY(graft_jinja_list(run, JINJA_ITERATOR, items->count, &result));
    for (uint64_t i = 0; i < items->count; i++) {
        struct jinja_value item;
        GRAFT_TRY(graft_jinja_charge(run, 1));
        GRAFT_TRY(def ? graft_jinja_apply_filter(run, def, &items->items[i], &rest, &item)
                      : get_attribute(run, &items->items[i], attribute, fallback ? fallback : &unset, &item));
        GRAFT_TRY(graft_jinja_push(run, result.as.list, &item));
    }
    *out = result;
    return GRAFT_OK;
}

static enum graft_status select_items(struct jinja_run *run, const struct jinja_value *in, const struct jinja_args *args,
                                      bool by_attribute, bool wanted, struct jinja_value *out)
{
    struct jinja_list *items;
    struct jinja_value result;
    const struct jinja_string *name;
    struct jinja_args rest;
    if (by_attribute && args->count == 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "Missing parameter for attribute name");
    }
    GRAFT_TRY(named(args, by_attribute ? 1 : 0, "select", &name, &rest));
    const struct jinja_test_def *def = name ? graft_jinja_find_test(name->data, name->length) : NULL;
    if (name && !def) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "select: test '%.*s' is unknown", (int)(name->length < 100 ? name->length : 100),
                          name->data);
    }
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    GRAFT_TRY(graft_jinja_list(run, JINJA_ITERATOR, 0, &result));
    for (uint64_t i = 0; i < items->count; i++) {
        struct jinja_value item = items->items[i];
        GRAFT_TRY(graft_jinja_charge(run, 1));
        if (by_attribute) {
            GRAFT_TRY(get_attribute(run, &items->items[i], &args->plain[0], NULL, &item));
        }
        bool yes = graft_jinja_truth(&item);
        if (def) {
            GRAFT_TRY(graft_jinja_apply_test(run, def, &item, &rest, &yes));
        }
        if (yes == wanted) {
            GRAFT_TRY(graft_jinja_push(run, result.as.list, &items->items[i]));
        }
    }
    *out = result;
    return GRAFT_OK;
}
FILTER(do_select)
{
    (void)argv;
    return select_items(run, in, args, false, true, out);
}
FILTER(do_reject)
{
    (void)argv;
    return select_items(run, in, args, false, false, out);
}
FILTER(do_selectattr)
{
    (void)argv;
    return select_items(run, in, args, true, true, out);
}
FILTER(do_rejectattr)
{
    (void)argv;
    return select_items(run, in, args, true, false, out);
}

// "a,b": by a, equal ones by b.
static enum graft_status sort_keys(struct jinja_run *run, const struct jinja_value *item, const struct jinja_value *attribute,
                                   bool case_sensitive, struct jinja_value *out)
{
    const struct jinja_string *s = attribute->type == JINJA_STRING ? attribute->as.string : NULL;
    if (!s || !memchr(s->data, ',', (size_t)s->length)) {
        return sort_key(run, item, attribute, case_sensitive, out);
    }
    GRAFT_TRY(graft_jinja_list(run, JINJA_TUPLE, 0, out));
    for (uint64_t at = 0; at <= s->length;) {
        const char *comma = at < s->length ? memchr(s->data + at, ',', (size_t)(s->length - at)) : NULL;
        uint64_t end = comma ? (uint64_t)(comma - s->data) : s->length;
        struct jinja_value name, key;
        GRAFT_TRY(graft_jinja_charge(run, 1));
        GRAFT_TRY(graft_jinja_share(&run->arena, s, at, end - at, &name));
        GRAFT_TRY(sort_key(run, item, &name, case_sensitive, &key));
        GRAFT_TRY(graft_jinja_push(run, out->as.list, &key));
        at = end + 1;
    }
    return GRAFT_OK;
}

FILTER(do_sort)
{
    (void)args;
    struct jinja_value list, *keys;
    GRAFT_TRY(copy_list(run, in, JINJA_LIST, &list));
    GRAFT_TRY(JINJA_NEW(&run->arena, &keys, list.as.list->count + 1));
    for (uint64_t i = 0; i < list.as.list->count; i++) {
        GRAFT_TRY(sort_keys(run, &list.as.list->items[i], &argv[2], graft_jinja_truth(&argv[1]), &keys[i]));
    }
    GRAFT_TRY(sort_by(run, list.as.list, keys, graft_jinja_truth(&argv[0])));
    *out = list;
    return GRAFT_OK;
}

FILTER(do_dictsort)
{
    (void)args;
    struct jinja_value pairs, list, *keys;
    if (in->type != JINJA_DICT) {
        return in->type == JINJA_UNDEFINED
                   ? graft_jinja_undefined_error(in)
                   : graft_fail(GRAFT_E_ARGUMENT, "dictsort: needs a dict, not %s", graft_jinja_type_name(in));
    }
    bool by_value = argv[1].type == JINJA_STRING && jinja_name_is(argv[1].as.string, "value");
    if (argv[1].type != JINJA_UNSET && !by_value &&
        !(argv[1].type == JINJA_STRING && jinja_name_is(argv[1].as.string, "key"))) {
        return graft_fail(GRAFT_E_ARGUMENT, "You can only sort by either \"key\" or \"value\"");
    }
    GRAFT_TRY(do_items(run, in, NULL, NULL, &pairs));
    GRAFT_TRY(copy_list(run, &pairs, JINJA_LIST, &list));
    GRAFT_TRY(JINJA_NEW(&run->arena, &keys, list.as.list->count + 1));
    struct jinja_value index = jinja_int(by_value);
    for (uint64_t i = 0; i < list.as.list->count; i++) {
        GRAFT_TRY(sort_key(run, &list.as.list->items[i], &index, graft_jinja_truth(&argv[0]), &keys[i]));
    }
    GRAFT_TRY(sort_by(run, list.as.list, keys, graft_jinja_truth(&argv[2])));
    *out = list;
    return GRAFT_OK;
}

FILTER(do_unique)
{
    (void)args;
    struct jinja_list *items;
    struct jinja_value result;
    struct jinja_dict *seen;
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    GRAFT_TRY(graft_jinja_list(run, JINJA_ITERATOR, 0, &result));
    GRAFT_TRY(graft_jinja_dict(run, &seen));
    for (uint64_t i = 0; i < items->count; i++) {
        struct jinja_value key, yes = jinja_bool(true);
        uint64_t before = seen->count;
        GRAFT_TRY(sort_key(run, &items->items[i], &argv[1], graft_jinja_truth(&argv[0]), &key));
        GRAFT_TRY(graft_jinja_dict_set(run, seen, &key, &yes));
        if (seen->count > before) {
            GRAFT_TRY(graft_jinja_push(run, result.as.list, &items->items[i]));
        }
    }
    *out = result;
    return GRAFT_OK;
}

FILTER(do_reverse)
{
    UNUSED;
    if (in->type == JINJA_STRING) {
        struct jinja_value none = jinja_none(), back = jinja_int(-1);
        return graft_jinja_slice(run, in, &none, &none, &back, out);
    }
    struct jinja_value list;
    GRAFT_TRY(copy_list(run, in, JINJA_ITERATOR, &list));
    for (uint64_t i = 0, j = list.as.list->count; i + 1 < j; i++) {
        struct jinja_value swap = list.as.list->items[i];
        list.as.list->items[i] = list.as.list->items[--j];
        list.as.list->items[j] = swap;
    }
    *out = list;
    return GRAFT_OK;
}

static enum graft_status extreme(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,
                                 int wanted, struct jinja_value *out)
{
    struct jinja_list *items;
    struct jinja_value best;
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    *out = jinja_undefined(NULL);
    for (uint64_t i = 0; i < items->count; i++) {
        struct jinja_value key;
        int order = wanted;
        GRAFT_TRY(sort_key(run, &items->items[i], &argv[1], graft_jinja_truth(&argv[0]), &key));
        if (i > 0) {
            GRAFT_TRY(graft_jinja_compare(run, &key, &best, wanted < 0 ? "<" : ">", 0, &order));
        }
        if (order == wanted) {
            best = key;
            *out = items->items[i];
        }
    }
    return GRAFT_OK;
}
FILTER(do_min)
{
    (void)args;
    return extreme(run, in, argv, -1, out);
}
FILTER(do_max)
{
    (void)args;
    return extreme(run, in, argv, 1, out);
}

FILTER(do_sum)
{
    (void)args;
    struct jinja_list *items;
    struct jinja_value sum = argv[1].type == JINJA_UNSET ? jinja_int(0) : argv[1];
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    for (uint64_t i = 0; i < items->count; i++) {
        struct jinja_value item, next;
        GRAFT_TRY(graft_jinja_charge(run, 1));
        GRAFT_TRY(get_attribute(run, &items->items[i], &argv[0], NULL, &item));
        GRAFT_TRY(graft_jinja_arith(run, JINJA_OP_ADD, &sum, &item, &next));
        sum = next;
    }
    *out = sum;
    return GRAFT_OK;
}

FILTER(do_batch)
{
    (void)args;
    struct jinja_list *items;
    struct jinja_value result, line = {.type = JINJA_UNSET};
    int64_t size;
    if (!jinja_as_int(&argv[0], &size) || size < 1 || size > JINJA_MAX_RANGE) {
        return graft_fail(GRAFT_E_ARGUMENT, "batch: the size must be an integer from 1 to %d", JINJA_MAX_RANGE);
    }
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    GRAFT_TRY(graft_jinja_list(run, JINJA_ITERATOR, 0, &result));
    for (uint64_t i = 0; i < items->count; i++) {
        if (i % (uint64_t)size == 0) {
            GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &line));
            GRAFT_TRY(graft_jinja_push(run, result.as.list, &line));
        }
        GRAFT_TRY(graft_jinja_charge(run, 1));
        GRAFT_TRY(graft_jinja_push(run, line.as.list, &items->items[i]));
    }
    while (line.type != JINJA_UNSET && argv[1].type > JINJA_NONE && line.as.list->count < (uint64_t)size) {
        GRAFT_TRY(graft_jinja_charge(run, 1));
        GRAFT_TRY(graft_jinja_push(run, line.as.list, &argv[1]));
    }
    *out = result;
    return GRAFT_OK;
}

// Pairs (key, items) in the order of the keys.
FILTER(do_groupby)
{
    (void)args;
    struct jinja_value list, *keys, result, group;
    GRAFT_TRY(copy_list(run, in, JINJA_LIST, &list));
    GRAFT_TRY(JINJA_NEW(&run->arena, &keys, list.as.list->count + 1));
    for (uint64_t i = 0; i < list.as.list->count; i++) {
        struct jinja_value raw;
        GRAFT_TRY(get_attribute(run, &list.as.list->items[i], &argv[0], &argv[1], &raw));
        GRAFT_TRY(sort_key(run, &raw, &(struct jinja_value){0}, graft_jinja_truth(&argv[2]), &keys[i]));
    }
    GRAFT_TRY(sort_by(run, list.as.list, keys, false));
    GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &result));
    struct jinja_value last = {.type = JINJA_UNSET};
    for (uint64_t i = 0; i < list.as.list->count; i++) {
        struct jinja_value raw, key;
        bool same = false;
        GRAFT_TRY(get_attribute(run, &list.as.list->items[i], &argv[0], &argv[1], &raw));
        GRAFT_TRY(sort_key(run, &raw, &(struct jinja_value){0}, graft_jinja_truth(&argv[2]), &key));
        if (i > 0) {
            GRAFT_TRY(graft_jinja_equal(run, &key, &last, 0, &same));
        }
        if (!same) {
            struct jinja_value pair;
            GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &group));
            GRAFT_TRY(graft_jinja_pair(run, &raw, &group, &pair));
            GRAFT_TRY(graft_jinja_push(run, result.as.list, &pair));
        }
        GRAFT_TRY(graft_jinja_push(run, group.as.list, &list.as.list->items[i]));
        last = key;
    }
    *out = result;
    return GRAFT_OK;
}

const struct jinja_filter_def graft_jinja_sequence_filters[] = {
    {"list", "", do_list},
    {"first", "", do_first},
    {"last", "", do_last},
    {"join", "d attribute", do_join},
    {"items", "", do_items},
    {"map", NULL, do_map},
    {"select", NULL, do_select},
    {"reject", NULL, do_reject},
    {"selectattr", NULL, do_selectattr},
    {"rejectattr", NULL, do_rejectattr},
    {"sort", "reverse case_sensitive attribute", do_sort},
    {"dictsort", "case_sensitive by reverse", do_dictsort},
    {"unique", "case_sensitive attribute", do_unique},
    {"reverse", "", do_reverse},
    {"min", "case_sensitive attribute", do_min},
    {"max", "case_sensitive attribute", do_max},
    {"sum", "attribute start", do_sum},
    {"batch", "linecount! fill_with", do_batch},
    {"groupby", "attribute! default case_sensitive", do_groupby},
    {NULL, NULL, NULL},
};
