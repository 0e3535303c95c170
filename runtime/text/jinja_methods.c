// SPDX-License-Identifier: Apache-2.0
// Methods of Python's str. The look-up of all methods.
#include "runtime/text/jinja.h"

#define METHOD(name)                                                                                                           \
    static enum graft_status name(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,         \
                                  const struct jinja_args *args, struct jinja_value *out)
#define UNUSED (void)run, (void)argv, (void)args

static enum graft_status need_string(const char *method, const struct jinja_value *value)
{
    return value->type == JINJA_STRING
               ? GRAFT_OK
               : graft_fail(GRAFT_E_ARGUMENT, "%s: needs a string, not %s", method, graft_jinja_type_name(value));
}

static enum graft_status strip_with(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *chars,
                                    bool left, bool right, struct jinja_value *out)
{
    bool given = chars->type != JINJA_UNSET && chars->type != JINJA_NONE;
    if (given) {
        GRAFT_TRY(need_string("strip", chars));
    }
    return graft_jinja_strip(run, in->as.string, given ? chars->as.string : NULL, left, right, out);
}
METHOD(str_strip)
{
    (void)args;
    return strip_with(run, in, &argv[0], true, true, out);
}
METHOD(str_lstrip)
{
    (void)args;
    return strip_with(run, in, &argv[0], true, false, out);
}
METHOD(str_rstrip)
{
    (void)args;
    return strip_with(run, in, &argv[0], false, true, out);
}

static enum graft_status push_part(struct jinja_run *run, struct jinja_list *list, const struct jinja_string *string,
                                   uint64_t start, uint64_t end)
{
    struct jinja_value part;
    GRAFT_TRY(graft_jinja_charge(run, 1));
    GRAFT_TRY(graft_jinja_share(&run->arena, string, start, end - start, &part));
    return graft_jinja_push(run, list, &part);
}

// On whitespace, from the left or the right; runs of it count once.
static enum graft_status split_space(struct jinja_run *run, const struct jinja_string *string, int64_t most, bool right,
                                     struct jinja_list *list)
{
    struct jinja_value rest = {.type = JINJA_STRING, .as.string = string};
    GRAFT_TRY(graft_jinja_charge(run, string->length / 64));
    GRAFT_TRY(graft_jinja_strip(run, string, NULL, !right, right, &rest));
    const struct jinja_string *s = rest.as.string;
    uint64_t from = 0, to = s->length;
    while (from < to) {
        if (most == 0) {
            struct jinja_value last;
            struct jinja_string part = {.data = s->data + from, .length = to - from, .spare = s->spare};
            part.chars = graft_jinja_count(part.data, part.length);
            GRAFT_TRY(graft_jinja_strip(run, &part, NULL, !right, right, &last));
            return last.as.string->length ? graft_jinja_push(run, list, &last) : GRAFT_OK;
        }
        uint64_t at = right ? to : from, word = at;
        for (bool in_word = true; right ? at > from : at < to;) {
            uint64_t next = at;
            if (right) {
                do {
                    next--;
                } while (next > from && (s->data[next] & 0xc0) == 0x80);
            }
            uint64_t end = next;
            bool space = graft_jinja_is_space(graft_jinja_decode(s->data, s->length, &end));
            if (!space && !in_word) {
                break;
            }
            in_word = !space;
            at = right ? next : end;
            word = in_word ? at : word;
        }
        if (word != (right ? to : from)) {
            GRAFT_TRY(right ? push_part(run, list, s, word, to) : push_part(run, list, s, from, word));
            most--;
        }
        *(right ? &to : &from) = at;
    }
    return GRAFT_OK;
}

