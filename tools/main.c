// SPDX-License-Identifier: Apache-2.0
// The graft command: finds the verb, parses its options, runs it.
#include <string.h>

#include "tools/tool.h"

#define VERB_ROW(id) [VERB_##id] = verb_##id,
static int (*const verb_functions[VERBS])(const struct options *options) = {VERB_MAP(VERB_ROW)};
#undef VERB_ROW

int verb_VERSION(const struct options *options)
{
    if (options->json) {
        return print_json(json_pack("{s:s}", "version", graft_version()));
    }
    printf("graft %s\n", graft_version());
    return EXIT_GOOD;
}

int verb_COMPLETION(const struct options *options)
{
    if (options->n_operands != 1 || strcmp(options->operands[0], "bash") != 0) {
        return error_usage("there is no completion script to print",
                           options->n_operands ? "only bash is supported" : "no shell was named", "graft completion bash");
    }
    help_completion();
    return EXIT_GOOD;
}

int verb_MAN(const struct options *options)
{
    enum verb verb = VERBS;
    if (options->n_operands > 0) {
        verb = verb_find(options->operands[0]);
        if (verb == VERBS) {
            const char *near = suggest_verb(options->operands[0]);
            return error_usage("there is no such page", "no verb has this name", "graft man%s%s", near ? " " : "",
                               near ? near : "");
        }
    }
    help_man(verb);
    return EXIT_GOOD;
}

static int unknown_verb(const char *given)
{
    char what[160];
    snprintf(what, sizeof what, "graft has no verb '%.100s'", given);
    if (given[0] == '-') {
        return error_usage(what, "the verb comes first, its options behind it", "graft run %.100s ...", given);
    }
    const char *near = suggest_verb(given);
    if (near) {
        return error_usage(what, "no verb of that name exists", "graft %s", near);
    }
    return error_usage(what, "no verb of that name exists",
                       "graft -h, which lists them; graft run -m %.100s, if that is a model", given);
}

int main(int argc, char **argv)
{
    if (!system_begin(&argc, &argv)) {
        return error_status(GRAFT_E_MEMORY, "the process cannot be set up");
    }
    if (graft_guard_mapped_files() != GRAFT_OK) { // a model file that is cut short would end the process without a word
        return error_status(GRAFT_E_INTERNAL, "the process cannot be set up");
    }
    if (argc < 2 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "--help-all") == 0) {
        help_program();
        return argc < 2 ? EXIT_USAGE : EXIT_GOOD;
    }
    const char *name = argv[1];
    int first = 2;
    bool help = strcmp(name, "help") == 0;
    if (help) {
        if (argc < 3) {
            help_program();
            return EXIT_GOOD;
        }
        name = argv[first++];
    }
    enum verb verb = strcmp(name, "--version") == 0 ? VERB_VERSION : verb_find(name);
    if (verb == VERBS) {
        return unknown_verb(name);
    }
    struct options options;
    if (!options_parse(&options, verb, argc - first, argv + first)) {
        return EXIT_USAGE;
    }
    if (help || options.help || options.help_all) {
        help_verb(verb, options.help_all);
        return EXIT_GOOD;
    }
    return verb_functions[verb](&options);
}
