// SPDX-License-Identifier: Apache-2.0
#include "tools/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/output.h"

static const struct options defaults = {
    .n_seq = 1,
    .predict = -1,
    .top_k = 40,
    .penalty_window = 64,
    .repetitions = 5,
    .top = 20,
    .temp = 0.8,
    .top_p = 0.95,
    .min_p = 0.05,
    .repeat_penalty = 1,
    .typical_p = 1,
    .xtc_threshold = 0.1,
    .dry_base = 1.75,
    .dry_allowed_length = 2,
    .dry_window = 1024,
    .mirostat_tau = 5,
    .mirostat_eta = 0.1,
    .format = "md",
    .weights = "auto",
    .merge_type = "keep",
    .keep_effect = 0.95,
    .serve_seq = 4,
    .adapter_slots = 16,
    .max_waiting = 64,
    .draft_max = 10,
    .request_seconds = 600,
    .interval = -1, // by the verb
    .sort = "name",
    .load_streams = 4,
    .load_predict = 32,
    .load_prompt = 32,
    .bench_prompt = {{64}, 1},
    .bench_gen = {{32}, 1},
};

enum verb verb_find(const char *name)
{
    for (int v = 0; v < VERBS; v++) {
        if (strcmp(verb_infos[v].name, name) == 0) {
            return (enum verb)v;
        }
    }
    return VERBS;
}

bool option_is_of(const struct option_info *option, enum verb verb)
{
    return (option->verbs >> verb & 1u) != 0;
}

bool parse_bytes(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || errno || !(value >= 0) || strpbrk(text, "xXnN")) {
        return false;
    }
    static const char units[] = "KMGT";
    if (*end) {
        const char *unit = strchr(units, *end & ~0x20);
        if (!unit) {
            return false;
        }
        value *= exp2(10.0 * (double)(unit - units + 1));
        end++;
        if (*end == 'i') {
            end++;
        }
        if (*end == 'B' || *end == 'b') {
            end++;
        }
    }
    if (*end || value >= 9.0e18) {
        return false;
    }
    *out = (uint64_t)value;
    return true;
}

static bool parse_count(const char *text, const struct option_info *option, int64_t *out, char *why, size_t why_bytes)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno) {
        snprintf(why, why_bytes, "'%s' is not a whole number", text);
        return false;
    }
    if ((double)value < option->low || (double)value > option->high) {
        snprintf(why, why_bytes, "%lld is outside %.0f to %.0f", value, option->low, option->high);
        return false;
    }
    *out = value;
    return true;
}

static bool parse_list(const char *text, const struct option_info *option, struct option_list *out, char *why, size_t why_bytes)
{
    out->count = 0;
    const char *p = text;
    for (;;) {
        char item[32];
        size_t length = strcspn(p, ",");
        int64_t value;
        if (length >= sizeof item || out->count == OPTION_LIST_ITEMS) {
            snprintf(why, why_bytes, "'%s' is not a list of at most %d numbers", text, OPTION_LIST_ITEMS);
            return false;
        }
        memcpy(item, p, length);
        item[length] = 0;
        if (!parse_count(item, option, &value, why, why_bytes)) {
            return false;
        }
        if (value > 0) {
            out->values[out->count++] = (uint32_t)value;
        }
        if (p[length] == 0) {
            return true;
        }
        p += length + 1;
    }
}

// True if `value` is one of "a|b|c".
static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (const char *p = choices; *p && length > 0;) {
        size_t item = strcspn(p, "|");
        if (item == length && memcmp(p, value, item) == 0) {
            return true;
        }
        p += item + (p[item] == '|');
    }
    return false;
}