static enum graft_status split(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv, bool right,
                               struct jinja_value *out)
{
    const struct jinja_string *string = in->as.string;
    struct jinja_value list;
    int64_t most = -1;
    jinja_as_int(&argv[1], &most);
    GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &list));
    if (argv[0].type == JINJA_UNSET || argv[0].type == JINJA_NONE) {
        GRAFT_TRY(split_space(run, string, most, right, list.as.list));
    } else {
        GRAFT_TRY(need_string("split", &argv[0]));
        const struct jinja_string *by = argv[0].as.string;
        if (by->length == 0) {
            return graft_fail(GRAFT_E_ARGUMENT, "split: empty separator");
        }
        uint64_t from = 0, to = string->length;
        for (int64_t done = 0; most < 0 || done < most; done++) {
            uint64_t at;
            GRAFT_TRY(graft_jinja_find(run, string, by, from, to, right, &at));
            if (at == UINT64_MAX) {
                break;
            }
            GRAFT_TRY(right ? push_part(run, list.as.list, string, at + by->length, to)
                            : push_part(run, list.as.list, string, from, at));
            *(right ? &to : &from) = right ? at : at + by->length;
        }
        GRAFT_TRY(push_part(run, list.as.list, string, from, to));
    }
    for (uint64_t i = 0, j = list.as.list->count; right && i + 1 < j; i++) {
        struct jinja_value swap = list.as.list->items[i];
        list.as.list->items[i] = list.as.list->items[--j];
        list.as.list->items[j] = swap;
    }
    *out = list;
    return GRAFT_OK;
}
METHOD(str_split)
{
    (void)args;
    return split(run, in, argv, false, out);
}
METHOD(str_rsplit)
{
    (void)args;
    return split(run, in, argv, true, out);
}
METHOD(str_splitlines)
{
    (void)args;
    return graft_jinja_splitlines(run, in->as.string, graft_jinja_truth(&argv[0]), out);
}

static enum graft_status cut(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv, bool last,
                             struct jinja_value *out)
{
    struct jinja_value list;
    const struct jinja_string *s = in->as.string;
    uint64_t at;
    GRAFT_TRY(need_string("partition", &argv[0]));
    GRAFT_TRY(graft_jinja_list(run, JINJA_TUPLE, 3, &list));
    GRAFT_TRY(graft_jinja_find(run, s, argv[0].as.string, 0, s->length, last, &at));
    bool found = at != UINT64_MAX;
    uint64_t first = found ? at : last ? 0 : s->length, second = found ? at + argv[0].as.string->length : first;
    GRAFT_TRY(push_part(run, list.as.list, s, 0, first));
    GRAFT_TRY(push_part(run, list.as.list, s, first, second));
    GRAFT_TRY(push_part(run, list.as.list, s, second, s->length));
    *out = list;
    return GRAFT_OK;
}
METHOD(str_partition)
{
    (void)args;
    return cut(run, in, argv, false, out);
}
METHOD(str_rpartition)
{
    (void)args;
    return cut(run, in, argv, true, out);
}

static bool begins(const struct jinja_string *s, const struct jinja_string *part, bool end)
{
    return part->length <= s->length &&
           memcmp(s->data + (end ? s->length - part->length : 0), part->data, (size_t)part->length) == 0;
}

static enum graft_status begins_with(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *part,
                                     bool end, struct jinja_value *out)
{
    if (part->type == JINJA_TUPLE) {
        *out = jinja_bool(false);
        for (uint64_t i = 0; i < part->as.list->count && !out->as.boolean; i++) {
            GRAFT_TRY(graft_jinja_charge(run, 1));
            GRAFT_TRY(need_string("startswith", &part->as.list->items[i]));
            *out = jinja_bool(begins(in->as.string, part->as.list->items[i].as.string, end));
        }
        return GRAFT_OK;
    }
    GRAFT_TRY(need_string(end ? "endswith" : "startswith", part));
    GRAFT_TRY(graft_jinja_charge(run, part->as.string->length / 256));
    *out = jinja_bool(begins(in->as.string, part->as.string, end));
    return GRAFT_OK;
}
METHOD(str_startswith)
{
    (void)args;
    return begins_with(run, in, &argv[0], false, out);
}
METHOD(str_endswith)
{
    (void)args;
    return begins_with(run, in, &argv[0], true, out);
}

