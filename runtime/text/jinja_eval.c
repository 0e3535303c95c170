// SPDX-License-Identifier: Apache-2.0
// Evaluation of expressions: names, literals, operators, attributes, subscripts, calls, filters and tests.
#include "runtime/text/jinja.h"

static enum graft_status enter(struct jinja_run *run)
{
    if (++run->depth > JINJA_MAX_EVAL_DEPTH) {
        return graft_fail(GRAFT_E_LIMIT, "template: nested deeper than %d levels, macro calls counted", JINJA_MAX_EVAL_DEPTH);
    }
    return graft_jinja_charge(run, 1);
}

enum graft_status graft_jinja_lookup(struct jinja_run *run, const struct jinja_string *name, struct jinja_value *out)
{
    uint64_t probes = 0;
    for (const struct jinja_frame *frame = run->frame; frame; frame = frame->parent) {
        for (uint32_t i = frame->count; i > 0; i--) {
            if (frame->bindings[i - 1].name == name) {
                *out = frame->bindings[i - 1].value;
                return graft_jinja_charge(run, probes / 16);
            }
            probes++;
        }
    }
    GRAFT_TRY(graft_jinja_charge(run, probes / 16));
    struct jinja_value key = {.type = JINJA_STRING, .as.string = name};
    struct jinja_entry *entry;
    GRAFT_TRY(graft_jinja_dict_get(run, run->variables, &key, &entry));
    if (entry) {
        *out = entry->value;
        return GRAFT_OK;
    }
    const struct jinja_function *function = graft_jinja_find_function(name->data, name->length);
    *out = function ? (struct jinja_value){.type = JINJA_FUNCTION, .as.function = function} : jinja_undefined(name);
    return GRAFT_OK;
}

enum graft_status graft_jinja_attr(struct jinja_run *run, const struct jinja_value *of, const struct jinja_string *name,
                                   struct jinja_value *out)
{
    const struct jinja_value self = *of;
    *out = jinja_undefined(name);
    if (self.type == JINJA_UNDEFINED) {
        return graft_jinja_undefined_error(&self);
    }
    if (self.type == JINJA_LOOP || self.type == JINJA_CYCLER) {
        GRAFT_TRY(graft_jinja_object_attr(run, &self, name, out));
        if (out->type != JINJA_UNSET) {
            return GRAFT_OK;
        }
        *out = jinja_undefined(name);
    }
    if (self.type == JINJA_MACRO && self.as.macro->node->name && jinja_name_is(name, "name")) {
        *out = (struct jinja_value){.type = JINJA_STRING, .as.string = self.as.macro->node->name};
        return GRAFT_OK;
    }
    const struct jinja_method_def *def = graft_jinja_find_method(self.type, name->data, name->length);
    if (def) {
        struct jinja_method *method;
        GRAFT_TRY(JINJA_NEW(&run->arena, &method, 1));
        *method = (struct jinja_method){.self = self, .def = def};
        *out = (struct jinja_value){.type = JINJA_METHOD, .as.method = method};
        return GRAFT_OK;
    }
    if (self.type == JINJA_DICT || self.type == JINJA_NAMESPACE) {
        struct jinja_value key = {.type = JINJA_STRING, .as.string = name};
        struct jinja_entry *entry;
        GRAFT_TRY(graft_jinja_dict_get(run, self.as.dict, &key, &entry));
        *out = entry ? entry->value : *out;
    }
    return GRAFT_OK;
}

