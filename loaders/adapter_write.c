// SPDX-License-Identifier: Apache-2.0
// The writers: tensors behind a safetensors header with a configuration beside it, and GGUF.
// Sources: the safetensors format description (huggingface/safetensors, README); the GGUF specification (ggml, docs/gguf.md).
#include "loaders/adapter_write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "loaders/adapter_parts.h"
#include "loaders/gguf.h"
#include "platform/bytes.h"

#define TENSORS_FILE "adapter_model.safetensors"
#define CONFIG_FILE  "adapter_config.json"

enum { ENTRY_BYTES = GRAFT_ADAPTER_NAME_BYTES + 128, HEADER_ALIGNMENT = 8, GGUF_VERSION = 3, QUANTIZATION_VERSION = 2 };

static enum graft_status write_u32(struct graft_aside *out, uint32_t value)
{
    uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    return graft_aside_write(out, bytes, sizeof bytes);
}

static enum graft_status write_u64(struct graft_aside *out, uint64_t value)
{
    GRAFT_TRY(write_u32(out, (uint32_t)value));
    return write_u32(out, (uint32_t)(value >> 32));
}

static const char *type_name(uint32_t type)
{
    return type == GRAFT_TYPE_F32 ? "F32" : type == GRAFT_TYPE_F16 ? "F16" : "BF16";
}

// One entry of the header. Names are made of letters, digits, dots and underscores: nothing to escape.
static size_t header_entry(const struct graft_adapter_item *item, uint64_t begin, char out[ENTRY_BYTES])
{
    char rows[24] = "";
    if (item->n_dims == 2) {
        snprintf(rows, sizeof rows, "%" PRIu64 ",", item->view.rows);
    }
    return (size_t)snprintf(
        out, ENTRY_BYTES, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s%" PRIu64 "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
        item->name, type_name(item->view.type), rows, item->view.cols, begin, begin + graft_adapter_item_bytes(item));
}

static enum graft_status write_tensors(const struct graft_adapter_items *items, struct graft_aside *out)
{
    static const char first[] = "{\"__metadata__\":{\"format\":\"pt\"}"; // PEFT's own; its loaders ask for it
    char entry[ENTRY_BYTES];
    uint64_t header = sizeof first, padded, place = 0; // the closing bracket stands in for the NUL
    for (uint64_t i = 0; i < items->n; i++) {
        header += header_entry(&items->list[i], place, entry);
        place += graft_adapter_item_bytes(&items->list[i]);
    }
    padded = (header + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    GRAFT_TRY(write_u64(out, padded));
    GRAFT_TRY(graft_aside_write(out, first, sizeof first - 1));
    place = 0;
    for (uint64_t i = 0; i < items->n; i++) {
        GRAFT_TRY(graft_aside_write(out, entry, header_entry(&items->list[i], place, entry)));
        place += graft_adapter_item_bytes(&items->list[i]);
    }
    GRAFT_TRY(graft_aside_write(out, "}       ", 1 + padded - header));
    for (uint64_t i = 0; i < items->n; i++) {
        GRAFT_TRY(graft_adapter_item_write(&items->list[i], out));
    }
    return GRAFT_OK;
}

// End an output as `status` says.
static enum graft_status finish(struct graft_aside **out, enum graft_status status)
{
    if (status == GRAFT_OK) {
        return graft_aside_commit(out);
    }
    graft_aside_discard(out);
    return status;
}

static enum graft_status write_folder(const struct graft_adapter_items *items, const char *config, uint64_t config_bytes,
                                      struct graft_aside_folder *folder)
{
    struct graft_aside *out;
    GRAFT_TRY(graft_aside_folder_file(folder, &out, TENSORS_FILE));
    GRAFT_TRY(finish(&out, write_tensors(items, out)));
    GRAFT_TRY(graft_aside_folder_file(folder, &out, CONFIG_FILE));
    return finish(&out, graft_aside_write(out, config, config_bytes));
}

enum graft_status graft_adapter_write_peft(const struct graft_adapter_desc *desc, const struct graft_adapter_base *base,
                                           const char *folder)
{
    static const char *const names[] = {TENSORS_FILE, CONFIG_FILE, NULL};
    struct graft_adapter_items items;
    struct graft_aside_folder *output = NULL;
    char *config = NULL;
    uint64_t config_bytes;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_adapter_items_list(&items, desc, base, false), status, out);
    GRAFT_TRY_OUT(graft_adapter_config_write(desc, base, &config, &config_bytes), status, out);
    GRAFT_TRY_OUT(graft_aside_folder_open(desc->ctx, &output, folder, names), status, out);
    GRAFT_TRY_OUT(write_folder(&items, config, config_bytes, output), status, out);
    status = graft_aside_folder_commit(&output);
out:
    graft_aside_folder_discard(&output);
    GRAFT_FREE(desc->ctx, &config);
    graft_adapter_items_free(&items);
    return status;
}