static enum graft_status remove_part(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *part,
                                     bool end, struct jinja_value *out)
{
    GRAFT_TRY(need_string("removeprefix", part));
    const struct jinja_string *s = in->as.string;
    GRAFT_TRY(graft_jinja_charge(run, s->length / 256));
    uint64_t length = begins(s, part->as.string, end) ? part->as.string->length : 0;
    return graft_jinja_share(&run->arena, s, end ? 0 : length, s->length - length, out);
}
METHOD(str_removeprefix)
{
    (void)args;
    return remove_part(run, in, &argv[0], false, out);
}
METHOD(str_removesuffix)
{
    (void)args;
    return remove_part(run, in, &argv[0], true, out);
}

METHOD(str_replace)
{
    (void)args;
    int64_t times = -1;
    GRAFT_TRY(need_string("replace", &argv[0]));
    GRAFT_TRY(need_string("replace", &argv[1]));
    jinja_as_int(&argv[2], &times);
    return graft_jinja_replace(run, in->as.string, argv[0].as.string, argv[1].as.string, times, out);
}
METHOD(str_upper)
{
    UNUSED;
    return graft_jinja_case(run, in->as.string, JINJA_UPPER, out);
}
METHOD(str_lower)
{
    UNUSED;
    return graft_jinja_case(run, in->as.string, JINJA_LOWER, out);
}
METHOD(str_title)
{
    UNUSED;
    return graft_jinja_case(run, in->as.string, JINJA_TITLE, out);
}
METHOD(str_capitalize)
{
    UNUSED;
    return graft_jinja_case(run, in->as.string, JINJA_CAPITALIZE, out);
}

static enum graft_status find(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv, bool last,
                              bool must, struct jinja_value *out)
{
    GRAFT_TRY(need_string("find", &argv[0]));
    const struct jinja_string *s = in->as.string;
    int64_t from = 0, to = (int64_t)s->chars, count = to;
    jinja_as_int(&argv[1], &from);
    jinja_as_int(&argv[2], &to);
    from = from < -count ? 0 : from < 0 ? from + count : from;
    to = to < -count ? 0 : to < 0 ? to + count : to > count ? count : to;
    uint64_t at = UINT64_MAX;
    if (from <= to) {
        GRAFT_TRY(graft_jinja_find(run, s, argv[0].as.string, graft_jinja_offset(s, (uint64_t)from),
                                   graft_jinja_offset(s, (uint64_t)to), last, &at));
    }
    if (at == UINT64_MAX && must) {
        return graft_fail(GRAFT_E_ARGUMENT, "substring not found");
    }
    GRAFT_TRY(graft_jinja_charge(run, s->length / 64));
    *out = jinja_int(at == UINT64_MAX ? -1 : (int64_t)graft_jinja_count(s->data, at));
    return GRAFT_OK;
}
METHOD(str_find)
{
    (void)args;
    return find(run, in, argv, false, false, out);
}
METHOD(str_rfind)
{
    (void)args;
    return find(run, in, argv, true, false, out);
}
METHOD(str_index)
{
    (void)args;
    return find(run, in, argv, false, true, out);
}
METHOD(str_rindex)
{
    (void)args;
    return find(run, in, argv, true, true, out);
}
METHOD(str_count)
{
    (void)args;
    GRAFT_TRY(need_string("count", &argv[0]));
    const struct jinja_string *s = in->as.string, *part = argv[0].as.string;
    int64_t count = part->length ? 0 : (int64_t)s->chars + 1;
    for (uint64_t at = 0; part->length;) {
        GRAFT_TRY(graft_jinja_charge(run, 1));
        GRAFT_TRY(graft_jinja_find(run, s, part, at, s->length, false, &at));
        if (at == UINT64_MAX) {
            break;
        }
        at += part->length;
        count++;
    }
    *out = jinja_int(count);
    return GRAFT_OK;
}

