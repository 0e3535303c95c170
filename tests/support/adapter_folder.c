// SPDX-License-Identifier: Apache-2.0
#include "support/adapter_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/support.h"

enum { HEADER_BYTES = 65536 };

struct writer {
    char header[HEADER_BYTES];
    size_t used;
    uint64_t offset; // in the data
    FILE *data;      // of a temporary
    struct graft_test_random random;
    float size;
};

static void put(struct writer *w, const char *name, uint32_t rows, uint32_t cols, bool zero)
{
    uint64_t bytes = (uint64_t)rows * cols * 4;
    w->used += (size_t)snprintf(w->header + w->used, sizeof w->header - w->used,
                                "%s\"base_model.model.%s\":{\"dtype\":\"F32\",\"shape\":[%u,%u],\"data_offsets\":[%llu,%llu]}",
                                w->used > 1 ? "," : "", name, rows, cols, (unsigned long long)w->offset,
                                (unsigned long long)(w->offset + bytes));
    ck_assert_uint_lt(w->used, sizeof w->header - 64);
    for (uint64_t i = 0; i < (uint64_t)rows * cols; i++) {
        float value = zero ? 0.0f : graft_test_random_f32(&w->random, -w->size, w->size);
        ck_assert_uint_eq(fwrite(&value, sizeof value, 1, w->data), 1);
    }
    w->offset += bytes;
}

static void put_pair(struct writer *w, const struct graft_test_adapter *a, const char *module, uint32_t n_in, uint32_t n_out)
{
    char name[128];
    snprintf(name, sizeof name, "%s.lora_A.weight", module);
    put(w, name, a->rank, n_in, false);
    snprintf(name, sizeof name, "%s.lora_B.weight", module);
    put(w, name, n_out, a->rank, a->zero);
}

static void put_layer(struct writer *w, const struct graft_test_adapter *a, uint32_t layer)
{
    const struct {
        const char *name;
        uint32_t n_in, n_out;
    } targets[] = {{"self_attn.q_proj", a->n_embd, a->q_rows},  {"self_attn.k_proj", a->n_embd, a->kv_rows},
                   {"self_attn.v_proj", a->n_embd, a->kv_rows}, {"self_attn.o_proj", a->q_rows, a->n_embd},
                   {"mlp.gate_proj", a->n_embd, a->n_ff},       {"mlp.up_proj", a->n_embd, a->n_ff},
                   {"mlp.down_proj", a->n_ff, a->n_embd}};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        char module[96];
        snprintf(module, sizeof module, "model.layers.%u.%s", layer, targets[i].name);
        put_pair(w, a, module, targets[i].n_in, targets[i].n_out);
    }
}

void graft_test_adapter_folder(const struct graft_test_adapter *a, const char *folder)
{
    static struct writer w;
    char path[512];
    memset(&w, 0, sizeof w);
    w.header[w.used++] = '{';
    w.random.state = a->seed + 0x9e3779b97f4a7c15u;
    w.size = a->size > 0 ? a->size : 0.1f;
    w.data = tmpfile();
    ck_assert_ptr_nonnull(w.data);
    for (uint32_t i = 0; i < a->n_layer && a->layers; i++) {
        put_layer(&w, a, i);
    }
    if (a->embed) {
        put(&w, "model.embed_tokens.lora_embedding_A", a->rank, a->n_vocab, false);
        put(&w, "model.embed_tokens.lora_embedding_B", a->n_embd, a->rank, a->zero);
    }
    if (a->head) {
        put_pair(&w, a, "lm_head", a->n_embd, a->n_vocab);
    }
    w.header[w.used++] = '}';
    while (w.used % 8) {
        w.header[w.used++] = ' ';
    }
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    FILE *out = fopen(path, "wb");
    ck_assert_ptr_nonnull(out);
    uint64_t length = w.used;
    ck_assert_uint_eq(fwrite(&length, sizeof length, 1, out), 1);
    ck_assert_uint_eq(fwrite(w.header, 1, w.used, out), w.used);
    rewind(w.data);
    for (int c; (c = getc(w.data)) != EOF;) {
        putc(c, out);
    }
    ck_assert_int_eq(fclose(out), 0);
    fclose(w.data);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    out = fopen(path, "wb");
    ck_assert_ptr_nonnull(out);
    const char *quote = a->base_name ? "\"" : "";
    fprintf(out,
            "{\"peft_type\":\"LORA\",\"task_type\":\"CAUSAL_LM\",\"r\":%u,\"lora_alpha\":%u,\"bias\":\"none\","
            "\"base_model_name_or_path\":%s%s%s,\"target_modules\":[\"q_proj\"]}\n",
            a->rank, a->rank, quote, a->base_name ? a->base_name : "null", quote);
    ck_assert_int_eq(fclose(out), 0);
}
