// SPDX-License-Identifier: Apache-2.0
// The conversation of graft run on a terminal: lines, messages of several lines, /commands.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"
#include "tools/line.h"
#include "tools/tool.h"

enum verdict { GO_ON, LEAVE };

struct conversation {
    struct talk *talk;
    struct line_editor *editor;
    struct text attached; // of /read: goes in front of the next message
};

static enum verdict do_help(struct conversation *c, char *argument);

static void say_status(enum graft_status status, const char *what)
{
    if (status != GRAFT_OK) {
        error_status(status, what);
    }
}

// A lost device is opened again; the conversation is computed anew with the next question.
static enum verdict recover(struct conversation *c)
{
    enum graft_status status = graft_model_rebuild(c->talk->session.model);
    if (status != GRAFT_OK) {
        say_status(status, "the device did not come back");
        return LEAVE;
    }
    puts("(the device works again: ask once more)");
    return GO_ON;
}

// Write the answer that `status` tells about to an end: a line break, a reason why it is shorter, statistics.
static enum verdict after_answer(struct conversation *c, enum graft_status status, bool interrupted)
{
    putchar('\n');
    if (interrupted) {
        puts("(stopped)");
    }
    if (status == GRAFT_E_CONTEXT_FULL) {
        error3("the context is full", graft_last_error(), "/clear, /undo, or graft run -c with a larger number");
    } else {
        say_status(status, "the answer could not be computed");
    }
    if (c->talk->options.stats) {
        talk_stats(c->talk, stdout);
    }
    return status == GRAFT_E_DEVICE_LOST ? recover(c) : GO_ON;
}

static enum verdict send_message(struct conversation *c, const char *message, size_t length)
{
    struct text whole = {0};
    whole.length = c->attached.length + (c->attached.length ? 2 : 0) + length;
    whole.data = get_memory(whole.length + 1, 1);
    size_t used = 0;
    if (c->attached.length) {
        memcpy(whole.data, c->attached.data, c->attached.length);
        memcpy(whole.data + c->attached.length, "\n\n", 2);
        used = c->attached.length + 2;
    }
    memcpy(whole.data + used, message, length);
    bool interrupted = false;
    enum graft_status status = talk_ask(c->talk, &whole, NULL, &interrupted);
    text_free(&whole);
    text_free(&c->attached);
    return after_answer(c, status, interrupted);
}

static enum verdict do_clear(struct conversation *c, char *argument)
{
    (void)argument;
    graft_chat_clear(c->talk->chat);
    text_free(&c->attached);
    puts("The conversation is forgotten; the system prompt stays.");
    return GO_ON;
}

static enum verdict do_regen(struct conversation *c, char *argument)
{
    (void)argument;
    bool interrupted = false;
    enum graft_status status = talk_again(c->talk, &interrupted);
    if (status == GRAFT_E_ARGUMENT) {
        puts("There is no answer yet.");
        return GO_ON;
    }
    return after_answer(c, status, interrupted);
}

static enum verdict do_undo(struct conversation *c, char *argument)
{
    (void)argument;
    enum graft_status status = graft_chat_undo(c->talk->chat);
    if (status == GRAFT_OK) {
        puts("The last question and its answer are taken back.");
    } else if (status == GRAFT_E_ARGUMENT) {
        puts("There is nothing to take back.");
    } else {
        say_status(status, "the last message cannot be taken back");
    }
    return GO_ON;
}

static enum verdict do_adapters(struct conversation *c, char *argument)
{
    (void)argument;
    adapters_show(&c->talk->session);
    return GO_ON;
}

static enum verdict do_adapter(struct conversation *c, char *argument)
{
    adapters_choose(c->talk, argument);
    return GO_ON;
}

static enum verdict do_compare(struct conversation *c, char *argument)
{
    adapters_compare(c->talk, argument);
    return GO_ON;
}

