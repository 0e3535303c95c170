// SPDX-License-Identifier: Apache-2.0
// Faults of files while graft serve runs, by the numbers of the list of faults: what must happen, and that the rest goes on.
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "e2e/served.h"
#include "support/support.h"

static const char greedy[] = "{\"prompt\": \"a b c\", \"max_tokens\": 12, \"temperature\": 0}";

static void a_moment(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static bool said(const char *file, const char *text)
{
    char all[65536];
    FILE *f = fopen(file, "rb");
    size_t n = f ? fread(all, 1, sizeof all - 1, f) : 0;
    all[n] = 0;
    if (f) {
        fclose(f);
    }
    return strstr(all, text) != NULL;
}

// The server says it within 5 seconds.
static void ck_says(const char *text)
{
    bool found = false;
    for (int i = 0; i < 250 && !found; i++, a_moment(20)) {
        found = said("served.err", text);
    }
    if (!found) {
        ck_assert_int_eq(system("cat served.err >&2"), 0);
    }
    ck_assert_msg(found, "\"%s\" was not said", text);
}

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ck_assert_msg(system(line) == 0, "%s", line);
}

// The text of an answer, in a static buffer.
static const char *answer_of(const char *body)
{
    static char text[1024];
    json_t *answer = post_json("/v1/completions", body, 200);
    snprintf(text, sizeof text, "%s",
             json_string_value(json_object_get(json_array_get(json_object_get(answer, "choices"), 0), "text")));
    json_decref(answer);
    return text;
}

// What a stream sends until it ends.
static void read_all(int fd, char *out, size_t room)
{
    size_t n = 0;
    for (ssize_t k = 1; k > 0 && n + 1 < room; n += k > 0 ? (size_t)k : 0) {
        k = recv(fd, out + n, room - 1 - n, 0);
    }
    out[n] = 0;
    close(fd);
}

// A copy of the model that may be spoilt.
static void begin_on_copy(const char *more)
{
    shell("cp '%s/golden/peft/base.gguf' own.gguf", GRAFT_TEST_SOURCE_DIR);
    served_begin("-m own.gguf -c 4096 %s", more);
}

START_TEST(F10_a_base_file_cut_under_a_stream_ends_it_with_an_error)
{
    static char all[SERVED_BODY];
    begin_on_copy("");
    int fd = open_request("/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 4000, \"stream\": true, " NO_END "}");
    ck_assert_int_gt(recv(fd, all, 64, 0), 0); // it has begun
    ck_assert_int_eq(truncate("own.gguf", 4096), 0);
    read_all(fd, all, sizeof all);
    ck_assert_msg(strstr(all, "\"code\":\"model_file_damaged\"") && strstr(all, "own.gguf") && !strstr(all, "[DONE]"), "%s",
                  all + (strlen(all) > 600 ? strlen(all) - 600 : 0));
    ck_assert_int_eq(served_wait(), 74);
    ck_says("own.gguf: was cut short");
}
END_TEST

START_TEST(F10_a_base_file_cut_between_requests_is_found_by_the_next)
{
    begin_on_copy("--drain 2");
    answer_of(greedy);
    ck_assert_int_eq(truncate("own.gguf", 4096), 0);
    const struct reply *r = ask_server("POST", "/v1/completions", "", "{\"prompt\": \"b c d\", \"max_tokens\": 2}");
    ck_assert_msg(r->status == 503 && strstr(r->body, "model_file_damaged"), "%d %s", r->status, r->body);
    ck_assert_int_eq(served_wait(), 74);
}
END_TEST

START_TEST(F11_a_base_file_replaced_by_rename_is_served_on)
{
    char before[1024];
    begin_on_copy("");
    snprintf(before, sizeof before, "%s", answer_of(greedy));
    command_file("other", "not a model");
    ck_assert_int_eq(rename("other", "own.gguf"), 0);
    ck_assert_str_eq(answer_of(greedy), before);
    served_end();
}
END_TEST

// The digest that a PUT of the adapter x answers, or "" when it was refused; *status.
static const char *put_digest(int *status)
{
    static char digest[80];
    const struct reply *r = ask_operator("PUT", "/v1/adapters/x", "{\"path\": \"x\"}");
    json_t *value = json_loadb(r->body, r->length, 0, NULL);
    const char *text = json_string_value(json_object_get(value, "digest"));
    snprintf(digest, sizeof digest, "%s", r->status == 200 && text ? text : "");
    *status = r->status;
    json_decref(value);
    return digest;
}

