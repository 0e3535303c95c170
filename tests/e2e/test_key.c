// SPDX-License-Identifier: Apache-2.0
// graft key, as an administrator meets it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "e2e/command.h"
#include "support/support.h"

static bool can_serve(void)
{
    const struct ran *r = command("key");
    if (r->code == 1 && strstr(r->err, "libmicrohttpd")) {
        ck_assert_three_parts(r, "cannot serve");
        printf("skipped: built without libmicrohttpd\n");
        return false;
    }
    return true;
}

START_TEST(keys_are_printed_once_and_stored_hashed)
{
    if (!can_serve()) {
        return;
    }
    const struct ran *r =
        command("key --keys keys.json --tenant finance --allow-adapter 'fin*' --requests-per-minute 60 --expires 2031-01-31");
    ck_assert_code(r, 0);
    ck_assert_uint_eq(r->out_length, 50);
    char key[64];
    snprintf(key, sizeof key, "%.49s", r->out);
    ck_assert_int_eq(strncmp(key, "graft_", 6), 0);
    ck_assert_code(command("key --keys keys.json --role operator"), 0);
    struct stat found;
    ck_assert_int_eq(stat("keys.json", &found), 0);
    ck_assert_uint_eq(found.st_mode & 0777, 0600);
    json_error_t error;
    json_t *root = json_load_file("keys.json", JSON_REJECT_DUPLICATES, &error), *list = json_object_get(root, "keys");
    ck_assert_uint_eq(json_array_size(list), 2);
    json_t *first = json_array_get(list, 0);
    ck_assert_str_eq(json_string_value(json_object_get(first, "role")), "user");
    ck_assert_str_eq(json_string_value(json_object_get(first, "tenant")), "finance");
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(first, "adapters"), 0)), "fin*");
    ck_assert_int_eq(json_integer_value(json_object_get(first, "requests_per_minute")), 60);
    char line[200]; // the hash is that of the key, as another program says it
    snprintf(line, sizeof line, "test \"$(printf %%s %s | sha256sum | cut -d' ' -f1)\" = %s", key,
             json_string_value(json_object_get(first, "sha256")));
    ck_assert_int_eq(system(line), 0);
    char *text = json_dumps(root, 0);
    ck_assert_ptr_null(strstr(text, key));
    free(text);
    json_decref(root);
    // What the server would refuse is not written.
    ck_assert_code(command("key --keys keys.json --expires soon"), 3);
    root = json_load_file("keys.json", 0, &error);
    ck_assert_uint_eq(json_array_size(json_object_get(root, "keys")), 2);
    json_decref(root);
    command_file("broken.json", "{\"keys\": 3}");
    ck_assert_code(command("key --keys broken.json"), 3);
    ck_assert_code(command("key --role king"), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("key");
    TCase *tests = tcase_create("key");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_add_test(tests, keys_are_printed_once_and_stored_hashed);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
