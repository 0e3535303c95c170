// SPDX-License-Identifier: Apache-2.0
// Adapter files: what is read, every refusal, fitting and packing against numpy's bytes (tests/golden/make_adapter.py).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loaders/sha256.h"
#include "runtime/adapter/fit.h"
#include "shaders/params.h"
#include "support/support.h"
#include "support/tiny_model.h"
#include "support/vk_support.h"

enum { MAX_TENSORS = 4, PATH_ROOM = 512, IMAGE_ROOM = 1 << 18 };

#define Q    "base_model.model.model.layers.0.self_attn.q_proj."
#define DOWN "base_model.model.model.layers.1.mlp.down_proj."
#define GATE "base_model.model.model.layers.1.mlp.gate.weight"
#define A    "lora_A.weight"
#define B    "lora_B.weight"

static const char good_config[] = "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4}";

// An F32 tensor of 0.25; rows 0: a vector.
struct spec {
    const char *name;
    uint64_t rows, cols;
};

struct files {
    char folder[64], path[PATH_ROOM];
};

static void write_file(const struct files *files, const char *name, const void *data, size_t size)
{
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "%s/%s", files->folder, name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, size, f), size);
    ck_assert_int_eq(fclose(f), 0);
}

// A folder with a configuration and tensors; value `index` of the last one is `special` if that is not 0.25. config NULL: the
// good one.
static void make_files(struct files *files, const char *config, const struct spec *specs, float special, uint64_t index)
{
    static uint8_t image[IMAGE_ROOM];
    char header[4096] = "{";
    uint64_t place = 0;
    size_t used = 1;
    for (int i = 0; i < MAX_TENSORS && specs[i].name; i++) {
        uint64_t bytes = 4 * (specs[i].rows ? specs[i].rows : 1) * specs[i].cols;
        char shape[64];
        snprintf(shape, sizeof shape, specs[i].rows ? "[%llu,%llu]" : "[%.0llu%llu]", (unsigned long long)specs[i].rows,
                 (unsigned long long)specs[i].cols);
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%llu,%llu]}", i ? "," : "",
                                 specs[i].name, shape, (unsigned long long)place, (unsigned long long)(place + bytes));
        place += bytes;
        if (i + 1 == MAX_TENSORS || !specs[i + 1].name) {
            index += (place - bytes) / 4;
        }
    }
    header[used++] = '}';
    ck_assert_uint_lt(8 + used + place, IMAGE_ROOM);
    memset(image, 0, 8);
    image[0] = (uint8_t)used;
    image[1] = (uint8_t)(used >> 8);
    memcpy(image + 8, header, used);
    for (uint64_t i = 0; i < place / 4; i++) {
        float value = i == index ? special : 0.25f;
        memcpy(image + 8 + used + 4 * i, &value, 4);
    }
    graft_test_folder(files->folder);
    write_file(files, "adapter_model.safetensors", image, 8 + used + (size_t)place);
    config = config ? config : good_config;
    write_file(files, "adapter_config.json", config, strlen(config));
}

// Read, expect a refusal that contains `text`.
static void refuse(struct graft_ctx *ctx, const char *path, const char *name, enum graft_status expected, const char *text)
{
    struct graft_adapter_desc *desc;
    enum graft_status status = graft_adapter_read(ctx, &desc, path);
    ck_assert_msg(status == expected && !desc, "%s: %s (%s), expected %s", name, graft_status_name(status), graft_last_error(),
                  graft_status_name(expected));
    ck_assert_msg(strstr(graft_last_error(), text) != NULL, "%s: \"%s\" lacks \"%s\"", name, graft_last_error(), text);
}

static void demo_path(char path[PATH_ROOM], const char *name)
{
    snprintf(path, PATH_ROOM, "%s/../demo/adapters/%s", GRAFT_TEST_SOURCE_DIR, name);
}

