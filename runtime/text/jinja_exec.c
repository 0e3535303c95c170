// SPDX-License-Identifier: Apache-2.0
// Execution of statements: output, branches, loops, assignments, macros and scopes.
#include "runtime/text/jinja.h"

enum graft_status graft_jinja_bind_name(struct jinja_run *run, struct jinja_frame *frame, const struct jinja_string *name,
                                        const struct jinja_value *value)
{
    for (uint32_t i = 0; i < frame->count; i++) {
        if (frame->bindings[i].name == name) {
            frame->bindings[i].value = *value;
            return graft_jinja_charge(run, i / 16);
        }
    }
    if (frame->count == frame->capacity) {
        uint32_t capacity = frame->capacity ? frame->capacity * 2 : 4;
        GRAFT_TRY(graft_jinja_grow(&run->arena, (void **)&frame->bindings, frame->capacity * sizeof *frame->bindings,
                                   capacity * sizeof *frame->bindings));
        frame->capacity = capacity;
    }
    frame->bindings[frame->count++] = (struct jinja_binding){.name = name, .value = *value};
    return graft_jinja_charge(run, frame->count / 16);
}

static enum graft_status new_frame(struct jinja_run *run, struct jinja_frame *parent, struct jinja_frame **out)
{
    GRAFT_TRY(JINJA_NEW(&run->arena, out, 1));
    (*out)->parent = parent;
    return GRAFT_OK;
}

static enum graft_status assign(struct jinja_run *run, const struct jinja_node *target, const struct jinja_value *value)
{
    if (target->kind == E_NAME) {
        return graft_jinja_bind_name(run, run->frame, target->name, value);
    }
    if (target->kind == E_NSREF) {
        struct jinja_value space;
        GRAFT_TRY(graft_jinja_lookup(run, target->name, &space));
        if (space.type != JINJA_NAMESPACE) {
            return graft_fail(GRAFT_E_ARGUMENT, "cannot assign attribute on non-namespace object");
        }
        struct jinja_value key = {.type = JINJA_STRING, .as.string = target->u.text};
        return graft_jinja_dict_set(run, space.as.dict, &key, value);
    }
    struct jinja_list *items;
    GRAFT_TRY(graft_jinja_elements(run, value, &items));
    uint64_t at = 0;
    for (const struct jinja_node *part = target->a; part; part = part->next, at++) {
        if (at >= items->count) {
            return graft_fail(GRAFT_E_ARGUMENT, "not enough values to unpack (got %" PRIu64 ")", items->count);
        }
        GRAFT_TRY(assign(run, part->a, &items->items[at]));
    }
    if (at < items->count) {
        return graft_fail(GRAFT_E_ARGUMENT, "too many values to unpack (expected %" PRIu64 ")", at);
    }
    return GRAFT_OK;
}

// The text of `body`, executed in a scope of its own whose parent is `parent`.
static enum graft_status capture(struct jinja_run *run, const struct jinja_node *body, struct jinja_frame *frame,
                                 struct jinja_value *out)
{
    struct jinja_buffer buffer = {0};
    struct jinja_buffer *outer = run->out;
    struct jinja_frame *before = run->frame;
    run->out = &buffer;
    run->frame = frame;
    GRAFT_TRY(graft_jinja_exec(run, body));
    run->frame = before;
    run->out = outer;
    return graft_jinja_finish(run, &buffer, out);
}

static enum graft_status scope(struct jinja_run *run, const struct jinja_node *body)
{
    struct jinja_frame *before = run->frame;
    GRAFT_TRY(new_frame(run, before, &run->frame));
    GRAFT_TRY(graft_jinja_exec(run, body));
    run->frame = before;
    return GRAFT_OK;
}

// The elements for which the loop's condition holds.
static enum graft_status filter_items(struct jinja_run *run, const struct jinja_node *node, struct jinja_list **items)
{
    struct jinja_value kept;
    struct jinja_frame *before = run->frame;
    GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &kept));
    GRAFT_TRY(new_frame(run, before, &run->frame));
    for (uint64_t i = 0; i < (*items)->count; i++) {
        struct jinja_value yes;
        GRAFT_TRY(assign(run, node->a, &(*items)->items[i]));
        GRAFT_TRY(graft_jinja_eval(run, node->c, &yes));
        if (graft_jinja_truth(&yes)) {
            GRAFT_TRY(graft_jinja_push(run, kept.as.list, &(*items)->items[i]));
        }
    }
    run->frame = before;
    *items = kept.as.list;
    return GRAFT_OK;
}

