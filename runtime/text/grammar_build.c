// SPDX-License-Identifier: Apache-2.0
// Building grammars: rules, classes of characters as UTF-8, repetitions; and what must hold of the whole.
#include <stdlib.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/grammar.h"
#include "runtime/text/vocab_private.h"

enum { CONTINUATION = 256, MAX_CHARACTER = 0x10ffff, CLASS_BYTES = 4 };

// Room for `more` items behind `count`, doubling.
static enum graft_status make_room(struct graft_ctx *ctx, void **items, uint64_t count, uint64_t more, uint64_t *room,
                                   uint64_t size, uint64_t most, const char *what)
{
    if (count + more > most) {
        return graft_fail(GRAFT_E_LIMIT, "the grammar has more than %" PRIu64 " %s", most, what);
    }
    if (count + more <= *room) {
        return GRAFT_OK;
    }
    uint64_t wanted = 2 * (count + more) + 64;
    GRAFT_TRY(graft_realloc(ctx, GRAFT_MEM_HOST, items, wanted, size, "a grammar"));
    *room = wanted;
    return GRAFT_OK;
}
#define MAKE_ROOM(grammar, items, more, most, what)                                                                            \
    make_room((grammar)->ctx, (void **)&(grammar)->items, (grammar)->n_##items, (more), &(grammar)->room_##items,              \
              sizeof *(grammar)->items, (most), (what))

enum graft_status graft_grammar_begin(struct graft_ctx *ctx, struct graft_grammar **out, const char *text, size_t length)
{
    *out = NULL;
    if (length > GRAFT_GRAMMAR_MAX_TEXT) {
        return graft_fail(GRAFT_E_LIMIT, "the grammar has %zu bytes, at most %d are supported", length, GRAFT_GRAMMAR_MAX_TEXT);
    }
    struct graft_grammar *grammar;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &grammar, 1, "a grammar"));
    grammar->ctx = ctx;
    grammar->root = GRAFT_GRAMMAR_NONE;
    enum graft_status status = graft_strdup(ctx, &grammar->text, text, length);
    status =
        status == GRAFT_OK ? MAKE_ROOM(grammar, sets, CONTINUATION + 1, GRAFT_GRAMMAR_MAX_SETS, "sets of characters") : status;
    if (status != GRAFT_OK) {
        graft_grammar_destroy(&grammar);
        return status;
    }
    memset(grammar->sets, 0, (CONTINUATION + 1) * sizeof *grammar->sets);
    for (uint32_t b = 0; b < 256; b++) {
        grammar->sets[b].bits[b / 32] = 1u << b % 32;
    }
    grammar->sets[CONTINUATION].bits[4] = grammar->sets[CONTINUATION].bits[5] = UINT32_MAX; // 0x80 to 0xbf
    grammar->n_sets = CONTINUATION + 1;
    *out = grammar;
    return GRAFT_OK;
}

void graft_grammar_destroy(struct graft_grammar **grammar)
{
    struct graft_grammar *self = grammar ? *grammar : NULL;
    if (!self) {
        return;
    }
    struct graft_ctx *ctx = self->ctx;
    GRAFT_FREE(ctx, &self->sets);
    GRAFT_FREE(ctx, &self->rules);
    GRAFT_FREE(ctx, &self->alternatives);
    GRAFT_FREE(ctx, &self->symbols);
    GRAFT_FREE(ctx, &self->text);
    GRAFT_FREE(ctx, grammar);
}

const char *graft_grammar_text(const struct graft_grammar *grammar)
{
    return grammar->text;
}

enum graft_status graft_grammar_add_rule(struct graft_grammar *grammar, uint32_t *rule)
{
    GRAFT_TRY(MAKE_ROOM(grammar, rules, 1, GRAFT_GRAMMAR_MAX_RULES, "rules"));
    *rule = grammar->n_rules++;
    grammar->rules[*rule] = (struct graft_rule){GRAFT_GRAMMAR_NONE, GRAFT_GRAMMAR_NONE};
    return GRAFT_OK;
}

