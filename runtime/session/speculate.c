// SPDX-License-Identifier: Apache-2.0
#include "runtime/session/speculate.h"

#include <string.h>

enum { PAIR = 2, MOST_PLACES = 16, MOST_MATCH = 16, PATIENCE = 64, LONG_MATCH = 6, LONG_COUNTS = 8 };
static const float memory = 64;      // draft tokens that rates remember
static const float first_weight = 4; // what the meter's rates count for in a new sequence
static const double margin = 1.15;   // of tokens per second, below which a draft is not worth the risk

// ---- the index ----

enum graft_status graft_speculation_take(struct graft_ctx *ctx, struct graft_speculation *out, uint32_t n_ctx)
{
    *out = (struct graft_speculation){.n_slots = 1};
    while (out->n_slots < n_ctx && out->n_slots < 1u << 31) {
        out->n_slots *= 2;
    }
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &out->last, out->n_slots, "pairs of a sequence"));
    return GRAFT_NEW(ctx, GRAFT_MEM_HOST, &out->before, (uint64_t)n_ctx + 1, "pairs of a sequence");
}

void graft_speculation_give_back(struct graft_ctx *ctx, struct graft_speculation *speculation)
{
    GRAFT_FREE(ctx, &speculation->before);
    GRAFT_FREE(ctx, &speculation->last);
}

void graft_speculation_forget(struct graft_speculation *s)
{
    memset(s->last, 0, s->n_slots * sizeof *s->last);
    s->n_indexed = PAIR;
}

void graft_speculation_begin(struct graft_speculation *s, const struct graft_draft_meter *meter)
{
    graft_speculation_forget(s);
    s->n_tokens = 0;
    s->held = s->expected = 0;
    for (uint32_t c = 0; c < GRAFT_DRAFT_CLASSES; c++) {
        s->rates.tried[c] = first_weight;
        s->rates.held[c] = first_weight * meter->rates.held[c] / meter->rates.tried[c];
    }
}

static uint32_t *slot_of(const struct graft_speculation *s, const int32_t *pair)
{
    uint64_t both = (uint64_t)(uint32_t)pair[0] << 32 | (uint32_t)pair[1];
    return &s->last[(uint32_t)(both * 0x9e3779b97f4a7c15u >> 32) & (s->n_slots - 1)];
}

void graft_speculation_find(struct graft_speculation *s, const struct graft_draft_meter *meter, const int32_t *ids,
                            uint32_t n_ids, uint32_t most)
{
    if (meter->propose) {
        meter->propose(meter->user, s, ids, n_ids, most < GRAFT_DRAFT_MOST ? most : GRAFT_DRAFT_MOST);
        return;
    }
    for (; s->n_indexed < n_ids; s->n_indexed++) { // only places behind which there is a token
        uint32_t *slot = slot_of(s, ids + s->n_indexed - PAIR);
        s->before[s->n_indexed] = *slot;
        *slot = s->n_indexed;
    }
    s->n_tokens = s->match = 0;
    most = most < GRAFT_DRAFT_MOST ? most : GRAFT_DRAFT_MOST;
    if (n_ids < PAIR || most == 0) {
        return;
    }
    uint32_t place = *slot_of(s, ids + n_ids - PAIR), best = 0;
    for (int i = 0; i < MOST_PLACES && place && s->match < MOST_MATCH; i++, place = s->before[place]) {
        uint32_t match = 0;
        while (match < MOST_MATCH && match < place && ids[place - 1 - match] == ids[n_ids - 1 - match]) {
            match++;
        }
        if (match >= PAIR && match > s->match) {
            s->match = match;
            best = place;
        }
    }
    while (best && s->n_tokens < most) { // what repeats itself may go on behind the end
        uint32_t at = best + s->n_tokens;
        s->tokens[s->n_tokens++] = at < n_ids ? ids[at] : s->tokens[at - n_ids];
    }
}

// ---- what pays ----

