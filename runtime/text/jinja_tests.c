// SPDX-License-Identifier: Apache-2.0
// Tests: what may stand behind "is".
#include "runtime/text/jinja.h"

#define TEST(name)                                                                                                             \
    static enum graft_status name(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,         \
                                  bool *out)
#define UNUSED (void)run, (void)argv

TEST(is_defined)
{
    UNUSED;
    *out = in->type != JINJA_UNDEFINED;
    return GRAFT_OK;
}
TEST(is_undefined)
{
    UNUSED;
    *out = in->type == JINJA_UNDEFINED;
    return GRAFT_OK;
}
TEST(is_none)
{
    UNUSED;
    *out = in->type == JINJA_NONE;
    return GRAFT_OK;
}
TEST(is_boolean)
{
    UNUSED;
    *out = in->type == JINJA_BOOL;
    return GRAFT_OK;
}
TEST(is_true)
{
    UNUSED;
    *out = in->type == JINJA_BOOL && in->as.boolean;
    return GRAFT_OK;
}
TEST(is_false)
{
    UNUSED;
    *out = in->type == JINJA_BOOL && !in->as.boolean;
    return GRAFT_OK;
}
TEST(is_integer)
{
    UNUSED;
    *out = in->type == JINJA_INT;
    return GRAFT_OK;
}
TEST(is_float)
{
    UNUSED;
    *out = in->type == JINJA_FLOAT;
    return GRAFT_OK;
}
TEST(is_number)
{
    UNUSED;
    *out = in->type == JINJA_INT || in->type == JINJA_FLOAT || in->type == JINJA_BOOL;
    return GRAFT_OK;
}
TEST(is_string)
{
    UNUSED;
    *out = in->type == JINJA_STRING;
    return GRAFT_OK;
}
TEST(is_mapping)
{
    UNUSED;
    *out = in->type == JINJA_DICT;
    return GRAFT_OK;
}
TEST(is_iterable)
{
    UNUSED;
    *out = in->type == JINJA_UNDEFINED || (in->type >= JINJA_STRING && in->type <= JINJA_DICT) || in->type == JINJA_LOOP;
    return GRAFT_OK;
}
TEST(is_sequence)
{
    UNUSED;
    *out = in->type == JINJA_UNDEFINED || in->type == JINJA_STRING || in->type == JINJA_LIST || in->type == JINJA_TUPLE ||
           in->type == JINJA_RANGE || in->type == JINJA_DICT;
    return GRAFT_OK;
}
TEST(is_callable)
{
    UNUSED;
    *out = in->type == JINJA_MACRO || in->type == JINJA_FUNCTION || in->type == JINJA_METHOD || in->type == JINJA_JOINER ||
           in->type == JINJA_LOOP || in->type == JINJA_UNDEFINED;
    return GRAFT_OK;
}
TEST(is_escaped)
{
    UNUSED;
    (void)in;
    *out = false;
    return GRAFT_OK;
}

static enum graft_status remainder_is(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *by,
                                      int64_t rest, bool *out)
{
    struct jinja_value result, wanted = jinja_int(rest);
    GRAFT_TRY(graft_jinja_arith(run, JINJA_OP_MOD, in, by, &result));
    return graft_jinja_equal(run, &result, &wanted, 0, out);
}
TEST(is_odd)
{
    (void)argv;
    struct jinja_value two = jinja_int(2);
    return remainder_is(run, in, &two, 1, out);
}
TEST(is_even)
{
    (void)argv;
    struct jinja_value two = jinja_int(2);
    return remainder_is(run, in, &two, 0, out);
}
TEST(is_divisible)
{
    return remainder_is(run, in, &argv[0], 0, out);
}

