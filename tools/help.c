// SPDX-License-Identifier: Apache-2.0
// Help, manual pages and shell completion, all made from the tables in options.c.
#include <stdio.h>
#include <string.h>

#include "graft/common.h"
#include "tools/options.h"

void help_program(void)
{
    puts("graft runs quantized language models (GGUF) on the GPU, inside a memory budget.\n");
    puts("  graft run                            chat with the model in the data folder");
    puts("  graft run -m model.gguf -p \"Hello\"   one answer\n");
    puts("Verbs:");
    for (int v = 0; v < VERB_TOKENIZE; v++) {
        printf("  %-12s %s\n", verb_infos[v].name, verb_infos[v].line);
    }
    fputs("  also:        ", stdout);
    for (int v = VERB_TOKENIZE; v < VERBS; v++) {
        printf("%s%s", verb_infos[v].name, v + 1 < VERBS ? ", " : "\n");
    }
    puts("graft VERB -h shows a verb's options, --help-all all of them.");
}

// "-m, --model FILE" into `out`.
static void spell(const struct option_info *option, char *out, size_t bytes)
{
    snprintf(out, bytes, "%s%s%s--%s%s%s", option->shorter ? "-" : "", option->shorter ? option->shorter : "",
             option->shorter ? ", " : "", option->name, option->argument ? " " : "", option->argument ? option->argument : "");
}

