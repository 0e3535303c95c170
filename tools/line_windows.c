// SPDX-License-Identifier: Apache-2.0
// Lines from a Windows console, whose own editing and history (arrow keys, F7) are used; nothing is kept in a file.
#include "tools/line.h"

#include <stdlib.h>

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "tools/output.h"
#include "tools/system.h"

enum { PIECE = 1024 };

struct line_editor {
    char *line;
    size_t room;
};

struct line_editor *line_open(const char *history_path, const char *(*next_word)(const void *user, size_t i))
{
    (void)history_path;
    (void)next_word;
    return get_memory(1, sizeof(struct line_editor));
}

static void make_room(struct line_editor *editor, size_t bytes)
{
    if (bytes > editor->room) {
        editor->room = 2 * bytes;
        editor->line = grow_memory(editor->line, editor->room, 1);
    }
}

// From the console as UTF-16, which it is; false at the end, which is a line that begins with Ctrl-Z.
static bool read_console(struct line_editor *editor, size_t *length)
{
    wchar_t piece[PIECE];
    HANDLE console = GetStdHandle(STD_INPUT_HANDLE);
    for (*length = 0; *length == 0 || editor->line[*length - 1] != '\n';) {
        DWORD got = 0;
        if (!ReadConsoleW(console, piece, PIECE, &got, NULL) || got == 0 || (*length == 0 && piece[0] == 26)) {
            return false;
        }
        make_room(editor, *length + 3 * (size_t)got + 1); // a UTF-16 unit is at most three bytes
        int bytes = WideCharToMultiByte(CP_UTF8, 0, piece, (int)got, editor->line + *length, 3 * (int)got, NULL, NULL);
        *length += bytes > 0 ? (size_t)bytes : 0;
    }
    return true;
}

static bool read_bytes(struct line_editor *editor, size_t *length)
{
    *length = 0;
    for (int c; (c = getchar()) != EOF;) {
        make_room(editor, *length + 2);
        editor->line[(*length)++] = (char)c;
        if (c == '\n') {
            break;
        }
    }
    return *length > 0;
}

enum line_event line_read(struct line_editor *editor, const char *prompt, const char **line, size_t *length)
{
    fputs(prompt, stdout);
    fflush(stdout);
    if (!(system_is_terminal(stdin) ? read_console(editor, length) : read_bytes(editor, length))) {
        return LINE_END;
    }
    for (int i = 0; i < 2 && *length > 0; i++) {
        char last = editor->line[*length - 1];
        *length -= last == '\n' || last == '\r';
    }
    editor->line[*length] = 0;
    *line = editor->line;
    return LINE_READ;
}

void line_keep(struct line_editor *editor, const char *line)
{
    (void)editor;
    (void)line;
}

void line_close(struct line_editor **editor)
{
    free((*editor)->line);
    free(*editor);
    *editor = NULL;
}

void line_restore_terminal(void)
{
}
