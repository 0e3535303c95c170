// SPDX-License-Identifier: Apache-2.0
// Matching: a pushdown automaton whose sets of stacks are the states of an automaton that is made while it runs.
//
// A node is a stack: the symbol on top and the node below. Equal stacks are one node. A set is what the text so far allows:
// nodes whose symbol is a set of bytes, sorted; equal sets are one. The move of a set by a byte is worked out once, so that
// trying tens of thousands of tokens mostly follows known moves. When a table is full everything but the current set is
// forgotten.
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/grammar.h"
#include "runtime/text/vocab_private.h"

enum {
    MAX_NODES = GRAFT_BOUND(32768, 2048),
    NODE_SLOTS = 2 * MAX_NODES,
    MAX_SETS = GRAFT_BOUND(1024, 64),
    SET_SLOTS = 2 * MAX_SETS,
    MAX_MEMBERS = GRAFT_BOUND(1 << 17, 1 << 13), // of all sets
    MAX_DEPTH = GRAFT_BOUND(4096, 256),          // of a stack
    UNKNOWN = 0,                                 // a move that was not asked for; others are the number of the set + 1
    DEAD = UINT16_MAX
};

struct node {
    uint32_t symbol, below, depth, mark;
};

struct set {
    uint32_t first, count; // members
    bool complete;         // the text may end here
};

struct graft_grammar_state {
    struct graft_ctx *ctx;
    const struct graft_grammar *grammar;
    struct node *nodes; // [0] is the bottom
    uint32_t n_nodes, *node_slots;
    struct set *sets;
    uint32_t n_sets, *set_slots;
    uint32_t *members, n_members;
    uint16_t (*moves)[256]; // [MAX_SETS]
    uint32_t *work;         // [MAX_NODES] what is to be expanded
    uint32_t current, mark;
    bool too_deep; // what a failed step failed of: then the byte is not allowed
};

static bool find_node(struct graft_grammar_state *state, uint32_t symbol, uint32_t below, uint32_t *out)
{
    uint64_t slot = graft_hash_mix(((uint64_t)symbol << 32 | below) * 0x9e3779b97f4a7c15u) & (NODE_SLOTS - 1);
    for (; state->node_slots[slot]; slot = (slot + 1) & (NODE_SLOTS - 1)) {
        const struct node *node = &state->nodes[state->node_slots[slot]];
        if (node->symbol == symbol && node->below == below) {
            *out = state->node_slots[slot];
            return true;
        }
    }
    uint32_t depth = state->nodes[below].depth + 1;
    state->too_deep = depth > MAX_DEPTH;
    if (state->n_nodes == MAX_NODES || state->too_deep) {
        return false;
    }
    state->nodes[state->n_nodes] = (struct node){symbol, below, depth, 0};
    state->node_slots[slot] = state->n_nodes;
    *out = state->n_nodes++;
    return true;
}

// Replace the symbols in work[0 .. n) by what they may begin with; nodes on a set of bytes become members behind the last set.
static bool expand(struct graft_grammar_state *state, uint32_t n, struct set *out)
{
    const struct graft_grammar *grammar = state->grammar;
    *out = (struct set){.first = state->n_members};
    while (n > 0) {
        struct node *node = &state->nodes[state->work[--n]];
        if (node->mark == state->mark) {
            continue;
        }
        node->mark = state->mark;
        uint32_t symbol = grammar->symbols[node->symbol], below = node->below, next;
        if (symbol == 0) { // the rule is done: on with what stands below
            if (below == 0) {
                out->complete = true;
            } else if (n < MAX_NODES) {
                state->work[n++] = below;
            }
        } else if (symbol & GRAFT_SYMBOL_SET) {
            if (state->n_members + out->count == MAX_MEMBERS) {
                return false;
            }
            state->members[state->n_members + out->count++] = (uint32_t)(node - state->nodes);
        } else {
            if (grammar->symbols[node->symbol + 1] != 0 && !find_node(state, node->symbol + 1, below, &below)) {
                return false;
            }
            uint32_t a = grammar->rules[symbol & GRAFT_SYMBOL_MASK].first;
            for (; a != GRAFT_GRAMMAR_NONE; a = grammar->alternatives[a].next) {
                if (!find_node(state, grammar->alternatives[a].symbol, below, &next)) {
                    return false;
                }
                if (state->nodes[next].mark != state->mark) {
                    if (n == MAX_NODES) {
                        return false;
                    }
                    state->work[n++] = next;
                }
            }
        }
    }
    return true;
}

