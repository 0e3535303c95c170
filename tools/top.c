// SPDX-License-Identifier: Apache-2.0
// graft top: one server's state, again and again, on a terminal.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "platform/plat.h"
#include "tools/out.h"
#include "tools/status.h"
#include "tools/terminal.h"
#include "tools/tool.h"

enum { HISTORY = 60 };

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
    bool help, ended; // ended: with a key
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
        if (now || terminal_ends()) {
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
static void print_history(struct out *out, const struct top *top)
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
    out_text(out, "          ");
    for (unsigned i = top->n_rates; i-- > 0;) {
        int level = most > 0 ? (int)ceil(top->rates[i] / most * 8) : 0;
        out_text(out, top->view.utf8 ? blocks[level] : ascii[level]);
    }
    out_format(out, "  (highest %.1f)\n", most);
}

static void print_frame(struct out *out, const struct top *top)
{
    struct out text = {0};
    if (top->status) {
        status_print(&text, top->status, &top->view);
    }
    const char *rest = text.data ? text.data : "", *line = strstr(rest, "\ntokens/s");
    line = line ? strchr(line + 1, '\n') : NULL;
    if (*top->why) {
        out_format(out, "%s\n", top->why);
    }
    if (line) { // the bars stand under the rate
        out_bytes(out, rest, (size_t)(line + 1 - rest));
        print_history(out, top);
        out_text(out, line + 1);
    }
    out_free(&text);
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
static void print_foot(struct out *out, const struct top *top)
{
    static const char keys[] = "q quit  s sort  r reverse  i idle  j k scroll  n next server  + - interval";
    if (top->help) {
        out_text(out, keys);
    } else {
        out_format(out, "by %s%s, every %.1f s; h shows the keys, q ends", status_sort_names[top->view.sort],
                   top->view.reverse ? ", reversed" : "", top->interval);
    }
}

static void draw(const struct top *top)
{
    unsigned rows, columns;
    struct out text = {0};
    print_foot(&text, top);
    out_text(&text, "\n");
    print_frame(&text, top);
    const char *foot = text.data ? text.data : "", *line = foot + strcspn(foot, "\n");
    line += *line == '\n';
    terminal_size(&rows, &columns);
    fputs("\033[H", stdout);
    for (unsigned row = 1; *line && row < rows; row++) {
        size_t n = strcspn(line, "\n");
        fwrite(line, 1, clip(line, n, columns), stdout);
        fputs("\033[0m\033[K\r\n", stdout);
        line += n + (line[n] == '\n');
    }
    printf("\033[J\033[%u;1H", rows);
    fwrite(foot, 1, clip(foot, strcspn(foot, "\n"), columns), stdout);
    fflush(stdout);
    out_free(&text);
}

// ---- keys ----

static void on_key(struct top *top, int key, uint64_t *next_ns)
{
    switch (key) {
    case 'q':
        top->ended = true;
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
    case KEY_DOWN:
        top->view.skip++;
        break;
    case 'k':
    case KEY_UP:
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

// Keys until it is time to look again or one has come; false: there will be no more.
static bool wait_for_keys(struct top *top, uint64_t *next_ns)
{
    uint64_t now = graft_clock_ns();
    int key = terminal_key(*next_ns > now ? (unsigned)((*next_ns - now) / 1000000u) + 1 : 0);
    for (; key != KEY_NONE && key != KEY_LOST && !top->ended; key = terminal_key(0)) {
        on_key(top, key, next_ns);
    }
    return key != KEY_LOST;
}

static void watch(struct top *top)
{
    uint64_t next_ns = 0;
    bool going = true;
    while (going && !top->ended && terminal_goes_on()) {
        if (graft_clock_ns() >= next_ns) {
            next_ns = graft_clock_ns() + (uint64_t)(top->interval * 1e9);
            look(top);
        }
        draw(top);
        going = wait_for_keys(top, &next_ns);
    }
    terminal_give_back();
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
    struct out text = {0};
    print_frame(&text, top);
    fputs(text.data ? text.data : "", stdout);
    out_free(&text);
    return EXIT_GOOD;
}

int verb_TOP(const struct options *options)
{
    struct top top = {.options = options, .interval = options->interval > 0 ? options->interval : 2};
    top.view.utf8 = terminal_utf8();
    top.view.idle = options->all;
    for (int i = 0; i < SORTS; i++) {
        top.view.sort = strcmp(options->sort, status_sort_names[i]) == 0 ? (enum status_sort)i : top.view.sort;
    }
    int code = EXIT_GOOD;
    if (options->once) {
        code = once(&top);
    } else {
        setvbuf(stdout, NULL, _IOFBF, 1 << 16); // a frame goes out in one piece
        if (!terminal_take()) {
            return error_usage("there is no terminal to draw on", "standard input or output is not one", "graft top --once");
        }
        top.view.bold = colours(stdout);
        watch(&top);
        code = terminal_interrupted() ? EXIT_INTERRUPTED : EXIT_GOOD;
    }
    json_decref(top.status);
    return code;
}
