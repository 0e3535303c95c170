// SPDX-License-Identifier: Apache-2.0
#include "tools/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/output.h"

#define VERB_INFO(id, name, line, operands) [VERB_##id] = {name, line, operands, EXAMPLES_##id, DETAILS_##id},
#define EXAMPLES_RUN                                                               \
    {{"run", "chat with your model"},                            \
     {"run -m model.gguf -p \"Why?\"", "one answer"},              \
     {"run -m model.gguf -f letter.txt --memory 2G", "prompt from a file"}}
#define DETAILS_RUN                                                                                                            \
    "Chats in the terminal: the answer streams, \"\"\" begins and ends a message of several lines, /help lists the commands, " \
    "Ctrl-C stops the answer (twice: the program), Ctrl-D ends. With a prompt (-p, -f), or without a terminal, one answer is " \
    "written to standard output and nothing else."
#define EXAMPLES_BENCH                                                             \
    {{"bench -m model.gguf", "pp64 and tg32"},                 \
     {"bench -m model.gguf -p 64,512 -n 16,128 -o json", "as JSON"},          \
     {"bench --synthetic llama-8b:q4_0 --stages", "no file needed"}}
#define DETAILS_BENCH                                                                                                          \
    "Each prompt length (pp) and each generation length (tg) is a test of its own; repetitions of all tests are interleaved, "  \
    "after one run of each that is not counted. Rates are medians. The share of bandwidth is the bytes of weights read per "    \
    "second over what a kernel that only reads reaches on this device in the same run. Counters are per token."
#define EXAMPLES_EVAL                                                              \
    {{"eval -m model.gguf -f wiki.txt", "perplexity"},             \
     {"eval -m model.gguf --tokens ids.json --top 20 --json", "log-probs"}}
#define DETAILS_EVAL                                                                                                           \
    "Perplexity: the text is cut into pieces of the context's size (-c, 512), the second half of each is scored. With --tokens, " \
    "FILE is {\"prompts\": {NAME: [ID, ...]}}; for each prompt come the most likely tokens after its last id, and the negative "  \
    "log-likelihood of every id but the first."
#define EXAMPLES_ESTIMATE                                                          \
    {{"estimate -m model.gguf -c 8192", "bytes by class"},                         \
     {"estimate -m model.gguf -c 8192 --memory 2G", "does it fit?"}}
#define DETAILS_ESTIMATE                                                                                                       \
    "Nothing is loaded. Exit status 4: it does not fit. Without --device a discrete GPU is assumed, which keeps its own copy of the weights; --device auto "    \
    "asks this machine's."
#define EXAMPLES_INSPECT                                                           \
    {{"inspect model.gguf", "metadata, and tensors by type"},                      \
     {"inspect model.gguf --all", "every tensor"},                                 \
     {"inspect model.gguf --json", "everything, as JSON"}}
#define DETAILS_INSPECT "Long arrays are cut; --all shows more of them, and every tensor."
#define EXAMPLES_TOKENIZE                                                          \
    {{"tokenize -m model.gguf \"Hello there\"", "an id and its text per line"},    \
     {"tokenize -m model.gguf -f text.txt --json", "an array of ids"}}
#define DETAILS_TOKENIZE "The text is TEXT, -p, the file given with -f, or standard input. BOS stands in front if the file says so."
#define EXAMPLES_DETOKENIZE                                                        \
    {{"detokenize -m model.gguf 504 3575 282", "the text"},                        \
     {"tokenize Hi --json | graft detokenize", "and back"}}
#define DETAILS_DETOKENIZE "The ids stand behind the options, in the file given with -f, or on standard input; a JSON array is understood."
#define EXAMPLES_TEMPLATE                                                          \
    {{"template -m model.gguf --messages chat.json", "its own template"},  \
     {"template --template t.jinja --messages chat.json", "another one"}}
#define DETAILS_TEMPLATE                                                                                                       \
    "FILE.json is {\"messages\": [...], \"tools\": [...], \"bos_token\": ..., \"add_generation_prompt\": true, ...}: its keys "  \
    "are the template's variables. The text is printed as it is, without a line break behind."
#define EXAMPLES_DEVICES                                                           \
    {{"devices", "what --device can be"}, {"devices --json", "the same as JSON"}}
#define DETAILS_DEVICES "The first usable device is the one that is taken without --device."
#define EXAMPLES_DOCTOR                                                            \
    {{"doctor", "what works here, what does not, and what helps"}}
