// SPDX-License-Identifier: Apache-2.0
// Adapters at run time on tiny models: the device against the scalar reference, rows with different adapters in one batch,
// blends, and what they cost in commands; on a mixture of experts also of its router and experts.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "loaders/adapter.h"
#include "support/matrices.h"
#include "support/model_world.h"

enum {
    SLOTS = 8,
    POOL = 2 << 20,
    ROWS = 8,
    EXTRAS = 3,
    DENSE,
    MIXED,
    MIXTURE,
    MODELS
}; // slot EXTRAS has everything that an adapter may have

// `count` small f32 numbers into the pool at `at` (units of 16 bytes); the first unit behind them.
static uint32_t put_vector(uint16_t *pool, uint32_t at, uint32_t count, struct graft_test_random *random)
{
    float *values = (float *)(void *)(pool + 8 * (size_t)at);
    for (uint32_t i = 0; i < count; i++) {
        values[i] = (float)(int32_t)(graft_test_random_u64(random) >> 40 & 0xff) / 512.0f - 0.25f;
    }
    return at + (count + 3) / 4;
}

// A linear entry at `at`, places counted from `from` on; what is behind it. The pool holds small numbers everywhere.
static uint32_t put_linear(uint16_t *pool, uint32_t *e, uint32_t at, uint32_t from, uint32_t rank, uint32_t in, uint32_t out,
                           bool extras, struct graft_test_random *random)
{
    e[GRAFT_LORA_A] = at - from;
    at += rank * in / 8;
    e[GRAFT_LORA_B] = at - from;
    at += rank * out / 8;
    e[GRAFT_LORA_ENTRY_RANK] = rank;
    if (extras) {
        e[GRAFT_LORA_DORA] = at - from;
        at = put_vector(pool, at, out, random);
        e[GRAFT_LORA_BIAS] = at - from;
        at = put_vector(pool, at, out, random);
    }
    return at;
}

// The same for the experts of a mixture, but for every third.
static uint32_t put_experts(uint16_t *pool, uint32_t *e, uint32_t at, uint32_t slot, uint32_t rank, uint32_t in, uint32_t out,
                            uint32_t n_expert, struct graft_test_random *random)
{
    uint32_t table = at, *entries = (uint32_t *)(void *)(pool + 8 * (size_t)table);
    memset(entries, 0, n_expert * GRAFT_LORA_ENTRY * sizeof *entries);
    e[GRAFT_LORA_A] = table;
    at += n_expert * GRAFT_LORA_ENTRY / 4;
    for (uint32_t i = 0; i < n_expert; i++) {
        if ((i + slot) % 3 != 0) {
            at = put_linear(pool, entries + i * GRAFT_LORA_ENTRY, at, table, rank, in, out, slot == EXTRAS, random);
        }
    }
    return at;
}

