// SPDX-License-Identifier: Apache-2.0
// Operators of the template interpreter: arithmetic, comparison, membership and slices with Python's rules. Integers have 64
// bits; where Python's would grow beyond, the result is GRAFT_E_LIMIT.
#include <math.h>

#include "runtime/text/jinja.h"

enum graft_status graft_jinja_undefined_error(const struct jinja_value *value)
{
    const struct jinja_string *name = value->as.string;
    if (!name) {
        return graft_fail(GRAFT_E_ARGUMENT, "an undefined value is used");
    }
    return graft_fail(GRAFT_E_ARGUMENT, "'%.*s' is undefined", (int)(name->length < 200 ? name->length : 200), name->data);
}

static const char *op_text(enum jinja_op op)
{
    static const char *const texts[] = {
        [JINJA_OP_EQ] = "==",       [JINJA_OP_NE] = "!=", [JINJA_OP_LT] = "<",  [JINJA_OP_LE] = "<=", [JINJA_OP_GT] = ">",
        [JINJA_OP_GE] = ">=",       [JINJA_OP_ADD] = "+", [JINJA_OP_SUB] = "-", [JINJA_OP_MUL] = "*", [JINJA_OP_DIV] = "/",
        [JINJA_OP_FLOORDIV] = "//", [JINJA_OP_MOD] = "%", [JINJA_OP_POW] = "**"};
    return op < sizeof texts / sizeof *texts && texts[op] ? texts[op] : "?";
}

static enum graft_status unsupported(enum jinja_op op, const struct jinja_value *a, const struct jinja_value *b)
{
    if (a->type == JINJA_UNDEFINED || b->type == JINJA_UNDEFINED) {
        return graft_jinja_undefined_error(a->type == JINJA_UNDEFINED ? a : b);
    }
    return graft_fail(GRAFT_E_ARGUMENT, "unsupported operand types for %s: '%s' and '%s'", op_text(op),
                      graft_jinja_type_name(a), graft_jinja_type_name(b));
}

static enum graft_status too_large(enum jinja_op op)
{
    return graft_fail(GRAFT_E_LIMIT, "the result of %s has more than 64 bits", op_text(op));
}

static enum graft_status int_power(int64_t base, int64_t exponent, struct jinja_value *out)
{
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) {
            return too_large(JINJA_OP_POW);
        }
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
            return too_large(JINJA_OP_POW);
        }
    }
    *out = jinja_int(result);
    return GRAFT_OK;
}

static enum graft_status int_arith(enum jinja_op op, int64_t a, int64_t b, struct jinja_value *out)
{
    int64_t result = 0;
    bool over = false;
    switch (op) {
    case JINJA_OP_ADD:
        over = __builtin_add_overflow(a, b, &result);
        break;
    case JINJA_OP_SUB:
        over = __builtin_sub_overflow(a, b, &result);
        break;
    case JINJA_OP_MUL:
        over = __builtin_mul_overflow(a, b, &result);
        break;
    case JINJA_OP_FLOORDIV:
    case JINJA_OP_MOD:
        if (b == 0) {
            return graft_fail(GRAFT_E_ARGUMENT, "integer division or modulo by zero");
        }
        if (b == -1) { // INT64_MIN / -1 traps
            over = op == JINJA_OP_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &result);
            break;
        }
        result = op == JINJA_OP_MOD ? a % b : a / b;
        if (a % b != 0 && (a < 0) != (b < 0)) {
            result += op == JINJA_OP_MOD ? b : -1;
        }
        break;
    default:
        return int_power(a, b, out);
    }
    *out = jinja_int(result);
    return over ? too_large(op) : GRAFT_OK;
}

