// SPDX-License-Identifier: Apache-2.0
// The access log to syslog and to journald: what a daemon at the other end of the socket gets, also when it is slow or anew.
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/time.h>
#include <unistd.h>

#include "platform/plat.h"
#include "support/support.h"
#include "tools/serve/access_log.h"

static struct graft_ctx *ctx;
static char place[100];

static int daemon_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)(const void *)&address, sizeof address), 0);
    struct timeval limit = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static void write_line(struct access_log *log, const char *prompt)
{
    static const struct http_log_entry entry = {.adapter = "legal", .prompt_tokens = 3, .answer_tokens = 4};
    const struct access_line line = {.wall_ms = 1764000000123,
                                     .id = "req-1",
                                     .peer = "127.0.0.1:5",
                                     .key = "k-1",
                                     .tenant = "law",
                                     .method = "POST",
                                     .path = "/v1/completions",
                                     .outcome = "stop",
                                     .status = 200,
                                     .entry = &entry,
                                     .prompt = prompt};
    access_log_write(log, &line);
}

static ssize_t got_by(int fd, char *out, size_t room)
{
    ssize_t n = recv(fd, out, room - 1, 0);
    out[n > 0 ? n : 0] = 0;
    return n;
}

static void setup(void)
{
    ctx = graft_test_ctx(NULL, 0);
    snprintf(place, sizeof place, "/tmp/graft-log-%d.sock", (int)getpid());
}

static void teardown(void)
{
    unlink(place);
    graft_ctx_destroy(&ctx);
}

START_TEST(syslog_gets_a_line_as_syslog_writes_it)
{
    char got[20000], *end;
    struct access_log *log;
    int fd = daemon_at(place);
    ck_assert_ok(access_log_open(ctx, &log, HTTP_LOG_SYSLOG, place, 0, 0));
    write_line(log, NULL);
    ck_assert_int_gt(got_by(fd, got, sizeof got), 0);
    ck_assert_msg(strncmp(got, "<30>", 4) == 0, "%s", got); // daemon.info
    ck_assert(strchr("JFMASOND", got[4]) && got[7] == ' ' && got[13] == ':' && got[16] == ':' && got[19] == ' ');
    ck_assert_int_eq(strncmp(got + 20, "graft[", 6), 0);
    ck_assert_int_eq(strtol(got + 26, &end, 10), getpid());
    ck_assert_int_eq(strncmp(end, "]: {\"time\":\"2025-", 17), 0);
    ck_assert_ptr_nonnull(strstr(got, "\"adapter\":\"legal\""));
    ck_assert(got[strlen(got) - 1] == '}');
    json_t *value = json_loads(end + 3, 0, NULL);
    ck_assert_ptr_nonnull(value);
    json_decref(value);
    access_log_close(&log);
    close(fd);
}
END_TEST

START_TEST(journald_gets_fields)
{
    static const char *const fields[] = {"PRIORITY=6\n",         "SYSLOG_IDENTIFIER=graft\n", "GRAFT_REQUEST=req-1\n",
                                         "GRAFT_STATUS=200\n",   "GRAFT_OUTCOME=stop\n",      "GRAFT_TENANT=law\n",
                                         "GRAFT_ADAPTER=legal\n"};
    char got[20000];
    struct access_log *log;
    int fd = daemon_at(place);
    ck_assert_ok(access_log_open(ctx, &log, HTTP_LOG_JOURNAL, place, 0, 0));
    write_line(log, "two\nlines");
    ck_assert_int_gt(got_by(fd, got, sizeof got), 0);
    ck_assert_int_eq(strncmp(got, "MESSAGE={\"time\":", 16), 0);
    ck_assert_ptr_nonnull(strstr(got, "\"prompt\":\"two\\u000alines\"}\nPRIORITY"));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        ck_assert_msg(strstr(got, fields[i]) != NULL, "no %s in %s", fields[i], got);
    }
    access_log_close(&log);
    close(fd);
}
END_TEST

START_TEST(a_daemon_that_starts_anew_is_found_again)
{
    char got[20000];
    struct access_log *log;
    int fd = daemon_at(place);
    ck_assert_ok(access_log_open(ctx, &log, HTTP_LOG_SYSLOG, place, 0, 0));
    close(fd);
    unlink(place);
    write_line(log, NULL);
    ck_assert_uint_eq(access_log_lost(log), 1); // nobody is there
    fd = daemon_at(place);
    write_line(log, NULL);
    ck_assert_int_gt(got_by(fd, got, sizeof got), 0);
    ck_assert_uint_eq(access_log_lost(log), 1);
    ck_assert_ok(access_log_reopen(log));
    access_log_close(&log);
    close(fd);
}
END_TEST

START_TEST(a_daemon_that_does_not_read_loses_lines_and_blocks_nobody)
{
    struct access_log *log;
    int fd = daemon_at(place);
    ck_assert_ok(access_log_open(ctx, &log, HTTP_LOG_JOURNAL, place, 0, 0));
    uint64_t begin = graft_clock_ns();
    for (int i = 0; i < 3000; i++) {
        write_line(log, NULL);
    }
    ck_assert_uint_gt(access_log_lost(log), 0);
    ck_assert_uint_lt(graft_clock_ns() - begin, 3000000000u);
    access_log_close(&log);
    close(fd);
}
END_TEST

START_TEST(without_a_daemon_it_does_not_open)
{
    struct access_log *log;
    ck_assert_status(access_log_open(ctx, &log, HTTP_LOG_JOURNAL, "/nowhere/socket", 0, 0), GRAFT_E_IO);
    ck_assert_error_has("journald (/nowhere/socket)");
    ck_assert_ptr_null(log);
    ck_assert_status(access_log_open(ctx, &log, HTTP_LOG_SYSLOG, "/nowhere/socket", 0, 0), GRAFT_E_IO);
    ck_assert_error_has("syslog");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *c = tcase_create("log");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, syslog_gets_a_line_as_syslog_writes_it);
    tcase_add_test(c, journald_gets_fields);
    tcase_add_test(c, a_daemon_that_starts_anew_is_found_again);
    tcase_add_test(c, a_daemon_that_does_not_read_loses_lines_and_blocks_nobody);
    tcase_add_test(c, without_a_daemon_it_does_not_open);
    suite_add_tcase(suite, c);
    return graft_test_main(suite);
}
