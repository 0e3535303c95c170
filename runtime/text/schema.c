// SPDX-License-Identifier: Apache-2.0
// GBNF from JSON schemas (draft 2020-12, the subset of graft/grammar.h): one rule for every schema inside the schema.
//
// Whatever the grammar makes is accepted by the schema; the other way round it may be narrower. A keyword that would be ignored
// is refused instead.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/schema.h"
#include "runtime/text/vocab_private.h"

enum { MAX_PROPERTIES = 1024, MAX_NAME_CHARACTERS = 256 };

// White space where JSON allows it, but not without end; characters of strings as RFC 8259 has them, no lone surrogates.
static const char base_rules[] = "ws ::= (\" \" | \"\\n\" [ \\t]{0,20})?\n"
                                 "hex ::= [0-9a-fA-F]\n"
                                 "char ::= [^\"\\\\\\x00-\\x1f\\x7f] | \"\\\\\" ([\\x22\\\\/bfnrt] | \"u\" (\"000\" "
                                 "[1-9a-fA-F] | \"00\" [1-9a-fA-F] hex | \"0\" "
                                 "[1-9a-fA-F] hex hex | [1-9a-cA-Ce-fE-F] hex hex hex | [dD] ([0-7] hex hex | "
                                 "[89abAB] hex hex \"\\\\u\" [dD] [c-fC-F] hex hex)))\n"
                                 "plain ::= [^\"\\\\\\x00-\\x1f\\x7f]\n"
                                 "string ::= \"\\\"\" char* \"\\\"\"\n"
                                 "integer ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15})\n"
                                 "number ::= integer (\".\" [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?\n"
                                 "boolean ::= \"true\" | \"false\"\n"
                                 "null ::= \"null\"\n"
                                 "member ::= string \":\" ws value ws\n"
                                 "object ::= \"{\" ws (member (\",\" ws member)*)? \"}\"\n"
                                 "array ::= \"[\" ws (value ws (\",\" ws value ws)*)? \"]\"\n"
                                 "value ::= object | array | string | number | boolean | null\n";

static const char *const annotations[] = {"title", "description", "default",    "examples", "$schema",   "$id",     "$comment",
                                          "$defs", "definitions", "deprecated", "readOnly", "writeOnly", "$anchor", NULL};
static const char *const of_strings[] = {"minLength", "maxLength", "pattern", "format", NULL};
static const char *const of_numbers[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", NULL};
static const char *const of_arrays[] = {"items", "prefixItems", "minItems", "maxItems", NULL};
static const char *const of_objects[] = {"properties", "required", "additionalProperties", NULL};

static bool is_in(const char *const *list, const char *word)
{
    while (*list && strcmp(*list, word) != 0) {
        list++;
    }
    return *list != NULL;
}

// Everything in the schema is one of these keywords or an annotation; lists may be NULL.
static enum graft_status check_keywords(const struct graft_schema *schema, const json_t *node, const char *const *const *lists)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)node, key, value)
    {
        bool known = is_in(annotations, key);
        for (const char *const *const *list = lists; *list && !known; list++) {
            known = is_in(*list, key);
        }
        if (!known) {
            return graft_schema_fail(schema, GRAFT_E_UNSUPPORTED, "keyword %.60s is not supported here", key);
        }
    }
    return GRAFT_OK;
}

// Go down to a part of the schema: returns where its path was before.
static size_t enter(struct graft_schema *schema, const char *name)
{
    size_t before = strlen(schema->path);
    snprintf(schema->path + before, sizeof schema->path - before, "/%.60s", name);
    return before;
}

static enum graft_status rule_of(struct graft_schema *schema, const json_t *node, uint32_t *out);

// The rule of a part of the schema, whose place is known by a keyword and perhaps a name or a number.
static enum graft_status rule_below(struct graft_schema *schema, const json_t *node, const char *keyword, const char *name,
                                    size_t index, uint32_t *out)
{
    size_t before = enter(schema, keyword);
    char number[32];
    snprintf(number, sizeof number, "%zu", index);
    if (name || index != SIZE_MAX) {
        enter(schema, name ? name : number);
    }
    enum graft_status status = rule_of(schema, node, out);
    if (status == GRAFT_OK) {
        schema->path[before] = 0;
    }
    return status;
}