// Random packed adapters in every slot of both models: ranks 8 and 16, slot 2 changes q and v only, slot EXTRAS has DoRA's
// multipliers, biases, norms, embedding and head besides; on a mixture the router and experts too.
static void fill(struct graft_model *a, struct graft_model *b)
{
    static _Alignas(16) uint16_t pool[POOL / 2];
    static uint32_t entries[8 * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY];
    const struct graft_config *c = &a->source->config;
    struct graft_test_random random = {.state = 5};
    ck_assert_uint_le(c->n_layer, 8);
    for (uint32_t i = 0; i < POOL / 2; i++) {
        pool[i] = (uint16_t)(0x2800 | (graft_test_random_u64(&random) & 0x83ff)); // about +-0.03 to 0.06
    }
    uint32_t at = 1, q = c->n_head * c->head_dim, kv = c->n_head_kv * c->head_dim;
    uint32_t n_ff = c->n_expert ? c->n_ff_expert : c->n_ff;
    const uint32_t in[GRAFT_LORA_TARGETS] = {c->n_embd, c->n_embd, c->n_embd, q, c->n_embd, c->n_embd, n_ff, c->n_embd};
    const uint32_t out[GRAFT_LORA_TARGETS] = {q, kv, kv, c->n_embd, n_ff, n_ff, c->n_embd, c->n_expert};
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        uint32_t rank = slot % 2 ? 16 : 8;
        memset(entries, 0, sizeof entries);
        for (uint32_t i = 0; i < c->n_layer * GRAFT_LORA_TARGETS; i++) {
            uint32_t t = i % GRAFT_LORA_TARGETS, layer = i / GRAFT_LORA_TARGETS, *e = entries + i * GRAFT_LORA_ENTRY;
            if (slot == EXTRAS && t >= GRAFT_LORA_ATTN_NORM && (layer == 0 || t != GRAFT_LORA_OUTPUT_NORM)) {
                bool of_head = t == GRAFT_LORA_Q_NORM || t == GRAFT_LORA_Q_NORM + 1;
                e[GRAFT_LORA_A] = at;
                at = put_vector(pool, at, of_head ? c->head_dim : c->n_embd, &random);
            } else if (slot == EXTRAS && layer == 0 && (t == GRAFT_LORA_EMBED || t == GRAFT_LORA_HEAD)) {
                e[GRAFT_LORA_A] = at;
                e[GRAFT_LORA_B] = at + rank * (t == GRAFT_LORA_EMBED ? c->n_vocab : c->n_embd) / 8;
                e[GRAFT_LORA_ENTRY_RANK] = rank;
                at = e[GRAFT_LORA_B] + rank * (t == GRAFT_LORA_EMBED ? c->n_embd : c->n_vocab) / 8;
            }
            if (t > (c->n_expert ? GRAFT_TARGET_ROUTER : GRAFT_TARGET_DOWN) || (slot == 2 && t != 0 && t != 2)) {
                continue;
            }
            if (c->n_expert && t >= GRAFT_TARGET_GATE && t <= GRAFT_TARGET_DOWN) {
                at = put_experts(pool, e, at, slot, rank, in[t], out[t], c->n_expert, &random);
            } else {
                at = put_linear(pool, e, at, 0, rank, in[t], out[t], slot == EXTRAS, &random);
            }
            ck_assert_uint_le(at, POOL / 16);
        }
        ck_assert_ok(a->exec->functions->adapter_table(a->exec, slot, entries));
        ck_assert_ok(b->exec->functions->adapter_table(b->exec, slot, entries));
    }
    ck_assert_ok(a->exec->functions->adapter_write(a->exec, 0, pool, POOL));
    ck_assert_ok(b->exec->functions->adapter_write(b->exec, 0, pool, POOL));
}

// Eight sequences of one token each: none, one adapter, another one, a blend of two ...
static void make_rows(struct graft_exec_row rows[ROWS])
{
    for (uint32_t i = 0; i < ROWS; i++) {
        rows[i] = (struct graft_exec_row){.token = 7 + 3 * i, .pos = 0, .seq = i, .slot = (i + 1) * GRAFT_PAGE_TOKENS};
        rows[i].n_pairs = i == 0 ? 0 : i == 3 || i == 6 ? 2 : 1;
        rows[i].pairs[0].slot = i % SLOTS;
        rows[i].pairs[0].weight = 1.0f;
        rows[i].pairs[1].slot = (i + 2) % SLOTS;
        rows[i].pairs[1].weight = -0.5f;
    }
}