START_TEST(the_demo_adapters_are_read)
{
    // Digests: sha256sum of both files, one behind the other.
    static const struct {
        const char *name, *digest;
        uint32_t n_pairs, rank, per_layer;
        enum graft_target targets[4];
        double scale;
    } demos[] = {
        {"legal",
         "f89ccc5b6a5cb440b78e373c4796300ddc2b9640d24da3f73dd25f62ecf4bf53",
         60,
         8,
         2,
         {GRAFT_TARGET_Q, GRAFT_TARGET_V},
         2},
        {"finance",
         "1ec64900096b91ff205516cf2a20e710656a5748a0503512bfcf94a2b3aeb175",
         120,
         4,
         4,
         {GRAFT_TARGET_Q, GRAFT_TARGET_K, GRAFT_TARGET_V, GRAFT_TARGET_O},
         2},
        {"support",
         "4b6afcd15e81e09de245bb67157b4cf2626802a951a4a295a4bdb62bfe0f1d28",
         60,
         8,
         2,
         {GRAFT_TARGET_Q, GRAFT_TARGET_V},
         2.8284271247461903}, // rsLoRA: 8 / sqrt(8)
    };
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    for (size_t i = 0; i < sizeof demos / sizeof *demos; i++) {
        char path[PATH_ROOM], hex[GRAFT_SHA256_HEX_BYTES];
        demo_path(path, demos[i].name);
        struct graft_adapter_desc *desc;
        ck_assert_ok(graft_adapter_read(ctx, &desc, path));
        graft_sha256_hex(desc->digest, hex);
        ck_assert_str_eq(hex, demos[i].digest);
        ck_assert_uint_eq(desc->n_pairs, demos[i].n_pairs);
        ck_assert_uint_eq(desc->max_rank, demos[i].rank);
        ck_assert_uint_eq(desc->n_parameters, 460800);
        ck_assert(!desc->rows_permuted && desc->n_alora == 0 && desc->n_whole == 0);
        ck_assert_str_eq(desc->base_name, "");
        for (uint32_t p = 0; p < desc->n_pairs; p++) {
            const struct graft_adapter_pair *pair = &desc->pairs[p];
            ck_assert_uint_eq(pair->layer, p / demos[i].per_layer);
            ck_assert_int_eq(pair->target, demos[i].targets[p % demos[i].per_layer]);
            ck_assert_uint_eq(pair->rank, demos[i].rank);
            ck_assert_float_eq(pair->scale, (float)demos[i].scale);
            ck_assert(pair->a.rows == pair->rank && pair->a.cols == 576 && pair->b.cols == pair->rank);
            ck_assert(!pair->magnitude.data && !pair->bias.data);
        }
        graft_adapter_free(&desc);
        ck_assert_ptr_null(desc);
        ck_assert_uint_eq(alloc.live, 1);
    }
    graft_adapter_free(NULL);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_folder_and_its_tensor_file_are_the_same_adapter)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    char path[PATH_ROOM];
    const char *names[] = {"legal", "legal/", "legal/adapter_model.safetensors"};
    uint8_t first[32];
    for (size_t i = 0; i < 3; i++) {
        struct graft_adapter_desc *desc;
        demo_path(path, names[i]);
        ck_assert_ok(graft_adapter_read(ctx, &desc, path));
        if (i == 0) {
            memcpy(first, desc->digest, sizeof first);
        }
        ck_assert_mem_eq(first, desc->digest, sizeof first);
        graft_adapter_free(&desc);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

// The same tensors under another configuration are another adapter.
START_TEST(the_digest_covers_the_configuration)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    const char *configs[] = {good_config, "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":5}"};
    uint8_t digests[2][32];
    for (int i = 0; i < 2; i++) {
        struct files files;
        struct graft_adapter_desc *desc;
        make_files(&files, configs[i], (struct spec[MAX_TENSORS]){{Q A, 2, 64}, {Q B, 64, 2}}, 1, 0);
        ck_assert_ok(graft_adapter_read(ctx, &desc, files.folder));
        memcpy(digests[i], desc->digest, 32);
        graft_adapter_free(&desc);
        graft_test_folder_remove(files.folder);
    }
    ck_assert_int_ne(memcmp(digests[0], digests[1], 32), 0);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(damaged_sets_of_tensors_are_refused_by_name)
{
    static const struct {
        const char *name, *config;
        struct spec specs[MAX_TENSORS];
        enum graft_status status;
        const char *text;
    } cases[] = {
        {"A alone", NULL, {{Q A, 2, 64}}, GRAFT_E_FORMAT, "model.layers.0.self_attn.q_proj has no B beside " Q A},
        {"B alone", NULL, {{Q B, 64, 2}}, GRAFT_E_FORMAT, "q_proj has no A beside " Q B},
        {"nothing", NULL, {{NULL, 0, 0}}, GRAFT_E_FORMAT, "has no tensors"},
        {"unlike ranks", NULL, {{Q A, 2, 64}, {Q B, 64, 3}}, GRAFT_E_FORMAT, "A of shape 2 x 64 and B of shape 64 x 3"},
        {"rank unlike the configuration",
         NULL,
         {{Q A, 3, 64}, {Q B, 64, 3}},
         GRAFT_E_FORMAT,
         "has rank 3, the configuration says 2"},
        {"rank unlike the pattern",
         "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"rank_pattern\":{\"q_proj\":5}}",
         {{Q A, 2, 64}, {Q B, 64, 2}},
         GRAFT_E_FORMAT,
         "has rank 2, the configuration says 5"},
        {"rank 257", NULL, {{Q A, 257, 4}, {Q B, 4, 257}}, GRAFT_E_LIMIT, "has rank 257, allowed are 1 to 256"},
        {"A is a vector", NULL, {{Q A, 0, 64}, {Q B, 64, 1}}, GRAFT_E_FORMAT, "A's rows must be B's columns"},
        {"magnitude without use_dora",
         NULL,
         {{Q A, 2, 64}, {Q B, 64, 2}, {Q "lora_magnitude_vector", 0, 64}},
         GRAFT_E_FORMAT,
         "has a magnitude vector, the configuration's use_dora is false"},
        {"use_dora without magnitude",
         "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"use_dora\":true}",
         {{Q A, 2, 64}, {Q B, 64, 2}},
         GRAFT_E_FORMAT,
         "has no magnitude vector, the configuration's use_dora is true"},
        {"magnitude of another length",
         "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"use_dora\":true}",
         {{Q A, 2, 64}, {Q B, 64, 2}, {Q "lora_magnitude_vector.weight", 0, 63}},
         GRAFT_E_FORMAT,
         "shape 1 x 63"},
        {"two magnitudes",
         "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"use_dora\":true}",
         {{Q A, 2, 64}, {Q B, 64, 2}, {Q "lora_magnitude_vector", 0, 64}, {Q "lora_magnitude_vector.weight", 0, 64}},
         GRAFT_E_FORMAT,
         "are the same part of one module"},
        {"bias without lora_bias",
         NULL,
         {{Q A, 2, 64}, {Q B, 64, 2}, {Q "lora_B.bias", 0, 64}},
         GRAFT_E_FORMAT,
         "has a bias, the configuration's lora_bias is false"},
        {"a trained embedding",
         NULL,
         {{"base_model.model.model.embed_tokens.weight", 290, 64}},
         GRAFT_E_UNSUPPORTED,
         "base_model.model.model.embed_tokens.weight is not supported"},
        {"an adapter's name inside",
         NULL,
         {{Q "lora_A.default.weight", 2, 64}},
         GRAFT_E_UNSUPPORTED,
         "lora_A.default.weight is not"},
        {"a name that goes on", NULL, {{Q A "x", 2, 64}}, GRAFT_E_UNSUPPORTED, "is not supported"},
        {"layer with a zero in front",
         NULL,
         {{"base_model.model.model.layers.00.mlp.up_proj." A, 2, 64}},
         GRAFT_E_UNSUPPORTED,
         "is not supported"},
        {"layer of eleven digits",
         NULL,
         {{"base_model.model.model.layers.99999999999.mlp.up_proj." A, 2, 64}},
         GRAFT_E_UNSUPPORTED,
         "is not supported"},
        {"q_proj of the wrong block",
         NULL,
         {{"base_model.model.model.layers.0.mlp.q_proj." A, 2, 64}},
         GRAFT_E_UNSUPPORTED,
         "is not supported"},
    };
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct files files;
        make_files(&files, cases[i].config, cases[i].specs, 0.25f, 0);
        refuse(ctx, files.folder, cases[i].name, cases[i].status, cases[i].text);
        ck_assert_uint_eq(alloc.live, 1);
        graft_test_folder_remove(files.folder);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(values_that_are_not_finite_are_refused_with_their_place)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct files files;
    const struct spec specs[MAX_TENSORS] = {{Q A, 2, 64}, {Q B, 64, 2}};
    make_files(&files, NULL, specs, NAN, 77);
    refuse(ctx, files.folder, "NaN", GRAFT_E_FORMAT, "tensor " Q B " has NaN at index 77");
    graft_test_folder_remove(files.folder);
    make_files(&files, NULL, specs, -INFINITY, 127);
    refuse(ctx, files.folder, "Inf", GRAFT_E_FORMAT, "tensor " Q B " has Inf at index 127");
    graft_test_folder_remove(files.folder);
    make_files(&files, NULL, (struct spec[MAX_TENSORS]){{Q A, 2, 64}, {Q B, 64, 2}, {GATE, 8, 64}}, NAN, 64);
    refuse(ctx, files.folder, "NaN", GRAFT_E_FORMAT, "tensor " GATE " has NaN at index 64");
    graft_test_folder_remove(files.folder);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(keys_that_change_the_computation_are_refused_by_name_and_value)
{
#define WITH(extra) "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4," extra "}"
    static const struct {
        const char *name, *config;
        enum graft_status status;
        const char *text;
    } cases[] = {
        {"no JSON", "{", GRAFT_E_FORMAT, "not valid JSON"},
        {"a list", "[]", GRAFT_E_FORMAT, "no JSON object"},
        {"a key twice", WITH("\"r\":2"), GRAFT_E_FORMAT, "not valid JSON"},
        {"no type", "{\"r\":2,\"lora_alpha\":4}", GRAFT_E_FORMAT, "peft_type is missing"},
        {"another type", "{\"peft_type\":\"LOHA\",\"r\":2,\"lora_alpha\":4}", GRAFT_E_UNSUPPORTED,
         "peft_type is \"LOHA\", only LORA"},
        {"no r", "{\"peft_type\":\"LORA\",\"lora_alpha\":4}", GRAFT_E_FORMAT, "r is missing"},
        {"r 0", "{\"peft_type\":\"LORA\",\"r\":0,\"lora_alpha\":4}", GRAFT_E_FORMAT, "r is 0, allowed are ranks 1 to 256"},
        {"r 257", "{\"peft_type\":\"LORA\",\"r\":257,\"lora_alpha\":4}", GRAFT_E_LIMIT, "r is 257"},
        {"r a fraction", "{\"peft_type\":\"LORA\",\"r\":2.5,\"lora_alpha\":4}", GRAFT_E_FORMAT, "r is 2.5"},
        {"alpha 0", "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":0}", GRAFT_E_FORMAT,
         "lora_alpha is 0, allowed are numbers above 0"},
        {"alpha negative", "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":-1}", GRAFT_E_FORMAT, "lora_alpha is -1"},
        {"alpha beyond f32", "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":1e300}", GRAFT_E_FORMAT, "lora_alpha is 1e300"},
        {"unknown key", WITH("\"use_magic\":[1]"), GRAFT_E_UNSUPPORTED, "key \"use_magic\" with value [1] is not known"},
        {"unknown key with escapes", WITH("\"\\u001b[2J\":1"), GRAFT_E_UNSUPPORTED, "key \"\\u001B[2J\" with value 1"},
        {"bias", WITH("\"bias\":\"all\""), GRAFT_E_UNSUPPORTED, "bias is \"all\""},
        {"modules_to_save", WITH("\"modules_to_save\":7"), GRAFT_E_UNSUPPORTED, "modules_to_save is 7"},
        {"init that changes the base", WITH("\"init_lora_weights\":\"pissa\""), GRAFT_E_UNSUPPORTED,
         "init_lora_weights is \"pissa\""},
        {"task", WITH("\"task_type\":\"SEQ_CLS\""), GRAFT_E_UNSUPPORTED, "task_type is \"SEQ_CLS\""},
        {"use_rslora a text", WITH("\"use_rslora\":\"no\""), GRAFT_E_UNSUPPORTED,
         "use_rslora is \"no\", allowed are true and false"},
        {"trained tokens", WITH("\"trainable_token_indices\":[5]"), GRAFT_E_UNSUPPORTED, "trainable_token_indices is [5]"},
        {"layer replication", WITH("\"layer_replication\":[[0,4]]"), GRAFT_E_UNSUPPORTED, "layer_replication is [[0,4]]"},
        {"target_modules a number", WITH("\"target_modules\":3"), GRAFT_E_UNSUPPORTED, "target_modules is 3"},
        {"pattern a list", WITH("\"rank_pattern\":[1]"), GRAFT_E_UNSUPPORTED, "rank_pattern is [1]"},
        {"pattern of PCRE2 alone", WITH("\"rank_pattern\":{\"(*ACCEPT)\":1}"), GRAFT_E_UNSUPPORTED,
         "rank_pattern has a key that is no regular expression"},
        {"pattern no expression", WITH("\"rank_pattern\":{\"q_(\":1}"), GRAFT_E_UNSUPPORTED,
         "rank_pattern has a key that is no regular expression"},
        {"pattern of rank 0", WITH("\"rank_pattern\":{\"q_proj\":0}"), GRAFT_E_FORMAT, "rank_pattern[\"q_proj\"] is 0"},
        {"pattern of alpha 0", WITH("\"alpha_pattern\":{\"q_proj\":0}"), GRAFT_E_FORMAT, "alpha_pattern[\"q_proj\"] is 0"},
        {"aLoRA of no tokens", WITH("\"alora_invocation_tokens\":[]"), GRAFT_E_UNSUPPORTED, "1 to 64 token ids"},
        {"aLoRA of a negative token", WITH("\"alora_invocation_tokens\":[-1]"), GRAFT_E_UNSUPPORTED, "is [-1]"},
    };
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct files files;
        make_files(&files, cases[i].config, (struct spec[MAX_TENSORS]){{Q A, 2, 64}, {Q B, 64, 2}}, 1, 0);
        refuse(ctx, files.folder, cases[i].name, cases[i].status, cases[i].text);
        ck_assert_ptr_nonnull(strstr(graft_last_error(), "adapter_config.json: "));
        ck_assert_uint_eq(alloc.live, 1);
        graft_test_folder_remove(files.folder);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(keys_that_change_nothing_are_let_pass_and_others_are_read)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct files files;
    struct graft_adapter_desc *desc;
    make_files(
        &files,
        WITH("\"use_dora\":true,\"lora_bias\":true,\"alora_invocation_tokens\":[7,9],\"layers_to_transform\":[0],"
             "\"target_modules\":\".*q_proj\",\"lora_dropout\":0.1,\"rank_pattern\":null,\"modules_to_save\":[],"
             "\"base_model_name_or_path\":\"some\\u001b/base\",\"init_lora_weights\":\"gaussian\",\"loftq_config\":{}"),
        (struct spec[MAX_TENSORS]){{Q A, 2, 64}, {Q B, 64, 2}, {Q "lora_magnitude_vector", 64, 1}, {Q "lora_B.bias", 0, 64}}, 1,
        0);
    ck_assert_ok(graft_adapter_read(ctx, &desc, files.folder));
    ck_assert_uint_eq(desc->n_pairs, 1);
    const struct graft_adapter_pair *pair = desc->pairs;
    ck_assert_ptr_nonnull(pair->magnitude.data);
    ck_assert(pair->magnitude.rows == 1 && pair->magnitude.cols == 64 && pair->bias.rows == 1 && pair->bias.cols == 64);
    ck_assert(desc->n_alora == 2 && desc->alora[0] == 7 && desc->alora[1] == 9);
    ck_assert_str_eq(desc->base_name, "some?/base");
    graft_adapter_free(&desc);
    graft_test_folder_remove(files.folder);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_pair_that_changes_nothing_is_reported)
{
    struct graft_test_log log = {0};
    struct graft_ctx *ctx = graft_test_vk_ctx(NULL, 0, NULL, &log);
    struct files files;
    struct graft_adapter_desc *desc;
    make_files(&files, "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":4}",
               (struct spec[MAX_TENSORS]){{Q A, 1, 1}, {Q B, 1, 1}}, -0.0f, 0);
    ck_assert_ok(graft_adapter_read(ctx, &desc, files.folder));
    ck_assert_uint_eq(log.lines, 1);
    ck_assert_ptr_nonnull(strstr(log.text, "tensor " Q B " is all zeros"));
    graft_adapter_free(&desc);
    graft_test_folder_remove(files.folder);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(pickles_are_refused_unread)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    static const char *const names[] = {"/x/a.bin", "a.pt", "a.pth", "a.ckpt", "a.pkl"}; // none of them exists
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        refuse(ctx, names[i], names[i], GRAFT_E_UNSUPPORTED, "safe_serialization=True");
    }
    struct files files;
    graft_test_folder(files.folder);
    refuse(ctx, files.folder, "empty folder", GRAFT_E_IO, "adapter_config.json: ");
    write_file(&files, "adapter_config.json", good_config, sizeof good_config - 1);
    refuse(ctx, files.folder, "no tensors", GRAFT_E_IO, "adapter_model.safetensors: ");
    write_file(&files, "adapter_model.bin", "x", 1);
    refuse(ctx, files.folder, "pickle in a folder", GRAFT_E_UNSUPPORTED, "adapter_model.bin: is a PyTorch pickle");
    graft_test_folder_remove(files.folder);
    graft_ctx_destroy(&ctx);
}
END_TEST