// A writer changes a byte at the front, then one at the end, in turns of three values, all the time. What it leaves on the disk
// between the two is (new, old); (old, new) is only seen by who reads while it writes: that must be refused.
START_TEST(F11_an_adapter_written_over_while_it_is_read_is_refused)
{
    static const char states[6][2] = {{0, 0}, {1, 0}, {1, 1}, {2, 1}, {2, 2}, {0, 2}};
    char digests[6][80];
    int status, good = 0;
    shell("mkdir -p d && cp -r '%s/golden/peft/rank256' d/x", GRAFT_TEST_SOURCE_DIR);
    shell("cat > w.py <<'E'\nimport sys, time\nf = open('d/x/adapter_model.safetensors', 'r+b', buffering=0)\n"
          "c = open('d/x/adapter_model.safetensors', 'rb').read()\n"
          "def put(at, v): f.seek(at); f.write(bytes([c[at] & ~3 | v]))\n"
          "if len(sys.argv) > 1: put(20000, int(sys.argv[1])); put(len(c) - 100, int(sys.argv[2])); sys.exit()\n"
          "open('ready', 'w')\nend = time.time() + 60\ni = 0\n"
          "while time.time() < end:\n i += 1\n put(20000, i %% 3); put(len(c) - 100, i %% 3)\n"
          " if i %% 100000 == 0: time.sleep(0.08)\nE");
    served_begin_under("env LD_PRELOAD='" GRAFT_TEST_SLOW_READ "'", "--adapter-dir d -c 512");
    for (int i = 0; i < 6; i++) {
        shell("python3 w.py %d %d", states[i][0], states[i][1]);
        snprintf(digests[i], sizeof digests[i], "%s", put_digest(&status));
        ck_assert_int_eq(status, 200);
    }
    pid_t writer = fork();
    ck_assert_int_ge(writer, 0);
    if (writer == 0) {
        execlp("python3", "python3", "w.py", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 250 && access("ready", F_OK) != 0; i++) {
        a_moment(20);
    }
    for (int i = 0; i < 40; i++) {
        const char *digest = put_digest(&status);
        bool known = false;
        for (int k = 0; k < 6; k++) {
            known = known || strcmp(digest, digests[k]) == 0;
        }
        good += status == 200;
        if ((status == 200 && !known) || (status != 200 && status != 503)) {
            kill(writer, SIGKILL);
        }
        ck_assert_msg(status == 200 || status == 503, "status %d", status);
        ck_assert_msg(status != 200 || known, "what was never on the disk was loaded: %s", digest);
        answer_of("{\"model\": \"x\", \"prompt\": \"a\", \"max_tokens\": 1}"); // what was there serves on
    }
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    printf("%d of 40 loads beside the writer were whole\n", good);
    served_end();
}
END_TEST

START_TEST(F11_an_adapter_whose_folder_is_gone_is_refused_and_the_others_serve_on)
{
    shell("mkdir d && cp -r '%s/golden/peft/plain' d/one && cp -r '%s/golden/peft/dora' d/two", GRAFT_TEST_SOURCE_DIR,
          GRAFT_TEST_SOURCE_DIR);
    served_begin("--adapter-dir d -c 512 --warm one");
    shell("mv d gone");
    answer_of("{\"model\": \"one\", \"prompt\": \"a\", \"max_tokens\": 2}"); // resident: needs no file
    json_t *error = post_json("/v1/completions", "{\"model\": \"two\", \"prompt\": \"a\", \"max_tokens\": 2}", 503);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(error, "error"), "code")), "adapter_file_not_found");
    json_decref(error);
    kill(served_pid(), SIGHUP);
    ck_says("has 0 new ones");
    shell("mv gone d");
    answer_of("{\"model\": \"two\", \"prompt\": \"a\", \"max_tokens\": 2}");
    served_end();
}
END_TEST

START_TEST(F22_a_full_disk_loses_lines_of_the_log_and_no_request)
{
    served_begin("--access-log /dev/full -c 512");
    for (int i = 0; i < 5; i++) {
        answer_of(greedy);
    }
    ck_assert(metric("graft_access_log_lost_total") >= 4); // the last line may not have been written yet
    served_end();
}
END_TEST

START_TEST(F4_files_that_may_not_grow_are_errors_and_not_the_end)
{
    shell("cat > small.sh <<'E'\nulimit -f 2\nexec \"$@\"\nE");
    served_begin_under("sh small.sh", "--access-log access.log -c 512");
    for (int i = 0; i < 12; i++) {
        answer_of(greedy);
    }
    ck_assert(metric("graft_access_log_lost_total") > 0); // SIGXFSZ would have ended it
    served_end();
}
END_TEST

START_TEST(F4_a_cache_that_cannot_be_written_is_no_reason_not_to_serve)
{
    shell("printf x > file");
    setenv("XDG_CACHE_HOME", "/proc/none", 1);
    setenv("XDG_STATE_HOME", "file/none", 1);
    served_begin("-c 512");
    answer_of(greedy);
    served_end();
    unsetenv("XDG_CACHE_HOME");
    unsetenv("XDG_STATE_HOME");
}
END_TEST

static int status_with(const char *key)
{
    char header[256];
    snprintf(header, sizeof header, "Authorization: Bearer %s\r\n", key);
    return ask_server("POST", "/v1/completions", header, greedy)->status;
}

