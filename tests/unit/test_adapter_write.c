// SPDX-License-Identifier: Apache-2.0
// Writers of adapter files: there and back, against PyPI's gguf (tests/golden/make_adapter_gguf.py), in memory, refusals, and
// what is left behind when writing fails.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifndef _WIN32
#include <signal.h>
#include <sys/resource.h>
#endif

#include "loaders/adapter_write.h"
#include "loaders/gguf.h"
#include "support/support.h"
#include "support/vk_support.h"

enum { PATH_ROOM = 512 };

static const struct graft_adapter_base tiny = {.n_layer = 2, .n_head = 4, .n_head_kv = 2, .checked = true};
static const struct graft_adapter_base smollm2 = {.n_layer = 30, .n_head = 9, .n_head_kv = 3, .checked = true};

// Every folder that PEFT wrote, and why it cannot be a GGUF adapter.
static const struct {
    const char *path;
    const struct graft_adapter_base *base;
    const char *no_gguf;
} adapters[] = {
    {"golden/peft/plain", &tiny, NULL},
    {"golden/peft/rslora", &tiny, NULL},
    {"golden/peft/dora", &tiny, "magnitude vector (DoRA)"},
    {"golden/peft/dora-patterns", &tiny, "magnitude vector (DoRA)"},
    {"golden/peft/bias", &tiny, "bias (lora_bias)"},
    {"golden/peft/embed-head", &tiny, NULL},
    {"golden/peft/norms", &tiny, NULL},
    {"golden/peft/head", &tiny, "lm_head is replaced as a whole"},
    {"golden/peft/rank1", &tiny, NULL},
    {"golden/peft/rank256", &tiny, NULL},
    {"golden/peft/regex", &tiny, "has one alpha"},
    {"golden/peft/f16", &tiny, NULL},
    {"golden/peft/bf16", &tiny, NULL},
    {"golden/peft/alora", &tiny, NULL},
    {"golden/adapter/peft", &tiny, "has one alpha"},
    {"../demo/adapters/legal", &smollm2, NULL},
    {"../demo/adapters/finance", &smollm2, NULL},
    {"../demo/adapters/support", &smollm2, NULL},
};
enum { ADAPTERS = sizeof adapters / sizeof *adapters };

static char folder[64];

static void begin(void)
{
    graft_test_folder(folder);
}

static void end(void)
{
    graft_test_remove_all(folder);
}

static struct graft_adapter_desc *read_source(struct graft_ctx *ctx, const char *name)
{
    char path[PATH_ROOM];
    struct graft_adapter_desc *desc;
    snprintf(path, sizeof path, "%s/%s", GRAFT_TEST_SOURCE_DIR, name);
    ck_assert_ok(graft_adapter_read(ctx, &desc, path));
    return desc;
}

static const char *inside(char path[PATH_ROOM], const char *name)
{
    snprintf(path, PATH_ROOM, "%s/%s", folder, name);
    return path;
}

static void same_view(const struct graft_adapter_view *a, const struct graft_adapter_view *b, const char *name)
{
    ck_assert_msg((a->data == NULL) == (b->data == NULL), "%s: a tensor is missing", name);
    if (a->data) {
        ck_assert_msg(a->type == b->type && a->rows == b->rows && a->cols == b->cols, "%s: type or shape differ", name);
        ck_assert_msg(memcmp(a->data, b->data, a->rows * a->cols * (a->type == GRAFT_TYPE_F32 ? 4 : 2)) == 0,
                      "%s: values differ", name);
    }
}