TEST(is_eq)
{
    return graft_jinja_relate(run, JINJA_OP_EQ, in, &argv[0], out);
}
TEST(is_ne)
{
    return graft_jinja_relate(run, JINJA_OP_NE, in, &argv[0], out);
}
TEST(is_lt)
{
    return graft_jinja_relate(run, JINJA_OP_LT, in, &argv[0], out);
}
TEST(is_le)
{
    return graft_jinja_relate(run, JINJA_OP_LE, in, &argv[0], out);
}
TEST(is_gt)
{
    return graft_jinja_relate(run, JINJA_OP_GT, in, &argv[0], out);
}
TEST(is_ge)
{
    return graft_jinja_relate(run, JINJA_OP_GE, in, &argv[0], out);
}
TEST(is_in)
{
    return graft_jinja_contains(run, &argv[0], in, out);
}
TEST(is_same)
{
    if (in->type != argv[0].type) {
        return GRAFT_OK;
    }
    if (in->type <= JINJA_FLOAT) {
        return graft_jinja_equal(run, in, &argv[0], 0, out);
    }
    *out = in->as.string == argv[0].as.string;
    return GRAFT_OK;
}

static enum graft_status case_is(struct jinja_run *run, const struct jinja_value *in, enum jinja_case how, bool *out)
{
    struct jinja_value text, mapped, other;
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    GRAFT_TRY(graft_jinja_case(run, text.as.string, how, &mapped));
    GRAFT_TRY(graft_jinja_case(run, text.as.string, how == JINJA_UPPER ? JINJA_LOWER : JINJA_UPPER, &other));
    bool equal, cased;
    GRAFT_TRY(graft_jinja_equal(run, &text, &mapped, 0, &equal));
    GRAFT_TRY(graft_jinja_equal(run, &text, &other, 0, &cased));
    *out = equal && !cased;
    return GRAFT_OK;
}
TEST(is_lower)
{
    (void)argv;
    return case_is(run, in, JINJA_LOWER, out);
}
TEST(is_upper)
{
    (void)argv;
    return case_is(run, in, JINJA_UPPER, out);
}
TEST(is_filter)
{
    UNUSED;
    *out = in->type == JINJA_STRING && graft_jinja_find_filter(in->as.string->data, in->as.string->length);
    return GRAFT_OK;
}
TEST(is_test)
{
    UNUSED;
    *out = in->type == JINJA_STRING && graft_jinja_find_test(in->as.string->data, in->as.string->length);
    return GRAFT_OK;
}

static const struct jinja_test_def tests[] = {
    {"defined", "", is_defined},   {"undefined", "", is_undefined}, {"none", "", is_none},
    {"boolean", "", is_boolean},   {"true", "", is_true},           {"false", "", is_false},
    {"integer", "", is_integer},   {"float", "", is_float},         {"number", "", is_number},
    {"string", "", is_string},     {"mapping", "", is_mapping},     {"iterable", "", is_iterable},
    {"sequence", "", is_sequence}, {"callable", "", is_callable},   {"escaped", "", is_escaped},
    {"odd", "", is_odd},           {"even", "", is_even},           {"divisibleby", "num!", is_divisible},
    {"eq", "other!", is_eq},       {"equalto", "other!", is_eq},    {"==", "other!", is_eq},
    {"ne", "other!", is_ne},       {"!=", "other!", is_ne},         {"lt", "other!", is_lt},
    {"lessthan", "other!", is_lt}, {"<", "other!", is_lt},          {"le", "other!", is_le},
    {"<=", "other!", is_le},       {"gt", "other!", is_gt},         {"greaterthan", "other!", is_gt},
    {">", "other!", is_gt},        {"ge", "other!", is_ge},         {">=", "other!", is_ge},
    {"in", "seq!", is_in},         {"sameas", "other!", is_same},   {"lower", "", is_lower},
    {"upper", "", is_upper},       {"filter", "", is_filter},       {"test", "", is_test},
};

const struct jinja_test_def *graft_jinja_find_test(const char *name, uint64_t length)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (strlen(tests[i].name) == length && memcmp(tests[i].name, name, (size_t)length) == 0) {
            return &tests[i];
        }
    }
    return NULL;
}