enum graft_status graft_jinja_item(struct jinja_run *run, const struct jinja_value *of, const struct jinja_value *key,
                                   struct jinja_value *out)
{
    const struct jinja_value self = *of, index = *key;
    int64_t at;
    uint64_t length = 0;
    if (self.type == JINJA_UNDEFINED) {
        return graft_jinja_undefined_error(&self);
    }
    if (self.type == JINJA_DICT && index.type != JINJA_LIST && index.type != JINJA_DICT) {
        struct jinja_entry *entry;
        GRAFT_TRY(graft_jinja_dict_get(run, self.as.dict, &index, &entry));
        if (entry) {
            *out = entry->value;
            return GRAFT_OK;
        }
    }
    if (index.type == JINJA_STRING) {
        if (self.type != JINJA_DICT) {
            return graft_jinja_attr(run, &self, index.as.string, out);
        }
        const struct jinja_method_def *def = graft_jinja_find_method(self.type, index.as.string->data, index.as.string->length);
        return def ? graft_jinja_attr(run, &self, index.as.string, out) : (*out = jinja_undefined(index.as.string), GRAFT_OK);
    }
    *out = jinja_undefined(NULL);
    bool indexed = self.type == JINJA_STRING || self.type == JINJA_LIST || self.type == JINJA_TUPLE || self.type == JINJA_RANGE;
    if (!indexed || !jinja_as_int(&index, &at)) {
        return GRAFT_OK;
    }
    graft_jinja_length(&self, &length);
    at += at < 0 ? (int64_t)length : 0;
    if (at < 0 || (uint64_t)at >= length) {
        return GRAFT_OK;
    }
    if (self.type == JINJA_STRING) {
        struct jinja_value from = jinja_int(at), to = jinja_int(at + 1), none = jinja_none();
        return graft_jinja_slice(run, &self, &from, &to, &none, out);
    }
    *out = self.type == JINJA_RANGE ? jinja_int(self.as.range->start + at * self.as.range->step) : self.as.list->items[at];
    return GRAFT_OK;
}

enum graft_status graft_jinja_args(struct jinja_run *run, const struct jinja_node *list, struct jinja_args *out)
{
    *out = (struct jinja_args){0};
    struct jinja_value plain;
    if (!list) {
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &plain));
    for (const struct jinja_node *node = list; node; node = node->next) {
        struct jinja_value value;
        GRAFT_TRY(graft_jinja_eval(run, node->a, &value));
        if (node->op == JINJA_ARG_PLAIN) {
            GRAFT_TRY(graft_jinja_push(run, plain.as.list, &value));
            continue;
        }
        if (node->op == JINJA_ARG_STAR) {
            struct jinja_list *more;
            GRAFT_TRY(graft_jinja_elements(run, &value, &more));
            GRAFT_TRY(graft_jinja_charge(run, more->count));
            for (uint64_t i = 0; i < more->count; i++) {
                GRAFT_TRY(graft_jinja_push(run, plain.as.list, &more->items[i]));
            }
            continue;
        }
        if (!out->keywords) {
            GRAFT_TRY(graft_jinja_dict(run, &out->keywords));
        }
        if (node->op == JINJA_ARG_KEYWORD) {
            struct jinja_value key = {.type = JINJA_STRING, .as.string = node->name};
            GRAFT_TRY(graft_jinja_dict_set(run, out->keywords, &key, &value));
            continue;
        }
        if (value.type != JINJA_DICT) {
            return graft_fail(GRAFT_E_ARGUMENT, "the value behind ** must be a dict, not %s", graft_jinja_type_name(&value));
        }
        for (uint64_t i = 0; i < value.as.dict->count; i++) {
            const struct jinja_entry *entry = &value.as.dict->entries[i];
            if (entry->key.type != JINJA_STRING) {
                return graft_fail(GRAFT_E_ARGUMENT, "keywords must be strings");
            }
            GRAFT_TRY(graft_jinja_dict_set(run, out->keywords, &entry->key, &entry->value));
        }
    }
    out->plain = plain.as.list->items;
    out->count = plain.as.list->count;
    return GRAFT_OK;
}