static enum graft_status finish_line(struct graft_schema *schema, uint32_t rule, struct graft_line *line)
{
    if (line->status == GRAFT_OK) {
        graft_line_add(&schema->out, "r%" PRIu32 " ::= ", rule);
        graft_line_add_bytes(&schema->out, line->text, line->length);
        graft_line_add(&schema->out, "\n");
    }
    return line->status != GRAFT_OK ? line->status : schema->out.status;
}

// ---- objects ----

// A name's characters that JSON writes as they are; false if it has others.
static bool is_plain(const char *name)
{
    for (; *name; name++) {
        if ((uint8_t)*name < 0x20 || *name == '"' || *name == '\\' || *name == 0x7f) {
            return false;
        }
    }
    return true;
}

// Rule: characters of a key, with its closing quote, that together with what stood before are none of the names. All names
// share the `done` bytes before; keys are written without escapes.
static enum graft_status other_keys(struct graft_schema *schema, const char **names, size_t count, size_t done, uint32_t depth,
                                    uint32_t *out)
{
    if (depth > MAX_NAME_CHARACTERS) {
        return graft_schema_fail(schema, GRAFT_E_LIMIT,
                                 "names of properties have at most %d characters beside additionalProperties",
                                 MAX_NAME_CHARACTERS);
    }
    struct graft_line line = {.ctx = schema->ctx}, others = {.ctx = schema->ctx};
    enum graft_status status = GRAFT_OK;
    bool ends = false;
    *out = schema->n_rules++;
    graft_line_add(&others, "[^\\x22\\\\\\x00-\\x1f\\x7f");
    for (size_t i = 0; i < count && status == GRAFT_OK; i++) {
        uint32_t character, seen, below;
        if (!names[i] || names[i][done] == 0) {
            ends = ends || names[i];
            continue;
        }
        size_t n = graft_utf8_decode(names[i] + done, &character), same = 0;
        const char *first = names[i];
        bool earlier = false;
        for (size_t k = 0; k < i; k++) {
            earlier = earlier || (names[k] && names[k][done] && (graft_utf8_decode(names[k] + done, &seen), seen == character));
        }
        if (earlier) {
            continue;
        }
        const char **subset = NULL;
        status = GRAFT_NEW(schema->ctx, GRAFT_MEM_HOST, &subset, count, "names of properties");
        for (size_t k = i; status == GRAFT_OK && k < count; k++) {
            if (names[k] && strncmp(names[k], first, done + n) == 0) {
                subset[same++] = names[k];
            }
        }
        status = status == GRAFT_OK ? other_keys(schema, subset, same, done + n, depth + 1, &below) : status;
        GRAFT_FREE(schema->ctx, &subset);
        if (status == GRAFT_OK) {
            graft_line_add(&line, "[");
            graft_line_add_character(&line, character);
            graft_line_add(&line, "] r%" PRIu32 " | ", below);
            graft_line_add_character(&others, character);
        }
    }
    graft_line_add(&others, "] plain* \"\\\"\"");
    if (status == GRAFT_OK && others.status == GRAFT_OK) {
        graft_line_add(&line, "%s", ends ? "" : "\"\\\"\" | ");
        for (uint64_t at = 0; at < others.length; at += 256) {
            graft_line_add(&line, "%.256s", others.text + at);
        }
        status = finish_line(schema, *out, &line);
    }
    status = status == GRAFT_OK ? others.status : status;
    GRAFT_FREE(schema->ctx, &others.text);
    GRAFT_FREE(schema->ctx, &line.text);
    return status;
}

// Rule for the members that are not named: key, colon, value. GRAFT_GRAMMAR_NONE: there may be none.
static enum graft_status other_member(struct graft_schema *schema, const json_t *node, uint32_t *out)
{
    const json_t *additional = json_object_get(node, "additionalProperties"), *properties = json_object_get(node, "properties");
    *out = GRAFT_GRAMMAR_NONE;
    if (!additional || json_is_false(additional)) {
        return GRAFT_OK;
    }
    uint32_t value, keys;
    GRAFT_TRY(rule_below(schema, additional, "additionalProperties", NULL, SIZE_MAX, &value));
    const char **names, *name;
    size_t count = 0;
    json_t *each;
    GRAFT_TRY(GRAFT_NEW(schema->ctx, GRAFT_MEM_HOST, &names, json_object_size(properties) + 1, "names of properties"));
    json_object_foreach((json_t *)(uintptr_t)properties, name, each)
    {
        if (is_plain(name)) { // others cannot be spelled without escapes
            names[count++] = name;
        }
    }
    enum graft_status status = other_keys(schema, names, count, 0, 0, &keys);
    GRAFT_FREE(schema->ctx, &names);
    if (status == GRAFT_OK) {
        *out = schema->n_rules++;
        graft_line_add(&schema->out, "r%" PRIu32 " ::= \"\\\"\" r%" PRIu32 " \":\" ws r%" PRIu32 " ws\n", *out, keys, value);
    }
    return status;
}

