// SPDX-License-Identifier: Apache-2.0
// terminal.h on POSIX systems.
#include "tools/terminal.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static volatile sig_atomic_t is_raw, wants_end, wants_stop, was_resized;

bool terminal_utf8(void)
{
    setlocale(LC_CTYPE, "");
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

static void say(const char *sequence)
{
    ssize_t n = write(STDOUT_FILENO, sequence, strlen(sequence));
    (void)n;
}

void terminal_give_back(void) // safe in a signal handler
{
    if (is_raw) {
        is_raw = 0;
        say("\033[?25h\033[?1049l");
        tcsetattr(STDIN_FILENO, TCSANOW, &saved);
    }
}

static void enter(void)
{
    struct termios raw = saved;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO); // signals stay
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    is_raw = 1;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    say("\033[?1049h\033[?25l");
}

static void on_signal(int number)
{
    if (number == SIGWINCH || number == SIGCONT) {
        was_resized = 1;
    } else if (number == SIGTSTP) {
        wants_stop = 1;
    } else if (number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT) {
        wants_end = number;
    } else { // a fault: leave the terminal usable
        terminal_give_back();
        signal(number, SIG_DFL);
        raise(number);
    }
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGWINCH, SIGCONT, SIGTSTP, SIGINT,  SIGTERM, SIGHUP,
                                  SIGQUIT,  SIGSEGV, SIGBUS,  SIGABRT, SIGFPE,  SIGILL};
    struct sigaction action = {.sa_handler = on_signal}; // no SA_RESTART: a read from a server that hangs ends
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaction(numbers[i], &action, NULL);
    }
}

bool terminal_take(void)
{
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &saved) != 0) {
        return false;
    }
    atexit(terminal_give_back);
    catch_signals();
    enter();
    return true;
}

// Ctrl-Z: as every other program, and back again.
static void stop_here(void)
{
    wants_stop = 0;
    terminal_give_back();
    signal(SIGTSTP, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    raise(SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    catch_signals();
    enter();
}

bool terminal_goes_on(void)
{
    if (wants_end) {
        return false;
    }
    if (wants_stop) {
        stop_here();
    }
    if (was_resized) {
        was_resized = 0;
        say("\033[2J");
    }
    return true;
}

bool terminal_ends(void)
{
    return wants_end != 0;
}

bool terminal_interrupted(void)
{
    return wants_end == SIGINT;
}

int terminal_key(unsigned milliseconds)
{
    static char keys[64];
    static ssize_t at, end;
    if (at == end) {
        struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(&in, 1, (int)milliseconds);
        at = 0;
        end = ready > 0 ? read(STDIN_FILENO, keys, sizeof keys) : 0;
        if (ready > 0 && (end == 0 || (end < 0 && errno != EINTR && errno != EAGAIN))) {
            end = 0;
            return KEY_LOST;
        }
        if (end <= 0) {
            end = 0;
            return KEY_NONE;
        }
    }
    if (end - at >= 3 && keys[at] == '\033' && keys[at + 1] == '[') { // arrows
        at += 3;
        return keys[at - 1] == 'A' ? KEY_UP : keys[at - 1] == 'B' ? KEY_DOWN : '\033';
    }
    return (unsigned char)keys[at++];
}

void terminal_size(unsigned *rows, unsigned *columns)
{
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col;
    *rows = known ? size.ws_row : TERMINAL_ROWS;
    *columns = known ? size.ws_col : TERMINAL_COLUMNS;
}