static enum graft_status write_text(struct graft_aside *out, const char *text)
{
    GRAFT_TRY(write_u64(out, strlen(text)));
    return graft_aside_write(out, text, strlen(text));
}

static enum graft_status key_text(struct graft_aside *out, const char *key, const char *value)
{
    GRAFT_TRY(write_text(out, key));
    GRAFT_TRY(write_u32(out, GRAFT_GGUF_STRING));
    return write_text(out, value);
}

static enum graft_status key_word(struct graft_aside *out, const char *key, enum graft_gguf_value_type type, uint32_t bits)
{
    GRAFT_TRY(write_text(out, key));
    GRAFT_TRY(write_u32(out, (uint32_t)type));
    return write_u32(out, bits);
}

static enum graft_status write_keys(struct graft_aside *out, const struct graft_adapter_desc *desc, const char *architecture,
                                    float alpha)
{
    uint32_t bits;
    memcpy(&bits, &alpha, sizeof bits);
    GRAFT_TRY(key_text(out, "general.architecture", architecture));
    GRAFT_TRY(key_text(out, "general.type", "adapter"));
    GRAFT_TRY(key_text(out, "adapter.type", "lora"));
    if (desc->base_name[0]) {
        GRAFT_TRY(key_word(out, "general.base_model.count", GRAFT_GGUF_U32, 1));
        GRAFT_TRY(key_text(out, "general.base_model.0.name", desc->base_name));
    }
    GRAFT_TRY(key_word(out, "adapter.lora.alpha", GRAFT_GGUF_F32, bits));
    if (desc->n_alora) {
        GRAFT_TRY(key_word(out, "adapter.alora.invocation_tokens", GRAFT_GGUF_ARRAY, GRAFT_GGUF_U32));
        GRAFT_TRY(write_u64(out, desc->n_alora));
        for (uint32_t i = 0; i < desc->n_alora; i++) {
            GRAFT_TRY(write_u32(out, (uint32_t)desc->alora[i]));
        }
    }
    return key_word(out, "general.quantization_version", GRAFT_GGUF_U32, QUANTIZATION_VERSION);
}

static uint64_t padding(uint64_t bytes)
{
    enum { ALIGNMENT = 32 };
    return (ALIGNMENT - bytes % ALIGNMENT) % ALIGNMENT;
}

static enum graft_status write_gguf(struct graft_aside *out, const struct graft_adapter_items *items,
                                    const struct graft_adapter_desc *desc, const char *architecture, float alpha)
{
    uint64_t place = 0;
    GRAFT_TRY(graft_aside_write(out, "GGUF", 4));
    GRAFT_TRY(write_u32(out, GGUF_VERSION));
    GRAFT_TRY(write_u64(out, items->n));
    GRAFT_TRY(write_u64(out, 5 + (desc->base_name[0] ? 2 : 0) + (desc->n_alora ? 1 : 0)));
    GRAFT_TRY(write_keys(out, desc, architecture, alpha));
    for (uint64_t i = 0; i < items->n; i++) {
        const struct graft_adapter_item *item = &items->list[i];
        bool turned = item->rows == GRAFT_ADAPTER_ROWS_TURN;
        GRAFT_TRY(write_text(out, item->name));
        GRAFT_TRY(write_u32(out, item->n_dims));
        GRAFT_TRY(write_u64(out, turned ? item->view.rows : item->view.cols)); // the first dimension is the fastest
        if (item->n_dims >= 2) {
            GRAFT_TRY(write_u64(out, turned ? item->view.cols : item->view.rows));
        }
        if (item->n_dims == 3) {
            GRAFT_TRY(write_u64(out, item->n_views));
        }
        GRAFT_TRY(write_u32(out, item->view.type));
        GRAFT_TRY(write_u64(out, place));
        place += graft_adapter_item_bytes(item);
        place += padding(place);
    }
    GRAFT_TRY(graft_aside_zeros(out, padding(graft_aside_bytes(out))));
    for (uint64_t i = 0; i < items->n; i++) {
        GRAFT_TRY(graft_adapter_item_write(&items->list[i], out));
        GRAFT_TRY(graft_aside_zeros(out, padding(graft_adapter_item_bytes(&items->list[i]))));
    }
    return GRAFT_OK;
}