// Arguments to the parameters named in `params`; those not given become JINJA_UNSET. params NULL: nothing is bound.
enum graft_status graft_jinja_bind(struct jinja_run *run, const char *what, const char *params, const struct jinja_args *args,
                                   struct jinja_value argv[JINJA_MAX_BOUND])
{
    (void)run;
    memset(argv, 0, JINJA_MAX_BOUND * sizeof *argv);
    if (!params) {
        return GRAFT_OK;
    }
    uint64_t used_keywords = 0, index = 0;
    for (const char *p = params; *p; index++) {
        size_t length = strcspn(p, " ");
        bool must = p[length - 1] == '!';
        size_t name_length = length - must;
        if (index < args->count) {
            argv[index] = args->plain[index];
        }
        for (uint64_t i = 0; args->keywords && i < args->keywords->count; i++) {
            const struct jinja_entry *entry = &args->keywords->entries[i];
            if (entry->key.as.string->length == name_length && memcmp(entry->key.as.string->data, p, name_length) == 0) {
                if (argv[index].type != JINJA_UNSET) {
                    return graft_fail(GRAFT_E_ARGUMENT, "%s got two values for '%.*s'", what, (int)name_length, p);
                }
                argv[index] = entry->value;
                used_keywords++;
            }
        }
        if (must && argv[index].type == JINJA_UNSET) {
            return graft_fail(GRAFT_E_ARGUMENT, "%s needs the argument '%.*s'", what, (int)name_length, p);
        }
        p += length;
        p += *p == ' ';
    }
    if (args->count > index) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s takes at most %" PRIu64 " arguments, %" PRIu64 " are given", what, index,
                          args->count);
    }
    if (args->keywords && used_keywords < args->keywords->count) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s got a named argument that it does not know (it has: %s)", what,
                          *params ? params : "none");
    }
    return GRAFT_OK;
}

enum graft_status graft_jinja_apply_filter(struct jinja_run *run, const struct jinja_filter_def *def,
                                           const struct jinja_value *in, const struct jinja_args *args, struct jinja_value *out)
{
    struct jinja_value argv[JINJA_MAX_BOUND], self = *in;
    GRAFT_TRY(graft_jinja_charge(run, 1));
    GRAFT_TRY(graft_jinja_bind(run, def->name, def->params, args, argv));
    return def->run(run, &self, argv, args, out);
}

enum graft_status graft_jinja_apply_test(struct jinja_run *run, const struct jinja_test_def *def, const struct jinja_value *in,
                                         const struct jinja_args *args, bool *out)
{
    struct jinja_value argv[JINJA_MAX_BOUND];
    GRAFT_TRY(graft_jinja_charge(run, 1));
    GRAFT_TRY(graft_jinja_bind(run, def->name, def->params, args, argv));
    *out = false;
    return def->run(run, in, argv, out);
}

enum graft_status graft_jinja_call(struct jinja_run *run, const struct jinja_value *callee, const struct jinja_args *args,
                                   struct jinja_value *out)
{
    struct jinja_value argv[JINJA_MAX_BOUND];
    switch (callee->type) {
    case JINJA_MACRO:
        return graft_jinja_call_macro(run, callee->as.macro, args, out);
    case JINJA_FUNCTION:
        GRAFT_TRY(graft_jinja_bind(run, callee->as.function->name, callee->as.function->params, args, argv));
        return callee->as.function->run(run, NULL, argv, args, out);
    case JINJA_METHOD: {
        const struct jinja_method_def *def = callee->as.method->def;
        GRAFT_TRY(graft_jinja_bind(run, def->name, def->params, args, argv));
        return def->run(run, &callee->as.method->self, argv, args, out);
    }
    case JINJA_LOOP:
        GRAFT_TRY(graft_jinja_bind(run, "loop", "iterable!", args, argv));
        return graft_jinja_loop_again(run, callee->as.loop, &argv[0], out);
    case JINJA_JOINER: {
        struct jinja_cycler *joiner = callee->as.cycler;
        if (joiner->at++ == 0) {
            return graft_jinja_string(&run->arena, "", 0, out);
        }
        *out = joiner->items->items[0];
        return GRAFT_OK;
    }
    case JINJA_UNDEFINED:
        return graft_jinja_undefined_error(callee);
    default:
        return graft_fail(GRAFT_E_ARGUMENT, "'%s' object is not callable", graft_jinja_type_name(callee));
    }
}

