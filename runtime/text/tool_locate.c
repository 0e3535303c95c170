// SPDX-License-Identifier: Apache-2.0
// Where a call is in a rendered text: its name, its arguments, its id.
#include <stdio.h>
#include <string.h>

#include "runtime/text/tool_probe.h"

const char *const graft_tool_probe_names[] = {"zq_first", "zq_second"};
const char *const graft_tool_probe_values[] = {"zq_value1", "zq_value2"};
const char *const graft_tool_probe_ids[] = {"zqidone01", "zqidtwo02"};

const char *graft_tool_find_text(struct part in, size_t from, const char *what)
{
    size_t n = strlen(what);
    for (size_t i = from; n <= in.n && i <= in.n - n; i++) {
        if (memcmp(in.p + i, what, n) == 0) {
            return in.p + i;
        }
    }
    return NULL;
}

static void add_slot(struct place *place, enum graft_tool_slot slot, size_t begin, size_t end)
{
    uint32_t i = place->n_slots++;
    for (; i > 0 && place->slots[i - 1].begin > begin; i--) {
        place->slots[i] = place->slots[i - 1];
    }
    place->slots[i] = (struct slot){slot, begin, end};
    place->begin = i == 0 ? begin : place->begin;
    place->end = end > place->end ? end : place->end;
}

// A JSON object that begins at `at`: its end; 0 if there is none. *out gets it if it is not NULL.
static size_t object_end(struct part in, size_t at, json_t **out)
{
    json_error_t error;
    json_t *object = json_loadb(in.p + at, in.n - at, JSON_DISABLE_EOF_CHECK, &error);
    bool good = json_is_object(object);
    if (out && good) {
        *out = object;
    } else {
        json_decref(object);
    }
    return good ? at + (size_t)error.position : 0;
}

// The arguments as a JSON object somewhere from `from` on.
static bool find_arguments(struct part in, size_t from, size_t end, struct slot *out)
{
    const char *key = graft_tool_find_text((struct part){in.p, end}, from, "\"" KEY "\"");
    size_t at = key ? (size_t)(key - in.p) : 0;
    while (key && at > from && in.p[at] != '{') {
        at--;
    }
    if (!key || in.p[at] != '{') {
        return false;
    }
    *out = (struct slot){GRAFT_TOOL_S_ARGUMENTS, at, object_end(in, at, NULL)};
    return out->end > 0;
}

// The id that was given, or the number of the call where the template counts.
static void find_id(struct part in, const json_t *object, int which, struct place *place)
{
    struct part inside = {in.p, place->end};
    const char *given = graft_tool_find_text(inside, place->begin, graft_tool_probe_ids[which]), *key;
    json_t *value;
    if (given) {
        size_t at = (size_t)(given - in.p);
        add_slot(place, GRAFT_TOOL_S_ID, at, at + strlen(graft_tool_probe_ids[which]));
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        char number[4] = {(char)('0' + which), 0}, quoted[80];
        const char *text = json_string_value(value);
        bool counted = text ? strcmp(text, number) == 0 : json_is_integer(value) && json_integer_value(value) == which;
        snprintf(quoted, sizeof quoted, "\"%.70s\"", key);
        const char *at = counted ? graft_tool_find_text(inside, place->begin, quoted) : NULL;
        const char *digit = at ? graft_tool_find_text(inside, (size_t)(at - in.p) + strlen(quoted), number) : NULL;
        if (digit && place->n_slots < GRAFT_TOOL_SLOTS) {
            add_slot(place, GRAFT_TOOL_S_ID, (size_t)(digit - in.p), (size_t)(digit - in.p) + 1);
            place->ids = GRAFT_TOOL_IDS_COUNT;
            return;
        }
    }
}