// Steps between two positive floats.
static int64_t steps_between(float a, float b)
{
    int32_t left, right;
    memcpy(&left, &a, sizeof left);
    memcpy(&right, &b, sizeof right);
    return (int64_t)left - right < 0 ? (int64_t)right - left : (int64_t)left - right;
}

// The furthest that alpha / rank is from any pair's scale, in units of the last place.
static int64_t furthest(const struct graft_adapter_desc *desc, float alpha, uint32_t *pair)
{
    int64_t most = -1;
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        int64_t steps = steps_between((float)((double)alpha / desc->pairs[i].rank), desc->pairs[i].scale);
        if (steps > most) {
            most = steps;
            *pair = i;
        }
    }
    return most;
}

// The one alpha of the file: alpha / rank is every pair's scale.
static enum graft_status choose_alpha(const struct graft_adapter_desc *desc, float *out)
{
    uint32_t worst = 0;
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i < desc->n_pairs && least > 0; i++) {
        const struct graft_adapter_pair *pair = &desc->pairs[i];
        float middle = (float)graft_adapter_find_alpha(pair->scale, pair->rank);
        const float tried[] = {middle, nextafterf(middle, 0), nextafterf(middle, INFINITY)};
        for (size_t k = 0; k < 3 && least > 0; k++) {
            uint32_t at = 0;
            int64_t steps = furthest(desc, tried[k], &at);
            if (steps < least) {
                least = steps;
                worst = at;
                *out = tried[k];
            }
        }
        if (i == 0 && least > (int64_t)1 << 12) {
            break; // another pair's alpha is no nearer to this one
        }
    }
    if (least > 1) {
        const struct graft_adapter_pair *a = &desc->pairs[0], *b = &desc->pairs[worst];
        char one[GRAFT_ADAPTER_NAME_BYTES], other[GRAFT_ADAPTER_NAME_BYTES];
        return graft_fail(
            GRAFT_E_UNSUPPORTED,
            "a GGUF adapter has one alpha, with scale alpha / rank: %s (rank %u, scale %g) needs %g, %s (rank %u, "
            "scale %g) needs %g",
            graft_adapter_module(a->target, a->layer, a->expert, false, one), a->rank, (double)a->scale,
            (double)a->scale * a->rank, graft_adapter_module(b->target, b->layer, b->expert, false, other), b->rank,
            (double)b->scale, (double)b->scale * b->rank);
    }
    if (least == 1) {
        graft_log(desc->ctx, GRAFT_LOG_INFO, "no f32 alpha gives exactly these scales: they are off by one in the last place");
    }
    return GRAFT_OK;
}

enum graft_status graft_adapter_write_gguf(const struct graft_adapter_desc *desc, const struct graft_adapter_base *base,
                                           const char *path)
{
    struct graft_adapter_items items;
    struct graft_aside *output = NULL;
    float alpha = 0;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_adapter_items_list(&items, desc, base, true), status, out);
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        const struct graft_adapter_pair *pair = &desc->pairs[i];
        if (pair->magnitude.data || pair->bias.data) {
            char module[GRAFT_ADAPTER_NAME_BYTES];
            status = graft_fail(GRAFT_E_UNSUPPORTED, "%s has a %s, which a GGUF adapter cannot hold",
                                graft_adapter_module(pair->target, pair->layer, pair->expert, false, module),
                                pair->magnitude.data ? "magnitude vector (DoRA)" : "bias (lora_bias)");
            goto out;
        }
    }
    GRAFT_TRY_OUT(choose_alpha(desc, &alpha), status, out);
    GRAFT_TRY_OUT(graft_aside_open(desc->ctx, &output, path), status, out);
    const char *architecture = base && base->architecture[0] ? base->architecture
                               : desc->architecture[0]       ? desc->architecture
                                                             : "llama";
    status = finish(&output, write_gguf(output, &items, desc, architecture, alpha));
out:
    graft_adapter_items_free(&items);
    return status;
}