static void run(struct graft_model *m, const struct graft_exec_row *rows, uint32_t n, float *logits)
{
    uint32_t tables[ROWS * 8] = {0}, out[ROWS];
    ck_assert_uint_le(m->limits.table_pages, 8);
    for (uint32_t i = 0; i < ROWS; i++) {
        tables[i * m->limits.table_pages] = i + 1;
        out[i] = i;
    }
    struct graft_exec_batch batch = {.rows = rows, .n_rows = n, .out = out, .n_out = n, .tables = tables, .logits = true};
    ck_assert_ok(m->exec->functions->run(m->exec, &batch));
    for (uint32_t i = 0; i < n; i++) {
        const float *row;
        ck_assert_ok(m->exec->functions->logits(m->exec, i, &row));
        memset(logits + i * GRAFT_TINY_VOCAB, 0, GRAFT_TINY_VOCAB * sizeof *row); // the mixture has fewer tokens
        memcpy(logits + i * GRAFT_TINY_VOCAB, row, m->source->config.n_vocab * sizeof *row);
    }
}

static const struct graft_model_params PARAMS = {.size = sizeof PARAMS,
                                                 .n_ctx = 8 * 32,
                                                 .n_batch = ROWS,
                                                 .n_seq = ROWS,
                                                 .exact = true,
                                                 .adapter_pool_bytes = POOL,
                                                 .adapter_slots = SLOTS};

// A tiny model; MIXED: with gate and up of different types, which take a dispatch each; MIXTURE: one of tests/golden/moe, whose
// experts are so too.
static void make_file(int kind, char path[GRAFT_TINY_PATH_BYTES])
{
    static const char *const names[] = {"blk.0.ffn_up.weight", "blk.1.ffn_gate.weight"};
    struct graft_tiny_model tiny = {.type = GRAFT_TYPE_Q4_1};
    if (kind == MIXTURE) {
        snprintf(path, GRAFT_TINY_PATH_BYTES, "%s/golden/moe/qwen3moe.gguf", GRAFT_TEST_SOURCE_DIR);
        return;
    }
    if (kind == DENSE) {
        graft_tiny_model_file(&tiny, path);
        return;
    }
    struct graft_test_gguf b = {0};
    tiny.leave_out[0] = names[0], tiny.leave_out[1] = names[1];
    graft_tiny_model_build(&b, &tiny);
    for (uint32_t i = 0; i < 2; i++) {
        struct graft_test_matrix m;
        ck_assert(graft_test_matrix(&m, GRAFT_TYPE_Q5_0, 64, 96, GRAFT_TEST_ORDINARY, 9 + i));
        graft_test_gguf_tensor(&b, names[i], m.type, 2, (uint64_t[]){64, 96}, m.data, m.bytes);
        graft_test_matrix_free(&m);
    }
    graft_tiny_save(&b, path);
    graft_test_gguf_free(&b);
}

static void remove_file(int kind, const char *path)
{
    if (kind != MIXTURE) {
        remove(path);
    }
}

START_TEST(rows_with_different_adapters_share_a_batch_and_keep_their_bits)
{
    // The last with integer dot products, 16 bits: values rounded by 2^-15 of the largest of 32.
    static const struct graft_vk_options masks[] = {{0}, {.no_texel = true}, {.no_subgroups = true}, {.no_texel = true}};
    static float got[ROWS * GRAFT_TINY_VOCAB], want[ROWS * GRAFT_TINY_VOCAB], alone[ROWS * GRAFT_TINY_VOCAB];
    char path[GRAFT_TINY_PATH_BYTES];
    make_file(_i, path);
    for (size_t m = 0; m < (_i == MIXED ? 3 : sizeof masks / sizeof *masks); m++) {
        struct graft_test_world vk, ref;
        struct graft_model_params params = PARAMS;
        if (m == 3) {
            params.exact = false;
            params.kv_keys = params.kv_values = GRAFT_KV_F32;
            params.activations = GRAFT_ACTIVATIONS_INT16;
        }
        if (!graft_test_world_open(&vk, &masks[m], path, &params)) {
            break;
        }
        ck_assert(graft_test_world_open(&ref, NULL, path, &PARAMS));
        fill(vk.model, ref.model);
        struct graft_exec_row rows[ROWS];
        make_rows(rows);
        run(vk.model, rows, ROWS, got);
        run(ref.model, rows, ROWS, want);
        double most = 0, worst = 0, changed = 0;
        for (uint32_t i = 0; i < ROWS * GRAFT_TINY_VOCAB; i++) {
            most = fmax(most, fabs((double)want[i]));
            worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
        }
        ck_assert_msg(worst <= 2e-4 * most, "mask %zu: off by %g of %g", m, worst, most);
        for (uint32_t i = 0; i < ROWS; i++) { // alone: the same bits, whatever shares the batch
            run(vk.model, &rows[i], 1, alone);
            ck_assert_msg(memcmp(alone, got + i * GRAFT_TINY_VOCAB, GRAFT_TINY_VOCAB * sizeof *alone) == 0, "mask %zu, row %u",
                          m, i);
        }
        rows[1].n_pairs = 0; // the adapter did something
        run(vk.model, &rows[1], 1, alone);
        for (uint32_t i = 0; i < GRAFT_TINY_VOCAB; i++) {
            changed = fmax(changed, fabs((double)alone[i] - (double)got[GRAFT_TINY_VOCAB + i]));
        }
        ck_assert_msg(changed > 10 * worst, "the adapter changed the logits by %g only", changed);
        graft_test_world_close(&vk);
        graft_test_world_close(&ref);
    }
    remove_file(_i, path);
}
END_TEST