static enum graft_status unknown(const struct jinja_node *node, const char *what)
{
    return graft_fail(GRAFT_E_UNSUPPORTED, "%s '%.*s' is unknown", what,
                      (int)(node->name->length < 100 ? node->name->length : 100), node->name->data);
}

static enum graft_status slice_bounds(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *value)
{
    struct jinja_value bounds[3] = {jinja_none(), jinja_none(), jinja_none()};
    const struct jinja_node *const parts[3] = {node->a, node->b, node->c};
    for (int i = 0; i < 3; i++) {
        if (parts[i]) {
            GRAFT_TRY(graft_jinja_eval(run, parts[i], &bounds[i]));
        }
    }
    struct jinja_value of = *value;
    return graft_jinja_slice(run, &of, &bounds[0], &bounds[1], &bounds[2], value);
}

static enum graft_status apply_args(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *value)
{
    struct jinja_args args;
    const struct jinja_value self = *value;
    if (node->kind == P_FILTER && !node->u.filter) {
        return unknown(node, "filter");
    }
    if (node->kind == P_TEST && !node->u.test) {
        return unknown(node, "test");
    }
    GRAFT_TRY(graft_jinja_args(run, node->a, &args));
    run->line = node->line;
    if (node->kind == P_FILTER) {
        return graft_jinja_apply_filter(run, node->u.filter, &self, &args, value);
    }
    if (node->kind == P_CALL) {
        return graft_jinja_call(run, &self, &args, value);
    }
    bool yes;
    GRAFT_TRY(graft_jinja_apply_test(run, node->u.test, &self, &args, &yes));
    *value = jinja_bool(yes != (node->op != 0));
    return GRAFT_OK;
}

enum graft_status graft_jinja_chain(struct jinja_run *run, const struct jinja_node *ops, const struct jinja_node *stop,
                                    struct jinja_value *value)
{
    for (const struct jinja_node *node = ops; node != stop; node = node->next) {
        struct jinja_value key;
        GRAFT_TRY(graft_jinja_charge(run, 1));
        run->line = node->line;
        switch (node->kind) {
        case P_ATTR:
            GRAFT_TRY(graft_jinja_attr(run, value, node->name, value));
            break;
        case P_ITEM:
            GRAFT_TRY(graft_jinja_eval(run, node->a, &key));
            GRAFT_TRY(graft_jinja_item(run, value, &key, value));
            break;
        case P_SLICE:
            GRAFT_TRY(slice_bounds(run, node, value));
            break;
        default:
            GRAFT_TRY(apply_args(run, node, value));
            break;
        }
    }
    return GRAFT_OK;
}

static enum graft_status eval_items(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    if (node->kind == E_DICT) {
        struct jinja_dict *dict;
        GRAFT_TRY(graft_jinja_dict(run, &dict));
        for (const struct jinja_node *key = node->a; key; key = key->next->next) {
            struct jinja_value name, value;
            GRAFT_TRY(graft_jinja_eval(run, key->a, &name));
            GRAFT_TRY(graft_jinja_eval(run, key->next->a, &value));
            GRAFT_TRY(graft_jinja_dict_set(run, dict, &name, &value));
        }
        *out = (struct jinja_value){.type = JINJA_DICT, .as.dict = dict};
        return GRAFT_OK;
    }
    struct jinja_value list;
    GRAFT_TRY(graft_jinja_list(run, node->kind == E_TUPLE ? JINJA_TUPLE : JINJA_LIST, 0, &list));
    for (const struct jinja_node *item = node->a; item; item = item->next) {
        struct jinja_value value;
        GRAFT_TRY(graft_jinja_eval(run, item->a, &value));
        GRAFT_TRY(graft_jinja_push(run, list.as.list, &value));
    }
    *out = list;
    return GRAFT_OK;
}