static uint32_t class_of(uint32_t match)
{
    return match < 3 ? 0 : match < 4 ? 1 : match < 6 ? 2 : match < 12 ? 3 : 4;
}

void graft_draft_meter_begin(struct graft_draft_meter *meter)
{
    static const float guessed[GRAFT_DRAFT_CLASSES] = {0.3f, 0.45f, 0.55f, 0.7f, 0.85f};
    *meter = (struct graft_draft_meter){0};
    for (uint32_t c = 0; c < GRAFT_DRAFT_CLASSES; c++) {
        meter->rates.tried[c] = first_weight;
        meter->rates.held[c] = first_weight * guessed[c];
    }
}

// How likely draft token i of a sequence is reached and holds, given how likely the one before did.
static double chance(const struct graft_speculation *s, uint32_t i, double before)
{
    uint32_t c = class_of(s->match + i);
    double share = (1 + (double)s->held) / (1 + (double)s->expected);
    return before * (share < 1 ? share : 1) * (double)s->rates.held[c] / (double)s->rates.tried[c];
}

void graft_draft_choose(struct graft_draft_meter *meter, uint32_t kind, uint32_t n_rows, uint32_t room,
                        struct graft_speculation *const *sequences, uint32_t n)
{
    enum { MOST_ROWS = 256 }; // of all drafts
    uint8_t order[MOST_ROWS], taken[MOST_ROWS] = {0};
    double reached[MOST_ROWS];
    uint32_t count = 0, best = 0;
    room = n > MOST_ROWS ? 0 : room < MOST_ROWS ? room : MOST_ROWS; // so many sequences fill a batch without
    for (uint32_t i = 0; i < n && i < MOST_ROWS; i++) {
        reached[i] = 1;
    }
    double tokens = n_rows, best_rate = margin * tokens / graft_step_cost(&meter->costs, kind, n_rows);
    bool likely = false;
    while (count < room) { // the likeliest token first, whosever it is
        uint32_t who = n;
        double most = 0;
        for (uint32_t i = 0; i < n; i++) {
            double p = taken[i] < sequences[i]->n_tokens ? chance(sequences[i], taken[i], reached[i]) : 0;
            who = p > most ? i : who;
            most = p > most ? p : most;
        }
        if (who == n) {
            break;
        }
        taken[who]++;
        reached[who] = most;
        likely = likely || sequences[who]->match >= LONG_MATCH;
        order[count++] = (uint8_t)who;
        tokens += most;
        double rate = tokens / graft_step_cost(&meter->costs, kind, n_rows + count);
        if (rate > best_rate || meter->propose) {
            best_rate = rate;
            best = count;
        }
    }
    meter->declined[kind] = best ? 0 : meter->declined[kind] + (likely ? LONG_COUNTS : count > 0);
    if (meter->declined[kind] >= PATIENCE) {
        meter->declined[kind] = 0;
        best = count > 0;
    }
    memset(taken, 0, sizeof taken);
    for (uint32_t i = 0; i < best; i++) {
        taken[order[i]]++;
    }
    for (uint32_t i = 0; i < n; i++) {
        sequences[i]->n_tokens = i < MOST_ROWS ? taken[i] : 0;
    }
}

static void count(struct graft_draft_rates *rates, uint32_t c, bool held)
{
    if (rates->tried[c] >= memory) {
        rates->tried[c] /= 2;
        rates->held[c] /= 2;
    }
    rates->tried[c] += 1;
    rates->held[c] += held ? 1.0f : 0.0f;
}

void graft_draft_learn(struct graft_draft_meter *meter, struct graft_speculation *s, uint32_t held, uint32_t tried)
{
    for (uint32_t i = 0; i < tried; i++) {
        uint32_t c = class_of(s->match + i);
        s->expected += s->rates.held[c] / s->rates.tried[c];
        s->held += i < held ? 1.0f : 0.0f;
        count(&meter->rates, c, i < held);
        count(&s->rates, c, i < held);
    }
    if (s->expected > memory / 4) {
        s->expected /= 2;
        s->held /= 2;
    }
}
