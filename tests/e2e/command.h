// SPDX-License-Identifier: Apache-2.0
// Runs the graft command as a user would: a shell line in, exit code and both outputs back.
#ifndef GRAFT_TESTS_COMMAND_H
#define GRAFT_TESTS_COMMAND_H

#include <check.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct ran {
    int code;
    char out[262144], err[16384];
    size_t out_length;
};

// An empty folder that stands for the user's home: data, state and cache folders are below it. Also made the working directory.
void command_begin(void);
void command_end(void);
// Run "graft " followed by the arguments as printf makes them, in a shell, without a terminal. Standard input is empty unless
// the line redirects it. The result is valid until the next run.
__attribute__((format(printf, 1, 2))) const struct ran *command(const char *format, ...);
// The output of the last run as JSON; fails the test if it is none. To be released with json_decref.
json_t *command_json(const struct ran *ran);
// Write a file in the working directory.
void command_file(const char *name, const char *text);

// The command must have ended with this code; shows what it said otherwise.
#define ck_assert_code(ran, expected)                                                                                          \
    ck_assert_msg((ran)->code == (expected), "exit code %d, expected %d\n%s%s", (ran)->code, (expected), (ran)->out, (ran)->err)
// Standard error must be an error in three parts and contain the text.
#define ck_assert_three_parts(ran, text)                                                                                       \
    ck_assert_msg(strncmp((ran)->err, "graft: error: ", 14) == 0 && strstr((ran)->err, "\n  because: ") &&                     \
                      strstr((ran)->err, "\n  try: ") && strstr((ran)->err, (text)),                                           \
                  "not an error in three parts with \"%s\":\n%s", (text), (ran)->err)

#endif