static enum graft_status eval_operators(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value left, right;
    GRAFT_TRY(graft_jinja_eval(run, node->a, &left));
    for (const struct jinja_node *operand = node->b; operand; operand = operand->next) {
        GRAFT_TRY(graft_jinja_eval(run, operand->a, &right));
        run->line = operand->line;
        if (node->kind == E_ARITH) {
            struct jinja_value result;
            GRAFT_TRY(graft_jinja_arith(run, (enum jinja_op)operand->op, &left, &right, &result));
            left = result;
            continue;
        }
        bool yes;
        GRAFT_TRY(graft_jinja_relate(run, (enum jinja_op)operand->op, &left, &right, &yes));
        *out = jinja_bool(yes);
        if (!yes) {
            return GRAFT_OK;
        }
        left = right;
    }
    if (node->kind == E_ARITH) {
        *out = left;
    }
    return GRAFT_OK;
}

// a ~ b ~ c: appended to the first, which costs nothing where it can grow in place.
static enum graft_status eval_concat(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value all, piece;
    GRAFT_TRY(graft_jinja_eval(run, node->a->a, &piece));
    GRAFT_TRY(graft_jinja_str(run, &piece, &all));
    for (const struct jinja_node *operand = node->a->next; operand; operand = operand->next) {
        GRAFT_TRY(graft_jinja_eval(run, operand->a, &piece));
        GRAFT_TRY(graft_jinja_str(run, &piece, &piece));
        GRAFT_TRY(graft_jinja_append(run, all.as.string, piece.as.string, &all));
    }
    *out = all;
    return GRAFT_OK;
}

static enum graft_status eval_node(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value value;
    switch (node->kind) {
    case E_CONST:
        *out = node->u.value;
        return GRAFT_OK;
    case E_NAME:
        return graft_jinja_lookup(run, node->name, out);
    case E_LIST:
    case E_TUPLE:
    case E_DICT:
        return eval_items(run, node, out);
    case E_COND:
        GRAFT_TRY(graft_jinja_eval(run, node->a, &value));
        if (graft_jinja_truth(&value)) {
            return graft_jinja_eval(run, node->b, out);
        }
        *out = jinja_undefined(NULL);
        return node->c ? graft_jinja_eval(run, node->c, out) : GRAFT_OK;
    case E_AND:
    case E_OR:
        for (const struct jinja_node *operand = node->a; operand; operand = operand->next) {
            GRAFT_TRY(graft_jinja_eval(run, operand->a, out));
            if (graft_jinja_truth(out) == (node->kind == E_OR)) {
                break;
            }
        }
        return GRAFT_OK;
    case E_NOT:
        GRAFT_TRY(graft_jinja_eval(run, node->a, &value));
        *out = jinja_bool(!graft_jinja_truth(&value));
        return GRAFT_OK;
    case E_COMPARE:
    case E_ARITH:
        return eval_operators(run, node, out);
    case E_CONCAT:
        return eval_concat(run, node, out);
    case E_NEG:
    case E_POS:
        GRAFT_TRY(graft_jinja_eval(run, node->a, &value));
        return graft_jinja_negate(run, &value, node->kind == E_NEG, out);
    case E_CHAIN:
        GRAFT_TRY(graft_jinja_eval(run, node->a, out));
        return graft_jinja_chain(run, node->b, NULL, out);
    default:
        return graft_fail(GRAFT_E_INTERNAL, "template: node of kind %d is no expression", node->kind);
    }
}

enum graft_status graft_jinja_eval(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    GRAFT_TRY(enter(run));
    GRAFT_TRY(eval_node(run, node, out));
    run->depth--;
    return GRAFT_OK;
}
