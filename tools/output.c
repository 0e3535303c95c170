// SPDX-License-Identifier: Apache-2.0
#include "tools/output.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"
#include "tools/journal.h"
#include "tools/system.h"

bool colours(FILE *stream)
{
    const char *none = getenv("NO_COLOR");
    return !(none && *none) && system_takes_escapes(stream);
}

void error3(const char *what, const char *because, const char *try_format, ...)
{
    const char *red = colours(stderr) ? "\033[1;31m" : "", *plain = *red ? "\033[0m" : "";
    fflush(stdout);
    const char *p = journal_prefix(JOURNAL_ERROR);
    fprintf(stderr, "%sgraft: %serror:%s %s\n%s  because: %s\n%s  try: ", p, red, plain, what, p, because, p);
    va_list args;
    va_start(args, try_format);
    vfprintf(stderr, try_format, args);
    va_end(args);
    fputc('\n', stderr);
}

static const struct {
    enum graft_status status;
    int code;
    const char *advice;
} outcomes[] = {
    {GRAFT_E_ARGUMENT, EXIT_USAGE, "graft VERB -h shows what is accepted"},
    {GRAFT_E_IO, EXIT_BAD_FILE, "check the path and its permissions"},
    {GRAFT_E_FORMAT, EXIT_BAD_FILE, "fetch or make the file again; graft inspect FILE shows what can be read of a model"},
    {GRAFT_E_UNSUPPORTED, EXIT_BAD_FILE, "another file; graft inspect FILE shows what is in this one"},
    {GRAFT_E_MEMORY, EXIT_FAILED, "close other programs, or use a smaller context (-c)"},
    {GRAFT_E_BUDGET, EXIT_OVER_BUDGET, "a smaller context (-c), or a larger --memory; graft estimate shows the whole table"},
    {GRAFT_E_DEVICE, EXIT_NO_DEVICE,
     "graft devices lists what there is; graft doctor says what is missing; --device ref needs no driver"},
    {GRAFT_E_DEVICE_LOST, EXIT_NO_DEVICE, "once more; if it stays so, another --device"},
    {GRAFT_E_CONTEXT_FULL, EXIT_FAILED, "a larger context (-c)"},
    {GRAFT_E_CANCELLED, EXIT_INTERRUPTED, "once more"},
    {GRAFT_E_LIMIT, EXIT_FAILED, "smaller input"},
    {GRAFT_E_SIGNATURE, EXIT_REFUSED, "have it signed by whom --require-signed trusts; see docs/signing.md"},
    {GRAFT_E_NOT_FINITE, EXIT_FAILED, "without adapters, or smaller scales; --check-values for the model; another --device"},
    {GRAFT_E_INTERNAL, EXIT_FAILED, "once more with -v, and report what it says"},
};

int exit_code_of(enum graft_status status)
{
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
        if (outcomes[i].status == status) {
            return outcomes[i].code;
        }
    }
    return status == GRAFT_OK ? EXIT_GOOD : EXIT_FAILED;
}

int error_status(enum graft_status status, const char *what)
{
    const char *advice = "once more with -v";
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
        if (outcomes[i].status == status) {
            advice = outcomes[i].advice;
        }
    }
    const char *detail = graft_last_error();
    error3(what, *detail ? detail : graft_status_text(status), "%s", advice);
    return exit_code_of(status);
}

// A line of standard error: all of it at once, so that lines of several threads do not mix.
GRAFT_PRINTF(2, 0) static void say(int priority, const char *format, va_list args)
{
    char line[4096];
    fflush(stdout);
    int n = vsnprintf(line, sizeof line, format, args);
    if (n >= 0) {
        fprintf(stderr, "%sgraft: %s\n", journal_prefix(priority), line);
    }
}

void note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(strncmp(format, "error: ", 7) == 0     ? JOURNAL_ERROR
        : strncmp(format, "warning: ", 9) == 0 ? JOURNAL_WARNING
                                               : JOURNAL_INFO,
        format, args);
    va_end(args);
}

GRAFT_PRINTF(2, 3) static void say_at(int priority, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(priority, format, args);
    va_end(args);
}

void log_line(void *user, enum graft_log_level level, const char *text)
{
    (void)user;
    say_at(level <= GRAFT_LOG_ERROR  ? JOURNAL_ERROR
           : level == GRAFT_LOG_WARN ? JOURNAL_WARNING
                                     : JOURNAL_INFO,
           "%s%s",
           level <= GRAFT_LOG_ERROR  ? "error: "
           : level == GRAFT_LOG_WARN ? "warning: "
                                     : "",
           text);
}

void progress_begin(struct progress *progress, const char *what)
{
    *progress = (struct progress){.what = what, .begin_ns = graft_clock_ns()};
}