static bool is_required(const json_t *required, const char *name)
{
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *item = json_string_value(json_array_get(required, i));
        if (item && strcmp(item, name) == 0) {
            return true;
        }
    }
    return false;
}

static enum graft_status check_object(struct graft_schema *schema, const json_t *node)
{
    const json_t *properties = json_object_get(node, "properties"), *required = json_object_get(node, "required");
    if ((properties && !json_is_object(properties)) || (required && !json_is_array(required))) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "properties must be an object and required an array");
    }
    if (json_object_size(properties) > MAX_PROPERTIES) {
        return graft_schema_fail(schema, GRAFT_E_LIMIT, "there are %zu properties, at most %d are supported",
                                 json_object_size(properties), MAX_PROPERTIES);
    }
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        if (!name || !json_object_get(properties, name)) {
            return graft_schema_fail(schema, GRAFT_E_UNSUPPORTED, "required names %.60s, which is not in properties",
                                     name ? name : "something that is no string");
        }
    }
    return GRAFT_OK;
}

// Members in the order of the schema. For the i-th property there are two rules for all that follows: before the first member
// was written (first + 2 i) and after (first + 2 i + 1), where a comma comes first.
static enum graft_status add_object(struct graft_schema *schema, const json_t *node, struct graft_line *line)
{
    const json_t *properties = json_object_get(node, "properties"), *required = json_object_get(node, "required");
    GRAFT_TRY(check_object(schema, node));
    if (!properties && !json_object_get(node, "additionalProperties")) {
        graft_line_add(line, "object");
        return line->status;
    }
    uint32_t first = schema->n_rules, at = first, other;
    schema->n_rules += 2 * (uint32_t)json_object_size(properties) + 2;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)properties, name, value)
    {
        uint32_t rule, member = schema->n_rules++;
        GRAFT_TRY(rule_below(schema, value, "properties", name, SIZE_MAX, &rule));
        struct graft_line key = {.ctx = schema->ctx};
        json_t *text = json_string(name);
        enum graft_status status =
            text ? graft_schema_literal(schema, text, &key) : graft_fail(GRAFT_E_MEMORY, "no memory for a name");
        json_decref(text);
        graft_line_add(&key, " \":\" ws r%" PRIu32 " ws", rule);
        status = status == GRAFT_OK ? finish_line(schema, member, &key) : status;
        GRAFT_FREE(schema->ctx, &key.text);
        if (status != GRAFT_OK) {
            return status;
        }
        bool needed = is_required(required, name);
        graft_line_add(&schema->out, "r%" PRIu32 " ::= r%" PRIu32 " r%" PRIu32, at, member, at + 3);
        if (!needed) {
            graft_line_add(&schema->out, " | r%" PRIu32, at + 2);
        }
        graft_line_add(&schema->out, "\nr%" PRIu32 " ::= \",\" ws r%" PRIu32 " r%" PRIu32, at + 1, member, at + 3);
        if (!needed) {
            graft_line_add(&schema->out, " | r%" PRIu32, at + 3);
        }
        graft_line_add(&schema->out, "\n");
        at += 2;
    }
    GRAFT_TRY(other_member(schema, node, &other));
    if (other == GRAFT_GRAMMAR_NONE) {
        graft_line_add(&schema->out, "r%" PRIu32 " ::= \"\"\nr%" PRIu32 " ::= \"\"\n", at, at + 1);
    } else {
        graft_line_add(&schema->out,
                       "r%" PRIu32 " ::= (r%" PRIu32 " r%" PRIu32 ")?\nr%" PRIu32 " ::= (\",\" ws r%" PRIu32 ")*\n", at, other,
                       at + 1, at + 1, other);
    }
    graft_line_add(line, "\"{\" ws r%" PRIu32 " \"}\"", first);
    return line->status;
}

