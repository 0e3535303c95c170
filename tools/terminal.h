// SPDX-License-Identifier: Apache-2.0
// The terminal for a verb that draws on the whole of it (ECMA-48 sequences, no library): its screen, keys, size, and whether to
// end. terminal_posix.c and terminal_windows.c.
#ifndef GRAFT_TOOLS_TERMINAL_H
#define GRAFT_TOOLS_TERMINAL_H

#include <stdbool.h>

// Its characters are UTF-8.
bool terminal_utf8(void);
// Another screen without cursor, and keys one by one, until terminal_give_back, which is called however the process ends. What
// is written to standard output is drawn with fflush. False: standard input or standard output is no terminal.
bool terminal_take(void);
void terminal_give_back(void);

// In front of every frame: Ctrl-Z stops the process here, a screen of another size is wiped. False: the user or the system has
// asked to end.
bool terminal_goes_on(void);
// That, without anything being done. While it does not hold, a call that blocks goes on; some end then.
bool terminal_ends(void);
// It was Ctrl-C that asked.
bool terminal_interrupted(void);

enum { TERMINAL_ROWS = 24, TERMINAL_COLUMNS = 80 }; // where the system does not say
enum { KEY_NONE = 0, KEY_UP = 256, KEY_DOWN, KEY_LOST };
// The next key within `milliseconds`: its byte, KEY_UP, KEY_DOWN; KEY_NONE if there was none; KEY_LOST: the terminal is gone.
int terminal_key(unsigned milliseconds);
void terminal_size(unsigned *rows, unsigned *columns);

#endif
