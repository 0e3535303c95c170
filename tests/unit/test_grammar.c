// SPDX-License-Identifier: Apache-2.0
// Grammars: GBNF judged by Python's re, schemas by PyPI's jsonschema (tests/golden/make_grammar.py); errors, limits, random
// walks.
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graft/grammar.h"
#include "platform/plat.h"
#include "support/support.h"
#include "support/vocab_fixture.h"

static struct graft_ctx *ctx;
static struct graft_test_alloc allocations;

static void set_up(void)
{
    allocations = (struct graft_test_alloc){0};
    ctx = graft_test_ctx(&allocations, 0);
}

static void tear_down(void)
{
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(allocations.live, 0);
}

struct machine {
    struct graft_grammar *grammar;
    struct graft_grammar_state *state;
};

static struct machine open_grammar(const char *text, bool schema)
{
    struct machine m = {0};
    enum graft_status status = schema ? graft_grammar_from_schema(ctx, &m.grammar, text, strlen(text))
                                      : graft_grammar_create(ctx, &m.grammar, text, strlen(text));
    ck_assert_msg(status == GRAFT_OK, "%s: %s", text, graft_last_error());
    ck_assert_ok(graft_grammar_state_create(m.grammar, &m.state));
    return m;
}

static void close_grammar(struct machine *m)
{
    graft_grammar_state_destroy(&m->state);
    graft_grammar_destroy(&m->grammar);
}

// Whole text at once, and byte by byte: both must say the same.
static bool matches(struct machine *m, const char *text, size_t length)
{
    bool whole, one = true, allowed = true;
    ck_assert_ok(graft_grammar_state_reset(m->state));
    ck_assert_ok(graft_grammar_allows(m->state, text, length, &whole));
    for (size_t i = 0; i < length && allowed; i++) {
        ck_assert_ok(graft_grammar_allows(m->state, text + i, 1, &one));
        ck_assert_ok(graft_grammar_accept(m->state, text + i, 1, &allowed));
        ck_assert_int_eq(one, allowed);
    }
    ck_assert_int_eq(allowed, whole);
    return allowed && graft_grammar_complete(m->state);
}

START_TEST(texts_of_regular_grammars_are_those_of_the_regular_expression)
{
    json_t *golden = graft_test_golden("grammar.json"), *one, *item;
    size_t k, i, texts = 0;
    json_array_foreach(json_object_get(golden, "regular"), k, one)
    {
        const char *gbnf = json_string_value(json_object_get(one, "gbnf"));
        struct machine m = open_grammar(gbnf, false);
        json_array_foreach(json_object_get(one, "cases"), i, item)
        {
            const json_t *text = json_array_get(item, 0);
            bool want = json_is_true(json_array_get(item, 1));
            ck_assert_msg(matches(&m, json_string_value(text), json_string_length(text)) == want, "%s: \"%s\" must be %s", gbnf,
                          json_string_value(text), want ? "accepted" : "refused");
            texts++;
        }
        close_grammar(&m);
    }
    ck_assert_uint_ge(texts, 1000);
    json_decref(golden);
}
END_TEST

START_TEST(texts_of_schemas_are_valid_and_valid_ones_in_order_are_texts)
{
    json_t *golden = graft_test_golden("grammar.json"), *one, *item;
    size_t k, i, texts = 0;
    json_array_foreach(json_object_get(golden, "schemas"), k, one)
    {
        const char *schema = json_string_value(json_object_get(one, "schema"));
        struct machine m = open_grammar(schema, true);
        json_array_foreach(json_object_get(one, "cases"), i, item)
        {
            const char *text = json_string_value(json_array_get(item, 0));
            bool valid = json_is_true(json_array_get(item, 1)), must = json_is_true(json_array_get(item, 2));
            bool got = matches(&m, text, strlen(text));
            ck_assert_msg((!got || valid) && (got || !must), "%s: %s is %s, the grammar says %s\n%s", schema, text,
                          valid ? "valid" : "not valid", got ? "yes" : "no", graft_grammar_text(m.grammar));
            texts++;
        }
        close_grammar(&m);
    }
    ck_assert_uint_ge(texts, 900);
    json_decref(golden);
}
END_TEST