static bool store(struct options *options, const struct option_info *option, const char *value, char *why, size_t why_bytes)
{
    char *field = (char *)options + option->offset;
    char *end;
    double number;
    switch (option->kind) {
    case OPTION_IGNORED:
        note("%s%s has no meaning here and is ignored", option->shorter ? "-" : "--",
             option->shorter ? option->shorter : option->name);
        return true;
    case OPTION_FLAG:
        *(bool *)(void *)field = true;
        return true;
    case OPTION_CHOICE:
        if (!is_choice(option->choices, value)) {
            snprintf(why, why_bytes, "'%s' is not one of %s", value, option->choices);
            return false;
        }
        *(const char **)(void *)field = value;
        return true;
    case OPTION_TEXT:
    case OPTION_FILE:
    case OPTION_MODEL:
        *(const char **)(void *)field = value;
        return true;
    case OPTION_TEXTS: {
        struct option_texts *texts = (struct option_texts *)(void *)field;
        if (texts->count == OPTION_TEXTS_ITEMS) {
            snprintf(why, why_bytes, "it was given more than %d times", OPTION_TEXTS_ITEMS);
            return false;
        }
        texts->values[texts->count++] = value;
        return true;
    }
    case OPTION_COUNT:
        return parse_count(value, option, (int64_t *)(void *)field, why, why_bytes);
    case OPTION_LIST:
        return parse_list(value, option, (struct option_list *)(void *)field, why, why_bytes);
    case OPTION_BYTES:
        if (!parse_bytes(value, (uint64_t *)(void *)field)) {
            snprintf(why, why_bytes, "'%s' is not a size such as 600M or 1.5G", value);
            return false;
        }
        return true;
    case OPTION_NUMBER:
        number = strtod(value, &end);
        if (end == value || *end || !(number >= option->low && number <= option->high)) {
            snprintf(why, why_bytes, "'%s' is not a number from %g to %g", value, option->low, option->high);
            return false;
        }
        *(double *)(void *)field = number;
        return true;
    }
    return false;
}

// The option called `name` (dashes removed) by `verb`. Underscores count as dashes.
static const struct option_info *option_find(enum verb verb, const char *name, size_t length, bool one_dash)
{
    char plain[64];
    if (length == 0 || length >= sizeof plain) {
        return NULL;
    }
    for (size_t i = 0; i <= length; i++) {
        plain[i] = (char)(i == length ? 0 : name[i] == '_' ? '-' : name[i]);
    }
    for (size_t i = 0; i < option_info_count; i++) {
        const struct option_info *option = &option_infos[i];
        if (!option_is_of(option, verb)) {
            continue;
        }
        bool is = option->shorter && strcmp(option->shorter, plain) == 0 && (one_dash || option->shorter[1]); // --np means -np
        if (!one_dash) {
            is = is || strcmp(option->name, plain) == 0 || (option->alias && strcmp(option->alias, plain) == 0);
        }
        if (is) {
            return option;
        }
    }
    return NULL;
}

// True if the word is spelled like an option of the verb ("-m -p text": the value of -m is missing).
static bool is_option(enum verb verb, const char *word)
{
    size_t dashes = word[0] != '-' ? 0 : word[1] != '-' ? 1 : 2;
    return dashes > 0 && option_find(verb, word + dashes, strlen(word + dashes), dashes == 1) != NULL;
}

bool options_set(struct options *options, const char *name, const char *value, char *why, size_t why_bytes)
{
    const struct option_info *option = option_find(options->verb, name, strlen(name), false);
    if (!option) {
        snprintf(why, why_bytes, "there is no setting '%s'", name);
        return false;
    }
    return store(options, option, value, why, why_bytes);
}

// Edit distance with swaps of neighbours (optimal string alignment; Damerau 1964), of names shorter than 64 bytes; SIZE_MAX if
// it is more than `most`. What both begin and end with alike costs nothing, and so do lengths that are too far apart: among
// hundreds of names this is called for each.
static size_t edit_distance(const char *a, const char *b, size_t most)
{
    enum { MOST = 64 };
    size_t la = strlen(a), lb = strlen(b);
    if (la >= MOST || lb >= MOST || (la > lb ? la - lb : lb - la) > most) {
        return SIZE_MAX;
    }
    while (la > 0 && lb > 0 && *a == *b) {
        a++, b++, la--, lb--;
    }
    while (la > 0 && lb > 0 && a[la - 1] == b[lb - 1]) {
        la--, lb--;
    }
    size_t rows[3][MOST], before = 0;
    for (size_t j = 0; j <= lb; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= la; i++) {
        size_t *now = rows[i % 3], *above = rows[(i + 2) % 3], *twice = rows[(i + 1) % 3], lowest = i;
        now[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t least = above[j - 1] + (a[i - 1] != b[j - 1]);
            least = above[j] + 1 < least ? above[j] + 1 : least;
            least = now[j - 1] + 1 < least ? now[j - 1] + 1 : least;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && twice[j - 2] + 1 < least) {
                least = twice[j - 2] + 1;
            }
            now[j] = least;
            lowest = least < lowest ? least : lowest;
        }
        if (lowest > most && before > most) { // two rows, because of the swaps: it only grows from here
            return SIZE_MAX;
        }
        before = lowest;
    }
    return rows[la % 3][lb] <= most ? rows[la % 3][lb] : SIZE_MAX;
}