// {"name": NAME, "arguments": {...}}, whatever its members are called.
static bool locate_object(struct part in, size_t from, size_t name, int which, struct place *place)
{
    for (size_t at = name + 1; at-- > from;) {
        json_t *object = NULL, *value;
        const char *key;
        size_t end = in.p[at] == '{' ? object_end(in, at, &object) : 0;
        bool named = false;
        json_object_foreach(object, key, value)
        {
            named = named || (json_is_string(value) && strcmp(json_string_value(value), graft_tool_probe_names[which]) == 0);
        }
        struct slot arguments;
        if (named && find_arguments(in, at + 1, end, &arguments)) {
            *place = (struct place){.style = GRAFT_TOOL_OBJECT};
            add_slot(place, GRAFT_TOOL_S_NAME, name, name + strlen(graft_tool_probe_names[which]));
            add_slot(place, GRAFT_TOOL_S_ARGUMENTS, arguments.begin, arguments.end);
            place->begin = at;
            place->end = end;
            find_id(in, object, which, place);
            place->begin = at;
            json_decref(object);
            return true;
        }
        json_decref(object);
    }
    return false;
}

// A name, or an id that stands for it, with the arguments behind it.
static bool locate_named(struct part in, const char *name, size_t name_bytes, int which, struct place *place)
{
    struct slot arguments;
    size_t at = (size_t)(name - in.p);
    if (!find_arguments(in, at + name_bytes, in.n, &arguments)) {
        return false;
    }
    *place = (struct place){.style = GRAFT_TOOL_NAMED};
    add_slot(place, GRAFT_TOOL_S_NAME, at, at + name_bytes);
    add_slot(place, GRAFT_TOOL_S_ARGUMENTS, arguments.begin, arguments.end);
    if (strncmp(name, graft_tool_probe_ids[which], name_bytes) == 0) {
        place->ids = GRAFT_TOOL_IDS_NAME;
        return true;
    }
    find_id(in, NULL, which, place);
    for (size_t i = at + name_bytes; i < arguments.begin && place->n_slots == 2; i++) { // NAME:0
        if (in.p[i] == '0' + which && in.p[i - 1] == ':') {
            add_slot(place, GRAFT_TOOL_S_ID, i, i + 1);
            place->ids = GRAFT_TOOL_IDS_COUNT;
        }
    }
    return true;
}

static bool locate_parameters(struct part in, size_t name, int which, struct place *place)
{
    size_t name_end = name + strlen(graft_tool_probe_names[which]);
    const char *key = graft_tool_find_text(in, name_end, KEY),
               *value = key ? graft_tool_find_text(in, (size_t)(key - in.p), graft_tool_probe_values[which]) : NULL,
               *second = value ? graft_tool_find_text(in, (size_t)(value - in.p), OTHER_KEY) : NULL,
               *number = second ? graft_tool_find_text(in, (size_t)(second - in.p), NUMBER) : NULL;
    if (!number) {
        return false;
    }
    *place = (struct place){.style = GRAFT_TOOL_PARAMETERS,
                            .first_key = (size_t)(key - in.p),
                            .first_value = (size_t)(value - in.p),
                            .second_key = (size_t)(second - in.p),
                            .second_value = (size_t)(number - in.p)};
    add_slot(place, GRAFT_TOOL_S_NAME, name, name_end);
    add_slot(place, GRAFT_TOOL_S_ARGUMENTS, name_end, (size_t)(number - in.p) + strlen(NUMBER)); // for the time being
    return true;
}

bool graft_tool_locate(struct part in, size_t from, int which, struct place *place)
{
    const char *name = graft_tool_find_text(in, from, graft_tool_probe_names[which]),
               *id = graft_tool_find_text(in, from, graft_tool_probe_ids[which]);
    if (!name) {
        return id && locate_named(in, id, strlen(graft_tool_probe_ids[which]), which, place);
    }
    size_t at = (size_t)(name - in.p);
    return locate_object(in, from, at, which, place) ||
           locate_named(in, name, strlen(graft_tool_probe_names[which]), which, place) ||
           locate_parameters(in, at, which, place);
}