START_TEST(F5_a_keys_file_that_vanished_or_broke_leaves_the_keys_as_they_were)
{
    char keys[2][128];
    for (int i = 0; i < 2; i++) {
        const struct ran *r = command("key --keys keys%d.json --tenant t", i);
        snprintf(keys[i], sizeof keys[i], "%.*s", (int)strcspn(r->out, "\n"), r->out);
    }
    shell("cp -p keys0.json keys.json");
    served_begin("--keys keys.json -c 512");
    ck_assert(status_with(keys[0]) == 200 && status_with(keys[1]) == 401);
    ck_assert_int_eq(unlink("keys.json"), 0);
    kill(served_pid(), SIGHUP);
    ck_says("the keys stay as they were");
    ck_assert(status_with(keys[0]) == 200 && status_with(keys[1]) == 401);
    command_file("keys.json", "{\"version\": 1, \"keys\": [{\"id\"");
    kill(served_pid(), SIGHUP);
    ck_says("keys.json: ");
    ck_assert(status_with(keys[0]) == 200);
    shell("cp -p keys1.json keys.json");
    kill(served_pid(), SIGHUP);
    for (int i = 0; i < 250 && status_with(keys[1]) != 200; i++) {
        a_moment(20);
    }
    ck_assert(status_with(keys[0]) == 401 && status_with(keys[1]) == 200);
    served_end();
}
END_TEST

START_TEST(F5_a_log_that_cannot_be_opened_again_is_written_on)
{
    shell("mkdir logs");
    served_begin("--access-log logs/a.log -c 512");
    answer_of(greedy);
    shell("mv logs moved");
    kill(served_pid(), SIGHUP);
    ck_says("the old one is written on");
    answer_of(greedy);
    shell("for i in $(seq 50); do test $(grep -c v1/completions moved/a.log) -eq 2 && exit; sleep 0.1; done; exit 1");
    ck_assert(metric("graft_access_log_lost_total") == 0);
    shell("mkdir logs");
    kill(served_pid(), SIGHUP);
    for (int i = 0; i < 250 && access("logs/a.log", F_OK) != 0; i++) {
        a_moment(20);
    }
    answer_of(greedy);
    shell("for i in $(seq 50); do test $(grep -c v1/completions logs/a.log) -eq 1 && exit; sleep 0.1; done; exit 1");
    served_end();
}
END_TEST

// Whoever reads what the server says may end before it.
START_TEST(F5_a_reader_of_the_errors_that_ended_does_not_end_the_server)
{
    shell("cat > pipe.sh <<'E'\nmkfifo p\nhead -n 1 < p > served.err &\nexec \"$@\" > p 2>&1\nE");
    served_begin_under("sh pipe.sh", "--access-log stderr -c 256");
    for (int i = 0; i < 4; i++) { // each writes a line that nobody reads
        answer_of(greedy);
    }
    ck_assert(metric("graft_access_log_lost_total") >= 1);
    kill(served_pid(), SIGHUP); // says something, too
    answer_of(greedy);
    served_end();
}
END_TEST

// Under systemd's journal every line has its priority in front.
START_TEST(lines_for_the_journal_have_priorities)
{
    shell("cat > journal.sh <<'E'\nexport JOURNAL_STREAM=$(stat -L -c %%d:%%i /proc/self/fd/2)\nexec \"$@\"\nE");
    served_begin_under("sh journal.sh", "--access-log stderr -c 512");
    answer_of(greedy);
    ck_says("\n<6>{\"time\":");
    served_end();
    shell("! grep -v '^<[346]>' served.err && grep -q '^<6>graft: base on ref' served.err && grep -q '^<4>graft: warning: ' "
          "served.err");
    shell("! '%s' serve -m /nowhere 2>err; ! grep '^<' err", GRAFT_TEST_COMMAND);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve faults");
    TCase *c = tcase_create("serve faults");
    tcase_set_timeout(c, 240);
    tcase_add_checked_fixture(c, command_begin, command_end);
    tcase_add_test(c, F10_a_base_file_cut_under_a_stream_ends_it_with_an_error);
    tcase_add_test(c, F10_a_base_file_cut_between_requests_is_found_by_the_next);
    tcase_add_test(c, F11_a_base_file_replaced_by_rename_is_served_on);
    tcase_add_test(c, F11_an_adapter_written_over_while_it_is_read_is_refused);
    tcase_add_test(c, F11_an_adapter_whose_folder_is_gone_is_refused_and_the_others_serve_on);
    tcase_add_test(c, F22_a_full_disk_loses_lines_of_the_log_and_no_request);
    tcase_add_test(c, F4_files_that_may_not_grow_are_errors_and_not_the_end);
    tcase_add_test(c, F4_a_cache_that_cannot_be_written_is_no_reason_not_to_serve);
    tcase_add_test(c, F5_a_keys_file_that_vanished_or_broke_leaves_the_keys_as_they_were);
    tcase_add_test(c, F5_a_log_that_cannot_be_opened_again_is_written_on);
    tcase_add_test(c, F5_a_reader_of_the_errors_that_ended_does_not_end_the_server);
    tcase_add_test(c, lines_for_the_journal_have_priorities);
    suite_add_tcase(suite, c);
    return graft_test_main(suite);
}