struct tiny {
    struct graft_test_gguf b;
    struct graft_gguf *gguf;
    struct graft_source *source;
};

static void open_tiny(struct graft_ctx *ctx, struct tiny *tiny)
{
    *tiny = (struct tiny){0};
    graft_tiny_model_build(&tiny->b, &(struct graft_tiny_model){0});
    graft_test_gguf_finish(&tiny->b);
    ck_assert_ok(graft_gguf_open_memory(ctx, &tiny->gguf, tiny->b.file, tiny->b.file_size, "tiny.gguf", false));
    ck_assert_ok(graft_source_open(ctx, &tiny->source, tiny->gguf));
}

static void close_tiny(struct tiny *tiny)
{
    graft_source_close(&tiny->source);
    graft_gguf_close(&tiny->gguf);
    graft_test_gguf_free(&tiny->b);
}

START_TEST(packed_bytes_and_table_are_those_of_numpy)
{
    static const struct {
        const char *adapter, *packed;
        uint32_t n_pairs;
    } cases[] = {{"peft", "peft.packed", 7}, {"lora.gguf", "gguf.packed", 4}};
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct tiny tiny;
    open_tiny(ctx, &tiny);
    for (size_t i = 0; i < 2; i++) {
        char path[PATH_ROOM], *expected;
        uint64_t expected_bytes;
        struct graft_adapter_desc *desc;
        snprintf(path, sizeof path, "%s/golden/adapter/%s", GRAFT_TEST_SOURCE_DIR, cases[i].adapter);
        ck_assert_ok(graft_adapter_read(ctx, &desc, path));
        ck_assert_uint_eq(desc->n_pairs, cases[i].n_pairs);
        ck_assert_str_eq(desc->base_name, i ? "Tiny Llama" : "tiny/llama");
        ck_assert_ok(graft_adapter_fit(desc, tiny.source));
        snprintf(path, sizeof path, "%s/golden/adapter/%s", GRAFT_TEST_SOURCE_DIR, cases[i].packed);
        ck_assert_ok(graft_file_read(ctx, path, 1 << 20, &expected, &expected_bytes));
        uint32_t entries[2][GRAFT_LORA_TARGETS][GRAFT_LORA_ENTRY];
        uint64_t bytes = graft_adapter_packed_bytes(desc);
        ck_assert_uint_eq(bytes + sizeof entries, expected_bytes);
        uint8_t *out = malloc(bytes);
        ck_assert_ptr_nonnull(out);
        memset(out, 0xee, bytes);
        memset(entries, 0xee, sizeof entries);
        ck_assert_ok(graft_adapter_pack(desc, tiny.source, out, &entries[0][0][0]));
        ck_assert_mem_eq(entries, expected, sizeof entries);
        ck_assert_mem_eq(out, expected + sizeof entries, bytes);
        free(out);
        graft_free(ctx, (void **)&expected);
        graft_adapter_free(&desc);
    }
    close_tiny(&tiny);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(an_adapter_of_another_base_does_not_fit)
{
    static const struct {
        const char *name, *config;
        struct spec specs[MAX_TENSORS];
        enum graft_status status;
        const char *text;
    } cases[] = {
        {"n_in",
         NULL,
         {{Q A, 2, 32}, {Q B, 64, 2}},
         GRAFT_E_FORMAT,
         "layer 0 q_proj has shape 64 x 32, the base's 64 x 64; was it"},
        {"n_out",
         NULL,
         {{DOWN A, 2, 96}, {DOWN B, 63, 2}},
         GRAFT_E_FORMAT,
         "layer 1 down_proj has shape 63 x 96, the base's 64 x 96"},
        {"layer",
         NULL,
         {{"base_model.model.model.layers.2.mlp.up_proj." A, 2, 64}, {"base_model.model.model.layers.2.mlp.up_proj." B, 96, 2}},
         GRAFT_E_FORMAT,
         "changes layer 2, the base has layers 0 to 1"},
        {"a norm",
         NULL,
         {{Q A, 2, 64}, {Q B, 64, 2}, {"base_model.model.model.norm.weight", 0, 32}},
         GRAFT_E_FORMAT,
         "norm has shape 1 x 32, the base's 1 x 64"},
        {"a router",
         NULL,
         {{Q A, 2, 64}, {Q B, 64, 2}, {GATE, 8, 64}},
         GRAFT_E_UNSUPPORTED,
         GATE ", which a base of architecture"},
        {"a head that is replaced and changed",
         NULL,
         {{"base_model.model.lm_head." A, 2, 64},
          {"base_model.model.lm_head." B, 290, 2},
          {"base_model.model.lm_head.weight", 290, 64}},
         GRAFT_E_FORMAT,
         "lm_head"},
        {"another embedding's copy",
         NULL,
         {{Q A, 2, 64}, {Q B, 64, 2}, {"base_model.model.lm_head.base_layer.weight", 290, 64}},
         GRAFT_E_UNSUPPORTED,
         "is not the base's tensor"},
        {"DoRA and a bias",
         WITH("\"use_dora\":true,\"lora_bias\":true"),
         {{Q A, 2, 64}, {Q B, 64, 2}, {Q "lora_magnitude_vector", 0, 64}, {Q "lora_B.bias", 0, 64}},
         GRAFT_E_UNSUPPORTED,
         "is DoRA"},
        {"aLoRA", WITH("\"alora_invocation_tokens\":[1,290]"), {{Q A, 2, 64}, {Q B, 64, 2}}, GRAFT_E_FORMAT, "has token 290"},
    };
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct tiny tiny;
    open_tiny(ctx, &tiny);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct files files;
        struct graft_adapter_desc *desc;
        make_files(&files, cases[i].config, cases[i].specs, 1, 0);
        ck_assert_ok(graft_adapter_read(ctx, &desc, files.folder));
        enum graft_status status = graft_adapter_fit(desc, tiny.source);
        ck_assert_msg(status == cases[i].status && strstr(graft_last_error(), cases[i].text), "%s: %s (%s)", cases[i].name,
                      graft_status_name(status), graft_last_error());
        graft_adapter_free(&desc);
        graft_test_folder_remove(files.folder);
    }
    close_tiny(&tiny);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(values_beyond_f16_are_refused_with_their_place)
{
    static const struct {
        float value;
        bool fits;
    } cases[] = {{32752.0f, true}, {32759.0f, true}, {32760.0f, false}, {-1e30f, false}}; // twice 32760 rounds to 65536
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct tiny tiny;
    open_tiny(ctx, &tiny);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct files files;
        struct graft_adapter_desc *desc;
        uint32_t entries[2 * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY];
        make_files(&files, NULL, (struct spec[MAX_TENSORS]){{DOWN A, 2, 96}, {DOWN B, 64, 2}}, cases[i].value, 5); // scale 2
        ck_assert_ok(graft_adapter_read(ctx, &desc, files.folder));
        ck_assert_ok(graft_adapter_fit(desc, tiny.source));
        uint8_t *out = malloc(graft_adapter_packed_bytes(desc));
        ck_assert_status(graft_adapter_pack(desc, tiny.source, out, entries), cases[i].fits ? GRAFT_OK : GRAFT_E_UNSUPPORTED);
        if (!cases[i].fits) {
            ck_assert_error_has("layer 1 down_proj has");
            ck_assert_error_has("at row 2, column 1");
        }
        free(out);
        graft_adapter_free(&desc);
        graft_test_folder_remove(files.folder);
    }
    close_tiny(&tiny);
    graft_ctx_destroy(&ctx);
}
END_TEST