static enum graft_status float_arith(enum jinja_op op, double a, double b, struct jinja_value *out)
{
    if (b == 0 && (op == JINJA_OP_DIV || op == JINJA_OP_FLOORDIV || op == JINJA_OP_MOD)) {
        return graft_fail(GRAFT_E_ARGUMENT, "division by zero");
    }
    double rest = op == JINJA_OP_MOD || op == JINJA_OP_FLOORDIV ? fmod(a, b) : 0;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        rest += b;
    }
    switch (op) {
    case JINJA_OP_ADD:
        *out = jinja_float(a + b);
        break;
    case JINJA_OP_SUB:
        *out = jinja_float(a - b);
        break;
    case JINJA_OP_MUL:
        *out = jinja_float(a * b);
        break;
    case JINJA_OP_DIV:
        *out = jinja_float(a / b);
        break;
    case JINJA_OP_MOD:
        *out = jinja_float(rest == 0 ? copysign(0.0, b) : rest);
        break;
    case JINJA_OP_FLOORDIV:
        *out = jinja_float(floor((a - rest) / b + 0.5));
        break;
    default:
        if (a == 0 && b < 0) {
            return graft_fail(GRAFT_E_ARGUMENT, "0.0 cannot be raised to a negative power");
        }
        *out = jinja_float(pow(a, b));
        break;
    }
    return GRAFT_OK;
}

static enum graft_status repeat(struct jinja_run *run, const struct jinja_value *of, int64_t times, struct jinja_value *out)
{
    uint64_t n = times > 0 ? (uint64_t)times : 0;
    uint64_t length = 0, total;
    graft_jinja_length(of, &length);
    n = length ? n : 0;
    if (!graft_mul_u64(n, length, &total)) {
        total = UINT64_MAX;
    }
    GRAFT_TRY(graft_jinja_charge(run, of->type == JINJA_STRING ? n / 8 : total));
    if (of->type == JINJA_STRING) {
        struct jinja_buffer buffer = {0};
        for (uint64_t i = 0; i < n; i++) {
            GRAFT_TRY(graft_jinja_put(run, &buffer, of->as.string->data, of->as.string->length));
        }
        return graft_jinja_finish(run, &buffer, out);
    }
    struct jinja_value list;
    GRAFT_TRY(graft_jinja_list(run, of->type, total, &list));
    for (uint64_t i = 0; i < total; i++) {
        list.as.list->items[i] = of->as.list->items[i % length];
    }
    list.as.list->count = total;
    *out = list;
    return GRAFT_OK;
}

static enum graft_status join_lists(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                                    struct jinja_value *out)
{
    const struct jinja_list *s = a->as.list, *t = b->as.list;
    struct jinja_value list;
    GRAFT_TRY(graft_jinja_charge(run, s->count + t->count));
    GRAFT_TRY(graft_jinja_list(run, a->type, s->count + t->count, &list));
    if (s->count) {
        memcpy(list.as.list->items, s->items, (size_t)s->count * sizeof *s->items);
    }
    if (t->count) {
        memcpy(list.as.list->items + s->count, t->items, (size_t)t->count * sizeof *t->items);
    }
    list.as.list->count = s->count + t->count;
    *out = list;
    return GRAFT_OK;
}

enum graft_status graft_jinja_arith(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                                    const struct jinja_value *b, struct jinja_value *out)
{
    int64_t i, j;
    double x, y;
    bool a_seq = a->type == JINJA_STRING || a->type == JINJA_LIST || a->type == JINJA_TUPLE;
    bool b_seq = b->type == JINJA_STRING || b->type == JINJA_LIST || b->type == JINJA_TUPLE;
    if (op == JINJA_OP_MOD && a->type == JINJA_STRING) {
        return graft_jinja_percent(run, a->as.string, b, out);
    }
    if (op == JINJA_OP_ADD && a_seq && a->type == b->type) {
        return a->type == JINJA_STRING ? graft_jinja_append(run, a->as.string, b->as.string, out) : join_lists(run, a, b, out);
    }
    if (op == JINJA_OP_MUL && a_seq && jinja_as_int(b, &j)) {
        return repeat(run, a, j, out);
    }
    if (op == JINJA_OP_MUL && b_seq && jinja_as_int(a, &i)) {
        return repeat(run, b, i, out);
    }
    if (jinja_as_int(a, &i) && jinja_as_int(b, &j) && op != JINJA_OP_DIV && !(op == JINJA_OP_POW && j < 0)) {
        return int_arith(op, i, j, out);
    }
    if (jinja_as_number(a, &x) && jinja_as_number(b, &y)) {
        return float_arith(op, x, y, out);
    }
    return unsupported(op, a, b);
}