const char *suggest(const char *text, const char *(*next)(const void *user, size_t i), const void *user)
{
    size_t length = strlen(text), least = length / 3 + 1;
    const char *best = NULL, *candidate;
    for (size_t i = 0; length > 0 && (candidate = next(user, i)) != NULL; i++) {
        size_t distance = edit_distance(text, candidate, least);
        if (distance < length && (distance < least || (distance == least && !best))) {
            least = distance;
            best = candidate;
        } else if (!best && length >= 3 && strncmp(candidate, text, length) == 0) {
            best = candidate; // the beginning of a longer name
        }
    }
    return best;
}

static const char *next_verb(const void *user, size_t i)
{
    (void)user;
    return i < VERBS ? verb_infos[i].name : NULL;
}

const char *suggest_verb(const char *text)
{
    return suggest(text, next_verb, NULL);
}

struct names {
    enum verb verb;
    bool one_dash;
};

static const char *next_option(const void *user, size_t i)
{
    const struct names *names = user;
    for (size_t k = 0; k < option_info_count; k++) {
        const struct option_info *option = &option_infos[k];
        const char *name = names->one_dash ? option->shorter : option->name;
        if (name && option_is_of(option, names->verb) && option->kind != OPTION_IGNORED && i-- == 0) {
            return name;
        }
    }
    return NULL;
}

static bool unknown_option(enum verb verb, const char *given)
{
    bool one_dash = given[1] != '-';
    char plain[64];
    snprintf(plain, sizeof plain, "%.*s", (int)strcspn(given, "="), given);
    const char *bare = plain + (one_dash ? 1 : 2);
    struct names names = {verb, one_dash};
    const char *dashes = one_dash ? "-" : "--";
    const char *near = suggest(bare, next_option, &names);
    if (!near && one_dash) { // -temp for --temp
        names.one_dash = false;
        dashes = "--";
        near = suggest(bare, next_option, &names);
    }
    char what[160], because[160] = "no option of that name exists", help[64];
    snprintf(what, sizeof what, "graft %s has no option %s", verb_infos[verb].name, plain);
    snprintf(help, sizeof help, "graft %s -h", verb_infos[verb].name);
    for (int other = 0; other < VERBS; other++) {
        const struct option_info *option = option_find((enum verb)other, bare, strlen(bare), one_dash);
        if (option && option->kind != OPTION_IGNORED) {
            snprintf(because, sizeof because, "it belongs to graft %s", verb_infos[other].name);
            near = NULL;
            break;
        }
    }
    if (near) {
        error3(what, because, "%s%s? (%s lists all)", dashes, near, help);
    } else {
        error3(what, because, "%s", help);
    }
    return false;
}

bool options_parse(struct options *out, enum verb verb, int argc, char **argv)
{
    *out = defaults;
    out->verb = verb;
    out->operands = argv; // compacted in place below
    bool only_operands = false;
    for (int i = 0; i < argc; i++) {
        char *given = argv[i];
        if (only_operands || given[0] != '-' || given[1] == 0 || (given[1] >= '0' && given[1] <= '9')) {
            out->operands[out->n_operands++] = given;
            continue;
        }
        if (strcmp(given, "--") == 0) {
            only_operands = true;
            continue;
        }
        bool one_dash = given[1] != '-';
        const char *name = given + (one_dash ? 1 : 2);
        size_t length = strcspn(name, "=");
        const struct option_info *option = option_find(verb, name, length, one_dash);
        if (!option) {
            return unknown_option(verb, given);
        }
        bool wants = option->kind == OPTION_IGNORED ? option->high > 0 : option->kind != OPTION_FLAG;
        const char *value = name[length] == '=' ? name + length + 1 : NULL;
        char what[160], why[200];
        snprintf(what, sizeof what, "%.*s cannot be used like this", (int)strcspn(given, "="), given);
        if (wants && !value) {
            if (i + 1 >= argc || is_option(verb, argv[i + 1])) {
                error3(what, "its value is missing", "%.*s %s", (int)strcspn(given, "="), given, option->argument);
                return false;
            }
            value = argv[++i];
        } else if (!wants && value) {
            error3(what, "it takes no value", "%.*s", (int)strcspn(given, "="), given);
            return false;
        }
        if (!store(out, option, value, why, sizeof why)) {
            error3(what, why, "graft %s -h", verb_infos[verb].name);
            return false;
        }
    }
    if (out->n_operands > 0 && verb_infos[verb].operands[0] == 0 && !out->help && !out->help_all) {
        char what[160];
        snprintf(what, sizeof what, "graft %s does not know what to do with '%.80s'", verb_infos[verb].name, out->operands[0]);
        error3(what, "it takes options only", "graft %s -h", verb_infos[verb].name);
        return false;
    }
    return true;
}