// Shell's sort (Knuth's gaps): qsort may take memory.
static void sort_members(uint32_t *members, uint32_t count)
{
    static const uint32_t gaps[] = {29524, 9841, 3280, 1093, 364, 121, 40, 13, 4, 1};
    for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++) {
        for (uint32_t i = gaps[g]; i < count; i++) {
            uint32_t member = members[i], k = i;
            for (; k >= gaps[g] && members[k - gaps[g]] > member; k -= gaps[g]) {
                members[k] = members[k - gaps[g]];
            }
            members[k] = member;
        }
    }
}

// The number of the set that stands behind the last one: an older one if it is equal.
static bool find_set(struct graft_grammar_state *state, struct set *set, uint32_t *out)
{
    uint32_t *members = state->members + set->first;
    sort_members(members, set->count);
    uint64_t hash = set->complete;
    for (uint32_t i = 0; i < set->count; i++) {
        hash = graft_hash_mix((hash ^ members[i]) * 0x9e3779b97f4a7c15u);
    }
    uint64_t slot = hash & (SET_SLOTS - 1);
    for (; state->set_slots[slot]; slot = (slot + 1) & (SET_SLOTS - 1)) {
        const struct set *known = &state->sets[state->set_slots[slot] - 1];
        if (known->count == set->count && known->complete == set->complete &&
            memcmp(state->members + known->first, members, set->count * sizeof *members) == 0) {
            *out = state->set_slots[slot] - 1;
            return true;
        }
    }
    if (state->n_sets == MAX_SETS) {
        return false;
    }
    state->sets[state->n_sets] = *set;
    state->n_members += set->count;
    memset(state->moves[state->n_sets], 0, sizeof state->moves[0]);
    *out = state->n_sets++;
    state->set_slots[slot] = state->n_sets;
    return true;
}

// The set after a byte; *out DEAD if the grammar does not allow it. False: a table is full.
static bool step(struct graft_grammar_state *state, uint32_t from, uint8_t byte, uint32_t *out)
{
    uint16_t known = state->moves[from][byte];
    if (known != UNKNOWN) {
        *out = known == DEAD ? DEAD : known - 1u;
        return true;
    }
    uint32_t n = 0;
    state->mark++;
    state->too_deep = false;
    for (uint32_t i = 0; i < state->sets[from].count; i++) {
        const struct node *node = &state->nodes[state->members[state->sets[from].first + i]];
        const struct graft_byte_set *bytes = &state->grammar->sets[state->grammar->symbols[node->symbol] & GRAFT_SYMBOL_MASK];
        uint32_t next;
        if (graft_byte_set_has(bytes, byte)) {
            if (n == MAX_NODES || !find_node(state, node->symbol + 1, node->below, &next)) {
                return false;
            }
            state->work[n++] = next;
        }
    }
    struct set set;
    *out = DEAD;
    if (n > 0 && (!expand(state, n, &set) || !find_set(state, &set, out)) && !state->too_deep) {
        return false;
    }
    // A set without members and without an end is no way on.
    if (*out != DEAD && state->sets[*out].count == 0 && !state->sets[*out].complete) {
        *out = DEAD;
    }
    state->moves[from][byte] = *out == DEAD ? DEAD : (uint16_t)(*out + 1);
    return true;
}

// Keep the current set and the stacks it needs, forget the rest. A node below another has the smaller number, so they keep
// their order.
static void forget(struct graft_grammar_state *state)
{
    struct set set = state->sets[state->current];
    for (uint32_t i = 1; i < state->n_nodes; i++) {
        state->nodes[i].mark = 0;
    }
    for (uint32_t i = 0; i < set.count; i++) {
        for (uint32_t n = state->members[set.first + i]; n != 0 && !state->nodes[n].mark; n = state->nodes[n].below) {
            state->nodes[n].mark = 1;
        }
    }
    memmove(state->members, state->members + set.first, set.count * sizeof *state->members);
    memset(state->node_slots, 0, NODE_SLOTS * sizeof *state->node_slots);
    uint32_t n_nodes = state->n_nodes, *moved = state->work; // old number to new one
    state->n_nodes = 1;
    moved[0] = 0;
    for (uint32_t i = 1; i < n_nodes; i++) {
        struct node node = state->nodes[i];
        if (node.mark && !find_node(state, node.symbol, moved[node.below], &moved[i])) {
            moved[i] = 0; // cannot be: there are not more nodes than before
        }
    }
    for (uint32_t i = 0; i < set.count; i++) {
        state->members[i] = moved[state->members[i]];
    }
    memset(state->set_slots, 0, SET_SLOTS * sizeof *state->set_slots);
    set.first = 0;
    state->n_sets = state->n_members = 0;
    state->mark = 0;
    for (uint32_t i = 1; i < state->n_nodes; i++) {
        state->nodes[i].mark = 0;
    }
    (void)find_set(state, &set, &state->current);
}