// What a GGUF adapter must say of itself; NULL leaves the key out.
static void make_gguf(struct graft_test_gguf *b, const char *type, const char *kind, const char *arch, float alpha)
{
    *b = (struct graft_test_gguf){0};
    graft_test_gguf_text(b, "general.architecture", arch);
    graft_test_gguf_text(b, "general.type", type);
    graft_test_gguf_text(b, "adapter.type", kind);
    if (alpha >= 0.0f) {
        graft_test_gguf_f32(b, "adapter.lora.alpha", alpha);
    }
}

static void refuse_gguf(struct graft_ctx *ctx, struct graft_test_gguf *b, const char *name, enum graft_status status,
                        const char *text)
{
    struct files files;
    graft_test_folder(files.folder);
    graft_test_gguf_finish(b);
    write_file(&files, "a.gguf", b->file, b->file_size);
    snprintf(files.path, sizeof files.path, "%s/a.gguf", files.folder);
    refuse(ctx, files.path, name, status, text);
    graft_test_gguf_free(b);
    graft_test_folder_remove(files.folder);
}

START_TEST(gguf_files_that_are_no_lora_of_a_llama_are_refused)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    struct graft_test_gguf b;
    make_gguf(&b, "model", "lora", "llama", 4);
    refuse_gguf(ctx, &b, "a model", GRAFT_E_UNSUPPORTED, "general.type is \"model\"");
    make_gguf(&b, "adapter", "control_vector", "llama", 4);
    refuse_gguf(ctx, &b, "control vector", GRAFT_E_UNSUPPORTED, "adapter.type is \"control_vector\"");
    make_gguf(&b, "adapter", "lora", "an architecture that no base ever had", 4);
    refuse_gguf(ctx, &b, "another architecture", GRAFT_E_UNSUPPORTED, "general.architecture has 37 bytes");
    make_gguf(&b, "adapter", "lora", "llama", -1);
    refuse_gguf(ctx, &b, "no alpha", GRAFT_E_FORMAT, "adapter.lora.alpha");
    make_gguf(&b, "adapter", "lora", "llama", 0);
    refuse_gguf(ctx, &b, "alpha 0", GRAFT_E_FORMAT, "adapter.lora.alpha is 0");
    make_gguf(&b, "adapter", "lora", "llama", 4);
    graft_test_gguf_u32(&b, "adapter.lora.magic", 1);
    refuse_gguf(ctx, &b, "unknown key", GRAFT_E_UNSUPPORTED, "key adapter.lora.magic is not known");
    make_gguf(&b, "adapter", "lora", "llama", 4);
    refuse_gguf(ctx, &b, "no tensors", GRAFT_E_FORMAT, "has no tensors");
    make_gguf(&b, "adapter", "lora", "llama", 4);
    graft_test_gguf_tensor(&b, "blk.0.attn_q.weight.lora_c", GRAFT_TYPE_F32, 2, (uint64_t[]){64, 2}, NULL, 512);
    refuse_gguf(ctx, &b, "unknown tensor", GRAFT_E_UNSUPPORTED, "tensor blk.0.attn_q.weight.lora_c is not supported");
    static const char *const others[] = {
        "blk.0.token_embd.weight.lora_a", "attn_q.weight.lora_a",          "token_embd.weight",        "output.weight",
        "output.weight.lora_c",           "blk.0.attn_norm.weight.lora_a", "blk.0.output_norm.weight", "output_norm.bias",
        "blk.0.attn_x_norm.weight",       "blk.00.attn_norm.weight",       "rope_freqs.weight"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char text[128];
        make_gguf(&b, "adapter", "lora", "llama", 4);
        graft_test_gguf_tensor(&b, others[i], GRAFT_TYPE_F32, 2, (uint64_t[]){64, 2}, NULL, 512);
        snprintf(text, sizeof text, "tensor %s is not supported", others[i]);
        refuse_gguf(ctx, &b, others[i], GRAFT_E_UNSUPPORTED, text);
    }
    make_gguf(&b, "adapter", "lora", "llama", 4);
    graft_test_gguf_tensor(&b, "blk.0.attn_norm.weight", GRAFT_TYPE_F32, 2, (uint64_t[]){64, 2}, NULL, 512);
    refuse_gguf(ctx, &b, "a norm that is a matrix", GRAFT_E_FORMAT, "has 2 dimensions, allowed is a vector");
    make_gguf(&b, "adapter", "lora", "llama", 4); // not turned: [rank][n_vocab] instead of [n_vocab][rank]
    graft_test_gguf_tensor(&b, "token_embd.weight.lora_a", GRAFT_TYPE_F32, 2, (uint64_t[]){32, 4}, NULL, 512);
    graft_test_gguf_tensor(&b, "token_embd.weight.lora_b", GRAFT_TYPE_F32, 2, (uint64_t[]){4, 32}, NULL, 512);
    refuse_gguf(ctx, &b, "an embedding that is not turned", GRAFT_E_FORMAT, "A's rows must be B's columns");
    make_gguf(&b, "adapter", "lora", "llama", 4);
    graft_test_gguf_tensor(&b, "blk.0.attn_q.weight.lora_a", GRAFT_TYPE_F32, 2, (uint64_t[]){64, 2}, NULL, 512);
    refuse_gguf(ctx, &b, "A alone", GRAFT_E_FORMAT, "q_proj has no B beside blk.0.attn_q.weight.lora_a");
    make_gguf(&b, "adapter", "lora", "llama", 4);
    graft_test_gguf_tensor(&b, "blk.0.attn_q.weight.lora_a", GRAFT_TYPE_Q8_0, 2, (uint64_t[]){64, 2}, NULL, 136);
    refuse_gguf(ctx, &b, "quantized", GRAFT_E_UNSUPPORTED, "has type Q8_0, allowed are F32, F16 and BF16");
    make_gguf(&b, "adapter", "lora", "llama", 4);
    graft_test_gguf_tensor(&b, "blk.0.attn_q.weight.lora_a", GRAFT_TYPE_F32, 3, (uint64_t[]){8, 2, 2}, NULL, 128);
    refuse_gguf(ctx, &b, "three dimensions", GRAFT_E_FORMAT, "has 3 dimensions");
    make_gguf(&b, "adapter", "lora", "llama", 4);
    graft_test_gguf_tensor(&b, "blk.0.attn_q.weight.lora_a", GRAFT_TYPE_F32, 2, (uint64_t[]){64, 2}, NULL, 512);
    graft_test_gguf_tensor(&b, "blk.0.attn_q.weight.lora_b", GRAFT_TYPE_F32, 2, (uint64_t[]){2, 64}, NULL, 512 + 96);
    refuse_gguf(ctx, &b, "item 13: bytes behind", GRAFT_E_FORMAT, "has 96 bytes behind the last tensor");
    ck_assert_uint_eq(alloc.live, 1);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_failed_allocation_leaves_nothing_behind)
{
    static const char *const adapters[] = {"adapter/peft", "adapter/lora.gguf", "peft/embed-head.gguf", "peft/norms.gguf"};
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++) {
        char path[PATH_ROOM];
        snprintf(path, sizeof path, "%s/golden/%s", GRAFT_TEST_SOURCE_DIR, adapters[i]);
        for (uint64_t n = 2;; n++) { // the first is the context
            struct graft_test_alloc alloc = {.fail_at = n};
            struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
            struct graft_adapter_desc *desc;
            enum graft_status status = graft_adapter_read(ctx, &desc, path);
            ck_assert((status == GRAFT_OK) == (desc != NULL));
            graft_adapter_free(&desc);
            ck_assert_uint_eq(alloc.live, 1);
            graft_ctx_destroy(&ctx);
            if (status == GRAFT_OK) {
                ck_assert_uint_gt(n, 6);
                break;
            }
            ck_assert_int_eq(status, GRAFT_E_MEMORY);
        }
    }
}
END_TEST

