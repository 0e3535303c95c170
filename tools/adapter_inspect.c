// SPDX-License-Identifier: Apache-2.0
// graft adapter inspect: what an adapter changes, target by target.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

// The parts that have one target and kind in common.
struct target_sum {
    const char *target;
    enum graft_adapter_part_kind kind;
    uint32_t parts, rank_least, rank_most;
    float scale_least, scale_most;
    uint64_t parameters;
    const char *type_a, *type_b;
    bool mixed; // more than one pair of types
    char layers[96];
    int32_t first, last; // of the range that is being collected
};
enum { MOST_TARGETS = 64 };

// "0-3, 5" grows by a layer; what is too long ends with dots.
static void put_range(struct target_sum *sum)
{
    size_t used = strlen(sum->layers);
    if (sum->first < 0) {
        return;
    }
    if (used + 24 > sizeof sum->layers) {
        if (used < 3 || strcmp(sum->layers + used - 3, "...") != 0) {
            snprintf(sum->layers + used, sizeof sum->layers - used, ",...");
        }
        return;
    }
    used += (size_t)snprintf(sum->layers + used, sizeof sum->layers - used, "%s%" PRId32, used ? "," : "", sum->first);
    if (sum->last > sum->first) {
        snprintf(sum->layers + used, sizeof sum->layers - used, "-%" PRId32, sum->last);
    }
}

static void add_layer(struct target_sum *sum, int32_t layer)
{
    if (sum->parts > 1 && (layer == sum->last + 1 || layer == sum->last)) { // experts have many parts in a layer
        sum->last = layer;
        return;
    }
    put_range(sum);
    sum->first = sum->last = layer;
}

static size_t sum_targets(const struct graft_adapter_file *file, uint32_t n_parts, struct target_sum sums[MOST_TARGETS])
{
    size_t count = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        struct graft_adapter_file_part part;
        graft_adapter_file_part(file, i, &part);
        size_t k = 0;
        while (k < count && (strcmp(sums[k].target, part.target) != 0 || sums[k].kind != part.kind)) {
            k++;
        }
        if (k == MOST_TARGETS) {
            k--;
        } else if (k == count) {
            sums[count++] = (struct target_sum){.target = part.target,
                                                .kind = part.kind,
                                                .rank_least = part.rank,
                                                .rank_most = part.rank,
                                                .scale_least = part.scale,
                                                .scale_most = part.scale,
                                                .type_a = part.type_a,
                                                .type_b = part.type_b,
                                                .first = -1,
                                                .last = -1};
        }
        struct target_sum *sum = &sums[k];
        sum->parts++;
        sum->rank_least = part.rank < sum->rank_least ? part.rank : sum->rank_least;
        sum->rank_most = part.rank > sum->rank_most ? part.rank : sum->rank_most;
        sum->scale_least = part.scale < sum->scale_least ? part.scale : sum->scale_least;
        sum->scale_most = part.scale > sum->scale_most ? part.scale : sum->scale_most;
        sum->parameters += part.n_parameters;
        sum->mixed = sum->mixed || strcmp(sum->type_a, part.type_a) != 0 ||
                     strcmp(sum->type_b ? sum->type_b : "", part.type_b ? part.type_b : "") != 0;
        add_layer(sum, part.layer);
    }
    for (size_t k = 0; k < count; k++) {
        put_range(&sums[k]);
    }
    return count;
}

static const char *kind_name(enum graft_adapter_part_kind kind)
{
    return kind == GRAFT_ADAPTER_PAIR ? "pair" : kind == GRAFT_ADAPTER_WHOLE_TENSOR ? "whole tensor" : "copy of the base";
}

// "F32", "F16/BF16", "mixed".
static const char *types_text(const char *a, const char *b, bool mixed, char out[16])
{
    bool one = !b || strcmp(a, b) == 0;
    snprintf(out, 16, "%s%s%s", mixed ? "mixed" : a, one || mixed ? "" : "/", one || mixed ? "" : b);
    return out;
}