enum graft_status graft_jinja_negate(struct jinja_run *run, const struct jinja_value *a, bool minus, struct jinja_value *out)
{
    int64_t i;
    (void)run;
    if (a->type == JINJA_FLOAT) {
        *out = jinja_float(minus ? -a->as.number : a->as.number);
        return GRAFT_OK;
    }
    if (jinja_as_int(a, &i)) {
        return int_arith(minus ? JINJA_OP_SUB : JINJA_OP_ADD, 0, i, out);
    }
    if (a->type == JINJA_UNDEFINED) {
        return graft_jinja_undefined_error(a);
    }
    return graft_fail(GRAFT_E_ARGUMENT, "bad operand type for unary %s: '%s'", minus ? "-" : "+", graft_jinja_type_name(a));
}

enum graft_status graft_jinja_contains(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *item,
                                       bool *out)
{
    *out = false;
    if (in->type == JINJA_STRING) {
        if (item->type != JINJA_STRING) {
            return graft_fail(GRAFT_E_ARGUMENT, "'in <string>' requires string as left operand, not %s",
                              graft_jinja_type_name(item));
        }
        uint64_t at;
        GRAFT_TRY(graft_jinja_find(run, in->as.string, item->as.string, 0, in->as.string->length, false, &at));
        *out = at != UINT64_MAX;
        return GRAFT_OK;
    }
    if (in->type == JINJA_DICT) {
        struct jinja_entry *entry;
        GRAFT_TRY(graft_jinja_dict_get(run, in->as.dict, item, &entry));
        *out = entry != NULL;
        return GRAFT_OK;
    }
    int64_t integer;
    if (in->type == JINJA_RANGE && jinja_as_int(item, &integer)) { // the distance in steps, modulo 2^64: exact if it is inside
        const struct jinja_range *range = in->as.range;
        uint64_t distance =
            range->step > 0 ? (uint64_t)integer - (uint64_t)range->start : (uint64_t)range->start - (uint64_t)integer;
        uint64_t step = range->step > 0 ? (uint64_t)range->step : 0 - (uint64_t)range->step;
        bool ahead = range->step > 0 ? integer >= range->start : integer <= range->start;
        *out = ahead && distance % step == 0 && distance / step < range->count;
        return GRAFT_OK;
    }
    struct jinja_list *list;
    GRAFT_TRY(graft_jinja_elements(run, in, &list));
    for (uint64_t i = 0; !*out && i < list->count; i++) {
        GRAFT_TRY(graft_jinja_equal(run, &list->items[i], item, 0, out));
    }
    return GRAFT_OK;
}

enum graft_status graft_jinja_relate(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                                     const struct jinja_value *b, bool *out)
{
    int order;
    switch (op) {
    case JINJA_OP_EQ:
    case JINJA_OP_NE:
        GRAFT_TRY(graft_jinja_equal(run, a, b, 0, out));
        *out ^= op == JINJA_OP_NE;
        return GRAFT_OK;
    case JINJA_OP_IN:
    case JINJA_OP_NOT_IN:
        GRAFT_TRY(graft_jinja_contains(run, b, a, out));
        *out ^= op == JINJA_OP_NOT_IN;
        return GRAFT_OK;
    default:
        GRAFT_TRY(graft_jinja_compare(run, a, b, op_text(op), 0, &order));
        *out = order == 2          ? false
               : op == JINJA_OP_LT ? order < 0
               : op == JINJA_OP_LE ? order <= 0
               : op == JINJA_OP_GT ? order > 0
                                   : order >= 0;
        return GRAFT_OK;
    }
}