// ---- arrays ----

static enum graft_status add_array(struct graft_schema *schema, const json_t *node, struct graft_line *line)
{
    uint32_t low, high, rule;
    const json_t *items = json_object_get(node, "items"), *prefix = json_object_get(node, "prefixItems");
    GRAFT_TRY(graft_schema_count(schema, node, "minItems", 0, &low));
    GRAFT_TRY(graft_schema_count(schema, node, "maxItems", GRAFT_GRAMMAR_NONE, &high));
    if (high < low) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "minItems is above maxItems");
    }
    if (prefix) {
        size_t count = json_array_size(prefix);
        if (!json_is_array(prefix) || count == 0 || count < low || count > high || (items && !json_is_false(items))) {
            return graft_schema_fail(schema, GRAFT_E_UNSUPPORTED,
                                     "prefixItems is supported for arrays of exactly these items, with items false");
        }
        graft_line_add(line, "\"[\" ws");
        for (size_t i = 0; i < count; i++) {
            GRAFT_TRY(rule_below(schema, json_array_get(prefix, i), "prefixItems", NULL, i, &rule));
            graft_line_add(line, "%s r%" PRIu32 " ws", i ? " \",\" ws" : "", rule);
        }
        graft_line_add(line, " \"]\"");
        return line->status;
    }
    char item[32] = "value";
    if (items && !json_is_false(items)) {
        GRAFT_TRY(rule_below(schema, items, "items", NULL, SIZE_MAX, &rule));
        snprintf(item, sizeof item, "r%" PRIu32, rule);
    }
    high = json_is_false(items) ? 0 : high;
    if (high < low) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "minItems is above 0 and items is false");
    }
    graft_line_add(line, "\"[\" ws ");
    if (high > 0) {
        graft_line_add(line, "(%s ws (\",\" ws %s ws)", item, item);
        if (high == GRAFT_GRAMMAR_NONE) {
            graft_line_add(line, "{%" PRIu32 ",})", low > 1 ? low - 1 : 0);
        } else {
            graft_line_add(line, "{%" PRIu32 ",%" PRIu32 "})", low > 1 ? low - 1 : 0, high - 1);
        }
        graft_line_add(line, low == 0 ? "? " : " ");
    }
    graft_line_add(line, "\"]\"");
    return line->status;
}

// ---- all together ----

static bool value_has_type(const json_t *value, const char *type)
{
    return (strcmp(type, "string") == 0 && json_is_string(value)) || (strcmp(type, "number") == 0 && json_is_number(value)) ||
           (strcmp(type, "integer") == 0 && json_is_integer(value)) ||
           (strcmp(type, "boolean") == 0 && json_is_boolean(value)) || (strcmp(type, "null") == 0 && json_is_null(value)) ||
           (strcmp(type, "array") == 0 && json_is_array(value)) || (strcmp(type, "object") == 0 && json_is_object(value));
}

static bool types_allow(const json_t *types, const json_t *value)
{
    if (json_is_string(types)) {
        return value_has_type(value, json_string_value(types));
    }
    bool found = !types;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        found = found || (type && value_has_type(value, type));
    }
    return found;
}

// enum and const: those values that `type` allows, too.
static enum graft_status add_values(struct graft_schema *schema, const json_t *node, struct graft_line *line)
{
    static const char *const keywords[] = {"enum", "const", "type", NULL};
    GRAFT_TRY(check_keywords(schema, node, (const char *const *const[]){keywords, NULL}));
    const json_t *list = json_object_get(node, "enum"), *one = json_object_get(node, "const"),
                 *types = json_object_get(node, "type");
    if (list && !json_is_array(list)) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "enum must be an array");
    }
    size_t added = 0, count = list ? json_array_size(list) : 1;
    for (size_t i = 0; i < count; i++) {
        const json_t *value = list ? json_array_get(list, i) : one;
        if (types_allow(types, value) && (!list || !one || json_equal(value, one))) {
            graft_line_add(line, "%s", added++ ? " | " : "");
            GRAFT_TRY(graft_schema_literal(schema, value, line));
        }
    }
    return added ? line->status : graft_schema_fail(schema, GRAFT_E_ARGUMENT, "no value of enum, const and type is left");
}

