// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"
#include "runtime/text/families.h"
#include "runtime/text/pretokenize.h"
#include "support/support.h"
#include "support/vocab_fixture.h"

struct expected {
    const json_t *pieces;
    size_t next;
    const char *family;
    size_t text;
};

static enum graft_status compare_piece(void *user, const char *piece, uint64_t length)
{
    struct expected *expected = user;
    const json_t *want = json_array_get(expected->pieces, expected->next++);
    ck_assert_msg(want && json_string_length(want) == length && memcmp(json_string_value(want), piece, length) == 0,
                  "%s, text %zu, piece %zu: got \"%.*s\", expected \"%s\"", expected->family, expected->text,
                  expected->next - 1, (int)length, piece, want ? json_string_value(want) : "nothing");
    return GRAFT_OK;
}

START_TEST(pieces_are_those_of_the_published_expressions)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_t *golden = graft_test_golden("pretokenize.json");
    const json_t *texts = json_object_get(golden, "texts");
    const char *family;
    json_t *lists;
    size_t families = 0;
    json_object_foreach(json_object_get(golden, "families"), family, lists)
    {
        struct graft_pretokenizer *pretokenizer;
        ck_assert_ok(graft_pretokenizer_create(ctx, &pretokenizer, family, strlen(family)));
        for (size_t t = 0; t < json_array_size(texts); t++) {
            const json_t *text = json_array_get(texts, t);
            struct expected expected = {.pieces = json_array_get(lists, t), .family = family, .text = t};
            ck_assert_ok(
                graft_pretokenize(pretokenizer, json_string_value(text), json_string_length(text), compare_piece, &expected));
            ck_assert_uint_eq(expected.next, json_array_size(expected.pieces));
        }
        graft_pretokenizer_destroy(&pretokenizer);
        families++;
    }
    ck_assert_uint_ge(families, 23);
    json_decref(golden);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(unknown_families_are_refused_by_name_with_a_list)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    static const char *const names[] = {"", "default", "gpt-", "gpt-22", "Qwen2", "superbpe", "gemma4"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct graft_pretokenizer *pretokenizer;
        ck_assert_status(graft_pretokenizer_create(ctx, &pretokenizer, names[i], strlen(names[i])), GRAFT_E_UNSUPPORTED);
        ck_assert_ptr_null(pretokenizer);
        char quoted[40];
        snprintf(quoted, sizeof quoted, "\"%s\"", names[i]);
        ck_assert_error_has(quoted);
        ck_assert_error_has("supported are gpt-2, phi-2, jais, ");
        ck_assert_error_has(", viking, chameleon"); // the list is whole
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(one_name_of_a_list_is_found_whole)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_pretokenizer *pretokenizer;
    ck_assert_ok(graft_pretokenizer_create(ctx, &pretokenizer, "llama3xyz", 6));
    ck_assert(graft_pretokenizer_ignores_merges(pretokenizer));
    ck_assert(graft_pretokenizer_adds_bos(pretokenizer));
    ck_assert(!graft_pretokenizer_normalizes(pretokenizer));
    graft_pretokenizer_destroy(&pretokenizer);
    graft_ctx_destroy(&ctx);
}
END_TEST

static enum graft_status count_bytes(void *user, const char *piece, uint64_t length)
{
    (void)piece;
    *(uint64_t *)user += length;
    return GRAFT_OK;
}

static enum graft_status stop_at_second(void *user, const char *piece, uint64_t length)
{
    (void)piece;
    (void)length;
    return ++*(int *)user == 2 ? GRAFT_E_CANCELLED : GRAFT_OK;
}

START_TEST(a_failing_receiver_stops_the_cutting)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_pretokenizer *pretokenizer;
    ck_assert_ok(graft_pretokenizer_create(ctx, &pretokenizer, "smollm", 6));
    int calls = 0;
    ck_assert_int_eq(graft_pretokenize(pretokenizer, "a b c d 1", 9, stop_at_second, &calls), GRAFT_E_CANCELLED);
    ck_assert_int_eq(calls, 2);
    graft_pretokenizer_destroy(&pretokenizer);
    graft_ctx_destroy(&ctx);
}
END_TEST