#define DETAILS_DOCTOR "Exit status 5 if no device is usable."
#define EXAMPLES_COMPLETION                                                        \
    {{"completion bash > ~/.local/share/bash-completion/completions/graft", ""}}
#define DETAILS_COMPLETION "The script is made from the same table as the help."
#define EXAMPLES_MAN                                                               \
    {{"man run | man -l -", "the page of graft run"}}
#define DETAILS_MAN "The pages are made from the same table as the help."
#define EXAMPLES_VERSION                                                           \
    {{"version", "this program's version"}}
#define DETAILS_VERSION ""
const struct verb_info verb_infos[VERBS] = {VERB_MAP(VERB_INFO)};

#define V(id) (1u << VERB_##id)
#define OPENS (V(RUN) | V(BENCH) | V(EVAL)) // verbs that open a device and a model
#define TEXTS (V(TOKENIZE) | V(DETOKENIZE) | V(TEMPLATE))
#define PRINTS (OPENS | TEXTS | V(ESTIMATE) | V(INSPECT) | V(DEVICES) | V(DOCTOR) | V(VERSION))
#define EVERY ((1u << VERBS) - 1)
#define AT(field) offsetof(struct options, field)
#define U32 4294967295.0

const struct option_info option_infos[] = {
    {"model", "m", NULL, OPTION_MODEL, "FILE", "the only one in the data folder", "model file, or a name in the data folder",
     OPENS | TEXTS | V(ESTIMATE) | V(INSPECT), true, AT(model), 0, 0, NULL},
    {"synthetic", NULL, NULL, OPTION_TEXT, "SHAPE:TYPE", NULL, "random weights: llama-8b, llama-1b or llama-135m", V(BENCH), true,
     AT(synthetic), 0, 0, NULL},
    {"prompt", "p", NULL, OPTION_TEXT, "TEXT", NULL, "answer this and end", V(RUN), true, AT(prompt), 0, 0, NULL},
    {"prompt", "p", NULL, OPTION_TEXT, "TEXT", NULL, "the text", V(TOKENIZE), false, AT(prompt), 0, 0, NULL},
    {"n-prompt", "p", NULL, OPTION_LIST, "N,...", "64", "prompt lengths to measure; 0: none", V(BENCH), true, AT(bench_prompt), 0,
     1048576, NULL},
    {"file", "f", NULL, OPTION_FILE, "FILE", NULL, "prompt from a file; - is standard input", V(RUN), true, AT(file), 0, 0, NULL},
    {"file", "f", NULL, OPTION_FILE, "FILE", NULL, "text to measure; - is standard input", V(EVAL), true, AT(file), 0, 0, NULL},
    {"file", "f", NULL, OPTION_FILE, "FILE", "-", "input from a file; - is standard input", V(TOKENIZE) | V(DETOKENIZE), true,
     AT(file), 0, 0, NULL},
    {"tokens", NULL, NULL, OPTION_FILE, "FILE", NULL, "score these ids: {\"prompts\": {NAME: [ID, ...]}}", V(EVAL), true,
     AT(tokens), 0, 0, NULL},
    {"top", NULL, NULL, OPTION_COUNT, "N", "20", "most likely next tokens to print, with --tokens", V(EVAL), true, AT(top), 0,
     1048576, NULL},
    {"system-prompt", "sys", "system", OPTION_TEXT, "TEXT", NULL, "system prompt; default: what the template does", V(RUN), true,
     AT(system), 0, 0, NULL},
    {"messages", NULL, NULL, OPTION_FILE, "FILE.json", NULL, "the template's variables; - is standard input", V(TEMPLATE), true,
     AT(messages), 0, 0, NULL},
    {"template", NULL, NULL, OPTION_FILE, "FILE.jinja", NULL, "this template instead of the model's", V(TEMPLATE) | V(RUN), true,
     AT(template_file), 0, 0, NULL},
    {"predict", "n", "n-predict", OPTION_COUNT, "N", "-1", "most tokens of an answer; -1: as many as fit", V(RUN), true,
     AT(predict), -1, U32 / 2, NULL},
    {"n-gen", "n", NULL, OPTION_LIST, "N,...", "32", "generation lengths to measure; 0: none", V(BENCH), true, AT(bench_gen), 0,
     1048576, NULL},
    {"repetitions", "r", NULL, OPTION_COUNT, "N", "5", "runs of each test", V(BENCH), true, AT(repetitions), 1, 1000, NULL},
    {"parallel", "np", NULL, OPTION_COUNT, "N", "1", "sequences that generate together", V(BENCH), true, AT(n_seq), 1, 256, NULL},
    {"parallel", "np", NULL, OPTION_COUNT, "N", "1", "sequences that share the context", V(ESTIMATE), true, AT(n_seq), 1, 256,
     NULL},
    {"output", "o", NULL, OPTION_CHOICE, "FORMAT", "md", "md, json or csv", V(BENCH), true, AT(format), 0, 0, "md|json|csv"},
    {"stages", NULL, NULL, OPTION_FLAG, NULL, NULL, "time by kind of kernel, from timestamps", V(BENCH), true, AT(stages), 0, 0,
     NULL},
    {"ctx-size", "c", NULL, OPTION_COUNT, "N", "the model's, at most 4096", "tokens of context", OPENS | V(ESTIMATE), true,
     AT(n_ctx), 0, 16777216, NULL},
    {"batch-size", "b", NULL, OPTION_COUNT, "N", "32 or 128", "most tokens computed in one step", OPENS | V(ESTIMATE), false,
     AT(n_batch), 0, 65536, NULL},
    {"temp", NULL, "temperature", OPTION_NUMBER, "T", "0.8", "temperature; 0: always the most likely token", V(RUN), true, AT(temp),
     0, 100, NULL},
    {"top-k", NULL, NULL, OPTION_COUNT, "N", "40", "choose among the N most likely; 0: all", V(RUN), false, AT(top_k), 0, U32 - 1,
     NULL},
    {"top-p", NULL, NULL, OPTION_NUMBER, "P", "0.95", "choose among the likeliest that sum to P; 1: all", V(RUN), false, AT(top_p),
     0, 1, NULL},
    {"min-p", NULL, NULL, OPTION_NUMBER, "P", "0.05", "drop those below P of the likeliest; 0: none", V(RUN), false, AT(min_p), 0, 1,
     NULL},
    {"repeat-penalty", NULL, NULL, OPTION_NUMBER, "X", "1", "make recent tokens less likely; 1: off", V(RUN), false,
     AT(repeat_penalty), 0.01, 100, NULL},
    {"presence-penalty", NULL, NULL, OPTION_NUMBER, "X", "0", "subtracted once from recent tokens", V(RUN), false,
     AT(presence_penalty), -100, 100, NULL},
    {"frequency-penalty", NULL, NULL, OPTION_NUMBER, "X", "0", "subtracted for every occurrence", V(RUN), false,
     AT(frequency_penalty), -100, 100, NULL},
    {"repeat-last-n", NULL, NULL, OPTION_COUNT, "N", "64", "how many recent tokens the penalties see", V(RUN), false,
     AT(penalty_window), 1, 65536, NULL},
    {"seed", "s", NULL, OPTION_COUNT, "N", "0", "seed of the random draw; 0: another each time", V(RUN), true, AT(seed), -1,
     9007199254740992.0, NULL},
    {"memory", NULL, "memory-budget", OPTION_BYTES, "SIZE", NULL, "never use more than this, as in 600M or 2G",
     OPENS | V(ESTIMATE), true, AT(memory), 0, 0, NULL},
    {"device", "dev", NULL, OPTION_TEXT, "D", "auto", "number or name from `graft devices`; ref: plain C", OPENS | V(ESTIMATE), true,
     AT(device), 0, 0, NULL},
    {"weights", NULL, NULL, OPTION_CHOICE, "HOW", "auto", "auto; map: use the file in place; copy", OPENS | V(ESTIMATE), false,
     AT(weights), 0, 0, "auto|map|copy"},
    {"threads", "t", NULL, OPTION_COUNT, "N", "all", "processors that may be used", OPENS, false, AT(threads), 0, 4096, NULL},
    {"exact", NULL, NULL, OPTION_FLAG, NULL, NULL, "32-bit activations everywhere: slower, exact", OPENS | V(ESTIMATE), false,
     AT(exact), 0, 0, NULL},
    {"raw", NULL, NULL, OPTION_FLAG, NULL, NULL, "the prompt as it is: no template", V(RUN), true, AT(raw), 0, 0, NULL},
    {"special", NULL, NULL, OPTION_FLAG, NULL, NULL, "text like <|im_start|> becomes its token", V(TOKENIZE), true, AT(special), 0,
     0, NULL},
    {"special", NULL, NULL, OPTION_FLAG, NULL, NULL, "show control tokens by name", V(DETOKENIZE), true, AT(special), 0, 0, NULL},
    {"no-bos", NULL, NULL, OPTION_FLAG, NULL, NULL, "no BOS token in front", V(TOKENIZE), true, AT(no_bos), 0, 0, NULL},
    {"all", NULL, NULL, OPTION_FLAG, NULL, NULL, "every tensor, and longer arrays", V(INSPECT), true, AT(all), 0, 0, NULL},
    {"stats", NULL, NULL, OPTION_FLAG, NULL, NULL, "rates, first-token time and memory afterwards", V(RUN), true, AT(stats), 0, 0,
     NULL},
    {"json", NULL, NULL, OPTION_FLAG, NULL, NULL, "print JSON", PRINTS, true, AT(json), 0, 0, NULL},
    {"no-history", NULL, NULL, OPTION_FLAG, NULL, NULL, "keep no history of what is typed", V(RUN), false, AT(no_history), 0, 0,
     NULL},
    {"validation", NULL, NULL, OPTION_FLAG, NULL, NULL, "with Vulkan's validation layers", OPENS, false, AT(validation), 0, 0, NULL},
    {"verbose", "v", NULL, OPTION_FLAG, NULL, NULL, "say more on standard error", EVERY, false, AT(verbose), 0, 0, NULL},
    {"help", "h", NULL, OPTION_FLAG, NULL, NULL, "this help", EVERY, false, AT(help), 0, 0, NULL},
    {"help-all", NULL, NULL, OPTION_FLAG, NULL, NULL, "help with all options", EVERY, false, AT(help_all), 0, 0, NULL},
    {"gpu-layers", "ngl", "n-gpu-layers", OPTION_IGNORED, "N", NULL, NULL, OPENS, false, 0, 0, 1, NULL},
    {"ubatch-size", "ub", NULL, OPTION_IGNORED, "N", NULL, NULL, OPENS, false, 0, 0, 1, NULL},
    {"conversation", "cnv", NULL, OPTION_IGNORED, NULL, NULL, NULL, V(RUN), false, 0, 0, 0, NULL},
    {"single-turn", "st", NULL, OPTION_IGNORED, NULL, NULL, NULL, V(RUN), false, 0, 0, 0, NULL},
    {"no-display-prompt", NULL, NULL, OPTION_IGNORED, NULL, NULL, NULL, V(RUN), false, 0, 0, 0, NULL},
};
const size_t option_info_count = sizeof option_infos / sizeof option_infos[0];