static void print_wrapped(const char *text, size_t width)
{
    size_t column = 0;
    while (*text) {
        size_t length = strcspn(text, " ");
        if (column > 0 && column + 1 + length > width) {
            putchar('\n');
            column = 0;
        }
        column += (size_t)printf("%s%.*s", column ? " " : "", (int)length, text);
        text += length;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_examples(const struct verb_info *info)
{
    size_t widest = 0;
    for (size_t i = 0; i < 4 && info->examples[i][0]; i++) {
        size_t length = strlen(info->examples[i][0]);
        widest = length > widest ? length : widest;
    }
    for (size_t i = 0; i < 4 && info->examples[i][0]; i++) {
        const char *what = info->examples[i][1];
        if (*what) {
            printf("  graft %-*s  %s\n", (int)widest, info->examples[i][0], what);
        } else {
            printf("  graft %s\n", info->examples[i][0]);
        }
    }
}

void help_verb(enum verb verb, bool all)
{
    const struct verb_info *info = &verb_infos[verb];
    printf("graft %s%s%s: %s\n\n", info->name, *info->operands ? " " : "", info->operands, info->line);
    print_examples(info);
    putchar('\n');
    if (all && *info->details) {
        print_wrapped(info->details, 79);
        putchar('\n');
    }
    for (size_t i = 0; i < option_info_count; i++) {
        const struct option_info *option = &option_infos[i];
        if (!option_is_of(option, verb) || option->kind == OPTION_IGNORED || !(all || option->brief)) {
            continue;
        }
        char spelled[80];
        spell(option, spelled, sizeof spelled);
        printf("  %-26s %s", spelled, option->help);
        if (all && option->standard) {
            if (29 + strlen(option->help) + strlen(option->standard) + 3 > 80) {
                printf("\n%29s", "");
            } else {
                putchar(' ');
            }
            printf("[%s]", option->standard);
        }
        putchar('\n');
    }
    if (!all) {
        printf("\nAll options, with their defaults: graft %s --help-all\n", info->name);
    }
}

// Text for troff: hyphens that are to be typed, backslashes, and no line that begins with a control character.
static void roff(const char *text)
{
    if (*text == '.' || *text == '\'') {
        fputs("\\&", stdout);
    }
    for (; *text; text++) {
        if (*text == '-') {
            fputs("\\-", stdout);
        } else if (*text == '\\') {
            fputs("\\e", stdout);
        } else {
            putchar(*text);
        }
    }
}

static void man_section(const char *title)
{
    printf(".SH %s\n", title);
}

static void man_common(void)
{
    man_section("EXIT STATUS");
    puts("0 good, 1 failed, 2 a mistake in the command line, 3 a file that cannot be used, 4 over the memory budget,\n"
         "5 no usable device, 130 interrupted.");
    man_section("FILES");
    puts(".TP\n\\fI$XDG_DATA_HOME/graft\\fR (\\fI~/.local/share/graft\\fR)\nmodels, found by name");
    puts(".TP\n\\fI$XDG_CACHE_HOME/graft\\fR (\\fI~/.cache/graft\\fR)\ncompiled pipelines; may be removed at any time");
    puts(".TP\n\\fI$XDG_STATE_HOME/graft/history\\fR (\\fI~/.local/state/graft/history\\fR)\nwhat was typed into graft run");
    man_section("ENVIRONMENT");
    puts("The XDG variables above, and \\fBNO_COLOR\\fR. No other variable changes what graft does.");
}

static void man_option(const struct option_info *option)
{
    printf(".TP\n");
    if (option->shorter) {
        printf("\\fB\\-");
        roff(option->shorter);
        printf("\\fR, ");
    }
    printf("\\fB\\-\\-");
    roff(option->name);
    printf("\\fR");
    if (option->argument) {
        printf(" \\fI");
        roff(option->argument);
        printf("\\fR");
    }
    putchar('\n');
    roff(option->help);
    if (option->standard) {
        printf(" (default: ");
        roff(option->standard);
        putchar(')');
    }
    puts(".");
}

void help_man(enum verb verb)
{
    bool program = verb == VERBS;
    const char *line = program ? "run quantized language models on the GPU, inside a memory budget" : verb_infos[verb].line;
    printf(".TH graft%s%s 1 \"\" \"graft %s\" \"User Commands\"\n", program ? "" : "\\-", program ? "" : verb_infos[verb].name,
           graft_version());
    man_section("NAME");
    printf("graft%s%s \\- ", program ? "" : "\\-", program ? "" : verb_infos[verb].name);
    roff(line);
    putchar('\n');
    man_section("SYNOPSIS");
    if (program) {
        puts(".B graft\n\\fIVERB\\fR [\\fIoptions\\fR]");
        man_section("DESCRIPTION");
        puts("Maps a GGUF file and runs it with Vulkan compute shaders, or in plain C. Data goes to standard output, "
             "everything\n"
             "else to standard error.");
        man_section("VERBS");
        for (int v = 0; v < VERBS; v++) {
            printf(".TP\n\\fBgraft %s\\fR", verb_infos[v].name);
            printf("\n");
            roff(verb_infos[v].line);
            printf("; see \\fBgraft\\-%s\\fR(1)\n", verb_infos[v].name);
        }
    } else {
        const struct verb_info *info = &verb_infos[verb];
        printf(".B graft %s\n[\\fIoptions\\fR] ", info->name);
        roff(info->operands);
        putchar('\n');
        if (*info->details) {
            man_section("DESCRIPTION");
            roff(info->details);
            putchar('\n');
        }
        man_section("OPTIONS");
        for (size_t i = 0; i < option_info_count; i++) {
            if (option_is_of(&option_infos[i], verb) && option_infos[i].kind != OPTION_IGNORED) {
                man_option(&option_infos[i]);
            }
        }
        man_section("EXAMPLES");
        for (size_t i = 0; i < 4 && info->examples[i][0]; i++) {
            printf(".TP\n\\fBgraft ");
            roff(info->examples[i][0]);
            printf("\\fR\n");
            roff(*info->examples[i][1] ? info->examples[i][1] : info->line);
            putchar('\n');
        }
    }
    man_common();
}

// All spellings of the options of one verb, with spaces.
static void completion_words(enum verb verb)
{
    for (size_t i = 0; i < option_info_count; i++) {
        const struct option_info *option = &option_infos[i];
        if (option_is_of(option, verb) && option->kind != OPTION_IGNORED) {
            printf("%s%s%s--%s ", option->shorter ? "-" : "", option->shorter ? option->shorter : "",
                   option->shorter ? " " : "", option->name);
        }
    }
}

// " | run:--weights | run:-w" for every option that is `like` (same kind, same choices).
static void completion_patterns(const struct option_info *like)
{
    bool first = true;
    for (size_t i = 0; i < option_info_count; i++) {
        const struct option_info *option = &option_infos[i];
        bool same_choices = like->kind != OPTION_CHOICE || strcmp(like->choices, option->choices ? option->choices : "") == 0;
        for (int v = 0; option->kind == like->kind && same_choices && v < VERBS; v++) {
            if (!option_is_of(option, (enum verb)v)) {
                continue;
            }
            printf("%s%s:--%s", first ? "    " : " | ", verb_infos[v].name, option->name);
            if (option->shorter) {
                printf(" | %s:-%s", verb_infos[v].name, option->shorter);
            }
            first = false;
        }
    }
}

// One case for all options whose value is completed by `action`.
static void completion_case(enum option_kind kind, const char *choices, const char *action)
{
    const struct option_info like = {.kind = kind, .choices = choices};
    completion_patterns(&like);
    if (choices) {
        printf(") COMPREPLY=($(compgen -W \"");
        for (const char *p = choices; *p; p++) {
            putchar(*p == '|' ? ' ' : *p);
        }
        puts("\" -- \"$word\")); return ;;");
    } else {
        printf(") %s; return ;;\n", action);
    }
}

void help_completion(void)
{
    puts("# bash completion for graft, made by: graft completion bash");
    puts("_graft()\n{\n  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} folder");
    puts("  folder=${XDG_DATA_HOME:-$HOME/.local/share}/graft\n  COMPREPLY=()\n  if [ \"$COMP_CWORD\" -eq 1 ]; then");
    fputs("    COMPREPLY=($(compgen -W \"help", stdout);
    for (int v = 0; v < VERBS; v++) {
        printf(" %s", verb_infos[v].name);
    }
    puts("\" -- \"$word\"))\n    return\n  fi\n  case $verb:$before in");
    for (size_t i = 0; i < option_info_count; i++) {
        if (option_infos[i].kind == OPTION_CHOICE) {
            completion_case(OPTION_CHOICE, option_infos[i].choices, NULL);
        }
    }
    completion_case(OPTION_FILE, NULL, "compopt -o default");
    completion_case(OPTION_MODEL, NULL,
                    "compopt -o default -o filenames; COMPREPLY=($(compgen -f -X '!*.gguf' -- \"$word\"; "
                    "cd \"$folder\" 2>/dev/null && compgen -f -X '!*.gguf' -- \"$word\"))");
    puts("  esac\n  case $verb in");
    for (int v = 0; v < VERBS; v++) {
        printf("    %s) COMPREPLY=($(compgen -W \"", verb_infos[v].name);
        completion_words((enum verb)v);
        if (v == VERB_COMPLETION) {
            fputs("bash", stdout);
        }
        if (v == VERB_ADAPTER) {
            fputs("inspect verify convert diff", stdout);
        }
        for (int other = 0; v == VERB_MAN && other < VERBS; other++) {
            printf("%s ", verb_infos[other].name);
        }
        puts("\" -- \"$word\")) ;;");
    }
    puts("  esac\n  [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default\n}\ncomplete -F _graft graft");
}