// Rows of Unicode's NormalizationTest.txt and its corner cases: composition, ordering, exclusions, Hangul.
START_TEST(normalization_form_c_composes_and_orders)
{
    static const struct {
        const char *text, *normal;
    } cases[] = {
        {"e\xcc\x81", "\xc3\xa9"},                                // e + acute
        {"\xe1\xb8\x8a\xcc\xa3", "\xe1\xb8\x8c\xcc\x87"},         // D-dot-above + dot-below
        {"D\xcc\x87\xcc\xa3", "\xe1\xb8\x8c\xcc\x87"},            // D + above + below
        {"\xe2\x84\xab", "\xc3\x85"},                             // angstrom sign
        {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"},             // excluded from composition
        {"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"}, // Hangul
        {"a\xcc\x95\xcc\x80\xd6\xae\xcc\x80"
         "b",
         "\xc3\xa0\xd6\xae\xcc\x80\xcc\x95"
         "b"}, // classes 232, 230, 228, 230
        {"\xe4\xb8\xad\xf0\x9f\x9a\x80", "\xe4\xb8\xad\xf0\x9f\x9a\x80"},
    };
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *out;
        uint64_t length;
        ck_assert_ok(graft_normalize_c(ctx, cases[i].text, strlen(cases[i].text), &out, &length));
        const char *got = out ? out : cases[i].text;
        ck_assert_msg(length == strlen(cases[i].normal) && memcmp(got, cases[i].normal, length) == 0, "case %zu: \"%.*s\"", i,
                      (int)length, got);
        GRAFT_FREE(ctx, &out);
    }
    char *out;
    uint64_t length;
    ck_assert_ok(graft_normalize_c(ctx, "plain caf\xc3\xa9", 11, &out, &length));
    ck_assert_ptr_null(out); // already in form C: nothing is copied
    ck_assert_uint_eq(length, 11);
    graft_ctx_destroy(&ctx);
}
END_TEST

// More than 32 marks in a run take the counting sort: the same order as the short way.
START_TEST(long_runs_of_marks_are_ordered_as_short_ones)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    char text[1 + 4 * 100], want[1 + 4 * 100];
    text[0] = want[0] = 'x';
    for (int i = 0; i < 100; i++) { // above (230), below (220) in turn
        memcpy(text + 1 + 4 * i, "\xcc\x87\xcc\xa3", 4);
        memcpy(want + 1 + 2 * i, "\xcc\xa3", 2);
        memcpy(want + 201 + 2 * i, "\xcc\x87", 2);
    }
    text[0] = want[0] = 'q'; // nothing composes with q
    char *out;
    uint64_t length;
    ck_assert_ok(graft_normalize_c(ctx, text, sizeof text, &out, &length));
    ck_assert_uint_eq(length, sizeof want);
    ck_assert_mem_eq(out, want, sizeof want);
    GRAFT_FREE(ctx, &out);
    graft_ctx_destroy(&ctx);
}
END_TEST

// Every name of every family compiles; a mebibyte of one kind of character is cut in linear time: quadratic work would take
// hours.
START_TEST(every_family_cuts_a_mebibyte_in_linear_time)
{
    enum { SIZE = 1 << 20, MOST_MS = 20000 }; // the aim is 1 s on a quiet machine
    static const char *const fills[] = {"a",   "A",    " ", "\n", "1", "-", "\xcc\x81", "\xe4\xb8\xad", " a", "\xe2\x82\xac",
                                        "Aa ", "\r\n "};
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    char *text = malloc(SIZE + 2);
    ck_assert_ptr_nonnull(text);
    uint64_t worst = 0;
    for (size_t f = 0; f < graft_n_families; f++) {
        for (const char *const *name = graft_families[f].names; *name; name++) {
            struct graft_pretokenizer *pretokenizer;
            ck_assert_ok(graft_pretokenizer_create(ctx, &pretokenizer, *name, strlen(*name)));
            for (size_t k = 0; k < 2 * (sizeof fills / sizeof *fills) && name == graft_families[f].names; k++) {
                size_t n = strlen(fills[k / 2]), size = SIZE / n * n;
                for (size_t i = 0; i < size; i++) {
                    text[i] = fills[k / 2][i % n];
                }
                if (k % 2) { // behind the run: what wants its end fails there
                    memcpy(text + size, "1x", 2);
                    size += 2;
                }
                uint64_t bytes = 0, start = graft_clock_ns();
                ck_assert_ok(graft_pretokenize(pretokenizer, text, size, count_bytes, &bytes));
                uint64_t ms = (graft_clock_ns() - start) / 1000000;
                ck_assert_uint_eq(bytes, size);
                ck_assert_msg(ms < (getenv("GRAFT_TEST_SLOW") ? 50u : 1u) * MOST_MS, "%s, fill %zu: %d ms", *name, k, (int)ms);
                worst = ms > worst ? ms : worst;
            }
            graft_pretokenizer_destroy(&pretokenizer);
        }
    }
    printf("slowest mebibyte: %d ms\n", (int)worst);
    free(text);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pretokenize");
    TCase *tests = tcase_create("pretokenize");
    tcase_add_test(tests, pieces_are_those_of_the_published_expressions);
    tcase_add_test(tests, unknown_families_are_refused_by_name_with_a_list);
    tcase_add_test(tests, one_name_of_a_list_is_found_whole);
    tcase_add_test(tests, a_failing_receiver_stops_the_cutting);
    tcase_add_test(tests, normalization_form_c_composes_and_orders);
    tcase_add_test(tests, long_runs_of_marks_are_ordered_as_short_ones);
    tcase_add_test(tests, every_family_cuts_a_mebibyte_in_linear_time);
    tcase_set_timeout(tests, 600);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