// Nested brackets need a stack: no regular expression does this.
START_TEST(recursion_is_followed_and_bounded)
{
    struct machine m = open_grammar("root ::= \"(\" root \")\" | \"\"", false);
    char text[2 * 3000];
    memset(text, '(', 3000);
    memset(text + 3000, ')', 3000);
    bool allowed = true;
    for (size_t i = 0; i < sizeof text; i++) {
        ck_assert(!graft_grammar_complete(m.state) || i == 0);
        ck_assert_ok(graft_grammar_accept(m.state, text + i, 1, &allowed));
        ck_assert(allowed);
    }
    ck_assert(graft_grammar_complete(m.state));
    ck_assert_ok(graft_grammar_allows(m.state, ")", 1, &allowed));
    ck_assert(!allowed);
    ck_assert_ok(graft_grammar_state_reset(m.state));
    int depth = 0;
    allowed = true;
    for (; allowed && depth < 100000; depth++) {
        ck_assert_ok(graft_grammar_accept(m.state, "(", 1, &allowed));
    }
    ck_assert_int_eq(depth, 4096); // what would stand deeper is not allowed, closing is
    ck_assert_ok(graft_grammar_allows(m.state, ")", 1, &allowed));
    ck_assert(allowed);
    close_grammar(&m);
}
END_TEST

START_TEST(mistakes_are_told_with_line_and_column)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "the grammar has no rule root"},
        {"a ::= \"x\"", "the grammar has no rule root"},
        {"root ::= \"x", "line 1 column 10: this text has no closing quote"},
        {"root ::= [a", "line 1 column 10: this class has no closing bracket"},
        {"root ::= []", "line 1 column 10: this class has no characters"},
        {"root ::= [z-a]", "line 1 column 11: this range ends before it begins"},
        {"root ::= \"\\q\"", "line 1 column 11: unknown escape"},
        {"root ::= \"\\u12\"", "line 1 column 11: this escape needs more hexadecimal digits"},
        {"root ::= \"\\ud800\"", "line 1 column 11: this escape is no character"},
        {"root ::= \"a\"\n\n  \xc3\xa9 x", "line 3 column 3: a rule is expected here"},
        {"root ::= (\"a\"", "line 1 column 10: this parenthesis is not closed"},
        {"root ::= \"a\")", "line 1 column 13: this character has no meaning here"},
        {"root ::= * \"a\"", "line 1 column 10: there is nothing to repeat here"},
        {"root ::= \"a\"{2,1}", "line 1 column 13: this repetition ends before it begins"},
        {"root ::= \"a\"{x}", "line 1 column 14: a number is missing here"},
        {"root ::= \"a\"{1;2}", "line 1 column 13: this repetition is not"},
        {"root ::= a\nb ::= \"b\"", "line 1 column 10: this rule is not defined"},
        {"root ::= \"a\"\nroot ::= \"b\"", "line 2 column 1: this rule was defined before"},
        {"root ::= \"a\"\nx ::= x \"y\" | \"z\"", "line 2 column 1: left recursion"},
        {"root ::= a \"c\" | \"d\"\na ::= \"\" | root", "left recursion"},
        {"root ::= \"a\"? root \"b\" | \"c\"", "line 1 column 1: left recursion"},
        {"root ::= \"a\" root", "line 1 column 1: no text of finite length matches root"},
        {"root ::= x\nx ::= root", "no text of finite length matches root"},
        {"\xff", "the grammar is not UTF-8"},
        {"root ::= <[1]>", "line 1 column 10: this character has no meaning here"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct graft_grammar *grammar;
        ck_assert_msg(graft_grammar_create(ctx, &grammar, cases[i].text, strlen(cases[i].text)) == GRAFT_E_ARGUMENT, "%s: %s",
                      cases[i].text, graft_last_error());
        ck_assert_ptr_null(grammar);
        ck_assert_error_has(cases[i].error);
    }
}
END_TEST

