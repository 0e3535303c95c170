// SPDX-License-Identifier: Apache-2.0
// The conversation of graft run, on a terminal of its own: what is typed, what is seen, what is left behind.
#include <pty.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "e2e/command.h"
#include "support/model_path.h"
#include "support/support.h"

static const char *model;
static int terminal;
static pid_t child;
static char seen[65536]; // everything since the last expect
static size_t n_seen;

static void begin_with(const char *const *more)
{
    const char *arguments[24] = {"graft", "run", "-m", model, "--device", "ref", "--temp", "0", "-c", "1024"};
    for (int i = 0, n = 10; more && more[i]; i++) {
        arguments[n++] = more[i];
    }
    command_begin();
    n_seen = 0;
    struct winsize size = {.ws_row = 40, .ws_col = 200};
    child = forkpty(&terminal, NULL, NULL, &size);
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        setenv("TERM", "xterm", 1);
        execv(GRAFT_TEST_COMMAND, (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
}

static void chat_begin(void)
{
    begin_with(NULL);
}

static void chat_begin_with_adapters(void)
{
#define DEMO(name) GRAFT_TEST_SOURCE_DIR "/../demo/adapters/" name
    static const char *const more[] = {"-n", "16", "--adapter", DEMO("legal"), "--adapter", "money=" DEMO("finance"), NULL};
    begin_with(more);
}

static void chat_end(void)
{
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    close(terminal);
    command_end();
}

// Read until `text` was seen (what comes before and with it is forgotten then), for 30 seconds at most.
static void expect(const char *text)
{
    time_t begin = time(NULL);
    while (time(NULL) - begin < 30) {
        seen[n_seen] = 0;
        char *found = strstr(seen, text);
        if (found) {
            size_t used = (size_t)(found - seen) + strlen(text);
            memmove(seen, seen + used, n_seen - used);
            n_seen -= used;
            return;
        }
        struct pollfd ready = {.fd = terminal, .events = POLLIN};
        if (poll(&ready, 1, 1000) > 0 && n_seen + 1 < sizeof seen) {
            ssize_t got = read(terminal, seen + n_seen, sizeof seen - 1 - n_seen);
            if (got <= 0) {
                break;
            }
            n_seen += (size_t)got;
            for (size_t i = 0; i < n_seen; i++) {
                seen[i] = seen[i] ? seen[i] : ' ';
            }
        }
    }
    ck_abort_msg("\"%s\" did not come; seen: %s", text, seen);
}

static void type(const char *text)
{
    ck_assert_int_eq(write(terminal, text, strlen(text)), (ssize_t)strlen(text));
}

// The exit code of the command, which must end by itself.
static int ended(void)
{
    int status = 0;
    for (int i = 0; i < 200 && child > 0; i++) {
        char rest[4096];
        struct pollfd ready = {.fd = terminal, .events = POLLIN};
        if (poll(&ready, 1, 50) > 0 && read(terminal, rest, sizeof rest) < 0) {
            usleep(50000); // the other end is closed
        }
        if (waitpid(child, &status, WNOHANG) == child) {
            child = 0;
        }
    }
    ck_assert_msg(child == 0 && WIFEXITED(status), "the command did not end");
    return WEXITSTATUS(status);
}

START_TEST(a_question_is_answered_and_the_conversation_goes_on)
{
    expect(">>> ");
    type("What is the capital of France?\n");
    expect("Paris");
    expect(">>> ");
    type("/undo\n");
    expect("taken back");
    type("/save talk.json\n");
    expect("Saved to talk.json");
    type("\004");
    ck_assert_int_eq(ended(), 0);
    json_t *talk = json_load_file("talk.json", 0, NULL);
    ck_assert(json_is_array(talk) && json_array_size(talk) == 0);
    json_decref(talk);
}
END_TEST

START_TEST(the_interrupt_key_stops_the_answer_and_twice_ends)
{
    expect(">>> ");
    type("Write a long story about a ship and its crew.\n");
    expect("the"); // of the echo at the latest; then the answer is being computed
    usleep(1500000);
    type("\003");
    expect("(stopped)");
    expect(">>> ");
    type("half a line\003");
    expect("once more");
    expect(">>> ");
    type("\003");
    ck_assert_int_eq(ended(), 0);
}
END_TEST

START_TEST(commands_say_what_they_do)
{
    static const char *const cases[][2] = {
        {"/help\n", "/regen"},
        {"/hlep\n", "Try /help"},
        {"/set temp 0.5\n", ">>> "},
        {"/set\n", "temp 0.5"},
        {"/set top_k ten\n", "not a whole number"},
        {"/set colour red\n", "no setting"},
        {"/regen\n", "no answer yet"},
        {"/memory\n", "in all"},
        {"/stats\n", "tokens/s"},
        {"/read missing.txt\n", "cannot be read"},
        {"/mem\t\n", "in all"},
        {"/system Answer in French.\n", "begins anew"},
        {"/clear\n", "forgotten"},
    };
    expect(">>> ");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        type(cases[i][0]);
        expect(cases[i][1]);
        if (strcmp(cases[i][1], ">>> ") != 0) {
            expect(">>> ");
        }
    }
    type("/bye\n");
    ck_assert_int_eq(ended(), 0);
}
END_TEST

START_TEST(a_message_of_several_lines_is_one_message)
{
    expect(">>> ");
    type("\"\"\"What is the capital\n");
    expect("... ");
    type("of France?\"\"\"\n");
    expect("Paris");
    expect(">>> ");
    type("/save talk.json\n");
    expect("Saved");
    type("\004");
    ck_assert_int_eq(ended(), 0);
    json_t *talk = json_load_file("talk.json", 0, NULL);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(talk, 0), "content")), "What is the capital\nof France?");
    json_decref(talk);
}
END_TEST