static enum graft_status loop_over(struct jinja_run *run, const struct jinja_node *node, const struct jinja_value *over,
                                   uint32_t depth0)
{
    struct jinja_list *items;
    GRAFT_TRY(graft_jinja_elements(run, over, &items));
    if (node->c) {
        GRAFT_TRY(filter_items(run, node, &items));
    }
    struct jinja_frame *before = run->frame, *frame = NULL;
    struct jinja_loop *loop;
    GRAFT_TRY(JINJA_NEW(&run->arena, &loop, 1));
    *loop = (struct jinja_loop){.items = items, .depth0 = depth0, .node = node, .frame = before};
    struct jinja_value self = {.type = JINJA_LOOP, .as.loop = loop};
    uint64_t done = 0;
    for (; done < items->count; done++) {
        if (!frame || frame->captured) {
            GRAFT_TRY(new_frame(run, before, &frame));
        }
        frame->count = 0;
        run->frame = frame;
        loop->at = done;
        if (run->tree->loop) {
            GRAFT_TRY(graft_jinja_bind_name(run, frame, run->tree->loop, &self));
        }
        GRAFT_TRY(assign(run, node->a, &items->items[done]));
        GRAFT_TRY(graft_jinja_exec(run, node->d));
        bool stop = run->flow == JINJA_FLOW_BREAK;
        run->flow = JINJA_FLOW_ON;
        if (stop) {
            done++;
            break;
        }
    }
    run->frame = before;
    return done == 0 && node->e ? scope(run, node->e) : GRAFT_OK;
}

enum graft_status graft_jinja_loop_again(struct jinja_run *run, const struct jinja_loop *loop, const struct jinja_value *items,
                                         struct jinja_value *out)
{
    if (!loop->node->op) {
        return graft_fail(GRAFT_E_ARGUMENT, "loop() is called in a loop without the word recursive");
    }
    struct jinja_buffer buffer = {0};
    struct jinja_buffer *outer = run->out;
    struct jinja_frame *before = run->frame;
    run->out = &buffer;
    run->frame = loop->frame;
    GRAFT_TRY(loop_over(run, loop->node, items, loop->depth0 + 1));
    run->frame = before;
    run->out = outer;
    return graft_jinja_finish(run, &buffer, out);
}

static enum graft_status make_macro(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_macro *macro;
    GRAFT_TRY(JINJA_NEW(&run->arena, &macro, 1));
    *macro = (struct jinja_macro){.node = node, .frame = run->frame};
    for (struct jinja_frame *frame = run->frame; frame && !frame->captured; frame = frame->parent) {
        frame->captured = true;
    }
    *out = (struct jinja_value){.type = JINJA_MACRO, .as.macro = macro};
    return GRAFT_OK;
}

static bool macro_has(const struct jinja_macro *macro, const struct jinja_string *name)
{
    const struct jinja_node *param = macro->node->a;
    while (param &&
           !(param->name->length == name->length && memcmp(param->name->data, name->data, (size_t)name->length) == 0)) {
        param = param->next;
    }
    return param != NULL;
}