START_TEST(grammars_are_bounded)
{
    struct graft_grammar *grammar;
    char *text = malloc(1 << 21);
    ck_assert_ptr_nonnull(text);
    strcpy(text, "root ::= ");
    memset(text + 9, '(', 100);
    strcpy(text + 109, "\"a\"");
    ck_assert_status(graft_grammar_create(ctx, &grammar, text, strlen(text)), GRAFT_E_LIMIT);
    ck_assert_error_has("more than 64 parentheses in each other");
    const char *many = "root ::= \"a\"{65536}";
    ck_assert_status(graft_grammar_create(ctx, &grammar, many, strlen(many)), GRAFT_E_LIMIT);
    many = "root ::= (\"a\"{65535}){65535}";
    struct machine m = open_grammar(many, false); // symbols are shared, so this is small
    bool allowed;
    ck_assert_ok(graft_grammar_allows(m.state, "aaaa", 4, &allowed));
    ck_assert(allowed);
    close_grammar(&m);
    many = "root ::= \"abcdefghijklmnop\"{65535} \"abcdefghijklmnop\"{65535} x x x x x x x x x x x x x x x x\nx ::= "
           "\"q\"{0,65535} \"r\"{0,65535}";
    ck_assert_status(graft_grammar_create(ctx, &grammar, many, strlen(many)), GRAFT_E_LIMIT);
    ck_assert_error_has("rules");
    memset(text, '#', (1 << 20) + 1);
    ck_assert_status(graft_grammar_create(ctx, &grammar, text, (1 << 20) + 1), GRAFT_E_LIMIT);
    // A chain of rules in both directions: linear rounds would take hours with 100,000 of them.
    size_t at = (size_t)sprintf(text, "root ::= r0\n");
    for (int i = 0; i < 30000; i++) {
        at += (size_t)sprintf(text + at, "r%d ::= r%d | \"x\"\n", i, i + 1);
    }
    sprintf(text + at, "r30000 ::= \"y\"\n");
    uint64_t start = graft_clock_ns();
    enum graft_status status = graft_grammar_create(ctx, &grammar, text, strlen(text));
    ck_assert_msg(status == GRAFT_OK, "%s", graft_last_error());
    ck_assert_uint_lt((graft_clock_ns() - start) / 1000000, 20000);
    graft_grammar_destroy(&grammar);
    free(text);
}
END_TEST

// A long text costs the same for every byte, also when tables fill up and are emptied.
START_TEST(a_mebibyte_is_followed_in_linear_time)
{
    static const char *const grammars[] = {"root ::= ([a-z] | \" \" | [^a-z ])*",
                                           "root ::= ((\"a\"{3} | \"b\" \"c\"?)* | [^\"]{0,2})*",
                                           "root ::= [a-z ]{0,60000} [^q]*"};
    char *text = malloc(1 << 20);
    ck_assert_ptr_nonnull(text);
    for (size_t k = 0; k < sizeof grammars / sizeof *grammars; k++) {
        struct machine m = open_grammar(grammars[k], false);
        for (size_t i = 0; i < 1 << 20; i++) {
            text[i] = "aaabca bcb \xc3\xa9"[i % 13];
        }
        memset(text + (1 << 19), 'a', 1 << 19);
        uint64_t start = graft_clock_ns();
        bool allowed = true;
        for (size_t i = 0; i < 1 << 20 && allowed; i += 16) {
            ck_assert_ok(graft_grammar_accept(m.state, text + i, 16, &allowed));
        }
        uint64_t ms = (graft_clock_ns() - start) / 1000000;
        ck_assert_msg(allowed && ms < 20000, "grammar %zu: %d ms", k, (int)ms);
        printf("grammar %zu: a mebibyte in %d ms\n", k, (int)ms);
        close_grammar(&m);
    }
    free(text);
}
END_TEST

START_TEST(a_refused_byte_leaves_the_state_as_it_was)
{
    struct machine m = open_grammar("root ::= \"ab\" [\\u00e9] \"c\"?", false);
    bool allowed;
    ck_assert_ok(graft_grammar_accept(m.state, "ax", 2, &allowed));
    ck_assert(!allowed);
    ck_assert_ok(graft_grammar_accept(m.state, "ab\xc3", 3, &allowed)); // half a character
    ck_assert(allowed && !graft_grammar_complete(m.state));
    ck_assert_ok(graft_grammar_accept(m.state, "c", 1, &allowed));
    ck_assert(!allowed);
    ck_assert_ok(graft_grammar_accept(m.state, "\xa9", 1, &allowed));
    ck_assert(allowed && graft_grammar_complete(m.state));
    ck_assert_ok(graft_grammar_accept(m.state, "c", 1, &allowed));
    ck_assert(allowed && graft_grammar_complete(m.state));
    ck_assert_ok(graft_grammar_allows(m.state, "c", 1, &allowed));
    ck_assert(!allowed);
    close_grammar(&m);
}
END_TEST