// Bit for bit, scales included. Copies of the base may be left out of b.
static void same_adapter(const struct graft_adapter_desc *a, const struct graft_adapter_desc *b, const char *name)
{
    ck_assert_msg(a->n_pairs == b->n_pairs, "%s: %u and %u pairs", name, a->n_pairs, b->n_pairs);
    for (uint32_t i = 0; i < a->n_pairs; i++) {
        const struct graft_adapter_pair *p = &a->pairs[i], *q = &b->pairs[i];
        ck_assert(p->target == q->target && p->layer == q->layer && p->rank == q->rank);
        ck_assert_msg(p->scale == q->scale, "%s: scale %.9g became %.9g", name, (double)p->scale, (double)q->scale);
        same_view(&p->a, &q->a, name);
        same_view(&p->b, &q->b, name);
        same_view(&p->bias, &q->bias, name);
        same_view(&p->magnitude, &q->magnitude, name);
    }
    uint32_t k = 0;
    for (uint32_t i = 0; i < a->n_whole; i++) {
        if (a->whole[i].base_copy && (k >= b->n_whole || !b->whole[k].base_copy)) {
            continue;
        }
        ck_assert_uint_lt(k, b->n_whole);
        ck_assert(a->whole[i].target == b->whole[k].target && a->whole[i].layer == b->whole[k].layer);
        same_view(&a->whole[i].view, &b->whole[k].view, name);
        k++;
    }
    ck_assert_uint_eq(k, b->n_whole);
    ck_assert_uint_eq(a->n_alora, b->n_alora);
    ck_assert_mem_eq(a->alora, b->alora, a->n_alora * sizeof *a->alora);
    ck_assert_str_eq(a->base_name, b->base_name);
}

START_TEST(a_peft_folder_written_again_is_the_same_adapter)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    struct graft_adapter_desc *desc = read_source(ctx, adapters[_i].path), *again, *third;
    char path[PATH_ROOM];
    ck_assert_ok(graft_adapter_write_peft(desc, adapters[_i].base, inside(path, "out")));
    ck_assert_ok(graft_adapter_read(ctx, &again, path));
    same_adapter(desc, again, adapters[_i].path);
    ck_assert_uint_eq(desc->n_whole, again->n_whole);
    ck_assert(desc->use_rslora == again->use_rslora);
    // over itself, without the base: the same bytes if the base was not needed
    ck_assert_ok(graft_adapter_write_peft(again, adapters[_i].base, inside(path, "out/")));
    ck_assert_ok(graft_adapter_read(ctx, &third, path));
    ck_assert_mem_eq(third->digest, again->digest, sizeof third->digest);
    graft_adapter_free(&desc);
    graft_adapter_free(&again);
    graft_adapter_free(&third);
    ck_assert_int_ne(access(inside(path, "out.tmp"), F_OK), 0);
    ck_assert_uint_eq(alloc.live, 1);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(gguf_and_back_is_the_same_adapter_or_refused_by_name)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_adapter_desc *desc = read_source(ctx, adapters[_i].path), *gguf, *back;
    char path[PATH_ROOM];
    enum graft_status status = graft_adapter_write_gguf(desc, adapters[_i].base, inside(path, "out.gguf"));
    if (adapters[_i].no_gguf) {
        ck_assert_int_eq(status, GRAFT_E_UNSUPPORTED);
        ck_assert_error_has(adapters[_i].no_gguf);
        ck_assert_int_ne(access(path, F_OK), 0);
    } else {
        ck_assert_ok(status);
        ck_assert_ok(graft_adapter_read(ctx, &gguf, path));
        ck_assert_ok(graft_adapter_write_peft(gguf, adapters[_i].base, inside(path, "back")));
        ck_assert_ok(graft_adapter_read(ctx, &back, path));
        same_adapter(desc, back, adapters[_i].path);
        graft_adapter_free(&gguf);
        graft_adapter_free(&back);
    }
    graft_adapter_free(&desc);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(gguf_tensors_are_those_of_the_reference)
{
    static const char *const names[] = {"plain", "rslora", "embed-head", "norms", "alora", "bf16"};
    char path[PATH_ROOM], other[PATH_ROOM];
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_gguf *mine, *reference;
    float alpha, wanted;
    snprintf(path, sizeof path, "golden/peft/%s", names[_i]);
    struct graft_adapter_desc *desc = read_source(ctx, path);
    ck_assert_ok(graft_adapter_write_gguf(desc, &tiny, inside(path, "out.gguf")));
    ck_assert_ok(graft_gguf_open(ctx, &mine, path, false));
    snprintf(other, sizeof other, "%s/golden/peft/%s.gguf", GRAFT_TEST_SOURCE_DIR, names[_i]);
    ck_assert_ok(graft_gguf_open(ctx, &reference, other, false));
    ck_assert_uint_eq(mine->n_tensors, reference->n_tensors);
    for (uint64_t i = 0; i < mine->n_tensors; i++) {
        const struct graft_gguf_tensor *t = &mine->tensors[i], *found = NULL;
        for (uint64_t k = 0; k < reference->n_tensors; k++) {
            const struct graft_gguf_tensor *r = &reference->tensors[k];
            found = r->name.length == t->name.length && memcmp(r->name.data, t->name.data, t->name.length) == 0 ? r : found;
        }
        ck_assert_msg(found != NULL, "the reference has no %.*s", (int)t->name.length, t->name.data);
        ck_assert_msg(t->type == found->type && t->n_dims == found->n_dims && memcmp(t->dims, found->dims, sizeof t->dims) == 0,
                      "%.*s: type or shape differ", (int)t->name.length, t->name.data);
        ck_assert_msg(memcmp(graft_gguf_data(mine, t), graft_gguf_data(reference, found), t->bytes) == 0, "%.*s: values differ",
                      (int)t->name.length, t->name.data);
    }
    ck_assert_ok(graft_gguf_f32(mine, "adapter.lora.alpha", &alpha));
    ck_assert_ok(graft_gguf_f32(reference, "adapter.lora.alpha", &wanted));
    ck_assert_float_eq(alpha, wanted);
    graft_gguf_close(&mine);
    graft_gguf_close(&reference);
    graft_adapter_free(&desc);
    graft_ctx_destroy(&ctx);
}
END_TEST