static void print_target(const struct target_sum *sum, uint64_t base_parameters)
{
    char rank[24] = "-", scale[32] = "-", types[16], share[24] = "";
    if (sum->kind == GRAFT_ADAPTER_PAIR) {
        snprintf(rank, sizeof rank, sum->rank_least == sum->rank_most ? "%" PRIu32 : "%" PRIu32 "-%" PRIu32, sum->rank_least,
                 sum->rank_most);
        snprintf(scale, sizeof scale, sum->scale_least == sum->scale_most ? "%.6g" : "%.4g-%.4g", (double)sum->scale_least,
                 (double)sum->scale_most);
    }
    if (base_parameters) {
        snprintf(share, sizeof share, "%8.4f %%", 100.0 * (double)sum->parameters / (double)base_parameters);
    }
    types_text(sum->type_a, sum->type_b, sum->mixed, types);
    printf("  %-24s %-10s %-6s %-12s %12" PRIu64 "%s  %s%s%s\n", sum->target, *sum->layers ? sum->layers : "-", rank, scale,
           sum->parameters, share, types, sum->kind == GRAFT_ADAPTER_PAIR ? "" : ", ",
           sum->kind == GRAFT_ADAPTER_PAIR ? "" : kind_name(sum->kind));
}

static void print_modules(const struct graft_adapter_file *file, uint32_t n_parts)
{
    puts("\nModules");
    for (uint32_t i = 0; i < n_parts; i++) {
        struct graft_adapter_file_part part;
        char types[16];
        graft_adapter_file_part(file, i, &part);
        printf("  %-44s ", part.module);
        if (part.kind == GRAFT_ADAPTER_PAIR) {
            printf("%6" PRIu64 " x %-6" PRIu64 " rank %3" PRIu32 "  scale %-9.6g %s%s%s\n", part.n_out, part.n_in, part.rank,
                   (double)part.scale, types_text(part.type_a, part.type_b, false, types), part.magnitude ? ", magnitude" : "",
                   part.bias ? ", bias" : "");
        } else {
            printf("%6" PRIu64 " x %-6" PRIu64 " %s %s\n", part.n_out, part.n_in, kind_name(part.kind), part.type_a);
        }
    }
}

static void print_text(const struct options *options, const struct graft_adapter_file *file,
                       const struct graft_adapter_file_info *info, const char *misfit)
{
    struct target_sum *sums = get_memory(MOST_TARGETS, sizeof *sums);
    size_t count = sum_targets(file, info->n_parts, sums);
    printf("%s\n  %s, %s, %s\n\n", options->operands[1], info->kind,
           info->format == GRAFT_ADAPTER_GGUF ? "GGUF adapter" : "PEFT", bytes_text(info->file_bytes).text);
    printf("  %-12s %s\n", "made for", *info->base_name ? info->base_name : "(it does not say)");
    printf("  %-12s %s\n", "digest", info->digest);
    if (*info->signer) {
        printf("  %-12s %s\n", "signed by", info->signer);
    }
    printf("  %-12s %" PRIu64, "parameters", info->n_parameters);
    if (info->base_parameters) {
        printf(", %.4f %% of the base's %" PRIu64, 100.0 * (double)info->n_parameters / (double)info->base_parameters,
               info->base_parameters);
    }
    printf("\n  %-12s %s\n", "in the pool", bytes_text(info->pool_bytes).text);
    if (options->model) {
        printf("  %-12s %s\n", "fits", misfit ? "no" : "yes");
    }
    if (info->n_invocation) {
        printf("  %-12s", "invocation");
        for (uint32_t i = 0; i < info->n_invocation; i++) {
            printf(" %" PRId32, graft_adapter_file_invocation(file)[i]);
        }
        putchar('\n');
    }
    printf("\n  %-24s %-10s %-6s %-12s %12s%s  %s\n", "target", "layers", "rank", "scale", "parameters",
           info->base_parameters ? "   of base" : "", "types");
    for (size_t k = 0; k < count; k++) {
        print_target(&sums[k], info->base_parameters);
    }
    free(sums);
    if (options->all) {
        print_modules(file, info->n_parts);
    }
}

