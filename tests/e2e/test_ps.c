// SPDX-License-Identifier: Apache-2.0
// graft ps and graft top: servers found and asked, what they show while streams run, the terminal left as it was.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "e2e/served.h"
#include "support/support.h"

enum { STREAMS = 60 }; // some may have ended when they are looked at

static void a_moment(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

// The server of this test among all that run on the machine.
static json_t *own_server(const json_t *servers)
{
    size_t i;
    json_t *server;
    json_array_foreach(json_object_get(servers, "servers"), i, server)
    {
        char folder[256], address[300];
        ck_assert_ptr_nonnull(getcwd(folder, sizeof folder));
        snprintf(address, sizeof address, "unix:%s/op.sock", folder);
        if (strcmp(json_string_value(json_object_get(server, "address")), address) == 0) {
            return server;
        }
    }
    return NULL;
}

// Long answers of different adapters, not read.
static void open_streams(int fds[STREAMS])
{
    static const char *const models[] = {"base", "plain", "rslora"};
    for (int i = 0; i < STREAMS; i++) {
        char body[256];
        snprintf(
            body, sizeof body,
            "{\"model\": \"%s\", \"prompt\": \"Stream %d\", \"max_tokens\": 3000, \"stream\": true, \"temperature\": 0, " NO_END
            "}",
            models[i % 3], i);
        fds[i] = open_request("/v1/completions", body);
    }
}

static void close_streams(const int fds[STREAMS])
{
    for (int i = 0; i < STREAMS; i++) {
        close(fds[i]);
    }
}

START_TEST(ps_finds_the_servers_of_this_machine_and_what_they_do)
{
    int fds[STREAMS];
    served_begin("--adapter-dir '%s/golden/peft' -c 4096 -np 2 --memory 1G", GRAFT_TEST_SOURCE_DIR);
    ck_assert(strstr(command("ps --all")->out, "rslora") != NULL);
    open_streams(fds);
    ck_assert(metric_becomes("graft_engine_running", 2));
    json_t *all = command_json(command("ps --json -d 0.3")), *server = own_server(all);
    ck_assert_ptr_nonnull(server);
    ck_assert(json_is_integer(json_object_get(server, "pid")));
    ck_assert_str_eq(json_string_value(json_object_get(server, "model")), "base");
    ck_assert_int_eq(json_integer_value(json_object_get(server, "slots")), 2);
    ck_assert_int_gt(json_integer_value(json_object_get(server, "running")), 0); // one may just have ended
    size_t waiting = (size_t)json_integer_value(json_object_get(server, "waiting"));
    ck_assert(waiting > 2 && waiting <= STREAMS - 2);
    ck_assert(json_number_value(json_object_get(server, "answer_tokens_per_second")) > 0);
    const json_t *memory = json_object_get(server, "memory");
    ck_assert(json_integer_value(json_object_get(memory, "budget")) == 1 << 30);
    ck_assert(json_integer_value(json_object_get(memory, "used")) > 0 && json_integer_value(json_object_get(memory, "kv")) > 0);
    size_t i, running = 0, queued = 0;
    double rate = 0;
    json_t *row;
    json_array_foreach(json_object_get(server, "requests"), i, row)
    {
        const char *state = json_string_value(json_object_get(row, "state"));
        bool runs = strcmp(state, "answer") == 0 || strcmp(state, "prompt") == 0;
        running += runs;
        queued += strcmp(state, "queue") == 0;
        rate += json_number_value(json_object_get(row, "answer_tokens_per_second"));
    }
    ck_assert(running > 0 && running <= 2 && rate > 0);
    ck_assert(queued >= waiting - 1 && queued <= waiting + 1); // asked one after the other
    size_t resident = 0, cold = 0;
    json_array_foreach(json_object_get(server, "adapters"), i, row)
    {
        const char *name = json_string_value(json_object_get(row, "name")),
                   *residency = json_string_value(json_object_get(row, "residency"));
        if (strcmp(name, "plain") == 0 || strcmp(name, "rslora") == 0) {
            ck_assert_str_eq(residency, "device");
            ck_assert_uint_eq(strlen(json_string_value(json_object_get(row, "generation"))), 16);
            ck_assert_int_gt(json_integer_value(json_object_get(row, "running")), 0);
            ck_assert_int_gt(json_integer_value(json_object_get(row, "bytes")), 0);
            resident++;
        } else {
            cold += strcmp(residency, "none") == 0;
        }
    }
    ck_assert(resident == 2 && cold > 5);
    json_decref(all);
    const struct ran *r = command("ps unix:op.sock -d 0.2");
    ck_assert_code(r, 0);
    static const char *const shown[] = {"base on ",  " of 2 running", " waiting",  "of 1.0 GiB", "plain ",
                                        "resident ", "(base)",        "queue    ", "and "};
    for (i = 0; i < sizeof shown / sizeof *shown; i++) {
        ck_assert_msg(strstr(r->out, shown[i]) != NULL, "no \"%s\" in\n%s", shown[i], r->out);
    }
    ck_assert(strstr(r->out, "\033") == NULL);
    r = command("top --once --sort requests -d 0.2 unix:op.sock");
    ck_assert_code(r, 0);
    ck_assert(strstr(r->out, " of 2 running") && strstr(r->out, "(highest ") && !strstr(r->out, "\033"));
    close_streams(fds);
    served_end();
}
END_TEST

START_TEST(requests_are_shown_to_their_tenant_and_to_operators)
{
    static const char *const tenants[] = {"law", "money"};
    char keys[2][128];
    for (int i = 0; i < 2; i++) {
        const struct ran *r = command("key --keys keys.json --tenant %s", tenants[i]);
        ck_assert_code(r, 0);
        snprintf(keys[i], sizeof keys[i], "%.*s", (int)strcspn(r->out, "\n"), r->out);
    }
    served_begin("-c 4096 -np 1 --keys keys.json");
    int fds[2];
    for (int i = 0; i < 2; i++) {
        char header[256];
        snprintf(header, sizeof header, "Authorization: Bearer %s\r\n", keys[i]);
        fds[i] =
            open_request_with("/v1/completions", header,
                              "{\"prompt\": \"Hi\", \"max_tokens\": 3000, \"stream\": true, \"temperature\": 0, " NO_END "}");
    }
    for (int i = 0, n = 0; i < 250 && n != 2; i++, a_moment(20)) {
        json_t *all = command_json(command("ps --json -d 0 unix:op.sock"));
        n = (int)json_array_size(json_object_get(json_array_get(json_object_get(all, "servers"), 0), "requests"));
        json_decref(all);
        ck_assert_int_lt(i, 249);
    }
    for (int i = 0; i < 2; i++) {
        json_t *all = command_json(command("ps --json -d 0 127.0.0.1:%u --api-key %s", served_port(), keys[i]));
        const json_t *requests = json_object_get(json_array_get(json_object_get(all, "servers"), 0), "requests");
        ck_assert_uint_eq(json_array_size(requests), 1);
        ck_assert_str_eq(json_string_value(json_object_get(json_array_get(requests, 0), "tenant")), tenants[i]);
        json_decref(all);
    }
    const struct ran *r = command("ps 127.0.0.1:%u", served_port());
    ck_assert_code(r, 1);
    ck_assert_three_parts(r, "it wants a key");
    ck_assert_code(command("ps --json 127.0.0.1:%u", served_port()), 1);
    close(fds[0]);
    close(fds[1]);
    served_end();
}
END_TEST

START_TEST(servers_that_are_not_there_are_said)
{
    const struct ran *r = command("ps unix:/nowhere/op.sock");
    ck_assert_code(r, 1);
    ck_assert_three_parts(r, "/nowhere/op.sock");
    r = command("top --once unix:/nowhere/op.sock");
    ck_assert_code(r, 1);
    ck_assert_three_parts(r, "No such file");
    r = command("top unix:/nowhere/op.sock");
    ck_assert_code(r, 2);
    ck_assert_three_parts(r, "--once");
    ck_assert_code(command("ps ''"), 1);
}
END_TEST

// graft top on a terminal of its own; returns its pid, *terminal is the other end.
static pid_t start_top(int *terminal, const char *arguments)
{
    char line[512];
    *terminal = posix_openpt(O_RDWR | O_NOCTTY);
    ck_assert_int_ge(*terminal, 0);
    ck_assert_int_eq(grantpt(*terminal), 0);
    ck_assert_int_eq(unlockpt(*terminal), 0);
    ck_assert_int_eq(ioctl(*terminal, TIOCSWINSZ, &(struct winsize){.ws_row = 24, .ws_col = 80}), 0);
    const char *name = ptsname(*terminal);
    snprintf(line, sizeof line, "exec '%s' top %s", GRAFT_TEST_COMMAND, arguments);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        setsid();
        int fd = open(name, O_RDWR); // becomes the controlling one
        dup2(fd, 0);
        dup2(fd, 1);
        dup2(fd, 2);
        setenv("TERM", "xterm", 1);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    return pid;
}

// What it drew until `text` came, at most 10 seconds.
static const char *drawn(int terminal, const char *text)
{
    static char all[1 << 18];
    size_t used = 0;
    for (int i = 0; i < 500; i++) {
        struct pollfd in = {.fd = terminal, .events = POLLIN};
        ssize_t n = poll(&in, 1, 20) > 0 ? read(terminal, all + used, sizeof all - 1 - used) : 0;
        used += n > 0 ? (size_t)n : 0;
        all[used] = 0;
        if (strstr(all, text)) {
            return all;
        }
    }
    ck_abort_msg("\"%s\" was not drawn:\n%s", text, all);
    return NULL;
}

static int end_of(pid_t pid)
{
    int status = -1;
    for (int i = 0; i < 500 && waitpid(pid, &status, WNOHANG) == 0; i++) {
        a_moment(20);
    }
    return status;
}

static bool is_as_before(int terminal)
{
    struct termios now;
    ck_assert_int_eq(tcgetattr(terminal, &now), 0);
    return (now.c_lflag & ICANON) && (now.c_lflag & ECHO);
}

START_TEST(top_draws_resizes_and_leaves_the_terminal_as_it_was)
{
    static const char back[] = "\033[?25h\033[?1049l";
    int terminal;
    served_begin("--adapter-dir '%s/golden/peft' -c 256", GRAFT_TEST_SOURCE_DIR);
    pid_t pid = start_top(&terminal, "-d 0.2 unix:op.sock");
    drawn(terminal, "\033[?1049h");
    const char *frame = drawn(terminal, "q ends");
    ck_assert(strstr(frame, "(base)") && strstr(frame, "kv pages"));
    ck_assert(!is_as_before(terminal));
    ck_assert_int_eq(ioctl(terminal, TIOCSWINSZ, &(struct winsize){.ws_row = 10, .ws_col = 30}), 0);
    frame = drawn(terminal, "\033[10;1H"); // the foot is on the last row of the new size
    drawn(terminal, "\033[10;1H");
    frame = drawn(terminal, "\033[10;1H");
    const char *last = strstr(frame, "\033[H");
    for (const char *line = last ? last + 3 : frame; (line = strstr(line, "\r\n")) != NULL;) { // no row is wider than 30
        size_t width = 0;
        line += 2;
        for (const char *p = line; *p && *p != '\r' && *p != '\033'; p++) {
            width += ((unsigned char)*p & 0xc0) != 0x80;
        }
        ck_assert_uint_le(width, 30);
    }
    ck_assert_int_eq(write(terminal, "hss", 3), 3);
    drawn(terminal, "q quit");
    ck_assert_int_eq(write(terminal, "q", 1), 1);
    drawn(terminal, back);
    ck_assert_int_eq(end_of(pid), 0);
    ck_assert(is_as_before(terminal));
    close(terminal);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGABRT};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        pid = start_top(&terminal, "-d 0.2 unix:op.sock");
        drawn(terminal, "q ends");
        kill(pid, signals[i]);
        drawn(terminal, back);
        int status = end_of(pid);
        ck_assert_msg(signals[i] == SIGABRT  ? WIFSIGNALED(status)
                      : signals[i] == SIGINT ? WIFEXITED(status) && WEXITSTATUS(status) == 130
                                             : status == 0,
                      "signal %d: status %d", signals[i], status);
        ck_assert(is_as_before(terminal));
        close(terminal);
    }
    pid = start_top(&terminal, "-d 0.2 unix:op.sock");
    drawn(terminal, "q ends");
    served_end(); // it says so and goes on
    drawn(terminal, "op.sock: ");
    ck_assert_int_eq(write(terminal, "q", 1), 1);
    drawn(terminal, back);
    ck_assert_int_eq(end_of(pid), 0);
    close(terminal);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ps");
    TCase *c = tcase_create("ps");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, command_begin, command_end);
    tcase_add_test(c, ps_finds_the_servers_of_this_machine_and_what_they_do);
    tcase_add_test(c, requests_are_shown_to_their_tenant_and_to_operators);
    tcase_add_test(c, servers_that_are_not_there_are_said);
    tcase_add_test(c, top_draws_resizes_and_leaves_the_terminal_as_it_was);
    suite_add_tcase(suite, c);
    return graft_test_main(suite);
}