START_TEST(schemas_that_cannot_be_kept_are_refused_with_their_place)
{
    static const struct {
        const char *schema;
        enum graft_status status;
        const char *error;
    } cases[] = {
        {"{", GRAFT_E_ARGUMENT, "schema, line 1"},
        {"[]", GRAFT_E_ARGUMENT, "at its top: a schema must be an object or true"},
        {"{\"type\":\"text\"}", GRAFT_E_ARGUMENT, "type text does not exist"},
        {"{\"type\":\"string\",\"minimun\":1}", GRAFT_E_UNSUPPORTED, "keyword minimun is not supported here"},
        {"{\"oneOf\":[{}]}", GRAFT_E_UNSUPPORTED, "keyword oneOf"},
        {"{\"anyOf\":[{}],\"type\":\"string\"}", GRAFT_E_UNSUPPORTED, "keyword type"},
        {"{\"properties\":{\"a\":{\"items\":{\"not\":{}}}}}", GRAFT_E_UNSUPPORTED, "at /properties/a/items: keyword not"},
        {"{\"type\":\"object\",\"required\":[\"a\"]}", GRAFT_E_UNSUPPORTED, "required names a"},
        {"{\"type\":\"array\",\"minItems\":3,\"maxItems\":2}", GRAFT_E_ARGUMENT, "minItems is above maxItems"},
        {"{\"type\":\"array\",\"minItems\":-1}", GRAFT_E_ARGUMENT, "minItems must be a whole number"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", GRAFT_E_UNSUPPORTED, "keyword uniqueItems"},
        {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", GRAFT_E_ARGUMENT, "minLength is above maxLength"},
        {"{\"type\":\"string\",\"pattern\":\"a\",\"minLength\":2}", GRAFT_E_UNSUPPORTED, "only one of"},
        {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", GRAFT_E_UNSUPPORTED, "pattern, at byte 1"},
        {"{\"type\":\"string\",\"pattern\":\"a\\\\1\"}", GRAFT_E_UNSUPPORTED, "this escape is not supported"},
        {"{\"type\":\"string\",\"pattern\":\"a)\"}", GRAFT_E_UNSUPPORTED, "closes nothing"},
        {"{\"type\":\"string\",\"pattern\":\"[a\"}", GRAFT_E_UNSUPPORTED, "a class is not closed"},
        {"{\"type\":\"string\",\"pattern\":\"a^b\"}", GRAFT_E_UNSUPPORTED, "at the ends of the pattern only"},
        {"{\"type\":\"string\",\"format\":\"hostname\"}", GRAFT_E_UNSUPPORTED, "format hostname"},
        {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", GRAFT_E_ARGUMENT, "no whole number"},
        {"{\"enum\":[]}", GRAFT_E_ARGUMENT, "no value of enum"},
        {"{\"enum\":[1],\"type\":\"string\"}", GRAFT_E_ARGUMENT, "no value of enum"},
        {"{\"$ref\":\"#/$defs/x\"}", GRAFT_E_ARGUMENT, "names nothing in this schema"},
        {"{\"$ref\":\"other.json\"}", GRAFT_E_ARGUMENT, "names nothing in this schema"},
        {"{\"$ref\":\"#\"}", GRAFT_E_ARGUMENT, "no text of finite length"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", GRAFT_E_ARGUMENT,
         "no text of finite length"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct graft_grammar *grammar;
        enum graft_status status = graft_grammar_from_schema(ctx, &grammar, cases[i].schema, strlen(cases[i].schema));
        ck_assert_msg(status == cases[i].status, "%s: %s", cases[i].schema, graft_last_error());
        ck_assert_ptr_null(grammar);
        ck_assert_error_has(cases[i].error);
    }
    char deep[4096] = "";
    for (int i = 0; i < 100; i++) {
        strcat(deep, "{\"items\":");
    }
    strcat(deep, "{}");
    memset(deep + strlen(deep), '}', 100);
    struct graft_grammar *grammar;
    ck_assert_status(graft_grammar_from_schema(ctx, &grammar, deep, strlen(deep)), GRAFT_E_LIMIT);
}
END_TEST

// A text of the grammar by random bytes: any that is allowed, with a leaning to the end as it gets longer.
static size_t walk(struct machine *m, struct graft_test_random *random, char *text, size_t most)
{
    ck_assert_ok(graft_grammar_state_reset(m->state));
    size_t length = 0;
    while (length < most) {
        uint8_t allowed[256];
        uint32_t n = 0;
        for (int b = 0; b < 256; b++) {
            char byte = (char)b;
            bool yes;
            if (graft_grammar_allows(m->state, &byte, 1, &yes) != GRAFT_OK) { // Check's own macros write a file each time
                ck_abort_msg("%s", graft_last_error());
            }
            if (yes) {
                allowed[n++] = (uint8_t)b;
            }
        }
        bool complete = graft_grammar_complete(m->state);
        if (n == 0 || (complete && graft_test_random_u64(random) % 4 == 0)) {
            return complete ? length : 0;
        }
        uint8_t byte = allowed[graft_test_random_u64(random) % n];
        static const char closing[] = "\"]}n0"; // ends what goes on: strings, arrays, objects, null
        for (const char *c = closing; *c && length > 40 && graft_test_random_u64(random) % 3; c++) {
            byte = memchr(allowed, *c, n) ? (uint8_t)*c : byte;
            if (memchr(allowed, *c, n)) {
                break;
            }
        }
        bool yes;
        text[length++] = (char)byte;
        ck_assert_ok(graft_grammar_accept(m->state, text + length - 1, 1, &yes));
        ck_assert(yes);
    }
    return 0; // too long to be looked at
}

// Whatever random choices make under a schema is JSON (jansson) that the schema accepts (PyPI's jsonschema, if it is there).
START_TEST(random_texts_of_schemas_are_valid)
{
    json_t *golden = graft_test_golden("grammar.json"), *one, *all = json_array();
    size_t k;
    int texts = 0;
    struct graft_test_random random = {.state = 77};
    json_array_foreach(json_object_get(golden, "schemas"), k, one)
    {
        const char *schema = json_string_value(json_object_get(one, "schema"));
        struct machine m = open_grammar(schema, true);
        json_t *made = json_array();
        for (int round = 0; round < 40; round++) {
            char text[2000];
            size_t length = walk(&m, &random, text, sizeof text);
            if (length == 0) {
                continue;
            }
            json_error_t error;
            json_t *value = json_loadb(text, length, JSON_DECODE_ANY, &error);
            ck_assert_msg(value != NULL, "%s: %.*s: %s", schema, (int)length, text, error.text);
            json_decref(value);
            json_array_append_new(made, json_stringn(text, length));
            texts++;
        }
        json_array_append_new(all, json_pack("{s:s, s:o}", "schema", schema, "texts", made));
        close_grammar(&m);
    }
    ck_assert_int_ge(texts, 1000);
    const char *python = getenv("GRAFT_TEST_PYTHON");
    char path[] = "/tmp/graft-grammar-XXXXXX", command[4096];
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    FILE *stream = fdopen(file, "w");
    ck_assert(stream && json_dumpf(all, stream, 0) == 0 && fclose(stream) == 0);
    snprintf(command, sizeof command, "%s %s/support/check_schemas.py %s", python ? python : "python3", GRAFT_TEST_SOURCE_DIR,
             path);
    int code = system(command);
    remove(path);
    if ((code >> 8) == 77 || code == 9009) { // 9009: Windows knows no such command
        printf("skipped: Python's jsonschema is not there; %d random texts were only parsed\n", texts);
    } else {
        ck_assert_int_eq(code, 0);
    }
    json_decref(all);
    json_decref(golden);
}
END_TEST

// Random bytes as grammars and schemas: an answer or an error, nothing else; what is accepted can be followed.
START_TEST(damaged_grammars_and_schemas_do_no_harm)
{
    static const char *const seeds[] = {
        "root ::= (\"a\" | [b-d]{2,3} x)* # c\nx ::= \"\\u00e9\" . | root2\nroot2 ::= [^x]+ root?",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":[\"string\",\"null\"],\"pattern\":\"^[a-z]+(x|\\\\d)$\"},"
        "\"b\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"minItems\":1}},\"required\":[\"a\"],"
        "\"additionalProperties\":{\"type\":\"integer\",\"minimum\":-3}}"};
    struct graft_test_random random = {.state = 4};
    int accepted = 0;
    for (int round = 0; round < 3000; round++) {
        const char *seed = seeds[round % 2];
        char text[600];
        size_t length = strlen(seed);
        memcpy(text, seed, length);
        for (uint64_t hits = graft_test_random_u64(&random) % 4; hits > 0 && length > 1; hits--) {
            size_t at = graft_test_random_u64(&random) % length;
            switch (graft_test_random_u64(&random) % 3) {
            case 0:
                text[at] = "\"\\[](){}|*+?:=,ar 09\n^-"[graft_test_random_u64(&random) % 23];
                break;
            case 1:
                memmove(text + at, text + at + 1, --length - at);
                break;
            default:
                text[at] = (char)graft_test_random_u64(&random);
                break;
            }
        }
        struct graft_grammar *grammar;
        enum graft_status status = round % 2 ? graft_grammar_from_schema(ctx, &grammar, text, length)
                                             : graft_grammar_create(ctx, &grammar, text, length);
        if (status != GRAFT_OK) {
            ck_assert_ptr_null(grammar);
            continue;
        }
        accepted++;
        if (accepted % 20 == 0) {
            struct machine m = {.grammar = grammar};
            ck_assert_ok(graft_grammar_state_create(grammar, &m.state));
            char out[100];
            walk(&m, &random, out, sizeof out);
            graft_grammar_state_destroy(&m.state);
        }
        graft_grammar_destroy(&grammar);
    }
    ck_assert_int_ge(accepted, 500);
}
END_TEST

// Every allocation refused once: one error, nothing lost.
START_TEST(a_refused_allocation_loses_nothing)
{
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[\"x\",2]},\"b\":{\"type\":\"string\",\"pattern\":\"a+\"}},"
        "\"additionalProperties\":{\"type\":\"array\",\"maxItems\":3}}";
    uint64_t n = 0;
    for (enum graft_status status = GRAFT_E_MEMORY; status != GRAFT_OK; n++) {
        struct graft_test_alloc alloc = {0};
        struct graft_ctx *small = graft_test_ctx(&alloc, 0);
        alloc.fail_at = alloc.requests + n + 1;
        struct graft_grammar *grammar = NULL;
        struct graft_grammar_state *state = NULL;
        status = graft_grammar_from_schema(small, &grammar, schema, sizeof schema - 1);
        status = status == GRAFT_OK ? graft_grammar_state_create(grammar, &state) : status;
        ck_assert(status == GRAFT_OK || status == GRAFT_E_MEMORY);
        graft_grammar_state_destroy(&state);
        graft_grammar_destroy(&grammar);
        graft_ctx_destroy(&small);
        ck_assert_uint_eq(alloc.live, 0);
        ck_assert_uint_lt(n, 10000);
    }
    ck_assert_uint_gt(n, 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("grammar");
    TCase *tests = tcase_create("grammar");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, texts_of_regular_grammars_are_those_of_the_regular_expression);
    tcase_add_test(tests, texts_of_schemas_are_valid_and_valid_ones_in_order_are_texts);
    tcase_add_test(tests, recursion_is_followed_and_bounded);
    tcase_add_test(tests, mistakes_are_told_with_line_and_column);
    tcase_add_test(tests, grammars_are_bounded);
    tcase_add_test(tests, a_mebibyte_is_followed_in_linear_time);
    tcase_add_test(tests, a_refused_byte_leaves_the_state_as_it_was);
    tcase_add_test(tests, schemas_that_cannot_be_kept_are_refused_with_their_place);
    tcase_add_test(tests, random_texts_of_schemas_are_valid);
    tcase_add_test(tests, damaged_grammars_and_schemas_do_no_harm);
    tcase_add_test(tests, a_refused_allocation_loses_nothing);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
