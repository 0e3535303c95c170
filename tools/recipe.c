// SPDX-License-Identifier: Apache-2.0
#include "tools/recipe.h"

#if GRAFT_HAVE_YAML

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "platform/plat.h"

struct reader {
    yaml_parser_t parser;
    yaml_event_t event; // the last one
    bool has_event;
    const char *path;
    char folder[PATH_BYTES]; // of the recipe, with a slash; "" for the working directory
    unsigned depth;
    char because[512]; // "" as long as all is well
};

static size_t line_of(const struct reader *reader)
{
    return reader->event.start_mark.line + 1;
}

// Note what is wrong, once. Always false.
GRAFT_PRINTF(3, 4) static bool refuse(struct reader *reader, size_t line, const char *format, ...)
{
    if (!reader->because[0]) {
        int length = snprintf(reader->because, sizeof reader->because, "line %zu: ", line);
        va_list args;
        va_start(args, format);
        vsnprintf(reader->because + length, sizeof reader->because - (size_t)length, format, args);
        va_end(args);
        for (char *p = reader->because; *p; p++) { // what is quoted from the file must not move the cursor
            *p = (unsigned char)*p < ' ' || *p == 127 ? '?' : *p;
        }
    }
    return false;
}

// The next event; false if there is none that is allowed.
static bool next(struct reader *reader)
{
    if (reader->has_event) {
        yaml_event_delete(&reader->event);
    }
    reader->has_event = yaml_parser_parse(&reader->parser, &reader->event) != 0;
    if (!reader->has_event) {
        return refuse(reader, reader->parser.problem_mark.line + 1, "%s",
                      reader->parser.problem ? reader->parser.problem : "not YAML");
    }
    const yaml_char_t *anchor = NULL, *tag = NULL;
    bool begins = false;
    switch (reader->event.type) {
    case YAML_ALIAS_EVENT:
        return refuse(reader, line_of(reader), "*%.40s is an alias; aliases are not allowed", reader->event.data.alias.anchor);
    case YAML_SCALAR_EVENT:
        anchor = reader->event.data.scalar.anchor;
        tag = reader->event.data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = reader->event.data.sequence_start.anchor;
        tag = reader->event.data.sequence_start.tag;
        begins = true;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = reader->event.data.mapping_start.anchor;
        tag = reader->event.data.mapping_start.tag;
        begins = true;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        reader->depth--;
        break;
    default:
        break;
    }
    if (anchor || tag) {
        return refuse(reader, line_of(reader), "%s%.40s: anchors and tags are not allowed", anchor ? "&" : "",
                      anchor ? anchor : tag);
    }
    if (begins && ++reader->depth > RECIPE_DEPTH) {
        return refuse(reader, line_of(reader), "nested deeper than %d", RECIPE_DEPTH);
    }
    return true;
}

static bool expect(struct reader *reader, yaml_event_type_t type, const char *what)
{
    return reader->event.type == type || refuse(reader, line_of(reader), "%s is expected here", what);
}

// A value's text, without NUL bytes inside.
static bool read_text(struct reader *reader, const char *key, char *out, size_t bytes)
{
    if (!next(reader)) {
        return false;
    }
    if (reader->event.type != YAML_SCALAR_EVENT) {
        return refuse(reader, line_of(reader), "%s has a list or a map, expected is one value", key);
    }
    size_t length = reader->event.data.scalar.length;
    const char *text = (const char *)reader->event.data.scalar.value;
    if (length == 0 || length >= bytes || memchr(text, 0, length)) {
        return refuse(reader, line_of(reader), "%s has %zu bytes, allowed are 1 to %zu", key, length, bytes - 1);
    }
    memcpy(out, text, length + 1);
    return true;
}

static bool read_number(struct reader *reader, const char *key, double low, double high, bool whole, double *out)
{
    char text[RECIPE_WORD_BYTES], *end;
    if (!read_text(reader, key, text, sizeof text)) {
        return false;
    }
    *out = strtod(text, &end);
    if (*end || !isfinite(*out) || *out < low || *out > high || (whole && *out != floor(*out))) {
        return refuse(reader, line_of(reader), "%s is \"%s\", allowed is a %snumber from %g to %g", key, text,
                      whole ? "whole " : "", low, high);
    }
    return true;
}

