// SPDX-License-Identifier: Apache-2.0
#include "e2e/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char home[64];
static struct ran last;

void command_begin(void)
{
    snprintf(home, sizeof home, "/tmp/graft-e2e-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(home));
    ck_assert_int_eq(chdir(home), 0);
    setenv("HOME", home, 1);
    unsetenv("XDG_DATA_HOME");
    unsetenv("XDG_STATE_HOME");
    unsetenv("XDG_CACHE_HOME");
}

void command_end(void)
{
    char line[128];
    snprintf(line, sizeof line, "rm -rf '%s'", home);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(system(line), 0);
}

static size_t slurp(const char *name, char *out, size_t bytes)
{
    FILE *file = fopen(name, "rb");
    size_t length = file ? fread(out, 1, bytes - 1, file) : 0;
    out[length] = 0;
    if (file) {
        fclose(file);
    }
    return length;
}

const struct ran *command(const char *format, ...)
{
    char line[8192];
    int used = snprintf(line, sizeof line, "'%s' ", GRAFT_TEST_COMMAND);
    va_list args;
    va_start(args, format);
    used += vsnprintf(line + used, sizeof line - (size_t)used, format, args);
    va_end(args);
    ck_assert_uint_lt((size_t)used + 64, sizeof line);
    char whole[8400];
    snprintf(whole, sizeof whole, "{ %s ; } >%s/.out 2>%s/.err </dev/null", line, home, home);
    int status = system(whole);
    memset(&last, 0, sizeof last);
    last.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    char name[96];
    snprintf(name, sizeof name, "%s/.out", home);
    last.out_length = slurp(name, last.out, sizeof last.out);
    snprintf(name, sizeof name, "%s/.err", home);
    slurp(name, last.err, sizeof last.err);
    return &last;
}

json_t *command_json(const struct ran *ran)
{
    json_error_t error;
    json_t *value = json_loadb(ran->out, ran->out_length, JSON_DECODE_ANY, &error);
    ck_assert_msg(value != NULL, "no JSON: %s\n%s%s", error.text, ran->out, ran->err);
    return value;
}

void command_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
}