// Made in memory: F32 matrices with numbers in them.
struct memory {
    float a[4][8 * 16], b[4][32 * 8], vector[32];
    struct graft_adapter_pair pairs[4];
    struct graft_adapter_desc desc;
};

static void make(struct memory *m, struct graft_ctx *ctx)
{
    static const struct {
        enum graft_target target;
        uint32_t layer, rank;
        float scale;
    } pairs[4] = {{GRAFT_TARGET_DOWN, 1, 3, 0.7f},
                  {GRAFT_TARGET_V, 0, 8, 2},
                  {GRAFT_TARGET_DOWN, 0, 3, 0.7f},
                  {GRAFT_TARGET_V, 1, 5, 0.1f}};
    memset(m, 0, sizeof *m);
    m->desc = (struct graft_adapter_desc){.ctx = ctx, .pairs = m->pairs, .n_pairs = 4, .base_name = "some \"base\""};
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t k = 0; k < 256; k++) {
            m->b[i][k] = (float)(k + i) * 0.37f - 20;
            m->a[i][k % 128] = (float)k * 0.11f + (float)i;
        }
        uint32_t rank = pairs[i].rank;
        m->pairs[i] = (struct graft_adapter_pair){.target = pairs[i].target,
                                                  .layer = pairs[i].layer,
                                                  .rank = rank,
                                                  .scale = pairs[i].scale,
                                                  .a = {(const uint8_t *)m->a[i], GRAFT_TYPE_F32, rank, 16},
                                                  .b = {(const uint8_t *)m->b[i], GRAFT_TYPE_F32, 32, rank}};
    }
}