// A path, relative to the recipe's folder. `name`: it may be a model's name instead, which stays as it is.
static bool read_path(struct reader *reader, const char *key, bool name, char out[PATH_BYTES])
{
    char text[PATH_BYTES], joined[2 * PATH_BYTES];
    if (!read_text(reader, key, text, sizeof text)) {
        return false;
    }
    snprintf(joined, sizeof joined, "%s%s", graft_path_absolute(text) ? "" : reader->folder, text);
    if (strlen(joined) >= PATH_BYTES) {
        return refuse(reader, line_of(reader), "%s is longer than %d bytes", key, PATH_BYTES - 1);
    }
    const char *chosen = name && !file_exists(joined) ? text : joined;
    memcpy(out, chosen, strlen(chosen) + 1);
    return true;
}

// What a map may hold: its keys, and a function that reads the value of key `index`.
struct keys {
    const char *const *names;
    bool (*read)(struct reader *reader, struct recipe *out, unsigned index);
    const char *where;
};

// The rest of a map whose start was read.
static bool read_map(struct reader *reader, struct recipe *out, const struct keys *keys)
{
    unsigned seen = 0;
    while (next(reader)) {
        if (reader->event.type == YAML_MAPPING_END_EVENT) {
            return true;
        }
        if (!expect(reader, YAML_SCALAR_EVENT, "a key")) {
            return false;
        }
        const char *name = (const char *)reader->event.data.scalar.value;
        unsigned index = 0;
        char known[256] = "";
        for (size_t at = 0; keys->names[index] && strcmp(keys->names[index], name) != 0; index++) {
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "", keys->names[index]);
        }
        if (!keys->names[index]) {
            return refuse(reader, line_of(reader), "%.60s is no key of %s; there are %s", name, keys->where, known);
        }
        if (seen & 1u << index) {
            return refuse(reader, line_of(reader), "%s stands twice", keys->names[index]);
        }
        seen |= 1u << index;
        if (!keys->read(reader, out, index)) {
            return false;
        }
    }
    return false;
}

static bool read_map_value(struct reader *reader, struct recipe *out, const struct keys *keys)
{
    return next(reader) && expect(reader, YAML_MAPPING_START_EVENT, "a map (key: value)") && read_map(reader, out, keys);
}

static const char *const own_names[] = {"weight", "density", NULL};

static bool read_own(struct reader *reader, struct recipe *out, unsigned index)
{
    double number;
    if (index == 0) {
        if (!read_number(reader, "weight", -1e6, 1e6, false, &number)) {
            return false;
        }
        out->adapters[out->n_adapters].weight = (float)number;
        return true;
    }
    return read_number(reader, "density", 0, 1, false, &out->densities[out->n_adapters]);
}

static const char *const adapter_names[] = {"path", "model", "name", "weight", "density", "parameters", NULL};

static bool read_adapter(struct reader *reader, struct recipe *out, unsigned index)
{
    static const struct keys own = {own_names, read_own, "an adapter's parameters"};
    struct adapter_spec *spec = &out->adapters[out->n_adapters];
    switch (index) {
    case 0:
    case 1:
        return !spec->path[0] ? read_path(reader, adapter_names[index], false, spec->path)
                              : refuse(reader, line_of(reader), "path and model are the same; one of them is enough");
    case 2:
        return read_text(reader, "name", spec->name, sizeof spec->name) &&
               (!strchr(spec->name, '=') || refuse(reader, line_of(reader), "a name has no ="));
    case 3:
    case 4:
        return read_own(reader, out, index - 3);
    default:
        return read_map_value(reader, out, &own);
    }
}

static bool read_adapters(struct reader *reader, struct recipe *out)
{
    static const struct keys keys = {adapter_names, read_adapter, "an adapter"};
    if (out->n_adapters > 0) {
        return refuse(reader, line_of(reader), "adapters and models are the same; one of them is enough");
    }
    if (!next(reader) || !expect(reader, YAML_SEQUENCE_START_EVENT, "a list of adapters (- path: ...)")) {
        return false;
    }
    while (next(reader)) {
        if (reader->event.type == YAML_SEQUENCE_END_EVENT) {
            return true;
        }
        size_t line = line_of(reader);
        if (out->n_adapters == GRAFT_COMBINE_MAX_ADAPTERS) {
            return refuse(reader, line, "more than %d adapters", GRAFT_COMBINE_MAX_ADAPTERS);
        }
        struct adapter_spec *spec = &out->adapters[out->n_adapters];
        spec->weight = 1;
        if (!expect(reader, YAML_MAPPING_START_EVENT, "an adapter (path: ...)") || !read_map(reader, out, &keys)) {
            return false;
        }
        if (!spec->path[0]) {
            return refuse(reader, line, "this adapter has no path");
        }
        if (!spec->name[0]) {
            const char *last = graft_path_name(spec->path);
            snprintf(spec->name, sizeof spec->name, "%.63s", *last ? last : spec->path);
        }
        out->n_adapters++;
    }
    return false;
}

