// SPDX-License-Identifier: Apache-2.0
// Digests of FIPS 180-4's examples (NIST CSRC, SHA256 examples).
#include <string.h>

#include "loaders/sha256.h"
#include "support/support.h"

static const struct {
    const char *text;
    const char *hex;
} examples[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

START_TEST(the_standards_examples_in_one_piece_and_byte_by_byte)
{
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        for (int pieces = 0; pieces < 2; pieces++) {
            struct graft_sha256 hash;
            uint8_t digest[GRAFT_SHA256_BYTES];
            char hex[GRAFT_SHA256_HEX_BYTES];
            graft_sha256_begin(&hash);
            size_t length = strlen(examples[i].text), step = pieces ? 1 : length + 1;
            graft_sha256_add(&hash, NULL, 0);
            for (size_t at = 0; at < length; at += step) {
                graft_sha256_add(&hash, examples[i].text + at, step < length - at ? step : length - at);
            }
            graft_sha256_end(&hash, digest);
            graft_sha256_hex(digest, hex);
            ck_assert_str_eq(hex, examples[i].hex);
        }
    }
}
END_TEST

START_TEST(only_64_lowercase_hex_digits_are_a_digest)
{
    uint8_t digest[GRAFT_SHA256_BYTES];
    char hex[GRAFT_SHA256_HEX_BYTES];
    ck_assert(graft_sha256_parse(examples[1].hex, digest));
    graft_sha256_hex(digest, hex);
    ck_assert_str_eq(hex, examples[1].hex);
    static const char *const bad[] = {
        "",
        "ba78",
        "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
        "../816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad0",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a ",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(!graft_sha256_parse(bad[i], digest), "%s", bad[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sha256");
    TCase *tests = tcase_create("sha256");
    tcase_add_test(tests, the_standards_examples_in_one_piece_and_byte_by_byte);
    tcase_add_test(tests, only_64_lowercase_hex_digits_are_a_digest);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