START_TEST(an_adapter_made_in_memory_in_any_order_is_read_back)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    static struct memory m;
    struct graft_adapter_desc *back;
    char path[PATH_ROOM];
    for (int rslora = 0; rslora < 2; rslora++) {
        make(&m, ctx);
        m.desc.use_rslora = rslora;
        ck_assert_ok(graft_adapter_write_peft(&m.desc, NULL, inside(path, "memory")));
        ck_assert_ok(graft_adapter_read(ctx, &back, path));
        ck_assert_uint_eq(back->n_pairs, 4);
        ck_assert_str_eq(back->base_name, "some \"base\"");
        ck_assert(back->use_rslora == (rslora != 0));
        for (uint32_t i = 0; i < 4; i++) {
            const struct graft_adapter_pair *want = NULL, *got = &back->pairs[i];
            for (uint32_t k = 0; k < 4; k++) {
                want = m.pairs[k].target == got->target && m.pairs[k].layer == got->layer ? &m.pairs[k] : want;
            }
            ck_assert_ptr_nonnull(want);
            ck_assert_float_eq(want->scale, got->scale);
            same_view(&want->a, &got->a, "A");
            same_view(&want->b, &got->b, "B");
        }
        graft_adapter_free(&back);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(hundreds_of_ranks_and_scales_fit_into_patterns)
{
    enum { LAYERS = 512, MATRICES = LAYERS * 3 };
    static struct graft_adapter_pair pairs[MATRICES];
    static float values[8 * 4];
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_adapter_desc desc = {.ctx = ctx, .pairs = pairs, .n_pairs = MATRICES}, *back;
    char path[PATH_ROOM];
    for (uint32_t i = 0; i < 8 * 4; i++) {
        values[i] = (float)i;
    }
    for (uint32_t i = 0; i < MATRICES; i++) { // v: rank 8, o: rank 3 everywhere, up: ranks 1 to 5 by layer, scales too
        uint32_t layer = i % LAYERS, kind = i / LAYERS, rank = kind == 0 ? 8 : kind == 1 ? 3 : layer % 5 + 1;
        pairs[i] = (struct graft_adapter_pair){.target = kind == 0   ? GRAFT_TARGET_V
                                                         : kind == 1 ? GRAFT_TARGET_O
                                                                     : GRAFT_TARGET_UP,
                                               .layer = layer,
                                               .rank = rank,
                                               .scale = kind == 2 ? 0.3f * (float)(layer % 7 + 1) : 2,
                                               .a = {(const uint8_t *)values, GRAFT_TYPE_F32, rank, 4},
                                               .b = {(const uint8_t *)values, GRAFT_TYPE_F32, 4, rank}};
    }
    ck_assert_ok(graft_adapter_write_peft(&desc, NULL, inside(path, "many")));
    ck_assert_ok(graft_adapter_read(ctx, &back, path));
    ck_assert_uint_eq(back->n_pairs, MATRICES);
    for (uint32_t i = 0; i < MATRICES; i++) {
        const struct graft_adapter_pair *got = &back->pairs[i];
        uint32_t kind = got->target == GRAFT_TARGET_V ? 0 : got->target == GRAFT_TARGET_O ? 1 : 2;
        ck_assert_float_eq(got->scale, pairs[kind * LAYERS + got->layer].scale);
        ck_assert_uint_eq(got->rank, pairs[kind * LAYERS + got->layer].rank);
    }
    graft_adapter_free(&back);
    for (uint32_t i = 0; i < MATRICES; i++) { // a value for each: more than patterns can say
        pairs[i].scale = 1 + (float)i / 1024;
    }
    ck_assert_status(graft_adapter_write_peft(&desc, NULL, inside(path, "more")), GRAFT_E_LIMIT);
    ck_assert_error_has("need more than 512 patterns");
    graft_ctx_destroy(&ctx);
}
END_TEST

// The list in adapter_config.json, without blanks.
static void list_of(const char *config, const char *key, char out[256])
{
    const char *p = strstr(config, key);
    size_t used = 0;
    ck_assert_ptr_nonnull(p);
    for (p += strlen(key) + 3; *p && *p != ']' && used < 254; p++) {
        if (*p != ' ' && *p != '\n') {
            out[used++] = *p;
        }
    }
    out[used] = 0;
}

START_TEST(modules_are_named_so_that_no_other_is_meant)
{
    static const struct graft_adapter_base three = {.n_layer = 3};
    static struct memory m;
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    char path[PATH_ROOM], list[256], *config;
    uint64_t size;
    for (int known = 0; known < 2; known++) {
        make(&m, ctx);
        struct graft_adapter_whole wholes[] = {
            {.target = GRAFT_TARGET_OUTPUT_NORM, .view = {(const uint8_t *)m.vector, GRAFT_TYPE_F32, 1, 32}},
            {.target = GRAFT_TARGET_FFN_NORM, .layer = 1, .view = {(const uint8_t *)m.vector, GRAFT_TYPE_F32, 1, 32}}};
        m.desc.whole = wholes;
        m.desc.n_whole = 2;
        m.pairs[3].target = GRAFT_TARGET_O;
        ck_assert_ok(graft_adapter_write_peft(&m.desc, known ? &three : NULL, inside(path, "named")));
        ck_assert_ok(graft_file_read(ctx, inside(path, "named/adapter_config.json"), 1 << 16, &config, &size));
        list_of(config, "\"modules_to_save\"", list); // PEFT: every module whose name ends so
        ck_assert_str_eq(list, "\"model.norm\",\"model.layers.1.post_attention_layernorm\"");
        list_of(config, "\"target_modules\"", list);
        ck_assert_str_eq(list, known ? "\"model.layers.1.mlp.down_proj\",\"model.layers.0.self_attn.v_proj\","
                                       "\"model.layers.0.mlp.down_proj\",\"model.layers.1.self_attn.o_proj\""
                                     : "\"down_proj\",\"model.layers.0.self_attn.v_proj\",\"model.layers.1.self_attn.o_proj\"");
        graft_free(ctx, (void **)&config);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(every_scale_is_kept_by_an_alpha)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    static struct memory m;
    struct graft_test_random random = {7};
    struct graft_adapter_desc *back;
    char path[PATH_ROOM];
    uint32_t exact = 0, kept = 0;
    for (uint32_t i = 0; i < 60; i++) {
        make(&m, ctx);
        m.desc.n_pairs = 1;
        m.pairs[0].scale = graft_test_random_f32(&random, 0.01f, 20);
        m.desc.use_rslora = i % 2;
        ck_assert_ok(graft_adapter_write_peft(&m.desc, NULL, inside(path, "p")));
        ck_assert_ok(graft_adapter_read(ctx, &back, path));
        ck_assert_float_eq(back->pairs[0].scale, m.pairs[0].scale);
        graft_adapter_free(&back);
        ck_assert_ok(graft_adapter_write_gguf(&m.desc, NULL, inside(path, "g.gguf")));
        ck_assert_ok(graft_adapter_read(ctx, &back, path));
        float ratio = fabsf(back->pairs[0].scale / m.pairs[0].scale - 1);
        ck_assert_msg(ratio <= 0x1p-23f, "scale %.9g became %.9g", (double)m.pairs[0].scale, (double)back->pairs[0].scale);
        exact += ratio == 0;
        kept++;
        graft_adapter_free(&back);
    }
    printf("one f32 alpha over rank 3: %u of %u scales exactly, the others within one in the last place\n", exact, kept);
    graft_ctx_destroy(&ctx);
}
END_TEST

static void refuse(struct memory *m, bool gguf, enum graft_status expected, const char *text)
{
    char path[PATH_ROOM];
    enum graft_status status = gguf ? graft_adapter_write_gguf(&m->desc, NULL, inside(path, "no.gguf"))
                                    : graft_adapter_write_peft(&m->desc, NULL, inside(path, "no"));
    ck_assert_msg(status == expected, "%s: %s (%s)", text, graft_status_name(status), graft_last_error());
    ck_assert_error_has(text);
    ck_assert_int_ne(access(path, F_OK), 0);
}

START_TEST(what_cannot_be_written_is_refused_by_name)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    static struct memory m;
    static const float bad[] = {0, -1, NAN, INFINITY};
    for (int gguf = 0; gguf < 2; gguf++) {
        for (size_t i = 0; i < 4; i++) {
            make(&m, ctx);
            m.pairs[2].scale = bad[i];
            refuse(&m, gguf, GRAFT_E_ARGUMENT, "model.layers.0.mlp.down_proj has the scale");
        }
        make(&m, ctx);
        m.pairs[1].rank = 7;
        refuse(&m, gguf, GRAFT_E_ARGUMENT, "model.layers.0.self_attn.v_proj has rank 7, A of 8 x 16");
        make(&m, ctx);
        m.pairs[1].a.data = NULL;
        refuse(&m, gguf, GRAFT_E_ARGUMENT, "model.layers.0.self_attn.v_proj");
        make(&m, ctx);
        m.pairs[0].layer = 0;
        refuse(&m, gguf, GRAFT_E_ARGUMENT, "twice");
        make(&m, ctx);
        m.desc.n_pairs = 0;
        refuse(&m, gguf, GRAFT_E_ARGUMENT, "without a pair");
        make(&m, ctx);
        m.pairs[0].target = m.pairs[2].target = GRAFT_TARGET_K;
        m.desc.rows_permuted = !gguf;
        refuse(&m, gguf, GRAFT_E_ARGUMENT, "the base model is needed");
        make(&m, ctx);
        m.pairs[0].magnitude = (struct graft_adapter_view){(const uint8_t *)m.vector, GRAFT_TYPE_F32, 1, 31};
        refuse(&m, gguf, GRAFT_E_ARGUMENT, "magnitude vector of 31 values, B has 32 rows");
    }
    make(&m, ctx);
    m.pairs[0].bias = (struct graft_adapter_view){(const uint8_t *)m.vector, GRAFT_TYPE_F32, 1, 32};
    refuse(&m, false, GRAFT_E_UNSUPPORTED, "PEFT has one switch for all");
    make(&m, ctx);
    refuse(&m, true, GRAFT_E_UNSUPPORTED, "a GGUF adapter has one alpha");
    graft_ctx_destroy(&ctx);
    ctx = graft_test_ctx(NULL, 0);
    struct graft_adapter_desc *desc = read_source(ctx, "golden/peft/embed-head");
    char path[PATH_ROOM];
    ck_assert_status(graft_adapter_write_gguf(desc, NULL, inside(path, "copies.gguf")), GRAFT_E_UNSUPPORTED);
    ck_assert_error_has("to see that it is only a copy");
    graft_adapter_free(&desc);
    graft_ctx_destroy(&ctx);
}
END_TEST

static void put(const char *name, const char *text)
{
    char path[PATH_ROOM];
    FILE *file = fopen(inside(path, name), "wb");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

START_TEST(a_folder_with_other_files_and_stale_temporaries)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_adapter_desc *desc = read_source(ctx, "golden/peft/f16");
    char path[PATH_ROOM];
    // other files are kept
    ck_assert_int_eq(mkdir(inside(path, "mine"), 0700), 0);
    put("mine/thesis.txt", "text");
    ck_assert_status(graft_adapter_write_peft(desc, &tiny, inside(path, "mine")), GRAFT_E_ARGUMENT);
    ck_assert_error_has("holds thesis.txt");
    ck_assert_int_eq(access(inside(path, "mine/thesis.txt"), F_OK), 0);
    put("file", "text");
    ck_assert_status(graft_adapter_write_peft(desc, &tiny, inside(path, "file")), GRAFT_E_IO);
    ck_assert_status(graft_adapter_write_gguf(desc, &tiny, inside(path, "mine")), GRAFT_E_IO);
    ck_assert_error_has("is a directory");
    ck_assert_status(graft_adapter_write_gguf(desc, &tiny, inside(path, "absent/a.gguf")), GRAFT_E_IO);
    ck_assert_status(graft_adapter_write_peft(desc, &tiny, inside(path, "absent/a")), GRAFT_E_IO);
    ck_assert_int_eq(graft_test_entries(folder), 2);
    // what a killed process left is gone after the next run
    ck_assert_int_eq(mkdir(inside(path, "out.tmp"), 0700), 0);
    put("out.tmp/adapter_model.safetensors", "half");
    put("out.tmp/adapter_config.json.tmp", "half");
    put("a.gguf.tmp", "half");
    ck_assert_ok(graft_adapter_write_peft(desc, &tiny, inside(path, "out")));
    ck_assert_ok(graft_adapter_write_gguf(desc, &tiny, inside(path, "a.gguf")));
    ck_assert_int_eq(graft_test_entries(folder), 4);
    graft_adapter_free(&desc);
    graft_ctx_destroy(&ctx);
}
END_TEST

#ifndef _WIN32 // limits on the size of files
START_TEST(a_failed_write_leaves_the_old_adapter_and_nothing_else)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_adapter_desc *old = read_source(ctx, "golden/peft/f16"), *desc = read_source(ctx, "../demo/adapters/legal"),
                              *now;
    char path[PATH_ROOM], file[PATH_ROOM];
    ck_assert_ok(graft_adapter_write_peft(old, &tiny, inside(path, "out")));
    ck_assert_ok(graft_adapter_write_gguf(old, &tiny, inside(file, "a.gguf")));
    struct rlimit limit, small;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 100000; // files end there, as on a full disk
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum graft_status folder_status = graft_adapter_write_peft(desc, &smollm2, path);
    enum graft_status file_status = graft_adapter_write_gguf(desc, &smollm2, file);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(folder_status, GRAFT_E_IO);
    ck_assert_int_eq(file_status, GRAFT_E_IO);
    ck_assert_error_has("a.gguf: cannot be written: File too large");
    ck_assert_int_eq(graft_test_entries(folder), 2);
    ck_assert_ok(graft_adapter_read(ctx, &now, path));
    same_adapter(old, now, "the old folder");
    graft_adapter_free(&now);
    graft_adapter_free(&desc);
    graft_adapter_free(&old);
    graft_ctx_destroy(&ctx);
}
END_TEST
#endif