METHOD(str_join)
{
    (void)args;
    struct jinja_list *items;
    struct jinja_buffer buffer = {0};
    GRAFT_TRY(graft_jinja_elements(run, &argv[0], &items));
    for (uint64_t i = 0; i < items->count; i++) {
        GRAFT_TRY(need_string("join", &items->items[i]));
        GRAFT_TRY(graft_jinja_charge(run, 1));
        if (i) {
            GRAFT_TRY(graft_jinja_put(run, &buffer, in->as.string->data, in->as.string->length));
        }
        GRAFT_TRY(graft_jinja_put_value(run, &buffer, &items->items[i]));
    }
    return graft_jinja_finish(run, &buffer, out);
}
METHOD(str_format)
{
    (void)argv;
    return graft_jinja_format(run, in->as.string, args, out);
}

static bool all_chars(const struct jinja_string *s, bool (*test)(uint32_t))
{
    bool yes = s->length > 0;
    for (uint64_t at = 0; yes && at < s->length;) {
        yes = test(graft_jinja_decode(s->data, s->length, &at));
    }
    return yes;
}
static bool digit(uint32_t code)
{
    return code >= '0' && code <= '9';
}
METHOD(str_isdigit)
{
    UNUSED;
    *out = jinja_bool(all_chars(in->as.string, digit));
    return graft_jinja_charge(run, in->as.string->length / 64);
}
METHOD(str_isspace)
{
    UNUSED;
    *out = jinja_bool(all_chars(in->as.string, graft_jinja_is_space));
    return graft_jinja_charge(run, in->as.string->length / 64);
}

static const struct jinja_method_def methods[] = {
    {JINJA_STRING, "strip", "chars", str_strip},
    {JINJA_STRING, "lstrip", "chars", str_lstrip},
    {JINJA_STRING, "rstrip", "chars", str_rstrip},
    {JINJA_STRING, "split", "sep maxsplit", str_split},
    {JINJA_STRING, "rsplit", "sep maxsplit", str_rsplit},
    {JINJA_STRING, "splitlines", "keepends", str_splitlines},
    {JINJA_STRING, "partition", "sep!", str_partition},
    {JINJA_STRING, "rpartition", "sep!", str_rpartition},
    {JINJA_STRING, "startswith", "prefix!", str_startswith},
    {JINJA_STRING, "endswith", "suffix!", str_endswith},
    {JINJA_STRING, "removeprefix", "prefix!", str_removeprefix},
    {JINJA_STRING, "removesuffix", "suffix!", str_removesuffix},
    {JINJA_STRING, "replace", "old! new! count", str_replace},
    {JINJA_STRING, "upper", "", str_upper},
    {JINJA_STRING, "lower", "", str_lower},
    {JINJA_STRING, "title", "", str_title},
    {JINJA_STRING, "capitalize", "", str_capitalize},
    {JINJA_STRING, "find", "sub! start end", str_find},
    {JINJA_STRING, "rfind", "sub! start end", str_rfind},
    {JINJA_STRING, "index", "sub! start end", str_index},
    {JINJA_STRING, "rindex", "sub! start end", str_rindex},
    {JINJA_STRING, "count", "sub!", str_count},
    {JINJA_STRING, "join", "iterable!", str_join},
    {JINJA_STRING, "format", NULL, str_format},
    {JINJA_STRING, "isdigit", "", str_isdigit},
    {JINJA_STRING, "isspace", "", str_isspace},
    {JINJA_UNSET, NULL, NULL, NULL},
};

const struct jinja_method_def *graft_jinja_find_method(enum jinja_type type, const char *name, uint64_t length)
{
    const struct jinja_method_def *const tables[] = {methods, graft_jinja_more_methods, graft_jinja_container_methods};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        for (const struct jinja_method_def *def = tables[t]; def->name; def++) {
            if (def->type == type && strlen(def->name) == length && memcmp(def->name, name, (size_t)length) == 0) {
                return def;
            }
        }
    }
    return NULL;
}