static json_t *part_json(const struct graft_adapter_file_part *part)
{
    return json_pack("{s:s, s:s, s:s, s:o, s:I, s:f, s:[I, I], s:[s*, s*], s:b, s:b, s:I}", "module", part->module, "target",
                     part->target, "kind", kind_name(part->kind), "layer",
                     part->layer < 0 ? json_null() : json_integer(part->layer), "rank", (json_int_t)part->rank, "scale",
                     (double)part->scale, "shape", (json_int_t)part->n_out, (json_int_t)part->n_in, "types", part->type_a,
                     part->type_b, "magnitude", (int)part->magnitude, "bias", (int)part->bias, "parameters",
                     (json_int_t)part->n_parameters);
}

static json_t *sum_json(const struct target_sum *sum)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:[I, I], s:[f, f], s:I}", "target", sum->target, "kind", kind_name(sum->kind),
                     "layers", sum->layers, "modules", (json_int_t)sum->parts, "ranks", (json_int_t)sum->rank_least,
                     (json_int_t)sum->rank_most, "scales", (double)sum->scale_least, (double)sum->scale_most, "parameters",
                     (json_int_t)sum->parameters);
}

static int print_as_json(const struct options *options, const struct graft_adapter_file *file,
                         const struct graft_adapter_file_info *info, const char *misfit)
{
    struct target_sum *sums = get_memory(MOST_TARGETS, sizeof *sums);
    size_t count = sum_targets(file, info->n_parts, sums);
    json_t *targets = json_array(), *modules = json_array(), *tokens = json_array();
    for (size_t k = 0; k < count; k++) {
        json_array_append_new(targets, sum_json(&sums[k]));
    }
    free(sums);
    for (uint32_t i = 0; i < info->n_parts; i++) {
        struct graft_adapter_file_part part;
        graft_adapter_file_part(file, i, &part);
        json_array_append_new(modules, part_json(&part));
    }
    for (uint32_t i = 0; i < info->n_invocation; i++) {
        json_array_append_new(tokens, json_integer(graft_adapter_file_invocation(file)[i]));
    }
    bool base = info->base_parameters > 0;
    json_t *out =
        json_pack("{s:o, s:s, s:s, s:s, s:o, s:b, s:b, s:b, s:o, s:[I, I], s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "path",
                  json_text(options->operands[1], strlen(options->operands[1])), "format",
                  info->format == GRAFT_ADAPTER_GGUF ? "gguf" : "peft", "kind", info->kind, "digest", info->digest, "base_name",
                  json_text(info->base_name, strlen(info->base_name)), "use_rslora", (int)info->use_rslora, "use_dora",
                  (int)info->use_dora, "lora_bias", (int)info->lora_bias, "invocation", tokens, "ranks",
                  (json_int_t)info->rank_least, (json_int_t)info->rank_most, "file_bytes", (json_int_t)info->file_bytes,
                  "pool_bytes", (json_int_t)info->pool_bytes, "parameters", (json_int_t)info->n_parameters, "base_parameters",
                  base ? json_integer((json_int_t)info->base_parameters) : json_null(), "share",
                  base ? json_real((double)info->n_parameters / (double)info->base_parameters) : json_null(), "fits",
                  options->model ? json_boolean(!misfit) : json_null(), "targets", targets, "modules", modules);
    json_object_set_new(out, "signed_by", *info->signer ? json_string(info->signer) : json_null());
    if (misfit) {
        json_object_set_new(out, "misfit", json_text(misfit, strlen(misfit)));
    }
    return print_json(out);
}

int adapter_inspect(const struct options *options, const struct graft_adapter_file *file, const char *misfit)
{
    struct graft_adapter_file_info info;
    graft_adapter_file_describe(file, &info);
    if (options->json) {
        return print_as_json(options, file, &info, misfit);
    }
    print_text(options, file, &info, misfit);
    return EXIT_GOOD;
}
