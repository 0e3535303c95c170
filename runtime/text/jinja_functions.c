// SPDX-License-Identifier: Apache-2.0
// Global functions, and the attributes of loop and cycler.
#define _POSIX_C_SOURCE 200809L // localtime_r
#include <time.h>

#include "runtime/text/jinja.h"

#define FUNCTION(name)                                                                                                         \
    static enum graft_status name(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,         \
                                  const struct jinja_args *args, struct jinja_value *out)

static int64_t fixed_clock = INT64_MIN;

void graft_jinja_set_clock(int64_t seconds)
{
    fixed_clock = seconds;
}

// dict(...) and namespace(...): dicts or pairs, then keywords.
FUNCTION(make_dict)
{
    (void)in, (void)argv;
    struct jinja_value dict = {.type = JINJA_DICT};
    GRAFT_TRY(graft_jinja_dict(run, &dict.as.dict));
    for (uint64_t i = 0; i < args->count; i++) {
        struct jinja_list *pairs;
        const struct jinja_value *from = &args->plain[i];
        bool copy = from->type == JINJA_DICT;
        GRAFT_TRY(graft_jinja_elements(run, from, &pairs));
        for (uint64_t k = 0; k < pairs->count; k++) {
            GRAFT_TRY(graft_jinja_charge(run, 1));
            const struct jinja_value *pair = &pairs->items[k];
            if (copy) {
                GRAFT_TRY(graft_jinja_dict_set(run, dict.as.dict, pair, &from->as.dict->entries[k].value));
                continue;
            }
            if ((pair->type != JINJA_TUPLE && pair->type != JINJA_LIST) || pair->as.list->count != 2) {
                return graft_fail(GRAFT_E_ARGUMENT, "dict: needs a dict or pairs");
            }
            GRAFT_TRY(graft_jinja_dict_set(run, dict.as.dict, &pair->as.list->items[0], &pair->as.list->items[1]));
        }
    }
    for (uint64_t k = 0; args->keywords && k < args->keywords->count; k++) {
        GRAFT_TRY(graft_jinja_dict_set(run, dict.as.dict, &args->keywords->entries[k].key, &args->keywords->entries[k].value));
    }
    *out = dict;
    return GRAFT_OK;
}

FUNCTION(make_namespace)
{
    GRAFT_TRY(make_dict(run, in, argv, args, out));
    out->type = JINJA_NAMESPACE;
    return GRAFT_OK;
}

FUNCTION(make_range)
{
    (void)in, (void)args;
    int64_t bounds[3] = {0, 0, 1};
    for (int i = 0; i < 3; i++) {
        if (argv[i].type != JINJA_UNSET && !jinja_as_int(&argv[i], &bounds[i])) {
            return argv[i].type == JINJA_UNDEFINED
                       ? graft_jinja_undefined_error(&argv[i])
                       : graft_fail(GRAFT_E_ARGUMENT, "range: '%s' cannot be interpreted as an integer",
                                    graft_jinja_type_name(&argv[i]));
        }
    }
    if (argv[1].type == JINJA_UNSET) {
        bounds[1] = bounds[0];
        bounds[0] = 0;
    }
    if (bounds[2] == 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "range: the step must not be 0");
    }
    uint64_t count = 0;
    if (bounds[2] > 0 && bounds[1] > bounds[0]) {
        count = ((uint64_t)bounds[1] - (uint64_t)bounds[0] - 1) / (uint64_t)bounds[2] + 1;
    } else if (bounds[2] < 0 && bounds[1] < bounds[0]) {
        count = ((uint64_t)bounds[0] - (uint64_t)bounds[1] - 1) / (0 - (uint64_t)bounds[2]) + 1;
    }
    if (count > JINJA_MAX_RANGE) {
        return graft_fail(GRAFT_E_LIMIT, "range: %" PRIu64 " elements, at most %d are allowed", count, JINJA_MAX_RANGE);
    }
    struct jinja_range *range;
    GRAFT_TRY(JINJA_NEW(&run->arena, &range, 1));
    *range = (struct jinja_range){.start = bounds[0], .step = count > 1 ? bounds[2] : 1, .count = count};
    *out = (struct jinja_value){.type = JINJA_RANGE, .as.range = range};
    return GRAFT_OK;
}

FUNCTION(raise_exception)
{
    (void)in, (void)args, (void)out;
    struct jinja_value text;
    GRAFT_TRY(graft_jinja_str(run, &argv[0], &text));
    return graft_fail(GRAFT_E_ARGUMENT, "%.*s", (int)(text.as.string->length < 900 ? text.as.string->length : 900),
                      text.as.string->data);
}

// Days since 1970-01-01 to year, month, day (Howard Hinnant, chrono-compatible low-level date algorithms).
static void civil(int64_t days, int *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(y + era * 400 + (*month <= 2));
}

static void now(struct tm *out)
{
    *out = (struct tm){0};
    if (fixed_clock == INT64_MIN) {
        time_t seconds = time(NULL);
        localtime_r(&seconds, out);
        return;
    }
    int64_t days = fixed_clock / 86400, rest = fixed_clock % 86400;
    days -= rest < 0;
    rest += rest < 0 ? 86400 : 0;
    civil(days, &out->tm_year, &out->tm_mon, &out->tm_mday);
    out->tm_year -= 1900;
    out->tm_mon -= 1;
    out->tm_hour = (int)(rest / 3600);
    out->tm_min = (int)(rest / 60 % 60);
    out->tm_sec = (int)(rest % 60);
    out->tm_wday = (int)(((days + 4) % 7 + 7) % 7);
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int year = out->tm_year + 1900;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    out->tm_yday = before[out->tm_mon] + out->tm_mday - 1 + (leap && out->tm_mon > 1);
}