// What no parameter takes: caller, varargs and kwargs if the macro mentions them, an error otherwise.
static enum graft_status bind_rest(struct jinja_run *run, const struct jinja_macro *macro, const struct jinja_args *args,
                                   uint64_t taken, struct jinja_frame *frame)
{
    const struct jinja_node *node = macro->node;
    const char *name = node->name ? node->name->data : "caller";
    struct jinja_dict *rest;
    GRAFT_TRY(graft_jinja_dict(run, &rest));
    struct jinja_value caller = jinja_undefined(run->tree->caller);
    for (uint64_t i = 0; args->keywords && i < args->keywords->count; i++) {
        const struct jinja_entry *entry = &args->keywords->entries[i];
        if (macro_has(macro, entry->key.as.string)) {
            continue;
        }
        if ((node->op & JINJA_USES_CALLER) && jinja_name_is(entry->key.as.string, "caller")) {
            caller = entry->value;
        } else if (node->op & JINJA_USES_KWARGS) {
            GRAFT_TRY(graft_jinja_dict_set(run, rest, &entry->key, &entry->value));
        } else {
            return graft_fail(GRAFT_E_ARGUMENT, "macro '%s' takes no keyword argument '%.*s'", name,
                              (int)(entry->key.as.string->length < 100 ? entry->key.as.string->length : 100),
                              entry->key.as.string->data);
        }
    }
    if (args->count > taken && !(node->op & JINJA_USES_VARARGS)) {
        return graft_fail(GRAFT_E_ARGUMENT, "macro '%s' takes not more than %" PRIu64 " argument(s)", name, taken);
    }
    if ((node->op & JINJA_USES_CALLER) && !macro_has(macro, run->tree->caller)) {
        GRAFT_TRY(graft_jinja_bind_name(run, frame, run->tree->caller, &caller));
    }
    if (node->op & JINJA_USES_KWARGS) {
        struct jinja_value kwargs = {.type = JINJA_DICT, .as.dict = rest};
        GRAFT_TRY(graft_jinja_bind_name(run, frame, run->tree->kwargs, &kwargs));
    }
    if (node->op & JINJA_USES_VARARGS) {
        struct jinja_value varargs;
        GRAFT_TRY(graft_jinja_list(run, JINJA_TUPLE, 0, &varargs));
        for (uint64_t i = taken; i < args->count; i++) {
            GRAFT_TRY(graft_jinja_push(run, varargs.as.list, &args->plain[i]));
        }
        GRAFT_TRY(graft_jinja_bind_name(run, frame, run->tree->varargs, &varargs));
    }
    return GRAFT_OK;
}

enum graft_status graft_jinja_call_macro(struct jinja_run *run, const struct jinja_macro *macro, const struct jinja_args *args,
                                         struct jinja_value *out)
{
    if (++run->calls > GRAFT_TEMPLATE_MAX_DEPTH) {
        return graft_fail(GRAFT_E_LIMIT, "template: more than %d macro calls are nested", GRAFT_TEMPLATE_MAX_DEPTH);
    }
    struct jinja_frame *frame;
    GRAFT_TRY(new_frame(run, macro->frame, &frame));
    uint64_t at = 0;
    for (const struct jinja_node *param = macro->node->a; param; param = param->next, at++) {
        struct jinja_value value = {.type = JINJA_UNSET};
        if (at < args->count) {
            value = args->plain[at];
        }
        if (args->keywords) {
            struct jinja_value key = {.type = JINJA_STRING, .as.string = param->name};
            struct jinja_entry *entry;
            GRAFT_TRY(graft_jinja_dict_get(run, args->keywords, &key, &entry));
            if (entry && value.type != JINJA_UNSET) {
                return graft_fail(GRAFT_E_ARGUMENT, "a macro got two values for '%s'", param->name->data);
            }
            value = entry ? entry->value : value;
        }
        GRAFT_TRY(graft_jinja_bind_name(run, frame, param->name, &value));
    }
    GRAFT_TRY(bind_rest(run, macro, args, at, frame));
    at = 0;
    for (const struct jinja_node *param = macro->node->a; param; param = param->next, at++) {
        // Defaults see the parameters before them.
        if (frame->bindings[at].value.type == JINJA_UNSET) {
            struct jinja_value value = jinja_undefined(param->name);
            if (param->a) {
                struct jinja_frame *before = run->frame;
                run->frame = frame;
                GRAFT_TRY(graft_jinja_eval(run, param->a, &value));
                run->frame = before;
            }
            GRAFT_TRY(graft_jinja_bind_name(run, frame, param->name, &value));
        }
    }
    GRAFT_TRY(capture(run, macro->node->c, frame, out));
    run->calls--;
    return GRAFT_OK;
}