START_TEST(a_file_cut_anywhere_is_refused)
{
    static const struct {
        const char *adapter, *name;
        size_t step;
    } cases[] = {{"peft/adapter_model.safetensors", "adapter_model.safetensors", 43}, {"lora.gguf", "a.gguf", 47}};
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    for (size_t i = 0; i < 2; i++) {
        struct files files;
        struct graft_adapter_desc *desc;
        char *image;
        uint64_t size;
        snprintf(files.path, sizeof files.path, "%s/golden/adapter/%s", GRAFT_TEST_SOURCE_DIR, cases[i].adapter);
        ck_assert_ok(graft_file_read(ctx, files.path, 1 << 20, &image, &size));
        graft_test_folder(files.folder);
        write_file(&files, "adapter_config.json", good_config, sizeof good_config - 1);
        snprintf(files.path, sizeof files.path, "%s/%s", files.folder, cases[i].name);
        for (size_t cut = 0; cut < size; cut += cut < 64 ? 1 : cases[i].step) {
            write_file(&files, cases[i].name, image, cut);
            ck_assert_status(graft_adapter_read(ctx, &desc, files.path), GRAFT_E_FORMAT);
        }
        graft_free(ctx, (void **)&image);
        graft_test_folder_remove(files.folder);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adapter");
    TCase *tests = tcase_create("adapter");
    tcase_add_test(tests, the_demo_adapters_are_read);
    tcase_add_test(tests, a_folder_and_its_tensor_file_are_the_same_adapter);
    tcase_add_test(tests, the_digest_covers_the_configuration);
    tcase_add_test(tests, damaged_sets_of_tensors_are_refused_by_name);
    tcase_add_test(tests, values_that_are_not_finite_are_refused_with_their_place);
    tcase_add_test(tests, keys_that_change_the_computation_are_refused_by_name_and_value);
    tcase_add_test(tests, keys_that_change_nothing_are_let_pass_and_others_are_read);
    tcase_add_test(tests, a_pair_that_changes_nothing_is_reported);
    tcase_add_test(tests, pickles_are_refused_unread);
    tcase_add_test(tests, packed_bytes_and_table_are_those_of_numpy);
    tcase_add_test(tests, an_adapter_of_another_base_does_not_fit);
    tcase_add_test(tests, values_beyond_f16_are_refused_with_their_place);
    tcase_add_test(tests, gguf_files_that_are_no_lora_of_a_llama_are_refused);
    tcase_add_test(tests, a_failed_allocation_leaves_nothing_behind);
    tcase_add_test(tests, a_file_cut_anywhere_is_refused);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