// One bound of a slice as Python's slice.indices: missing gives `none`, negative counts from the end, all within [low, high].
static enum graft_status bound(const struct jinja_value *value, int64_t none, int64_t count, int64_t low, int64_t high,
                               int64_t *out)
{
    if (value->type == JINJA_NONE) {
        *out = none;
        return GRAFT_OK;
    }
    if (!jinja_as_int(value, out)) {
        return value->type == JINJA_UNDEFINED ? graft_jinja_undefined_error(value)
                                              : graft_fail(GRAFT_E_ARGUMENT, "slice indices must be integers or None, not %s",
                                                           graft_jinja_type_name(value));
    }
    *out = *out < 0 ? (*out < -count ? low : *out + count) : *out;
    *out = *out < low ? low : *out > high ? high : *out;
    return GRAFT_OK;
}

enum graft_status graft_jinja_slice(struct jinja_run *run, const struct jinja_value *of, const struct jinja_value *start,
                                    const struct jinja_value *stop, const struct jinja_value *step, struct jinja_value *out)
{
    if (of->type == JINJA_UNDEFINED) {
        return graft_jinja_undefined_error(of);
    }
    if (of->type != JINJA_STRING && of->type != JINJA_LIST && of->type != JINJA_TUPLE && of->type != JINJA_RANGE) {
        return graft_fail(GRAFT_E_ARGUMENT, "'%s' object cannot be sliced", graft_jinja_type_name(of));
    }
    uint64_t length = 0;
    graft_jinja_length(of, &length);
    int64_t count = (int64_t)length, by = 1, first, last;
    if (step->type != JINJA_NONE && (!jinja_as_int(step, &by) || by == 0)) {
        return graft_fail(GRAFT_E_ARGUMENT, "a slice's step must be an integer other than 0");
    }
    int64_t low = by < 0 ? -1 : 0, high = by < 0 ? count - 1 : count;
    GRAFT_TRY(bound(start, by < 0 ? high : low, count, low, high, &first));
    GRAFT_TRY(bound(stop, by < 0 ? low : high, count, low, high, &last));
    uint64_t size = 0;
    if (by > 0 && last > first) {
        size = (uint64_t)(last - first - 1) / (uint64_t)by + 1;
    } else if (by < 0 && first > last) {
        size = (uint64_t)(first - last - 1) / (0 - (uint64_t)by) + 1;
    }
    if (of->type == JINJA_STRING && by == 1) {
        const struct jinja_string *string = of->as.string;
        uint64_t from = graft_jinja_offset(string, (uint64_t)first);
        struct jinja_string rest = {
            .data = string->data + from, .length = string->length - from, .chars = string->chars - (uint64_t)first};
        uint64_t bytes = size ? graft_jinja_offset(&rest, size) : 0;
        GRAFT_TRY(graft_jinja_charge(run, string->chars == string->length ? 0 : (from + bytes) / 64));
        return graft_jinja_share(&run->arena, string, from, bytes, out);
    }
    struct jinja_list *items;
    GRAFT_TRY(graft_jinja_elements(run, of, &items));
    GRAFT_TRY(graft_jinja_charge(run, size));
    struct jinja_buffer buffer = {0};
    struct jinja_value list;
    GRAFT_TRY(
        graft_jinja_list(run, of->type == JINJA_TUPLE ? JINJA_TUPLE : JINJA_LIST, of->type == JINJA_STRING ? 0 : size, &list));
    for (uint64_t i = 0; i < size; i++) {
        const struct jinja_value *item = &items->items[first + (int64_t)i * by];
        if (of->type == JINJA_STRING) {
            GRAFT_TRY(graft_jinja_put_value(run, &buffer, item));
        } else {
            GRAFT_TRY(graft_jinja_push(run, list.as.list, item));
        }
    }
    *out = list;
    return of->type == JINJA_STRING ? graft_jinja_finish(run, &buffer, out) : GRAFT_OK;
}