// English names whatever the locale, as Python has them unless setlocale is called.
FUNCTION(strftime_now)
{
    (void)in, (void)args;
    static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
    static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                         "July",    "August",   "September", "October", "November", "December"};
    struct jinja_buffer buffer = {0};
    struct tm tm;
    if (argv[0].type != JINJA_STRING) {
        return graft_fail(GRAFT_E_ARGUMENT, "strftime_now: the format must be a string");
    }
    now(&tm);
    const struct jinja_string *format = argv[0].as.string;
    for (uint64_t i = 0; i < format->length; i++) {
        char c = format->data[i], text[64] = "", spec[4] = {'%', 0, 0, 0};
        if (c != '%' || i + 1 >= format->length) {
            GRAFT_TRY(graft_jinja_put(run, &buffer, &c, 1));
            continue;
        }
        GRAFT_TRY(graft_jinja_charge(run, 1));
        c = format->data[++i];
        bool short_form = c == '-' && i + 1 < format->length; // %-d: without leading zeros
        c = short_form ? format->data[++i] : c;
        if (c == 'A' || c == 'a') {
            GRAFT_TRY(graft_jinja_put(run, &buffer, days[tm.tm_wday], c == 'a' ? 3 : strlen(days[tm.tm_wday])));
            continue;
        }
        if (c == 'B' || c == 'b' || c == 'h') {
            GRAFT_TRY(graft_jinja_put(run, &buffer, months[tm.tm_mon], c != 'B' ? 3 : strlen(months[tm.tm_mon])));
            continue;
        }
        if (!c || !strchr("dmyYHIMSjUWwpxXcDFTRVuGgeCnt%Zz", c)) {
            return graft_fail(GRAFT_E_ARGUMENT, "strftime_now: %%%c is not known", c >= 0x20 && c < 0x7f ? c : '?');
        }
        spec[1] = c;
        strftime(text, sizeof text, spec, &tm);
        const char *p = text;
        while (short_form && (*p == '0' || *p == ' ') && p[1]) {
            p++;
        }
        GRAFT_TRY(graft_jinja_puts(run, &buffer, p));
    }
    return graft_jinja_finish(run, &buffer, out);
}

FUNCTION(make_cycler)
{
    (void)in, (void)argv;
    struct jinja_cycler *cycler;
    struct jinja_value list;
    if (args->count == 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "at least one item has to be provided");
    }
    GRAFT_TRY(JINJA_NEW(&run->arena, &cycler, 1));
    GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &list));
    for (uint64_t i = 0; i < args->count; i++) {
        GRAFT_TRY(graft_jinja_push(run, list.as.list, &args->plain[i]));
    }
    cycler->items = list.as.list;
    *out = (struct jinja_value){.type = JINJA_CYCLER, .as.cycler = cycler};
    return GRAFT_OK;
}

FUNCTION(make_joiner)
{
    struct jinja_value comma;
    GRAFT_TRY(graft_jinja_string(&run->arena, ", ", 2, &comma));
    struct jinja_args one = {.plain = &comma, .count = 1};
    comma = argv[0].type == JINJA_UNSET ? comma : argv[0];
    (void)args;
    GRAFT_TRY(make_cycler(run, in, argv, &one, out));
    out->type = JINJA_JOINER;
    return GRAFT_OK;
}

static const struct jinja_function functions[] = {
    {"dict", NULL, make_dict},
    {"namespace", NULL, make_namespace},
    {"range", "start! stop step", make_range},
    {"raise_exception", "message!", raise_exception},
    {"strftime_now", "format!", strftime_now},
    {"cycler", NULL, make_cycler},
    {"joiner", "sep", make_joiner},
};

const struct jinja_function *graft_jinja_find_function(const char *name, uint64_t length)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (strlen(functions[i].name) == length && memcmp(functions[i].name, name, (size_t)length) == 0) {
            return &functions[i];
        }
    }
    return NULL;
}

enum graft_status graft_jinja_object_attr(struct jinja_run *run, const struct jinja_value *of, const struct jinja_string *name,
                                          struct jinja_value *out)
{
    (void)run;
    *out = (struct jinja_value){.type = JINJA_UNSET};
    if (of->type == JINJA_CYCLER) {
        if (jinja_name_is(name, "current")) {
            *out = of->as.cycler->items->items[of->as.cycler->at];
        }
        return GRAFT_OK;
    }
    const struct jinja_loop *loop = of->as.loop;
    int64_t at = (int64_t)loop->at, count = (int64_t)loop->items->count;
    const struct {
        const char *name;
        struct jinja_value value;
    } table[] = {
        {"index", jinja_int(at + 1)},
        {"index0", jinja_int(at)},
        {"revindex", jinja_int(count - at)},
        {"revindex0", jinja_int(count - at - 1)},
        {"first", jinja_bool(at == 0)},
        {"last", jinja_bool(at + 1 == count)},
        {"length", jinja_int(count)},
        {"depth", jinja_int(loop->depth0 + 1)},
        {"depth0", jinja_int(loop->depth0)},
        {"previtem", at > 0 ? loop->items->items[at - 1] : jinja_undefined(name)},
        {"nextitem", at + 1 < count ? loop->items->items[at + 1] : jinja_undefined(name)},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (jinja_name_is(name, table[i].name)) {
            *out = table[i].value;
        }
    }
    return GRAFT_OK;
}
