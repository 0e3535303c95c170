// SPDX-License-Identifier: Apache-2.0
#define _POSIX_C_SOURCE 200809L
#include "support/tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/quant/quant.h"
#include "support/support.h"

static bool left_out(const struct graft_tiny_model *m, const char *name)
{
    for (size_t i = 0; i < 8 && m->leave_out[i]; i++) {
        if (strcmp(m->leave_out[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void put_u32(struct graft_test_gguf *b, const struct graft_tiny_model *m, const char *name, uint32_t value)
{
    if (!left_out(m, name)) {
        graft_test_gguf_u32(b, name, value);
    }
}

static void put_f32(struct graft_test_gguf *b, const struct graft_tiny_model *m, const char *name, float value)
{
    if (!left_out(m, name)) {
        graft_test_gguf_f32(b, name, value);
    }
}

static bool printable(uint32_t byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

// GPT-2's printable stand-in for a byte, as UTF-8: the n-th unprintable byte is U+0100 + n.
static void byte_token(uint32_t byte, char text[4])
{
    uint32_t unprintable = 0;
    for (uint32_t i = 0; i < byte; i++) {
        unprintable += !printable(i);
    }
    uint32_t code = printable(byte) ? byte : 256 + unprintable;
    if (code < 0x80) {
        snprintf(text, 4, "%c", (char)code);
    } else {
        snprintf(text, 4, "%c%c", (char)(0xc0 | code >> 6), (char)(0x80 | (code & 0x3f)));
    }
}

static void put_vocabulary(struct graft_test_gguf *b, const struct graft_tiny_model *m)
{
    // A token and the merge that makes it.
    static const char *const merges[] = {"t h",  "h e",        "i n",        "e r",        "a n", "o n", "r e", "o u",  "th e",
                                         "an d", "\xc4\xa0 t", "\xc4\xa0 a", "\xc4\xa0 w", "i s", "a t", "e n", "in g", "l l"};
    enum { MERGES = sizeof merges / sizeof *merges, FIRST = 258 };
    static char bytes[256][4], merged[MERGES][8], rest[GRAFT_TINY_VOCAB][16];
    const char *tokens[GRAFT_TINY_VOCAB];
    int32_t types[GRAFT_TINY_VOCAB];
    for (uint32_t i = 0; i < GRAFT_TINY_VOCAB; i++) {
        types[i] = 1;
        if (i < 256) {
            byte_token(i, bytes[i]);
            tokens[i] = bytes[i];
        } else if (i < FIRST) {
            tokens[i] = i == GRAFT_TINY_IM_START ? "<|im_start|>" : "<|im_end|>";
            types[i] = 3;
        } else if (i < FIRST + MERGES) {
            const char *space = strchr(merges[i - FIRST], ' ');
            snprintf(merged[i - FIRST], sizeof *merged, "%.*s%s", (int)(space - merges[i - FIRST]), merges[i - FIRST],
                     space + 1);
            tokens[i] = merged[i - FIRST];
        } else {
            snprintf(rest[i], sizeof rest[i], "<|unused_%u|>", i);
            tokens[i] = rest[i];
            types[i] = 5;
        }
    }
    graft_test_gguf_text(b, "tokenizer.ggml.model", "gpt2");
    graft_test_gguf_text(b, "tokenizer.ggml.pre", "gpt-2");
    graft_test_gguf_texts(b, "tokenizer.ggml.tokens", tokens, GRAFT_TINY_VOCAB);
    graft_test_gguf_i32s(b, "tokenizer.ggml.token_type", types, GRAFT_TINY_VOCAB);
    graft_test_gguf_texts(b, "tokenizer.ggml.merges", merges, MERGES);
    graft_test_gguf_u32(b, "tokenizer.ggml.bos_token_id", GRAFT_TINY_IM_START);
    graft_test_gguf_u32(b, "tokenizer.ggml.eos_token_id", GRAFT_TINY_IM_END);
    if (!m->no_template) {
        graft_test_gguf_text(
            b, "tokenizer.chat_template",
            "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
            "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
    }
}

static void put_tensor(struct graft_test_gguf *b, const struct graft_tiny_model *m, struct graft_test_random *random,
                       const char *name, uint32_t n_in, uint32_t n_out)
{
    if (left_out(m, name)) {
        return;
    }
    bool vector = n_out == 1, wrong = m->wrong_shape && strcmp(m->wrong_shape, name) == 0;
    uint32_t type = vector ? GRAFT_TYPE_F32 : m->type;
    n_in += wrong && vector;
    n_out += wrong && !vector;
    uint64_t row_bytes = 0;
    ck_assert(graft_type_row_bytes(type, n_in, &row_bytes));
    float *x = malloc(n_in * sizeof *x);
    uint8_t *data = malloc(row_bytes * n_out);
    ck_assert(x && data);
    for (uint32_t o = 0; o < n_out; o++) {
        for (uint32_t i = 0; i < n_in; i++) {
            x[i] = vector ? graft_test_random_f32(random, 0.8f, 1.2f) : graft_test_random_f32(random, -0.25f, 0.25f);
        }
        graft_quant_find(type)->quantize_row(x, data + o * row_bytes, n_in);
    }
    graft_test_gguf_tensor(b, name, type, vector ? 1 : 2, (uint64_t[]){n_in, n_out}, data, row_bytes * n_out);
    free(data);
    free(x);
}

void graft_tiny_model_build(struct graft_test_gguf *b, const struct graft_tiny_model *given)
{
    struct graft_tiny_model m = *given;
    bool wide = graft_type_info(m.type)->block_values == 256;
    m.n_layer = m.n_layer ? m.n_layer : 2;
    m.n_embd = m.n_embd ? m.n_embd : wide ? 256 : 64;
    m.n_ff = m.n_ff ? m.n_ff : wide ? 256 : 96;
    m.n_head = m.n_head ? m.n_head : 4;
    m.n_head_kv = m.n_head_kv ? m.n_head_kv : 2;
    m.head_dim = m.head_dim ? m.head_dim : wide ? 64 : 16;
    graft_test_gguf_text(b, "general.architecture", "llama");
    graft_test_gguf_text(b, "general.name", "tiny");
    put_u32(b, &m, "llama.block_count", m.n_layer);
    put_u32(b, &m, "llama.context_length", m.n_ctx ? m.n_ctx : 512);
    put_u32(b, &m, "llama.embedding_length", m.n_embd);
    put_u32(b, &m, "llama.feed_forward_length", m.n_ff);
    put_u32(b, &m, "llama.attention.head_count", m.n_head);
    put_u32(b, &m, "llama.attention.head_count_kv", m.n_head_kv);
    put_u32(b, &m, "llama.attention.key_length", m.head_dim);
    put_u32(b, &m, "llama.attention.value_length", m.head_dim);
    put_f32(b, &m, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_f32(b, &m, "llama.rope.freq_base", 10000.0f);
    put_vocabulary(b, &m);
    struct graft_test_random random = {.state = m.seed ? m.seed : 42};
    put_tensor(b, &m, &random, "token_embd.weight", m.n_embd, GRAFT_TINY_VOCAB);
    put_tensor(b, &m, &random, "output_norm.weight", m.n_embd, 1);
    if (m.untied) {
        put_tensor(b, &m, &random, "output.weight", m.n_embd, GRAFT_TINY_VOCAB);
    }
    if (m.rope_factors) {
        float factors[256];
        for (uint32_t i = 0; i < m.head_dim / 2; i++) {
            factors[i] = 1.0f + (float)i;
        }
        graft_test_gguf_tensor(b, "rope_freqs.weight", GRAFT_TYPE_F32, 1, (uint64_t[]){m.head_dim / 2}, factors,
                               4 * (m.head_dim / 2));
    }
    for (uint32_t i = 0; i < m.n_layer; i++) {
        const struct {
            const char *suffix;
            uint32_t n_in, n_out;
        } tensors[] = {{"attn_norm", m.n_embd, 1},
                       {"attn_q", m.n_embd, m.n_head * m.head_dim},
                       {"attn_k", m.n_embd, m.n_head_kv * m.head_dim},
                       {"attn_v", m.n_embd, m.n_head_kv * m.head_dim},
                       {"attn_output", m.n_head * m.head_dim, m.n_embd},
                       {"ffn_norm", m.n_embd, 1},
                       {"ffn_gate", m.n_embd, m.n_ff},
                       {"ffn_up", m.n_embd, m.n_ff},
                       {"ffn_down", m.n_ff, m.n_embd}};
        for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%u.%s.weight", i, tensors[k].suffix);
            put_tensor(b, &m, &random, name, tensors[k].n_in, tensors[k].n_out);
        }
    }
}

void graft_tiny_save(struct graft_test_gguf *b, char path[GRAFT_TINY_PATH_BYTES])
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, GRAFT_TINY_PATH_BYTES, "%s/graft-tiny-XXXXXX", folder ? folder : "/tmp");
    int fd = mkstemp(path);
    ck_assert_msg(fd >= 0, "no temporary file %s", path);
    close(fd);
    graft_test_gguf_finish(b);
    graft_test_gguf_save(b, path);
}

void graft_tiny_model_file(const struct graft_tiny_model *model, char path[GRAFT_TINY_PATH_BYTES])
{
    const struct graft_tiny_model defaults = {0};
    struct graft_test_gguf b = {0};
    graft_tiny_model_build(&b, model ? model : &defaults);
    graft_tiny_save(&b, path);
    graft_test_gguf_free(&b);
}
