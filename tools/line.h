// SPDX-License-Identifier: Apache-2.0
// One line from the person at the terminal, with editing, history and completion where libedit is there.
#ifndef GRAFT_TOOLS_LINE_H
#define GRAFT_TOOLS_LINE_H

#include <stdbool.h>
#include <stddef.h>

struct line_editor;
enum line_event { LINE_READ, LINE_INTERRUPTED, LINE_END };

// history: a file (0600) to load and add to, or NULL for none. next_word(i) gives words that Tab completes at the beginning of
// a line.
struct line_editor *line_open(const char *history, const char *(*next_word)(const void *user, size_t i));
// The next line without its line break in *line (valid until the next call).
enum line_event line_read(struct line_editor *editor, const char *prompt, const char **line, size_t *length);
// Keep a line in the history.
void line_keep(struct line_editor *editor, const char *line);
void line_close(struct line_editor **editor);
// Give the terminal back as it was found; for a program that ends in a signal handler.
void line_restore_terminal(void);

#endif