static const struct options defaults = {
    .n_seq = 1, .predict = -1, .top_k = 40, .penalty_window = 64, .repetitions = 5, .top = 20, .temp = 0.8, .top_p = 0.95,
    .min_p = 0.05, .repeat_penalty = 1, .format = "md", .weights = "auto", .bench_prompt = {{64}, 1}, .bench_gen = {{32}, 1},
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

// Edit distance with swaps of neighbours (optimal string alignment; Damerau 1964), of names shorter than 64 bytes.
static size_t edit_distance(const char *a, const char *b)
{
    enum { MOST = 64 };
    size_t la = strlen(a), lb = strlen(b);
    if (la >= MOST || lb >= MOST) {
        return SIZE_MAX;
    }
    size_t rows[3][MOST];
    for (size_t j = 0; j <= lb; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= la; i++) {
        size_t *now = rows[i % 3], *above = rows[(i + 2) % 3], *twice = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t least = above[j - 1] + (a[i - 1] != b[j - 1]);
            least = above[j] + 1 < least ? above[j] + 1 : least;
            least = now[j - 1] + 1 < least ? now[j - 1] + 1 : least;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && twice[j - 2] + 1 < least) {
                least = twice[j - 2] + 1;
            }
            now[j] = least;
        }
    }
    return rows[la % 3][lb];
}

const char *suggest(const char *text, const char *(*next)(const void *user, size_t i), const void *user)
{
    size_t length = strlen(text), least = length / 3 + 1;
    const char *best = NULL, *candidate;
    for (size_t i = 0; length > 0 && (candidate = next(user, i)) != NULL; i++) {
        size_t distance = edit_distance(text, candidate);
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