static enum graft_status walk(struct graft_grammar_state *state, const char *bytes, size_t length, uint32_t *out)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        bool room = true;
        *out = state->current;
        for (size_t i = 0; i < length && *out != DEAD && room; i++) {
            room = step(state, *out, (uint8_t)bytes[i], out);
        }
        if (room) {
            return GRAFT_OK;
        }
        if (attempt == 0) {
            forget(state);
        }
    }
    return graft_fail(GRAFT_E_LIMIT,
                      "the grammar is in more than %d places at once, or %zu bytes lead through more than %d states", MAX_NODES,
                      length, MAX_SETS);
}

enum graft_status graft_grammar_allows(struct graft_grammar_state *state, const char *bytes, size_t length, bool *out)
{
    uint32_t set = DEAD;
    enum graft_status status = walk(state, bytes, length, &set);
    *out = status == GRAFT_OK && set != DEAD;
    return status;
}

enum graft_status graft_grammar_accept(struct graft_grammar_state *state, const char *bytes, size_t length, bool *out)
{
    uint32_t set = DEAD;
    enum graft_status status = walk(state, bytes, length, &set);
    *out = status == GRAFT_OK && set != DEAD;
    state->current = *out ? set : state->current;
    return status;
}

bool graft_grammar_complete(const struct graft_grammar_state *state)
{
    return state->sets[state->current].complete;
}

enum graft_status graft_grammar_state_reset(struct graft_grammar_state *state)
{
    const struct graft_grammar *grammar = state->grammar;
    state->n_nodes = 1;
    state->n_sets = state->n_members = state->mark = 0;
    state->too_deep = false;
    memset(state->node_slots, 0, NODE_SLOTS * sizeof *state->node_slots);
    memset(state->set_slots, 0, SET_SLOTS * sizeof *state->set_slots);
    state->mark++;
    uint32_t n = 0;
    bool good = true;
    for (uint32_t a = grammar->rules[grammar->root].first; a != GRAFT_GRAMMAR_NONE && good; a = grammar->alternatives[a].next) {
        good = n < MAX_NODES && find_node(state, grammar->alternatives[a].symbol, 0, &state->work[n]);
        n++;
    }
    struct set set = {0};
    if (!good || !expand(state, n, &set) || !find_set(state, &set, &state->current)) {
        return graft_fail(GRAFT_E_LIMIT, "the grammar begins in more than %d places at once, or more than %d rules deep",
                          MAX_NODES, MAX_DEPTH);
    }
    return GRAFT_OK;
}

enum graft_status graft_grammar_state_reserve(struct graft_ctx *ctx, struct graft_grammar_state **out)
{
    *out = NULL;
    struct graft_grammar_state *state;
    enum graft_status status;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &state, 1, "a place in a grammar"));
    state->ctx = ctx;
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &state->nodes, MAX_NODES, "stacks of a grammar"), status, failed);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &state->node_slots, NODE_SLOTS, "stacks of a grammar"), status, failed);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &state->sets, MAX_SETS, "states of a grammar"), status, failed);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &state->set_slots, SET_SLOTS, "states of a grammar"), status, failed);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &state->members, MAX_MEMBERS, "states of a grammar"), status, failed);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &state->moves, MAX_SETS, "moves of a grammar"), status, failed);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &state->work, MAX_NODES, "stacks of a grammar"), status, failed);
    *out = state;
    return GRAFT_OK;
failed:
    graft_grammar_state_destroy(&state);
    return status;
}

enum graft_status graft_grammar_state_begin(struct graft_grammar_state *state, const struct graft_grammar *grammar)
{
    state->grammar = grammar;
    return graft_grammar_state_reset(state);
}

enum graft_status graft_grammar_state_create(const struct graft_grammar *grammar, struct graft_grammar_state **out)
{
    GRAFT_TRY(graft_grammar_state_reserve(grammar->ctx, out));
    enum graft_status status = graft_grammar_state_begin(*out, grammar);
    if (status != GRAFT_OK) {
        graft_grammar_state_destroy(out);
    }
    return status;
}

void graft_grammar_state_destroy(struct graft_grammar_state **state)
{
    struct graft_grammar_state *self = state ? *state : NULL;
    if (!self) {
        return;
    }
    struct graft_ctx *ctx = self->ctx;
    GRAFT_FREE(ctx, &self->work);
    GRAFT_FREE(ctx, &self->moves);
    GRAFT_FREE(ctx, &self->members);
    GRAFT_FREE(ctx, &self->set_slots);
    GRAFT_FREE(ctx, &self->sets);
    GRAFT_FREE(ctx, &self->node_slots);
    GRAFT_FREE(ctx, &self->nodes);
    GRAFT_FREE(ctx, state);
}
