// SPDX-License-Identifier: Apache-2.0
// What graft_adapter_fit refuses in descriptions that no file reader makes: merges and other callers bring their own.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/adapter/fit.h"
#include "support/model_world.h"

struct world {
    struct graft_ctx *ctx;
    struct graft_gguf *gguf;
    struct graft_source *source;
};

static struct graft_adapter_desc *read_golden(struct graft_ctx *ctx, const char *name)
{
    struct graft_adapter_desc *desc;
    char path[512];
    snprintf(path, sizeof path, "%s/golden/peft/%s", GRAFT_TEST_SOURCE_DIR, name);
    ck_assert_ok(graft_adapter_read(ctx, &desc, path));
    return desc;
}

static void second_of_the_same(struct graft_adapter_desc *desc)
{
    desc->pairs[1].target = desc->pairs[0].target;
    desc->pairs[1].a = desc->pairs[0].a;
    desc->pairs[1].b = desc->pairs[0].b;
}
static void rank_above_the_matrices(struct graft_adapter_desc *desc)
{
    desc->pairs[0].rank++;
}
static void rank_zero(struct graft_adapter_desc *desc)
{
    desc->pairs[0].rank = 0;
    desc->pairs[0].a.rows = desc->pairs[0].b.cols = 0;
}
static void rank_too_high(struct graft_adapter_desc *desc)
{
    desc->pairs[0].rank = 257;
    desc->pairs[0].a.rows = desc->pairs[0].b.cols = 257;
}
static void scale_not_finite(struct graft_adapter_desc *desc)
{
    desc->pairs[0].scale = INFINITY;
}
static void layer_beyond(struct graft_adapter_desc *desc)
{
    desc->pairs[desc->n_pairs - 1].layer = 2;
}
static void no_matrix(struct graft_adapter_desc *desc)
{
    desc->pairs[0].a.cols += 2;
}
static void dora_with_bias(struct graft_adapter_desc *desc)
{
    desc->pairs[0].magnitude = desc->pairs[0].bias = desc->pairs[0].b;
}
static void nothing(struct graft_adapter_desc *desc)
{
    desc->n_pairs = 0;
}
static void unknown_token(struct graft_adapter_desc *desc)
{
    desc->n_alora = 1;
    desc->alora[0] = 288;
}
static void norm_twice(struct graft_adapter_desc *desc)
{
    desc->whole[1] = desc->whole[0];
}
static void norm_too_long(struct graft_adapter_desc *desc)
{
    desc->whole[0].view.cols++;
}
static void head_twice(struct graft_adapter_desc *desc)
{
    desc->whole[0].base_copy = false;
    desc->whole[0].target = desc->pairs[0].target;
    desc->whole[0].layer = desc->pairs[0].layer;
    desc->whole[0].view = (struct graft_adapter_view){desc->bytes, GRAFT_TYPE_F32, 288, 64};
    desc->pairs[0].target = GRAFT_TARGET_HEAD;
    desc->whole[0].target = GRAFT_TARGET_HEAD;
    desc->pairs[0].a.cols = 64;
    desc->pairs[0].b.rows = 288;
    desc->n_pairs = 1;
    desc->n_whole = 1;
}

static void router_of_too_many(struct graft_adapter_desc *desc)
{
    desc->whole[1].view.rows = 257;
}
static void router_of_fewer(struct graft_adapter_desc *desc)
{
    desc->whole[1].view.rows--;
}
static void router_too_wide(struct graft_adapter_desc *desc)
{
    desc->whole[0].view.cols++;
}
static void router_replaced_and_changed(struct graft_adapter_desc *desc)
{
    desc->pairs[0].target = GRAFT_TARGET_ROUTER;
    desc->pairs[0].b.rows = 8;
}

START_TEST(descriptions_that_are_not_sound_are_refused)
{
    static const struct {
        const char *base, *adapter, *text;
        void (*change)(struct graft_adapter_desc *desc);
        enum graft_status status;
    } cases[] = {
        {"base", "plain", "layer 0 q_proj twice", second_of_the_same, GRAFT_E_FORMAT},
        {"base", "plain", "rank", rank_above_the_matrices, GRAFT_E_FORMAT},
        {"base", "plain", "rank 0", rank_zero, GRAFT_E_LIMIT},
        {"base", "plain", "rank 257", rank_too_high, GRAFT_E_LIMIT},
        {"base", "plain", "scale inf", scale_not_finite, GRAFT_E_FORMAT},
        {"base", "plain", "layer 2", layer_beyond, GRAFT_E_FORMAT},
        {"base", "plain", "66", no_matrix, GRAFT_E_FORMAT},
        {"base", "plain", "lora_bias", dora_with_bias, GRAFT_E_UNSUPPORTED},
        {"base", "plain", "changes nothing", nothing, GRAFT_E_FORMAT},
        {"base", "plain", "token 288, the base's vocabulary has 0 to 287", unknown_token, GRAFT_E_FORMAT},
        {"base", "norms", "for one tensor of the base", norm_twice, GRAFT_E_FORMAT},
        {"base", "norms", "65", norm_too_long, GRAFT_E_FORMAT},
        {"base", "head", "adds matrices to it", head_twice, GRAFT_E_FORMAT},
        {"../moe/qwen3moe", "../moe/whole-router", "a router of 257 experts", router_of_too_many, GRAFT_E_LIMIT},
        {"../moe/qwen3moe", "../moe/whole-router", "layer 1 gate has shape 7 x 64, the base's 8 x 64", router_of_fewer,
         GRAFT_E_FORMAT},
        {"../moe/qwen3moe", "../moe/whole-router", "layer 0 gate has shape 8 x 65", router_too_wide, GRAFT_E_FORMAT},
        {"../moe/qwen3moe", "../moe/whole-router", "gate.weight and adds matrices to it", router_replaced_and_changed,
         GRAFT_E_FORMAT},
    };
    struct graft_test_alloc alloc = {0};
    struct world w = {.ctx = graft_test_ctx(&alloc, 0)};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/golden/peft/%s.gguf", GRAFT_TEST_SOURCE_DIR, cases[i].base);
        ck_assert_ok(graft_gguf_open(w.ctx, &w.gguf, path, false));
        ck_assert_ok(graft_source_open(w.ctx, &w.source, w.gguf));
        struct graft_adapter_desc *desc = read_golden(w.ctx, cases[i].adapter);
        ck_assert_ok(graft_adapter_fit(desc, w.source));
        cases[i].change(desc);
        enum graft_status status = graft_adapter_fit(desc, w.source);
        ck_assert_msg(status == cases[i].status && strstr(graft_last_error(), cases[i].text),
                      "case %zu: %s, \"%s\" lacks \"%s\"", i, graft_status_name(status), graft_last_error(), cases[i].text);
        graft_adapter_free(&desc);
        graft_source_close(&w.source);
        graft_gguf_close(&w.gguf);
    }
    graft_ctx_destroy(&w.ctx);
    ck_assert_uint_eq(alloc.live, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adapter_fit");
    TCase *tests = tcase_create("adapter_fit");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, descriptions_that_are_not_sound_are_refused);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
