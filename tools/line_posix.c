// SPDX-License-Identifier: Apache-2.0
#include "tools/line.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "tools/output.h"

struct line_editor {
    const char *prompt;
    char *history_path;
    const char *(*next_word)(const void *user, size_t i);
    bool interrupted;
    char *plain; // getline's buffer
    size_t plain_bytes;
#ifdef GRAFT_HAVE_EDIT
    struct editline *edit;
    struct history *history;
#endif
};

// Characters beyond ASCII need a UTF-8 locale; containers often have none set.
static void use_utf8(void)
{
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
}

// The terminal as it was found. While a line editor is open it passes every key on at once and echoes none: keys typed during
// an answer, Ctrl-D among them, wait unseen for the next line, and none is lost between prompt and reading.
static struct termios as_found;
static volatile sig_atomic_t changed;

void line_restore_terminal(void)
{
    if (changed) {
        tcsetattr(STDIN_FILENO, TCSANOW, &as_found);
        changed = 0;
    }
}

#ifdef GRAFT_HAVE_EDIT
#include <histedit.h>

// interrupts: Ctrl-C is a signal (while an answer comes), or a key like others (while a line is edited).
static void set_terminal(bool interrupts)
{
    if (!changed) {
        if (tcgetattr(STDIN_FILENO, &as_found) != 0) {
            return;
        }
        changed = 1;
    }
    struct termios mode = as_found;
    mode.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    mode.c_cc[VMIN] = 1;
    mode.c_cc[VTIME] = 0;
    if (!interrupts) {
        mode.c_cc[VINTR] = _POSIX_VDISABLE;
    }
    tcsetattr(STDIN_FILENO, TCSADRAIN, &mode);
}

static char *prompt_of(EditLine *edit)
{
    struct line_editor *editor;
    el_get(edit, EL_CLIENTDATA, &editor);
    return (char *)(uintptr_t)editor->prompt;
}

// Ctrl-C: end the line, to be thrown away by the caller.
static unsigned char on_interrupt(EditLine *edit, int character)
{
    (void)character;
    struct line_editor *editor;
    el_get(edit, EL_CLIENTDATA, &editor);
    editor->interrupted = true;
    return CC_NEWLINE;
}

// Tab: complete the only word that begins like the line, as long as there is nothing but its beginning.
static unsigned char on_tab(EditLine *edit, int character)
{
    (void)character;
    struct line_editor *editor;
    el_get(edit, EL_CLIENTDATA, &editor);
    const LineInfo *info = el_line(edit);
    size_t length = (size_t)(info->cursor - info->buffer);
    const char *found = NULL, *word;
    for (size_t i = 0; length > 0 && (word = editor->next_word(NULL, i)) != NULL; i++) {
        if (strncmp(word, info->buffer, length) == 0) {
            if (found) {
                return CC_REFRESH_BEEP;
            }
            found = word;
        }
    }
    if (!found || el_insertstr(edit, found + length) != 0) {
        return CC_REFRESH_BEEP;
    }
    return CC_REFRESH;
}

static void edit_open(struct line_editor *editor)
{
    HistEvent event;
    set_terminal(false); // before libedit looks at it
    editor->edit = el_init("graft", stdin, stdout, stderr);
    if (!editor->edit) {
        line_restore_terminal();
        return;
    }
    set_terminal(true);
    el_set(editor->edit, EL_CLIENTDATA, editor);
    el_set(editor->edit, EL_PROMPT, prompt_of);
    el_set(editor->edit, EL_EDITOR, "emacs");
    el_set(editor->edit, EL_SIGNAL, 1);                  // suspension and resizing
    el_set(editor->edit, EL_SETTY, "-d", "intr=", NULL); // libedit's own mode: Ctrl-C is a key like others
    el_set(editor->edit, EL_ADDFN, "graft-interrupt", "throw the line away", on_interrupt);
    el_set(editor->edit, EL_ADDFN, "graft-complete", "complete a command", on_tab);
    el_set(editor->edit, EL_BIND, "^C", "graft-interrupt", NULL);
    el_set(editor->edit, EL_BIND, "^I", "graft-complete", NULL);
    el_set(editor->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    editor->history = history_init();
    if (editor->history) {
        history(editor->history, &event, H_SETSIZE, 1000);
        history(editor->history, &event, H_SETUNIQUE, 1);
        el_set(editor->edit, EL_HIST, history, editor->history);
        if (editor->history_path) {
            history(editor->history, &event, H_LOAD, editor->history_path);
        }
    }
}
#endif

// Create the folders above `path`, for their owner only.
static void make_folders(const char *path)
{
    char *copy = strdup(path);
    for (char *p = copy ? strchr(copy + 1, '/') : NULL; p; p = strchr(p + 1, '/')) {
        *p = 0;
        mkdir(copy, 0700);
        *p = '/';
    }
    free(copy);
}

struct line_editor *line_open(const char *history_path, const char *(*next_word)(const void *user, size_t i))
{
    struct line_editor *editor = get_memory(1, sizeof *editor);
    use_utf8();
    editor->next_word = next_word;
    if (history_path && *history_path) {
        make_folders(history_path);
        editor->history_path = strdup(history_path);
    }
#ifdef GRAFT_HAVE_EDIT
    edit_open(editor);
#endif
    return editor;
}

static enum line_event plain_read(struct line_editor *editor, const char **line, size_t *length)
{
    fputs(editor->prompt, stdout);
    fflush(stdout);
    errno = 0;
    ssize_t got = getline(&editor->plain, &editor->plain_bytes, stdin);
    if (got < 0) {
        bool interrupted = errno == EINTR;
        clearerr(stdin);
        return interrupted ? LINE_INTERRUPTED : LINE_END;
    }
    *line = editor->plain;
    *length = (size_t)got;
    return LINE_READ;
}

enum line_event line_read(struct line_editor *editor, const char *prompt, const char **line, size_t *length)
{
    editor->prompt = prompt;
    editor->interrupted = false;
    enum line_event event = LINE_READ;
#ifdef GRAFT_HAVE_EDIT
    if (editor->edit) {
        int count = 0;
        set_terminal(false);
        *line = el_gets(editor->edit, &count);
        set_terminal(true);
        if (editor->interrupted) {
            putchar('\n');
            return LINE_INTERRUPTED;
        }
        if (!*line || count <= 0) {
            putchar('\n');
            return LINE_END;
        }
        *length = (size_t)count;
    } else {
        event = plain_read(editor, line, length);
    }
#else
    event = plain_read(editor, line, length);
#endif
    if (event == LINE_READ && *length > 0 && (*line)[*length - 1] == '\n') {
        (*length)--;
    }
    return event;
}

void line_keep(struct line_editor *editor, const char *line)
{
#ifdef GRAFT_HAVE_EDIT
    HistEvent event;
    if (editor->history) {
        history(editor->history, &event, H_ENTER, line);
    }
#else
    (void)editor;
    (void)line;
#endif
}

void line_close(struct line_editor **editor)
{
    struct line_editor *e = *editor;
#ifdef GRAFT_HAVE_EDIT
    HistEvent event;
    if (e->history && e->history_path) {
        mode_t before = umask(077); // what was typed is nobody else's business
        history(e->history, &event, H_SAVE, e->history_path);
        umask(before);
        chmod(e->history_path, 0600);
    }
    if (e->history) {
        history_end(e->history);
    }
    if (e->edit) {
        el_end(e->edit);
    }
#endif
    line_restore_terminal();
    free(e->history_path);
    free(e->plain);
    free(e);
    *editor = NULL;
}
