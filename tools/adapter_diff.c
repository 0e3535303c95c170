// SPDX-License-Identifier: Apache-2.0
// graft adapter diff: two adapters, part by part.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

enum { MOST_SETTINGS = 8 };

// A setting that differs.
struct setting {
    const char *name;
    char a[300], b[300];
};

struct comparison {
    const struct options *options;
    struct graft_adapter_diff *diff;
    struct setting settings[MOST_SETTINGS];
    size_t n_settings;
    uint32_t counts[GRAFT_ADAPTER_UNLIKE + 1]; // by kind
    double change, size;                       // || a - b ||^2, || a ||^2 over all deltas that both have
};

static const char *kind_name(enum graft_adapter_difference_kind kind)
{
    static const char *const names[] = {"same", "differs", "only in A", "only in B", "other shape"};
    return names[kind];
}

static void compare_setting(struct comparison *c, const char *name, const char *a, const char *b)
{
    if (strcmp(a, b) != 0) {
        struct setting *setting = &c->settings[c->n_settings++];
        setting->name = name;
        snprintf(setting->a, sizeof setting->a, "%s", a);
        snprintf(setting->b, sizeof setting->b, "%s", b);
    }
}

static const char *tokens_text(const struct graft_adapter_file *file, uint32_t count, char out[300])
{
    size_t used = 0;
    snprintf(out, 300, "none");
    for (uint32_t i = 0; i < count && used < 280; i++) {
        used += (size_t)snprintf(out + used, 300 - used, "%s%" PRId32, i ? " " : "", graft_adapter_file_invocation(file)[i]);
    }
    return out;
}

static void compare_settings(struct comparison *c, const struct graft_adapter_file *a, const struct graft_adapter_file *b)
{
    struct graft_adapter_file_info one, other;
    char left[300], right[300];
    graft_adapter_file_describe(a, &one);
    graft_adapter_file_describe(b, &other);
    compare_setting(c, "kind", one.kind, other.kind);
    compare_setting(c, "made for", one.base_name, other.base_name);
    compare_setting(c, "invocation", tokens_text(a, one.n_invocation, left), tokens_text(b, other.n_invocation, right));
}

static void count(struct comparison *c)
{
    for (uint32_t i = 0; i < graft_adapter_diff_count(c->diff); i++) {
        struct graft_adapter_difference item;
        graft_adapter_diff_item(c->diff, i, &item);
        c->counts[item.kind]++;
        if (strcmp(item.part, "delta") == 0 && item.kind <= GRAFT_ADAPTER_DIFFER) {
            double off = isfinite(item.relative) ? item.relative * item.norm_a : item.norm_b;
            c->change += off * off;
            c->size += item.norm_a * item.norm_a;
        }
    }
}

static bool any_difference(const struct comparison *c)
{
    return c->n_settings || c->counts[GRAFT_ADAPTER_SAME] < graft_adapter_diff_count(c->diff);
}

static void print_item(const struct graft_adapter_difference *item)
{
    printf("  %-42s %-10s %-11s", item->module, item->part, kind_name(item->kind));
    if (item->kind == GRAFT_ADAPTER_DIFFER) {
        printf(" %10.3g", item->relative);
    }
    if (item->kind == GRAFT_ADAPTER_DIFFER && (item->rank_a != item->rank_b || item->scale_a != item->scale_b)) {
        printf("   rank %" PRIu32 ", scale %.6g; rank %" PRIu32 ", scale %.6g", item->rank_a, (double)item->scale_a,
               item->rank_b, (double)item->scale_b);
    }
    putchar('\n');
}

static void print_text(const struct comparison *c)
{
    printf("A  %s\nB  %s\n", c->options->operands[1], c->options->operands[2]);
    for (size_t i = 0; i < c->n_settings; i++) {
        printf("\n  %-12s A: %s\n  %-12s B: %s\n", c->settings[i].name, c->settings[i].a, "", c->settings[i].b);
    }
    bool head = false;
    for (uint32_t i = 0; i < graft_adapter_diff_count(c->diff); i++) {
        struct graft_adapter_difference item;
        graft_adapter_diff_item(c->diff, i, &item);
        if (item.kind == GRAFT_ADAPTER_SAME && !c->options->all) {
            continue;
        }
        if (!head) {
            printf("\n  %-42s %-10s %-11s %10s\n", "module", "part", "", "|A-B|/|A|");
            head = true;
        }
        print_item(&item);
    }
    printf("\n%" PRIu32 " the same, %" PRIu32 " differ, %" PRIu32 " only in A, %" PRIu32 " only in B", c->counts[0],
           c->counts[1], c->counts[2], c->counts[3]);
    if (c->counts[GRAFT_ADAPTER_UNLIKE]) {
        printf(", %" PRIu32 " of another shape", c->counts[GRAFT_ADAPTER_UNLIKE]);
    }
    if (c->size > 0) {
        printf("; in all |A-B|/|A| = %.3g", sqrt(c->change / c->size));
    }
    puts(".");
}

static json_t *real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static int print_as_json(const struct comparison *c)
{
    json_t *settings = json_object(), *parts = json_array(), *counts = json_object();
    for (size_t i = 0; i < c->n_settings; i++) {
        json_object_set_new(settings, c->settings[i].name,
                            json_pack("[o, o]", json_text(c->settings[i].a, strlen(c->settings[i].a)),
                                      json_text(c->settings[i].b, strlen(c->settings[i].b))));
    }
    for (int kind = 0; kind <= GRAFT_ADAPTER_UNLIKE; kind++) {
        json_object_set_new(counts, kind_name((enum graft_adapter_difference_kind)kind),
                            json_integer((json_int_t)c->counts[kind]));
    }
    for (uint32_t i = 0; i < graft_adapter_diff_count(c->diff); i++) {
        struct graft_adapter_difference item;
        graft_adapter_diff_item(c->diff, i, &item);
        bool both = item.kind <= GRAFT_ADAPTER_DIFFER;
        json_array_append_new(parts, json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:[I, I], s:[f, f]}", "module", item.module,
                                               "part", item.part, "is", kind_name(item.kind), "relative",
                                               both ? real(item.relative) : json_null(), "norm_a",
                                               both ? real(item.norm_a) : json_null(), "norm_b",
                                               both ? real(item.norm_b) : json_null(), "ranks", (json_int_t)item.rank_a,
                                               (json_int_t)item.rank_b, "scales", (double)item.scale_a, (double)item.scale_b));
    }
    return print_json(json_pack("{s:b, s:o, s:o, s:o, s:o}", "same", (int)!any_difference(c), "settings", settings, "counts",
                                counts, "relative", c->size > 0 ? real(sqrt(c->change / c->size)) : json_null(), "parts",
                                parts));
}

enum graft_status adapter_diff(const struct options *options, struct graft_ctx *ctx, const struct graft_adapter_file *a,
                               const struct graft_adapter_file *b, int *code)
{
    struct comparison c = {.options = options};
    enum graft_status status = graft_adapter_diff_open(ctx, &c.diff, a, b);
    if (status != GRAFT_OK) {
        return status;
    }
    compare_settings(&c, a, b);
    count(&c);
    if (options->json) {
        *code = print_as_json(&c);
    } else {
        print_text(&c);
        *code = EXIT_GOOD;
    }
    if (*code == EXIT_GOOD && any_difference(&c)) {
        *code = EXIT_FAILED;
    }
    graft_adapter_diff_close(&c.diff);
    return GRAFT_OK;
}
