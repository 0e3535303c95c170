// SPDX-License-Identifier: Apache-2.0
// graft top: one server's state, again and again, on a terminal (ECMA-48 sequences, no library).
#include <errno.h>
#include <locale.h>
#include <langinfo.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "platform/plat.h"
#include "tools/status.h"
#include "tools/tool.h"

enum { HISTORY = 60, DEFAULT_ROWS = 24, DEFAULT_COLUMNS = 80 };

// ---- the terminal ----

static struct termios saved;
static volatile sig_atomic_t is_raw, wants_end, wants_stop, was_resized;

static void say(const char *sequence)
{
    ssize_t n = write(STDOUT_FILENO, sequence, strlen(sequence));
    (void)n;
}

static void leave(void) // safe in a signal handler
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
        leave();
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

// Ctrl-Z: as every other program, and back again.
static void stop_here(void)
{
    wants_stop = 0;
    leave();
    signal(SIGTSTP, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    raise(SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    catch_signals();
    enter();
}

// ---- the servers ----

struct top {
    const struct options *options;
    struct status_view view;
    json_t *status;     // of the last answer; NULL: none yet
    uint64_t status_ns; // when it came
    char why[300];      // it did not answer this time
    unsigned server;    // which of those found
    double interval;    // seconds
    double rates[HISTORY];
    unsigned n_rates;
    bool help;
};

// The addresses of the server that is looked at, with "pid" if that is known; NULL: there is none.
static json_t *place_of(struct top *top)
{
    if (top->options->n_operands) {
        unsigned n = (unsigned)top->options->n_operands;
        return json_pack("{s:[s]}", "addresses", top->options->operands[top->server % n]);
    }
    json_t *all = servers_find();
    size_t n = json_array_size(all);
    json_t *place = n ? json_incref(json_array_get(all, top->server % n)) : NULL;
    json_decref(all);
    return place;
}

static void forget(struct top *top)
{
    json_decref(top->status);
    top->status = NULL;
    top->n_rates = 0;
}

static void look(struct top *top)
{
    json_t *place = place_of(top), *now = NULL, *address;
    size_t i;
    snprintf(top->why, sizeof top->why, "no graft serve runs on this machine");
    json_array_foreach(json_object_get(place, "addresses"), i, address)
    {
        now = status_fetch(json_string_value(address), top->options->api_key, top->options->tls_ca, top->why, sizeof top->why);
        if (now || wants_end) {
            break;
        }
    }
    if (now) {
        double age = json_number_value(json_object_get(now, "uptime_seconds")),
               before = json_number_value(json_object_get(top->status, "uptime_seconds"));
        json_object_set(now, "pid", json_object_get(place, "pid"));
        if (top->status && age > before) { // not another process at the same address
            status_rates(now, top->status, age - before);
            memmove(top->rates + 1, top->rates, sizeof top->rates - sizeof *top->rates);
            top->rates[0] = json_number_value(json_object_get(now, "answer_tokens_per_second"));
            top->n_rates += top->n_rates < HISTORY;
        }
        json_decref(top->status);
        top->status = now;
        top->status_ns = graft_clock_ns();
        *top->why = 0;
    }
    json_decref(place);
}

// ---- a frame ----

// The rates of the last samples as a row of bars, the newest on the right.
static void print_history(FILE *out, const struct top *top)
{
    static const char *const blocks[] = {" ",
                                         "\xe2\x96\x81",
                                         "\xe2\x96\x82",
                                         "\xe2\x96\x83",
                                         "\xe2\x96\x84",
                                         "\xe2\x96\x85",
                                         "\xe2\x96\x86",
                                         "\xe2\x96\x87",
                                         "\xe2\x96\x88"};
    static const char *const ascii[] = {" ", ".", ":", "-", "=", "+", "*", "#", "@"};
    double most = 0;
    for (unsigned i = 0; i < top->n_rates; i++) {
        most = top->rates[i] > most ? top->rates[i] : most;
    }
    fputs("          ", out);
    for (unsigned i = top->n_rates; i-- > 0;) {
        int level = most > 0 ? (int)ceil(top->rates[i] / most * 8) : 0;
        fputs(top->view.utf8 ? blocks[level] : ascii[level], out);
    }
    fprintf(out, "  (highest %.1f)\n", most);
}

static void print_frame(FILE *out, const struct top *top)
{
    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);
    if (top->status && memory) {
        status_print(memory, top->status, &top->view);
    }
    if (memory) {
        fclose(memory);
    }
    const char *rest = text ? text : "", *line = strstr(rest, "\ntokens/s");
    line = line ? strchr(line + 1, '\n') : NULL;
    if (*top->why) {
        fprintf(out, "%s\n", top->why);
    }
    if (top->status && line) { // the bars stand under the rate
        fprintf(out, "%.*s\n", (int)(line - rest), rest);
        print_history(out, top);
        fputs(line + 1, out);
    }
    free(text);
}

// Behind the first `columns` characters of a line; escape sequences take no room.
static size_t clip(const char *line, size_t length, unsigned columns)
{
    unsigned used = 0;
    size_t i = 0;
    while (i < length) {
        if (line[i] == '\033') {
            while (i < length && line[i] != 'm') {
                i++;
            }
            i += i < length;
            continue;
        }
        if (used == columns) {
            break;
        }
        for (i++; i < length && ((unsigned char)line[i] & 0xc0) == 0x80; i++) {
        }
        used++;
    }
    return i;
}

// The last row of the screen.
static void print_foot(FILE *out, const struct top *top)
{
    static const char keys[] = "q quit  s sort  r reverse  i idle  j k scroll  n next server  + - interval";
    if (top->help) {
        fputs(keys, out);
    } else {
        fprintf(out, "by %s%s, every %.1f s; h shows the keys, q ends", status_sort_names[top->view.sort],
                top->view.reverse ? ", reversed" : "", top->interval);
    }
}

static void draw(const struct top *top)
{
    struct winsize size = {.ws_row = DEFAULT_ROWS, .ws_col = DEFAULT_COLUMNS};
    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);
    if (!memory) {
        return;
    }
    print_foot(memory, top);
    fputc('\n', memory);
    print_frame(memory, top);
    fclose(memory);
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || !size.ws_row || !size.ws_col) {
        size = (struct winsize){.ws_row = DEFAULT_ROWS, .ws_col = DEFAULT_COLUMNS};
    }
    const char *foot = text, *line = strchr(text, '\n') + 1;
    fputs("\033[H", stdout);
    for (unsigned row = 1; *line && row < size.ws_row; row++) {
        size_t n = strcspn(line, "\n");
        fwrite(line, 1, clip(line, n, size.ws_col), stdout);
        fputs("\033[0m\033[K\r\n", stdout);
        line += n + (line[n] == '\n');
    }
    printf("\033[J\033[%u;1H", (unsigned)size.ws_row);
    fwrite(foot, 1, clip(foot, strcspn(foot, "\n"), size.ws_col), stdout);
    fflush(stdout);
    free(text);
}