static enum verdict do_system(struct conversation *c, char *argument)
{
    char *before = c->talk->system, *text = NULL;
    size_t length = strlen(argument);
    if (length > 0) {
        text = get_memory(length + 1, 1);
        memcpy(text, argument, length);
    }
    c->talk->system = text;
    enum graft_status status = talk_start(c->talk);
    if (status != GRAFT_OK) {
        say_status(status, "this system prompt cannot be used");
        c->talk->system = before;
        free(text);
        return talk_start(c->talk) == GRAFT_OK ? GO_ON : LEAVE;
    }
    free(before);
    puts(text ? "System prompt set; the conversation begins anew." : "System prompt removed; the conversation begins anew.");
    return GO_ON;
}

static enum verdict do_set(struct conversation *c, char *argument)
{
    static const char *const names[] = {"temp",
                                        "top-k",
                                        "top-p",
                                        "min-p",
                                        "repeat-penalty",
                                        "presence-penalty",
                                        "frequency-penalty",
                                        "repeat-last-n",
                                        "typical-p",
                                        "top-n-sigma",
                                        "xtc-probability",
                                        "xtc-threshold",
                                        "dry-multiplier",
                                        "dry-base",
                                        "dry-allowed-length",
                                        "dry-penalty-last-n",
                                        "mirostat",
                                        "mirostat-ent",
                                        "mirostat-lr",
                                        "seed"};
    struct options *o = &c->talk->options;
    char *value = argument + strcspn(argument, " =");
    if (*argument == 0) {
        printf("temp %g, top-k %" PRId64 ", top-p %g, min-p %g, repeat-penalty %g, presence-penalty %g,\n"
               "frequency-penalty %g, repeat-last-n %" PRId64 ", typical-p %g, top-n-sigma %g,\n"
               "xtc-probability %g, xtc-threshold %g, dry-multiplier %g, dry-base %g, dry-allowed-length %" PRId64 ",\n"
               "dry-penalty-last-n %" PRId64 ", mirostat %" PRId64 ", mirostat-ent %g, mirostat-lr %g, seed %" PRId64 "\n",
               o->temp, o->top_k, o->top_p, o->min_p, o->repeat_penalty, o->presence_penalty, o->frequency_penalty,
               o->penalty_window, o->typical_p, o->top_n_sigma, o->xtc_probability, o->xtc_threshold, o->dry_multiplier,
               o->dry_base, o->dry_allowed_length, o->dry_window, o->mirostat, o->mirostat_tau, o->mirostat_eta, o->seed);
        return GO_ON;
    }
    if (*value) {
        *value++ = 0;
        value += strspn(value, " =");
    }
    for (char *p = argument; *p; p++) {
        *p = *p == '_' ? '-' : *p;
    }
    char why[200] = "";
    bool known = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        known = known || strcmp(names[i], argument) == 0;
    }
    if (!known) {
        snprintf(why, sizeof why, "there is no setting '%.60s'; /set shows all", argument);
    }
    if (!known || !options_set(o, argument, value, why, sizeof why)) {
        printf("Not set: %s\n", why);
        return GO_ON;
    }
    struct graft_sampling sampling = sampling_from(o);
    say_status(graft_chat_set_sampling(c->talk->chat, &sampling), "this setting is not accepted");
    return GO_ON;
}

static enum verdict do_stats(struct conversation *c, char *argument)
{
    (void)argument;
    talk_stats(c->talk, stdout);
    return GO_ON;
}

static enum verdict do_memory(struct conversation *c, char *argument)
{
    (void)argument;
    struct graft_memory_use use;
    graft_ctx_memory(c->talk->session.ctx, &use);
    print_memory(stdout, &use);
    return GO_ON;
}

static enum verdict do_save(struct conversation *c, char *argument)
{
    const char *json;
    if (*argument == 0) {
        puts("/save needs a file name.");
        return GO_ON;
    }
    size_t length = strlen(argument);
    bool whole = length > 8 && strcmp(argument + length - 8, ".session") == 0;
    enum graft_status status = whole ? graft_chat_save(c->talk->chat, argument) : graft_chat_history(c->talk->chat, &json);
    if (status == GRAFT_OK && !whole) {
        status = graft_file_replace(argument, json, strlen(json));
    }
    if (status == GRAFT_OK) {
        printf("Saved to %s.\n", argument);
    } else {
        say_status(status, "the conversation cannot be saved");
    }
    return GO_ON;
}