static enum graft_status add_any_of(struct graft_schema *schema, const json_t *node, const char *keyword,
                                    struct graft_line *line)
{
    const char *const keywords[] = {keyword, NULL};
    const json_t *list = json_object_get(node, keyword);
    GRAFT_TRY(check_keywords(schema, node, (const char *const *const[]){keywords, NULL}));
    size_t count = json_array_size(list);
    if (count == 0 || (strcmp(keyword, "allOf") == 0 && count != 1)) {
        return graft_schema_fail(schema, count ? GRAFT_E_UNSUPPORTED : GRAFT_E_ARGUMENT, "%s must be an array of %s", keyword,
                                 count ? "one schema" : "schemas");
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t rule;
        GRAFT_TRY(rule_below(schema, json_array_get(list, i), keyword, NULL, i, &rule));
        graft_line_add(line, "%sr%" PRIu32, i ? " | " : "", rule);
    }
    return line->status;
}

// The part of the schema that "#/a/b" names: RFC 6901, with ~0 and ~1; per cent escapes are not undone.
static const json_t *find_reference(const struct graft_schema *schema, const char *reference)
{
    const json_t *node = schema->root;
    if (*reference++ != '#') {
        return NULL;
    }
    while (node && *reference == '/') {
        char name[GRAFT_SCHEMA_PATH];
        size_t length = 0;
        for (reference++; *reference && *reference != '/' && length + 1 < sizeof name; reference++) {
            bool tilde = *reference == '~' && (reference[1] == '0' || reference[1] == '1');
            name[length++] = !tilde ? *reference : reference[1] == '0' ? '~' : '/';
            reference += tilde;
        }
        name[length] = 0;
        if (json_is_array(node)) {
            uint64_t index = 0;
            for (size_t i = 0; i < length && index < UINT32_MAX; i++) {
                index = name[i] >= '0' && name[i] <= '9' ? 10 * index + (uint64_t)(name[i] - '0') : UINT32_MAX;
            }
            node = json_array_get(node, (size_t)index);
        } else {
            node = json_object_get(node, name);
        }
    }
    return *reference ? NULL : node;
}

static enum graft_status add_reference(struct graft_schema *schema, const json_t *node, struct graft_line *line)
{
    static const char *const keywords[] = {"$ref", NULL};
    GRAFT_TRY(check_keywords(schema, node, (const char *const *const[]){keywords, NULL}));
    const char *reference = json_string_value(json_object_get(node, "$ref"));
    const json_t *target = reference ? find_reference(schema, reference) : NULL;
    if (!target) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "$ref %.100s names nothing in this schema",
                                 reference ? reference : "");
    }
    uint32_t rule;
    GRAFT_TRY(rule_of(schema, target, &rule));
    graft_line_add(line, "r%" PRIu32, rule);
    return line->status;
}

static enum graft_status add_type(struct graft_schema *schema, const json_t *node, const char *type, struct graft_line *line)
{
    if (strcmp(type, "string") == 0) {
        return graft_schema_string(schema, node, line);
    }
    if (strcmp(type, "number") == 0 || strcmp(type, "integer") == 0) {
        return graft_schema_number(schema, node, *type == 'i', line);
    }
    if (strcmp(type, "array") == 0) {
        return add_array(schema, node, line);
    }
    if (strcmp(type, "object") == 0) {
        return add_object(schema, node, line);
    }
    if (strcmp(type, "boolean") != 0 && strcmp(type, "null") != 0) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "type %.60s does not exist", type);
    }
    graft_line_add(line, "%s", type);
    return line->status;
}

static bool has_any(const json_t *node, const char *const *list)
{
    while (*list && !json_object_get(node, *list)) {
        list++;
    }
    return *list != NULL;
}