// ---- keys ----

static void on_key(struct top *top, char key, uint64_t *next_ns)
{
    switch (key) {
    case 'q':
        wants_end = SIGTERM;
        break;
    case 's':
        top->view.sort = (enum status_sort)((top->view.sort + 1) % SORTS);
        break;
    case 'r':
        top->view.reverse = !top->view.reverse;
        break;
    case 'i':
        top->view.idle = !top->view.idle;
        break;
    case 'j':
        top->view.skip++;
        break;
    case 'k':
        top->view.skip -= top->view.skip > 0;
        break;
    case 'n':
        top->server++;
        forget(top);
        *next_ns = 0;
        break;
    case '+':
        top->interval = fmin(top->interval * 2, 60);
        break;
    case '-':
        top->interval = fmax(top->interval / 2, 0.25);
        break;
    case ' ':
        *next_ns = 0;
        break;
    case 'h':
    case '?':
        top->help = !top->help;
        break;
    default:
        break;
    }
}

// Keys until it is time to look again; false: standard input has ended.
static bool wait_for_keys(struct top *top, uint64_t *next_ns)
{
    char keys[64];
    uint64_t now = graft_clock_ns();
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    int ready = poll(&in, 1, *next_ns > now ? (int)((*next_ns - now) / 1000000u) + 1 : 0);
    ssize_t n = ready > 0 ? read(STDIN_FILENO, keys, sizeof keys) : -1;
    if (ready > 0 && (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))) {
        return false; // the terminal is gone
    }
    for (ssize_t i = 0; i < n; i++) {
        if (n - i >= 3 && keys[i] == '\033' && keys[i + 1] == '[') { // arrows
            on_key(top, keys[i + 2] == 'A' ? 'k' : keys[i + 2] == 'B' ? 'j' : 0, next_ns);
            i += 2;
        } else {
            on_key(top, keys[i], next_ns);
        }
    }
    return true;
}

static void watch(struct top *top)
{
    uint64_t next_ns = 0;
    setvbuf(stdout, NULL, _IOFBF, 1 << 16); // a frame goes out in one piece
    atexit(leave);
    catch_signals();
    enter();
    bool going = true;
    while (going && !wants_end) {
        if (wants_stop) {
            stop_here();
        }
        if (was_resized) {
            was_resized = 0;
            say("\033[2J");
        }
        if (graft_clock_ns() >= next_ns) {
            next_ns = graft_clock_ns() + (uint64_t)(top->interval * 1e9);
            look(top);
        }
        draw(top);
        going = wait_for_keys(top, &next_ns);
    }
    leave();
}

// One frame, without sequences.
static int once(struct top *top)
{
    look(top);
    status_rates(top->status, top->status, 0);
    bool busy = json_array_size(json_object_get(top->status, "requests")) > 0;
    if (top->status && busy) {
        struct timespec wait = {.tv_sec = (time_t)top->interval,
                                .tv_nsec = (long)((top->interval - (double)(time_t)top->interval) * 1e9)};
        nanosleep(&wait, NULL);
        look(top);
    }
    if (!top->status) {
        error3("there is nothing to show", top->why, "graft top ADDRESS, the operator's socket for instance");
        return EXIT_FAILED;
    }
    print_frame(stdout, top);
    return EXIT_GOOD;
}

int verb_TOP(const struct options *options)
{
    struct top top = {.options = options, .interval = options->interval > 0 ? options->interval : 2};
    setlocale(LC_CTYPE, "");
    top.view.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    top.view.idle = options->all;
    for (int i = 0; i < SORTS; i++) {
        top.view.sort = strcmp(options->sort, status_sort_names[i]) == 0 ? (enum status_sort)i : top.view.sort;
    }
    int code = EXIT_GOOD;
    if (options->once) {
        code = once(&top);
    } else if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &saved) != 0) {
        return error_usage("there is no terminal to draw on", "standard input or output is not one", "graft top --once");
    } else {
        top.view.bold = colours(stdout);
        watch(&top);
        code = wants_end == SIGINT ? EXIT_INTERRUPTED : EXIT_GOOD;
    }
    json_decref(top.status);
    return code;
}