static enum verdict do_restore(struct conversation *c, char *argument)
{
    if (*argument == 0) {
        puts("/restore needs the name of a file that /save wrote as FILE.session.");
        return GO_ON;
    }
    enum graft_status status = graft_chat_restore(c->talk->chat, argument);
    if (status == GRAFT_OK) {
        puts("The saved conversation goes on.");
    } else {
        say_status(status, "the conversation cannot be restored");
    }
    return GO_ON;
}

static enum verdict do_read(struct conversation *c, char *argument)
{
    struct text text;
    if (*argument == 0) {
        puts("/read needs a file name.");
    } else if (text_read(argument, &text) == EXIT_GOOD) {
        text_free(&c->attached);
        c->attached = text;
        printf("%zu bytes of %s go in front of your next message.\n", text.length, argument);
    }
    return GO_ON;
}

static enum verdict do_bye(struct conversation *c, char *argument)
{
    (void)c;
    (void)argument;
    return LEAVE;
}

static const struct command {
    const char *name, *argument, *help;
    enum verdict (*run)(struct conversation *c, char *argument);
} commands[] = {
    {"/help", "", "this list", do_help},
    {"/clear", "", "forget the conversation", do_clear},
    {"/regen", "", "another answer to the last question", do_regen},
    {"/undo", "", "take the last question and its answer back", do_undo},
    {"/system", "TEXT", "another system prompt; the conversation begins anew", do_system},
    {"/set", "KEY VALUE", "temp, top-k, top-p, min-p, ... ; alone: show them", do_set},
    {"/adapter", "NAME", "who answers: legal, legal:0.6+finance:0.4, or none", do_adapter},
    {"/adapters", "", "the adapters that are loaded", do_adapters},
    {"/compare", "NAME ...", "what each of them answers to the last question", do_compare},
    {"/stats", "", "rates, first-token time, memory", do_stats},
    {"/memory", "", "bytes by class, against the budget", do_memory},
    {"/save", "FILE", "the conversation as JSON; FILE.session: with its cache", do_save},
    {"/restore", "FILE", "go on with a FILE.session", do_restore},
    {"/read", "FILE", "put a file's text in front of the next message", do_read},
    {"/bye", "", "end; so does Ctrl-D", do_bye},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const char *next_command(const void *user, size_t i)
{
    (void)user;
    return i < COMMANDS ? commands[i].name : NULL;
}

static enum verdict do_help(struct conversation *c, char *argument)
{
    (void)c;
    (void)argument;
    for (size_t i = 0; i < COMMANDS; i++) {
        printf("  %-8s%-10s %s\n", commands[i].name, commands[i].argument, commands[i].help);
    }
    puts("  \"\"\" begins and ends a message of several lines. Ctrl-C stops the answer.");
    return GO_ON;
}

static enum verdict do_command(struct conversation *c, const char *line, size_t length)
{
    char *copy = get_memory(length + 1, 1);
    memcpy(copy, line, length);
    while (length > 0 && copy[length - 1] == ' ') {
        copy[--length] = 0;
    }
    char *argument = copy + strcspn(copy, " ");
    if (*argument) {
        *argument++ = 0;
        argument += strspn(argument, " ");
    }
    enum verdict verdict = GO_ON;
    size_t i = 0;
    while (i < COMMANDS && strcmp(commands[i].name, copy) != 0) {
        i++;
    }
    if (i < COMMANDS) {
        verdict = commands[i].run(c, argument);
    } else if (strcmp(copy, "/?") == 0) {
        verdict = do_help(c, argument);
    } else if (strcmp(copy, "/exit") == 0 || strcmp(copy, "/quit") == 0) {
        verdict = LEAVE;
    } else {
        const char *near = suggest(copy, next_command, NULL);
        printf("There is no command %s. Try %s.\n", copy, near ? near : "/help");
    }
    free(copy);
    return verdict;
}

// The rest of a message that began with """, up to the line that ends with it. LINE_INTERRUPTED throws it away.
static enum line_event read_block(struct conversation *c, const char *line, size_t length, struct text *out)
{
    line += 3;
    length -= 3;
    for (;;) {
        bool last = length >= 3 && memcmp(line + length - 3, "\"\"\"", 3) == 0;
        length -= last ? 3 : 0;
        out->data = grow_memory(out->data, out->length + length + 2, 1);
        memcpy(out->data + out->length, line, length);
        out->length += length;
        if (last) {
            return LINE_READ;
        }
        if (out->length > 0) {
            out->data[out->length++] = '\n';
        }
        enum line_event event = line_read(c->editor, "... ", &line, &length);
        if (event != LINE_READ) {
            return event;
        }
    }
}

static enum verdict on_line(struct conversation *c, const char *line, size_t length)
{
    if (length >= 3 && memcmp(line, "\"\"\"", 3) == 0) {
        struct text block = {0};
        enum line_event event = read_block(c, line, length, &block);
        enum verdict verdict = event == LINE_END ? LEAVE : GO_ON;
        if (event == LINE_READ && block.length > 0) {
            verdict = send_message(c, block.data, block.length);
        }
        text_free(&block);
        return verdict;
    }
    char *kept = get_memory(length + 1, 1); // the editor's own buffer does not outlive the next key
    memcpy(kept, line, length);
    line_keep(c->editor, kept);
    enum verdict verdict = kept[0] == '/' ? do_command(c, kept, length) : send_message(c, kept, length);
    free(kept);
    return verdict;
}

static void greet(const struct talk *talk)
{
    const struct session *s = &talk->session;
    struct graft_memory_use use;
    graft_ctx_memory(s->ctx, &use);
    printf("%s (%s) on %s (%s), context %" PRIu32 ", memory %s", s->info.name, s->info.quantization, s->device_info.name,
           device_kind_name(s->device_info.kind), s->info.n_ctx, bytes_text(use.used_bytes).text);
    if (use.budget_bytes) {
        printf(" of %s", bytes_text(use.budget_bytes).text);
    }
    if (s->n_adapters) {
        struct graft_adapter_use uses[GRAFT_MAX_BLEND];
        printf("\nadapters:");
        for (uint32_t i = 0; i < s->n_adapters; i++) {
            printf(" %s%s", s->adapters[i].name, s->adapters[i].active ? " (active)" : "");
        }
        printf("%s", session_blend(s, uses) ? "" : "; the base model answers until /adapter NAME chooses one");
    }
    puts("\n/help lists the commands; Ctrl-C stops an answer, Ctrl-D ends.\n");
}

int chat_loop(struct talk *talk)
{
    if (talk->session.n_adapters > 1) { // departments to choose from, not a blend of all
        for (uint32_t i = 0; i < talk->session.n_adapters; i++) {
            talk->session.adapters[i].active = false;
        }
        enum graft_status status = graft_chat_set_adapters(talk->chat, NULL, 0);
        if (status != GRAFT_OK) {
            return error_status(status, "the conversation cannot begin");
        }
    }
    char history[PATH_BYTES], folder[PATH_BYTES];
    folder_path(FOLDER_STATE, folder);
    snprintf(history, sizeof history, "%.*s/history", PATH_BYTES - 300, folder);
    bool keep = *folder && !talk->options.no_history;
    struct conversation c = {.talk = talk, .editor = line_open(keep ? history : NULL, next_command)};
    greet(talk);
    bool leaving = false; // Ctrl-C was pressed once at an empty prompt
    for (enum verdict verdict = GO_ON; verdict == GO_ON;) {
        const char *line = "";
        size_t length = 0;
        switch (line_read(c.editor, ">>> ", &line, &length)) {
        case LINE_END:
            verdict = LEAVE;
            break;
        case LINE_INTERRUPTED:
            verdict = leaving ? LEAVE : GO_ON;
            if (!leaving) {
                puts("Ctrl-C once more, or Ctrl-D, ends.");
            }
            leaving = true;
            break;
        case LINE_READ:
            leaving = false;
            if (length > strspn(line, " \t")) {
                verdict = on_line(&c, line, length);
            }
            break;
        }
    }
    text_free(&c.attached);
    line_close(&c.editor);
    return EXIT_GOOD;
}