void progress_show(struct progress *progress, uint64_t done, uint64_t total, const char *suffix)
{
    enum { WIDTH = 24 };
    uint64_t now = graft_clock_ns();
    if (now - progress->begin_ns < 300000000u || now - progress->drawn_ns < 100000000u || !system_is_terminal(stderr)) {
        return;
    }
    double share = total ? (double)done / (double)total : 0;
    int filled = (int)(share * WIDTH);
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++) {
        bar[i] = i < filled ? '#' : '.';
    }
    bar[WIDTH] = 0;
    fprintf(stderr, "\r%s [%s] %3.0f %% %s\033[K", progress->what, bar, 100 * share, suffix ? suffix : "");
    fflush(stderr);
    progress->drawn_ns = now;
    progress->drawn = true;
}

void progress_end(struct progress *progress)
{
    if (progress->drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    progress->drawn = false;
}

struct bytes_text bytes_text(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    struct bytes_text out;
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(out.text, sizeof out.text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

int print_json(json_t *value)
{
    int failed = json_dumpf(value, stdout, JSON_INDENT(1) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    json_decref(value);
    if (failed || fputc('\n', stdout) == EOF || fflush(stdout) != 0) {
        error3("the JSON could not be written", "standard output does not take it", "another place for it");
        return EXIT_FAILED;
    }
    return EXIT_GOOD;
}

// Length of the well-formed UTF-8 character at p, or 0 (RFC 3629).
static size_t character(const unsigned char *p, size_t left)
{
    size_t n = p[0] < 0x80                    ? 1
               : p[0] >= 0xc2 && p[0] <= 0xdf ? 2
               : (p[0] & 0xf0) == 0xe0        ? 3
               : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                              : 0;
    if (n == 0 || n > left) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool outside = (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf4 && p[1] >= 0x90);
    return overlong || outside ? 0 : n;
}

json_t *json_text(const char *text, size_t length)
{
    char *clean = try_memory(length * 3 + 1, 1);
    size_t used = 0;
    if (!clean) {
        return NULL;
    }
    for (size_t i = 0; i < length;) {
        size_t n = character((const unsigned char *)text + i, length - i);
        if (n == 0) {
            memcpy(clean + used, "\xef\xbf\xbd", 3);
            used += 3;
            i++;
            continue;
        }
        memcpy(clean + used, text + i, n);
        used += n;
        i += n;
    }
    json_t *out = json_stringn(clean, used);
    free(clean);
    return out;
}

json_t *json_memory(const struct graft_memory_use *use)
{
    json_t *out = json_object();
    json_object_set_new(out, "budget", use->budget_bytes ? json_integer((json_int_t)use->budget_bytes) : json_null());
    json_object_set_new(out, "used", json_integer((json_int_t)use->used_bytes));
    json_object_set_new(out, "peak", json_integer((json_int_t)use->peak_bytes));
    for (int c = 0; c < GRAFT_MEM_CLASSES; c++) {
        json_object_set_new(out, graft_mem_class_name((enum graft_mem_class)c), json_integer((json_int_t)use->class_bytes[c]));
    }
    json_object_set_new(out, "allocations", json_integer((json_int_t)use->allocations));
    return out;
}

void print_memory(FILE *stream, const struct graft_memory_use *use)
{
    for (int c = 0; c < GRAFT_MEM_CLASSES; c++) {
        fprintf(stream, "  %-10s %12s\n", graft_mem_class_name((enum graft_mem_class)c), bytes_text(use->class_bytes[c]).text);
    }
    fprintf(stream, "  %-10s %12s  (highest so far: %s)\n", "in all", bytes_text(use->used_bytes).text,
            bytes_text(use->peak_bytes).text);
    if (use->budget_bytes) {
        uint64_t left = use->budget_bytes > use->used_bytes ? use->budget_bytes - use->used_bytes : 0;
        fprintf(stream, "  %-10s %12s  (%s free)\n", "budget", bytes_text(use->budget_bytes).text, bytes_text(left).text);
    }
}

void *try_memory(size_t count, size_t item)
{
    return calloc(count ? count : 1, item ? item : 1);
}

void *get_memory(size_t count, size_t item)
{
    void *memory = try_memory(count, item);
    if (!memory) {
        error3("there is no memory left", "the system refused a small allocation", "close other programs");
        exit(EXIT_FAILED);
    }
    return memory;
}

void *grow_memory(void *memory, size_t count, size_t item)
{
    void *grown = count <= SIZE_MAX / item ? realloc(memory, count * item) : NULL;
    if (!grown) {
        error3("there is no memory left", "the system refused a small allocation", "close other programs");
        exit(EXIT_FAILED);
    }
    return grown;
}