START_TEST(a_failed_allocation_leaves_nothing_behind)
{
    for (int gguf = 0; gguf < 2; gguf++) {
        for (uint64_t n = 1;; n++) {
            struct graft_test_alloc alloc = {0};
            struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
            struct graft_adapter_desc *desc = read_source(ctx, "golden/peft/bf16");
            char path[PATH_ROOM];
            uint64_t live = alloc.live;
            alloc.fail_at = alloc.requests + n;
            enum graft_status status = gguf ? graft_adapter_write_gguf(desc, &tiny, inside(path, "x.gguf"))
                                            : graft_adapter_write_peft(desc, &tiny, inside(path, "x"));
            ck_assert_uint_eq(alloc.live, live);
            ck_assert_int_eq(graft_test_entries(folder), gguf + (status == GRAFT_OK));
            graft_adapter_free(&desc);
            graft_ctx_destroy(&ctx);
            if (status == GRAFT_OK) {
                ck_assert_uint_gt(n, 4);
                break;
            }
            ck_assert_int_eq(status, GRAFT_E_MEMORY);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adapter_write");
    TCase *tests = tcase_create("adapter_write");
    tcase_add_checked_fixture(tests, begin, end);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_peft_folder_written_again_is_the_same_adapter, 0, ADAPTERS);
    tcase_add_loop_test(tests, gguf_and_back_is_the_same_adapter_or_refused_by_name, 0, ADAPTERS);
    tcase_add_loop_test(tests, gguf_tensors_are_those_of_the_reference, 0, 6);
    tcase_add_test(tests, an_adapter_made_in_memory_in_any_order_is_read_back);
    tcase_add_test(tests, hundreds_of_ranks_and_scales_fit_into_patterns);
    tcase_add_test(tests, modules_are_named_so_that_no_other_is_meant);
    tcase_add_test(tests, every_scale_is_kept_by_an_alpha);
    tcase_add_test(tests, what_cannot_be_written_is_refused_by_name);
    tcase_add_test(tests, a_folder_with_other_files_and_stale_temporaries);
#ifndef _WIN32
    tcase_add_test(tests, a_failed_write_leaves_the_old_adapter_and_nothing_else);
#endif
    tcase_add_test(tests, a_failed_allocation_leaves_nothing_behind);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