static enum graft_status add_types(struct graft_schema *schema, const json_t *node, struct graft_line *line)
{
    static const char *const keywords[] = {"type", NULL};
    const json_t *types = json_object_get(node, "type");
    GRAFT_TRY(check_keywords(schema, node,
                             (const char *const *const[]){keywords, of_strings, of_numbers, of_arrays, of_objects, NULL}));
    bool strings = has_any(node, of_strings), numbers = has_any(node, of_numbers), arrays = has_any(node, of_arrays),
         objects = has_any(node, of_objects);
    if (types && !json_is_string(types) && !(json_is_array(types) && json_array_size(types) > 0)) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "type must be a string or an array of strings");
    }
    if (!types && strings + numbers + arrays + objects == 0) {
        graft_line_add(line, "value");
        return line->status;
    }
    if (!types) { // what the other keywords are about
        return strings + numbers + arrays + objects > 1
                   ? graft_schema_fail(schema, GRAFT_E_UNSUPPORTED,
                                       "type is missing, and the other keywords are about several types")
                   : add_type(schema, node,
                              strings   ? "string"
                              : numbers ? "number"
                              : arrays  ? "array"
                                        : "object",
                              line);
    }
    size_t count = json_is_array(types) ? json_array_size(types) : 1;
    for (size_t i = 0; i < count; i++) {
        const char *type = json_string_value(json_is_array(types) ? json_array_get(types, i) : types);
        if (!type) {
            return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "type must be a string or an array of strings");
        }
        graft_line_add(line, "%s", i ? " | " : "");
        GRAFT_TRY(add_type(schema, node, type, line));
    }
    return line->status;
}

static enum graft_status add_schema(struct graft_schema *schema, const json_t *node, struct graft_line *line)
{
    if (json_is_true(node)) {
        graft_line_add(line, "value");
        return line->status;
    }
    if (!json_is_object(node)) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "a schema must be an object or true");
    }
    if (json_object_get(node, "$ref")) {
        return add_reference(schema, node, line);
    }
    if (json_object_get(node, "enum") || json_object_get(node, "const")) {
        return add_values(schema, node, line);
    }
    if (json_object_get(node, "anyOf")) {
        return add_any_of(schema, node, "anyOf", line);
    }
    if (json_object_get(node, "allOf")) {
        return add_any_of(schema, node, "allOf", line);
    }
    return add_types(schema, node, line);
}

// The rule of a schema, made on first sight: references may come back to it.
static enum graft_status rule_of(struct graft_schema *schema, const json_t *node, uint32_t *out)
{
    for (uint32_t i = 0; i < schema->n_refs; i++) {
        if (schema->refs[i].target == node) {
            *out = schema->refs[i].rule;
            return GRAFT_OK;
        }
    }
    if (schema->n_refs == GRAFT_SCHEMA_REFS) {
        return graft_schema_fail(schema, GRAFT_E_LIMIT, "the schema has more than %d parts", GRAFT_SCHEMA_REFS);
    }
    if (schema->depth == GRAFT_SCHEMA_DEPTH) {
        return graft_schema_fail(schema, GRAFT_E_LIMIT, "the schema is more than %d levels deep", GRAFT_SCHEMA_DEPTH);
    }
    *out = schema->n_rules++;
    if (json_is_object(node)) { // true and false are one value everywhere
        schema->refs[schema->n_refs++] = (struct graft_schema_ref){node, *out};
    }
    struct graft_line line = {.ctx = schema->ctx};
    schema->depth++;
    enum graft_status status = add_schema(schema, node, &line);
    schema->depth--;
    status = status == GRAFT_OK ? finish_line(schema, *out, &line) : status;
    GRAFT_FREE(schema->ctx, &line.text);
    return status;
}

enum graft_status graft_schema_begin(struct graft_schema *schema, struct graft_ctx *ctx)
{
    *schema = (struct graft_schema){.ctx = ctx, .out = {.ctx = ctx}};
    graft_line_add_bytes(&schema->out, base_rules, sizeof base_rules - 1);
    GRAFT_TRY(schema->out.status);
    return GRAFT_NEW(ctx, GRAFT_MEM_HOST, &schema->refs, GRAFT_SCHEMA_REFS, "parts of a schema");
}

enum graft_status graft_schema_rule(struct graft_schema *schema, const json_t *root, uint32_t *rule)
{
    schema->root = root;
    schema->n_refs = schema->depth = 0;
    schema->path[0] = 0;
    GRAFT_TRY(rule_of(schema, root, rule));
    return schema->out.status;
}

void graft_schema_end(struct graft_schema *schema)
{
    GRAFT_FREE(schema->ctx, &schema->refs);
    GRAFT_FREE(schema->ctx, &schema->out.text);
}