static enum graft_status exec_call(struct jinja_run *run, const struct jinja_node *node)
{
    const struct jinja_node *last = node->b->b;
    while (last->next) {
        last = last->next;
    }
    struct jinja_value caller, value;
    struct jinja_args args;
    GRAFT_TRY(make_macro(run, node, &caller));
    GRAFT_TRY(graft_jinja_eval(run, node->b->a, &value));
    GRAFT_TRY(graft_jinja_chain(run, node->b->b, last, &value));
    GRAFT_TRY(graft_jinja_args(run, last->a, &args));
    if (!args.keywords) {
        GRAFT_TRY(graft_jinja_dict(run, &args.keywords));
    }
    struct jinja_value key, result;
    GRAFT_TRY(graft_jinja_string(&run->arena, "caller", 6, &key));
    GRAFT_TRY(graft_jinja_dict_set(run, args.keywords, &key, &caller));
    run->line = node->line;
    GRAFT_TRY(graft_jinja_call(run, &value, &args, &result));
    return graft_jinja_put_value(run, run->out, &result);
}

static enum graft_status exec_capture(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_frame *frame;
    struct jinja_value text;
    GRAFT_TRY(new_frame(run, run->frame, &frame));
    GRAFT_TRY(capture(run, node->c, frame, &text));
    if (node->b) {
        GRAFT_TRY(graft_jinja_chain(run, node->b->b, NULL, &text));
    }
    return node->kind == S_FILTER ? graft_jinja_put_value(run, run->out, &text) : assign(run, node->a, &text);
}

static enum graft_status exec_with(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_frame *before = run->frame, *frame;
    GRAFT_TRY(new_frame(run, before, &frame));
    for (const struct jinja_node *set = node->a; set; set = set->next) {
        struct jinja_value value;
        GRAFT_TRY(graft_jinja_eval(run, set->b, &value));
        GRAFT_TRY(graft_jinja_bind_name(run, frame, set->a->name, &value));
    }
    run->frame = frame;
    GRAFT_TRY(graft_jinja_exec(run, node->c));
    run->frame = before;
    return GRAFT_OK;
}

static enum graft_status exec_if(struct jinja_run *run, const struct jinja_node *node)
{
    for (const struct jinja_node *branch = node->a; branch; branch = branch->next) {
        struct jinja_value yes = jinja_bool(true);
        if (branch->a) {
            run->line = branch->line;
            GRAFT_TRY(graft_jinja_eval(run, branch->a, &yes));
        }
        if (graft_jinja_truth(&yes)) {
            return graft_jinja_exec(run, branch->b);
        }
    }
    return GRAFT_OK;
}

static enum graft_status exec_node(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value;
    switch (node->kind) {
    case S_DATA:
        return graft_jinja_put(run, run->out, node->u.text->data, node->u.text->length);
    case S_PRINT:
        GRAFT_TRY(graft_jinja_eval(run, node->a, &value));
        return graft_jinja_put_value(run, run->out, &value);
    case S_IF:
        return exec_if(run, node);
    case S_FOR:
        GRAFT_TRY(graft_jinja_eval(run, node->b, &value));
        return loop_over(run, node, &value, 0);
    case S_SET:
        GRAFT_TRY(graft_jinja_eval(run, node->b, &value));
        return assign(run, node->a, &value);
    case S_SETBLOCK:
    case S_FILTER:
        return exec_capture(run, node);
    case S_MACRO:
        GRAFT_TRY(make_macro(run, node, &value));
        return graft_jinja_bind_name(run, run->frame, node->name, &value);
    case S_CALL:
        return exec_call(run, node);
    case S_SCOPE:
        return scope(run, node->c);
    case S_WITH:
        return exec_with(run, node);
    case S_BREAK:
        run->flow = JINJA_FLOW_BREAK;
        return GRAFT_OK;
    case S_CONTINUE:
        run->flow = JINJA_FLOW_CONTINUE;
        return GRAFT_OK;
    case S_DO:
        return graft_jinja_eval(run, node->a, &value);
    default:
        return graft_fail(GRAFT_E_INTERNAL, "template: node of kind %d is no statement", node->kind);
    }
}

enum graft_status graft_jinja_exec(struct jinja_run *run, const struct jinja_node *body)
{
    if (++run->depth > JINJA_MAX_EVAL_DEPTH) {
        return graft_fail(GRAFT_E_LIMIT, "template: nested deeper than %d levels, macro calls counted", JINJA_MAX_EVAL_DEPTH);
    }
    for (const struct jinja_node *node = body; node && run->flow == JINJA_FLOW_ON; node = node->next) {
        GRAFT_TRY(graft_jinja_charge(run, 1));
        run->line = node->line;
        GRAFT_TRY(exec_node(run, node));
    }
    run->depth--;
    return GRAFT_OK;
}