START_TEST(any_number_of_adapters_costs_the_same_commands)
{
    struct graft_test_world vk;
    char path[GRAFT_TINY_PATH_BYTES];
    static float logits[ROWS * GRAFT_TINY_VOCAB];
    make_file(_i, path);
    for (int m = 0; m < 2 && graft_test_world_open(&vk, &(struct graft_vk_options){.no_texel = m}, path, &PARAMS); m++) {
        struct graft_exec_row rows[ROWS];
        uint64_t dispatches = 0, barriers = 0;
        fill(vk.model, vk.model);
        make_rows(rows);
        for (uint32_t n = 0; n <= ROWS; n = n ? 2 * n : 1) { // 0, 1, 2, 4, 8 adapters in a batch of 8
            struct graft_device_counters before, after;
            for (uint32_t i = 0; i < ROWS; i++) {
                rows[i].n_pairs = n > 0;
                rows[i].pairs[0].slot = n ? i % n : 0;
            }
            graft_device_count(&vk.device, &before);
            run(vk.model, rows, ROWS, logits);
            graft_device_count(&vk.device, &after);
            if (n == 0) {
                dispatches = after.dispatches - before.dispatches;
                barriers = after.barriers - before.barriers;
            }
            uint32_t head = n > EXTRAS; // that slot changes the head, whose shrink is a dispatch of its own
            uint32_t experts = n && _i == MIXTURE ? vk.model->source->config.n_layer : 0;
            // Mixtures: two shrinks for experts in each layer; the first runs beside experts_group. On GPUs the others are
            // dispatches, too: qkv, o, gate and up, down; of a mixture qkv, o, router.
            bool folds = graft_variant_choose(graft_vk_caps(vk.device.vk), 1).fold;
            uint32_t own = n && !folds ? vk.model->source->config.n_layer * (_i == MIXTURE ? 3 : 4) : 0;
            ck_assert_msg(after.dispatches - before.dispatches == dispatches + head + own + 2 * experts, "%u adapters", n);
            ck_assert_msg(after.barriers - before.barriers == barriers + head + own + experts, "%u adapters", n);
            ck_assert_uint_eq(after.submissions - before.submissions, 1);
            ck_assert_uint_eq(after.recordings, before.recordings);
            ck_assert_uint_eq(after.descriptor_updates, before.descriptor_updates);
        }
        graft_test_world_close(&vk);
    }
    remove_file(_i, path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lora");
    TCase *tests = tcase_create("lora");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, rows_with_different_adapters_share_a_batch_and_keep_their_bits, DENSE, MODELS);
    tcase_add_loop_test(tests, any_number_of_adapters_costs_the_same_commands, DENSE, MODELS);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