enum graft_status graft_grammar_add_alternative(struct graft_grammar *grammar, uint32_t rule, const uint32_t *symbols,
                                                uint64_t count)
{
    GRAFT_TRY(MAKE_ROOM(grammar, symbols, count + 1, GRAFT_GRAMMAR_MAX_SYMBOLS, "symbols"));
    GRAFT_TRY(MAKE_ROOM(grammar, alternatives, 1, GRAFT_GRAMMAR_MAX_SYMBOLS, "alternatives"));
    uint32_t at = grammar->n_alternatives++;
    grammar->alternatives[at] = (struct graft_alternative){grammar->n_symbols, GRAFT_GRAMMAR_NONE};
    if (count > 0) {
        memcpy(grammar->symbols + grammar->n_symbols, symbols, (size_t)count * sizeof *symbols);
    }
    grammar->n_symbols += (uint32_t)count;
    grammar->symbols[grammar->n_symbols++] = 0;
    struct graft_rule *self = &grammar->rules[rule];
    if (self->first == GRAFT_GRAMMAR_NONE) {
        self->first = at;
    } else {
        grammar->alternatives[self->last].next = at;
    }
    self->last = at;
    return GRAFT_OK;
}

static enum graft_status add_set(struct graft_grammar *grammar, const struct graft_byte_set *set, uint32_t *symbol)
{
    uint32_t i = 0;
    while (i < grammar->n_sets && memcmp(&grammar->sets[i], set, sizeof *set) != 0) {
        i++;
    }
    if (i == grammar->n_sets) {
        GRAFT_TRY(MAKE_ROOM(grammar, sets, 1, GRAFT_GRAMMAR_MAX_SETS, "sets of characters"));
        grammar->sets[grammar->n_sets++] = *set;
    }
    *symbol = GRAFT_SYMBOL_SET | i;
    return GRAFT_OK;
}

static void add_bytes(struct graft_byte_set *set, uint32_t low, uint32_t high)
{
    for (uint32_t b = low; b <= high; b++) {
        set->bits[b / 32] |= 1u << b % 32;
    }
}

// A class being put together: alternatives whose bytes behind the first are all continuation bytes share one set of first
// bytes.
struct class
{
    struct graft_grammar *grammar;
    uint32_t rule;
    struct graft_byte_set firsts[CLASS_BYTES]; // by the number of bytes behind
};

// All characters low to high, whose UTF-8 forms have equal lengths. Halved until the ranges of the bytes are independent
// (Cox 2010, "Regular Expression Matching in the Wild").
static enum graft_status add_range(struct class *class, uint32_t low, uint32_t high, uint32_t bytes)
{
    for (uint32_t i = 1; i < bytes; i++) {
        uint32_t mask = (1u << 6 * i) - 1;
        if ((low & ~mask) == (high & ~mask)) {
            continue;
        }
        if ((low & mask) != 0) {
            GRAFT_TRY(add_range(class, low, low | mask, bytes));
            return add_range(class, (low | mask) + 1, high, bytes);
        }
        if ((high & mask) != mask) {
            GRAFT_TRY(add_range(class, low, (high & ~mask) - 1, bytes));
            return add_range(class, high & ~mask, high, bytes);
        }
    }
    char from[CLASS_BYTES], to[CLASS_BYTES];
    graft_utf8_encode(low, from);
    graft_utf8_encode(high, to);
    bool whole = true;
    for (uint32_t i = 1; i < bytes; i++) {
        whole = whole && (uint8_t)from[i] == 0x80 && (uint8_t)to[i] == 0xbf;
    }
    if (whole) {
        add_bytes(&class->firsts[bytes - 1], (uint8_t)from[0], (uint8_t)to[0]);
        return GRAFT_OK;
    }
    uint32_t symbols[CLASS_BYTES];
    for (uint32_t i = 0; i < bytes; i++) {
        struct graft_byte_set set = {{0}};
        add_bytes(&set, (uint8_t)from[i], (uint8_t)to[i]);
        GRAFT_TRY(add_set(class->grammar, &set, &symbols[i]));
    }
    return graft_grammar_add_alternative(class->grammar, class->rule, symbols, bytes);
}