static const char *const parameter_names[] = {"density",   "majority_sign_method", "seed", "svd_rank",
                                              "svd_clamp", "keep_effect",          NULL};

static bool read_parameter(struct reader *reader, struct recipe *out, unsigned index)
{
    const char *key = parameter_names[index];
    double number = 0;
    switch (index) {
    case 0:
        return read_number(reader, key, 0, 1, false, &out->density);
    case 1:
        return read_text(reader, key, out->sign, sizeof out->sign);
    case 2:
        if (read_number(reader, key, 0, 9007199254740992.0, true, &number)) {
            out->seed = (int64_t)number;
        }
        break;
    case 3:
        if (read_number(reader, key, 1, 256, true, &number)) {
            out->svd_rank = (int64_t)number;
        }
        break;
    case 4:
        return read_number(reader, key, 0, 1, false, &out->svd_clamp);
    default:
        return read_number(reader, key, 0.01, 1, false, &out->keep_effect);
    }
    return !reader->because[0];
}

static const char *const recipe_names[] = {"merge_method", "adapters", "models", "parameters",
                                           "base_model",   "dtype",    "output", NULL};

static bool read_key(struct reader *reader, struct recipe *out, unsigned index)
{
    static const struct keys parameters = {parameter_names, read_parameter, "parameters"};
    switch (index) {
    case 0:
        return read_text(reader, "merge_method", out->method, sizeof out->method);
    case 1:
    case 2:
        return read_adapters(reader, out);
    case 3:
        return read_map_value(reader, out, &parameters);
    case 4:
        return read_path(reader, "base_model", true, out->base);
    case 5:
        return read_text(reader, "dtype", out->dtype, sizeof out->dtype);
    default:
        return read_path(reader, "output", false, out->out);
    }
}

static bool read_recipe(struct reader *reader, struct recipe *out)
{
    static const struct keys keys = {recipe_names, read_key, "a recipe"};
    if (!next(reader) || !next(reader) || !expect(reader, YAML_DOCUMENT_START_EVENT, "a recipe") ||
        !read_map_value(reader, out, &keys) || !next(reader) || !next(reader)) {
        return false;
    }
    if (reader->event.type != YAML_STREAM_END_EVENT) {
        return refuse(reader, line_of(reader), "a second document; a recipe is one");
    }
    if (!out->method[0]) {
        return refuse(reader, 1, "merge_method is missing");
    }
    return out->n_adapters > 0 || refuse(reader, 1, "adapters are missing");
}

int recipe_read(const char *path, struct recipe *out)
{
    struct text text;
    struct reader reader = {.path = path};
    memset(out, 0, sizeof *out);
    int code = text_read(path, &text);
    if (code != EXIT_GOOD) {
        return code;
    }
    snprintf(reader.folder, sizeof reader.folder, "%.*s", (int)(graft_path_name(path) - path), path);
    if (text.length > RECIPE_BYTES) {
        snprintf(reader.because, sizeof reader.because, "it has %zu bytes, a recipe has at most %d", text.length, RECIPE_BYTES);
    } else if (!yaml_parser_initialize(&reader.parser)) {
        snprintf(reader.because, sizeof reader.because, "there is no memory for it");
    } else {
        yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text.data, text.length);
        read_recipe(&reader, out);
        if (reader.has_event) {
            yaml_event_delete(&reader.event);
        }
        yaml_parser_delete(&reader.parser);
    }
    text_free(&text);
    if (reader.because[0]) {
        char what[PATH_BYTES + 64];
        snprintf(what, sizeof what, "%.*s is not a recipe", PATH_BYTES, path);
        error3(what, reader.because, "docs/combining.md, which has one of each kind");
        return EXIT_BAD_FILE;
    }
    return EXIT_GOOD;
}

#else

int recipe_read(const char *path, struct recipe *out)
{
    (void)out;
    char what[PATH_BYTES + 64];
    snprintf(what, sizeof what, "%.*s cannot be read", PATH_BYTES, path);
    error3(what, "this program was built without libyaml", "the same with --adapter and --method");
    return EXIT_FAILED;
}

#endif