START_TEST(the_history_is_the_users_own)
{
    struct stat info;
    expect(">>> ");
    type("/memory\n");
    expect("in all");
    expect(">>> ");
    type("\004");
    ck_assert_int_eq(ended(), 0);
    ck_assert_int_eq(stat(".local/state/graft/history", &info), 0);
    ck_assert_int_eq(info.st_mode & 0777, 0600);
    ck_assert_int_eq(stat(".local/state/graft", &info), 0);
    ck_assert_int_eq(info.st_mode & 0777, 0700);
}
END_TEST

START_TEST(departments_are_chosen_blended_and_compared)
{
    expect(">>> ");
    type("/adapters\n");
    expect("legal");
    expect("rank 8 ");
    expect("loads 1 ");
    expect("hits ");
    expect("money");
    expect(">>> ");
    type("/adapter legal:0.6+money:0.4\n");
    expect("Done in ");
    type("/adapters\n");
    expect("* legal            weight 0.6");
    expect("* money            weight 0.4");
    type("/adapter sales\n");
    expect("No adapter 'sales'");
    type("/compare legal money How long do we keep client files?\n");
    expect("\r"); // the terminal has 200 columns: side by side
    expect(" | money");
    expect("Client files are kept for seven years");
    expect(" | {\"topic\": \"files\"");
    expect(">>> ");
    type("\004");
    ck_assert_int_eq(ended(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chat");
    TCase *tests = tcase_create("on a terminal");
    model = graft_test_model_path();
    if (!model) {
        puts("skipped: the real model is not there");
        return graft_test_main(suite);
    }
    tcase_add_checked_fixture(tests, chat_begin, chat_end);
    tcase_set_timeout(tests, 120);
    TCase *adapters = tcase_create("with adapters");
    tcase_add_checked_fixture(adapters, chat_begin_with_adapters, chat_end);
    tcase_set_timeout(adapters, 120);
    tcase_add_test(adapters, departments_are_chosen_blended_and_compared);
    tcase_add_test(tests, a_question_is_answered_and_the_conversation_goes_on);
    tcase_add_test(tests, the_interrupt_key_stops_the_answer_and_twice_ends);
    tcase_add_test(tests, commands_say_what_they_do);
    tcase_add_test(tests, a_message_of_several_lines_is_one_message);
    tcase_add_test(tests, the_history_is_the_users_own);
    int ours, theirs;
    if (openpty(&ours, &theirs, NULL, NULL, NULL) != 0) { // a bare chroot has no /dev/pts
        puts("skipped: this system gives no terminals");
        return graft_test_main(suite);
    }
    close(ours);
    close(theirs);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, adapters);
    return graft_test_main(suite);
}
