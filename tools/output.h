// SPDX-License-Identifier: Apache-2.0
// What all verbs print alike: errors in three parts, notes and progress on standard error, JSON on standard output, exit codes.
#ifndef GRAFT_TOOLS_OUTPUT_H
#define GRAFT_TOOLS_OUTPUT_H

#include <jansson.h>
#include <stdio.h>

#include "graft/common.h"

enum exit_code {
    EXIT_GOOD = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_BAD_FILE = 3,
    EXIT_OVER_BUDGET = 4,
    EXIT_NO_DEVICE = 5,
    EXIT_REFUSED = 6, // by a policy: not signed
    EXIT_FILE_LOST = 74,   // of graft serve: the model's file was cut while it was in use; as sysexits.h has it
    EXIT_INTERRUPTED = 130 // as shells say it: 128 + SIGINT
};

// "graft: error: WHAT / because: ... / try: ..." on standard error.
GRAFT_PRINTF(3, 4) void error3(const char *what, const char *because, const char *try_format, ...);
// The same for a failed call of the library: because is graft_last_error(), try follows from the status. Returns the exit code.
int error_status(enum graft_status status, const char *what);
// The same as error3 for a mistake in the command line; its value is EXIT_USAGE.
#define error_usage(...) (error3(__VA_ARGS__), EXIT_USAGE)
int exit_code_of(enum graft_status status);

// One line on standard error, "graft: ...".
GRAFT_PRINTF(1, 2) void note(const char *format, ...);
// Log sink for the library.
void log_line(void *user, enum graft_log_level level, const char *text);

// True if escape sequences may be written there: a terminal, no NO_COLOR, not a dumb one.
bool colours(FILE *stream);

// A bar on standard error, when that is a terminal and the work takes longer than a moment. Redrawn at most ten times a second.
struct progress {
    const char *what;
    uint64_t begin_ns, drawn_ns;
    bool drawn;
};
void progress_begin(struct progress *progress, const char *what);
void progress_show(struct progress *progress, uint64_t done, uint64_t total, const char *suffix);
void progress_end(struct progress *progress);

// "142.3 MiB". Returns the buffer.
struct bytes_text {
    char text[24];
};
struct bytes_text bytes_text(uint64_t bytes);

// Print a JSON value with a line break behind and drop the reference. Returns EXIT_GOOD, or EXIT_FAILED when it cannot be
// written.
int print_json(json_t *value);
// A JSON string of bytes that may not be UTF-8: what is not becomes U+FFFD.
json_t *json_text(const char *text, size_t length); // NULL: no memory
// {"budget": ..., "used": ..., "peak": ..., "weights": ..., ...} of a ledger.
json_t *json_memory(const struct graft_memory_use *use);
// The ledger as a table.
void print_memory(FILE *stream, const struct graft_memory_use *use);

// Memory of the command itself: ends the program when there is none. Sizes come from the command's own small needs.
void *get_memory(size_t count, size_t item);
// The same, NULL if there is none: for a server, which ends one request then and not itself.
void *try_memory(size_t count, size_t item);
void *grow_memory(void *memory, size_t count, size_t item);

#endif