// Cut at the places where the length of the form changes; surrogates are no characters.
static enum graft_status add_characters(struct class *class, uint32_t low, uint32_t high)
{
    static const struct {
        uint32_t low, high, bytes;
    } parts[] = {{0, 0x7f, 1}, {0x80, 0x7ff, 2}, {0x800, 0xd7ff, 3}, {0xe000, 0xffff, 3}, {0x10000, MAX_CHARACTER, 4}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint32_t from = low > parts[i].low ? low : parts[i].low, to = high < parts[i].high ? high : parts[i].high;
        if (from <= to) {
            GRAFT_TRY(add_range(class, from, to, parts[i].bytes));
        }
    }
    return GRAFT_OK;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct graft_range *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

enum graft_status graft_grammar_add_class(struct graft_grammar *grammar, struct graft_range *ranges, uint32_t count,
                                          bool inverted, uint32_t *symbol)
{
    qsort(ranges, count, sizeof *ranges, compare_ranges);
    struct class class = {.grammar = grammar};
    GRAFT_TRY(graft_grammar_add_rule(grammar, &class.rule));
    uint32_t next = 0; // the first character that is not dealt with
    for (uint32_t i = 0; i <= count; i++) {
        uint32_t low = i < count ? ranges[i].low : MAX_CHARACTER + 1, high = i < count ? ranges[i].high : MAX_CHARACTER;
        if (inverted && low > next) {
            GRAFT_TRY(add_characters(&class, next, low - 1));
        } else if (!inverted && i < count && high >= next) {
            GRAFT_TRY(add_characters(&class, low > next ? low : next, high));
        }
        next = high + 1 > next ? high + 1 : next;
    }
    uint32_t symbols[CLASS_BYTES], tails = 0;
    for (uint32_t tail = 0; tail < CLASS_BYTES; tail++) {
        struct graft_byte_set none = {{0}};
        if (memcmp(&class.firsts[tail], &none, sizeof none) == 0) {
            continue;
        }
        GRAFT_TRY(add_set(grammar, &class.firsts[tail], &symbols[0]));
        for (uint32_t i = 1; i <= tail; i++) {
            symbols[i] = GRAFT_SYMBOL_SET | CONTINUATION;
        }
        tails += tail > 0;
        if (tail == 0) {
            *symbol = symbols[0];
        }
        GRAFT_TRY(graft_grammar_add_alternative(grammar, class.rule, symbols, tail + 1));
    }
    const struct graft_rule *rule = &grammar->rules[class.rule];
    bool one_byte = tails == 0 && rule->first != GRAFT_GRAMMAR_NONE && rule->first == rule->last &&
                    grammar->symbols[grammar->alternatives[rule->first].symbol + 1] == 0;
    *symbol = one_byte ? *symbol : GRAFT_SYMBOL_RULE | class.rule;
    return GRAFT_OK;
}

enum graft_status graft_grammar_add_repeat(struct graft_grammar *grammar, uint32_t symbol, uint32_t low, uint32_t high,
                                           uint32_t *out)
{
    uint32_t tail = GRAFT_GRAMMAR_NONE; // what stands behind the `low` copies
    if (high == GRAFT_GRAMMAR_NONE) {
        GRAFT_TRY(graft_grammar_add_rule(grammar, &tail)); // tail ::= symbol tail | nothing
        GRAFT_TRY(graft_grammar_add_alternative(grammar, tail, (uint32_t[]){symbol, GRAFT_SYMBOL_RULE | tail}, 2));
        GRAFT_TRY(graft_grammar_add_alternative(grammar, tail, NULL, 0));
    }
    for (uint32_t i = low; high != GRAFT_GRAMMAR_NONE && i < high; i++) { // tail ::= symbol (shorter tail) | nothing
        uint32_t longer;
        GRAFT_TRY(graft_grammar_add_rule(grammar, &longer));
        uint32_t symbols[2] = {symbol, GRAFT_SYMBOL_RULE | tail};
        GRAFT_TRY(graft_grammar_add_alternative(grammar, longer, symbols, tail == GRAFT_GRAMMAR_NONE ? 1 : 2));
        GRAFT_TRY(graft_grammar_add_alternative(grammar, longer, NULL, 0));
        tail = longer;
    }
    uint32_t rule, *all;
    uint64_t count = (uint64_t)low + (tail != GRAFT_GRAMMAR_NONE);
    GRAFT_TRY(graft_grammar_add_rule(grammar, &rule));
    GRAFT_TRY(GRAFT_NEW(grammar->ctx, GRAFT_MEM_HOST, &all, count + 1, "a repetition"));
    for (uint32_t i = 0; i < low; i++) {
        all[i] = symbol;
    }
    if (tail != GRAFT_GRAMMAR_NONE) {
        all[low] = GRAFT_SYMBOL_RULE | tail;
    }
    enum graft_status status = graft_grammar_add_alternative(grammar, rule, all, count);
    GRAFT_FREE(grammar->ctx, &all);
    *out = GRAFT_SYMBOL_RULE | rule;
    return status;
}

// ---- checks ----

enum { NULLABLE = 1, PRODUCTIVE = 2, OPEN = 4, MAX_ROUNDS = 1000 };

// What holds of an alternative as far as is known: can it be empty, has it any text?
static uint8_t facts_of(const struct graft_grammar *grammar, const uint8_t *facts, uint32_t at)
{
    uint8_t all = NULLABLE | PRODUCTIVE;
    for (; grammar->symbols[at]; at++) {
        uint32_t symbol = grammar->symbols[at];
        all &= symbol & GRAFT_SYMBOL_RULE ? facts[symbol & GRAFT_SYMBOL_MASK] : PRODUCTIVE;
    }
    return all;
}

// Facts of all rules: repeated, in both directions in turn, until nothing changes. Few rounds do for any sane grammar.
static enum graft_status find_facts(const struct graft_grammar *grammar, uint8_t *facts)
{
    bool changed = true;
    for (uint32_t round = 0; changed; round++) {
        if (round == MAX_ROUNDS) {
            return graft_fail(GRAFT_E_LIMIT, "the grammar's rules depend on each other in chains that are too long");
        }
        changed = false;
        for (uint32_t i = 0; i < grammar->n_rules; i++) {
            uint32_t r = round % 2 ? grammar->n_rules - 1 - i : i;
            uint8_t all = facts[r];
            for (uint32_t a = grammar->rules[r].first; a != GRAFT_GRAMMAR_NONE; a = grammar->alternatives[a].next) {
                all |= facts_of(grammar, facts, grammar->alternatives[a].symbol);
            }
            changed = changed || all != facts[r];
            facts[r] = all;
        }
    }
    return GRAFT_OK;
}

// Depth-first search over "a text of this rule may begin with that rule" (Tarjan 1972). A rule that can come back to itself
// with something left to do behind it is left-recursive: its stacks would grow without reading. Coming back at the very end is
// harmless.
struct search {
    uint32_t rule, alternative, at; // where it goes on
};

static uint32_t find_left_recursion(const struct graft_grammar *grammar, uint8_t *facts, struct search *stack, uint32_t *index,
                                    uint32_t *low, uint32_t *open)
{
    uint32_t counter = 0, n_open = 0;
    for (uint32_t start = 0; start < grammar->n_rules; start++) {
        uint32_t depth = 0;
        if (index[start] == 0) {
            stack[depth++] = (struct search){start, grammar->rules[start].first, 0};
            index[start] = low[start] = ++counter;
            open[n_open++] = start;
            facts[start] |= OPEN;
        }
        while (depth > 0) {
            struct search *top = &stack[depth - 1];
            if (top->alternative == GRAFT_GRAMMAR_NONE) {
                uint32_t rule = top->rule;
                if (low[rule] == index[rule]) { // a component is complete: its rules get no edges any more
                    do {
                        low[open[--n_open]] = index[rule];
                        facts[open[n_open]] &= (uint8_t)~OPEN;
                    } while (open[n_open] != rule);
                }
                depth--;
                if (depth > 0 && low[rule] < low[stack[depth - 1].rule]) {
                    low[stack[depth - 1].rule] = low[rule];
                }
                continue;
            }
            uint32_t symbol = grammar->symbols[grammar->alternatives[top->alternative].symbol + top->at];
            bool rule_here = (symbol & GRAFT_SYMBOL_RULE) != 0;
            uint32_t next = symbol & GRAFT_SYMBOL_MASK;
            if (!rule_here) {
                top->alternative = grammar->alternatives[top->alternative].next;
                top->at = 0;
                continue;
            }
            if (index[next] == 0) {
                index[next] = low[next] = ++counter;
                open[n_open++] = next;
                facts[next] |= OPEN;
                stack[depth++] = (struct search){next, grammar->rules[next].first, 0};
                continue; // the same symbol again when it is done
            }
            if (facts[next] & OPEN && index[next] < low[top->rule]) {
                low[top->rule] = index[next];
            }
            if (facts[next] & NULLABLE) {
                top->at++;
            } else {
                top->alternative = grammar->alternatives[top->alternative].next;
                top->at = 0;
            }
        }
    }
    // low is now the number of the component. An edge inside one that leaves something behind makes it grow.
    for (uint32_t r = 0; r < grammar->n_rules; r++) {
        for (uint32_t a = grammar->rules[r].first; a != GRAFT_GRAMMAR_NONE; a = grammar->alternatives[a].next) {
            for (uint32_t at = grammar->alternatives[a].symbol; grammar->symbols[at] & GRAFT_SYMBOL_RULE; at++) {
                uint32_t next = grammar->symbols[at] & GRAFT_SYMBOL_MASK;
                if (grammar->symbols[at + 1] != 0 && low[next] == low[r]) {
                    return r;
                }
                if (!(facts[next] & NULLABLE)) {
                    break;
                }
            }
        }
    }
    return GRAFT_GRAMMAR_NONE;
}

enum graft_status graft_grammar_check(struct graft_grammar *grammar, uint32_t *rule)
{
    struct graft_ctx *ctx = grammar->ctx;
    uint8_t *facts = NULL;
    struct search *stack = NULL;
    uint32_t *index = NULL, *low = NULL, *open = NULL;
    enum graft_status status;
    uint64_t n = grammar->n_rules;
    *rule = GRAFT_GRAMMAR_NONE;
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &facts, n + 1, "checking a grammar"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &stack, n + 1, "checking a grammar"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &index, n + 1, "checking a grammar"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &low, n + 1, "checking a grammar"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &open, n + 1, "checking a grammar"), status, out);
    GRAFT_TRY_OUT(find_facts(grammar, facts), status, out);
    *rule = find_left_recursion(grammar, facts, stack, index, low, open);
    if (*rule != GRAFT_GRAMMAR_NONE) {
        status = graft_fail(GRAFT_E_ARGUMENT, "left recursion: the rule begins with itself");
    } else if (!(facts[grammar->root] & PRODUCTIVE)) {
        *rule = grammar->root;
        status = graft_fail(GRAFT_E_ARGUMENT, "no text of finite length matches root");
    }
out:
    GRAFT_FREE(ctx, &open);
    GRAFT_FREE(ctx, &low);
    GRAFT_FREE(ctx, &index);
    GRAFT_FREE(ctx, &stack);
    GRAFT_FREE(ctx, &facts);
    return status;
}
