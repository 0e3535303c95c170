// SPDX-License-Identifier: Apache-2.0
// Reading hyperparameters and tensors for the architecture files.
#include "runtime/model/arch.h"

#include <math.h>
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/quant/quant.h"

enum { LABEL_BYTES = GRAFT_GGUF_MAX_NAME_BYTES + 1 };

enum graft_status graft_arch_begin(struct graft_arch_reader *reader, struct graft_source *source, const struct graft_gguf *gguf,
                                   const char *prefix)
{
    *reader = (struct graft_arch_reader){.source = source, .gguf = gguf, .prefix = prefix};
    return GRAFT_NEW(source->ctx, GRAFT_MEM_HOST, &reader->taken, gguf->n_tensors, "the list of tensors read");
}

enum graft_status graft_arch_labels(struct graft_arch_reader *reader, uint32_t max_weights)
{
    return graft_alloc(reader->source->ctx, GRAFT_MEM_HOST, (void **)&reader->source->labels, max_weights, LABEL_BYTES,
                       "tensor names");
}

void graft_arch_end(struct graft_arch_reader *reader)
{
    GRAFT_FREE(reader->source->ctx, &reader->taken);
}

void graft_arch_missing(struct graft_arch_reader *reader, const char *name)
{
    uint32_t room = (uint32_t)sizeof reader->missing - reader->missing_bytes;
    uint32_t bytes = (uint32_t)strlen(name) + 2;
    if (bytes < room) {
        snprintf(reader->missing + reader->missing_bytes, room, "%s%s", reader->n_missing ? ", " : "", name);
        reader->missing_bytes += bytes - (reader->n_missing ? 0 : 2);
    } else {
        reader->missing_bytes = (uint32_t)sizeof reader->missing; // later, shorter names are not squeezed in out of order
    }
    reader->n_missing++;
}

enum graft_status graft_arch_check_missing(struct graft_arch_reader *reader)
{
    if (!reader->n_missing) {
        return GRAFT_OK;
    }
    bool cut = reader->missing_bytes == sizeof reader->missing;
    return graft_fail(GRAFT_E_FORMAT, "%s: %u keys or tensors of architecture %s are missing: %s%s", reader->gguf->path,
                      reader->n_missing, reader->prefix, reader->missing, cut ? " ..." : "");
}

void graft_arch_key(const struct graft_arch_reader *reader, const char *suffix, char key[GRAFT_ARCH_KEY_BYTES])
{
    snprintf(key, GRAFT_ARCH_KEY_BYTES, "%s.%s", reader->prefix, suffix);
}

enum graft_status graft_arch_u32_or(struct graft_arch_reader *reader, const char *suffix, uint32_t fallback, uint32_t least,
                                    uint32_t most, uint32_t *out)
{
    char key[GRAFT_ARCH_KEY_BYTES];
    graft_arch_key(reader, suffix, key);
    uint32_t value;
    GRAFT_TRY(graft_gguf_u32_or(reader->gguf, key, fallback, &value));
    if (value < least || value > most) {
        return graft_fail(GRAFT_E_FORMAT, "%s: key %s is %u, allowed are %u to %u", reader->gguf->path, key, value, least,
                          most);
    }
    *out = value;
    return GRAFT_OK;
}

enum graft_status graft_arch_u32(struct graft_arch_reader *reader, const char *suffix, uint32_t least, uint32_t most,
                                 uint32_t *out)
{
    char key[GRAFT_ARCH_KEY_BYTES];
    graft_arch_key(reader, suffix, key);
    if (!graft_gguf_find(reader->gguf, key)) {
        graft_arch_missing(reader, key);
        *out = least;
        return GRAFT_OK;
    }
    return graft_arch_u32_or(reader, suffix, least, least, most, out);
}

enum graft_status graft_arch_positive(struct graft_arch_reader *reader, const char *suffix, bool required, float fallback,
                                      float *out)
{
    char key[GRAFT_ARCH_KEY_BYTES];
    graft_arch_key(reader, suffix, key);
    if (required && !graft_gguf_find(reader->gguf, key)) {
        graft_arch_missing(reader, key);
        *out = fallback;
        return GRAFT_OK;
    }
    float value;
    GRAFT_TRY(graft_gguf_f32_or(reader->gguf, key, fallback, &value));
    if (!(value > 0.0f) || !isfinite(value)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: key %s is %g, allowed are finite numbers above 0", reader->gguf->path, key,
                          (double)value);
    }
    *out = value;
    return GRAFT_OK;
}

// The value of a scalar number or bool; false for anything else.
static bool scalar(const struct graft_gguf_key *key, double *out)
{
    const uint8_t *p = key->data;
    float f;
    switch (key->type) {
    case GRAFT_GGUF_U8:
    case GRAFT_GGUF_BOOL:
        *out = p[0];
        return true;
    case GRAFT_GGUF_I8:
        *out = (int8_t)p[0];
        return true;
    case GRAFT_GGUF_U16:
        *out = graft_load_u16(p);
        return true;
    case GRAFT_GGUF_I16:
        *out = (int16_t)graft_load_u16(p);
        return true;
    case GRAFT_GGUF_U32:
        *out = graft_load_u32(p);
        return true;
    case GRAFT_GGUF_I32:
        *out = (int32_t)graft_load_u32(p);
        return true;
    case GRAFT_GGUF_F32:
        memcpy(&f, p, sizeof f);
        *out = (double)f;
        return true;
    case GRAFT_GGUF_U64:
        *out = (double)graft_load_u64(p);
        return true;
    case GRAFT_GGUF_I64:
        *out = (double)(int64_t)graft_load_u64(p);
        return true;
    case GRAFT_GGUF_F64:
        memcpy(out, p, sizeof *out);
        return true;
    case GRAFT_GGUF_STRING:
    case GRAFT_GGUF_ARRAY:
        break;
    }
    return false;
}

enum graft_status graft_arch_check_keys(const struct graft_arch_reader *reader, const char *const *known,
                                        const struct graft_arch_neutral *neutral)
{
    const struct graft_gguf *gguf = reader->gguf;
    size_t prefix = strlen(reader->prefix);
    for (uint64_t i = 0; i < gguf->n_keys; i++) {
        const struct graft_gguf_key *key = &gguf->keys[i];
        struct graft_text name = key->name;
        if (name.length <= prefix || memcmp(name.data, reader->prefix, prefix) != 0 || name.data[prefix] != '.') {
            continue;
        }
        struct graft_text suffix = {name.data + prefix + 1, name.length - prefix - 1};
        bool ok = false;
        for (const char *const *k = known; *k && !ok; k++) {
            ok = graft_text_is(suffix, *k);
        }
        const struct graft_arch_neutral *n = neutral;
        while (!ok && n->suffix && !graft_text_is(suffix, n->suffix)) {
            n++;
        }
        if (ok) {
            continue;
        }
        if (!n->suffix) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "%s: key %.*s at offset %" PRIu64
                              " is not known to this version and may change what the model computes",
                              gguf->path, (int)name.length, name.data, key->offset);
        }
        double value;
        if (!scalar(key, &value) || value != n->value) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "%s: key %.*s asks for %s, which is not supported (allowed is only the value %g)", gguf->path,
                              (int)name.length, name.data, n->meaning, n->value);
        }
    }
    return GRAFT_OK;
}

enum graft_status graft_arch_weight(struct graft_arch_reader *reader, struct graft_weight *weight, const char *name,
                                    bool required, uint32_t n_in, uint32_t n_out)
{
    return graft_arch_matrices(reader, weight, name, required, n_in, n_out, 0);
}

enum graft_status graft_arch_matrices(struct graft_arch_reader *reader, struct graft_weight *weight, const char *name,
                                      bool required, uint32_t n_in, uint32_t n_out, uint32_t n_expert)
{
    const struct graft_gguf *gguf = reader->gguf;
    *weight = (struct graft_weight){0};
    const struct graft_gguf_tensor *tensor = graft_gguf_tensor(gguf, name);
    if (!tensor) {
        if (required) {
            graft_arch_missing(reader, name);
        }
        return GRAFT_OK;
    }
    reader->taken[tensor - gguf->tensors] = true;
    uint64_t n_matrices = n_expert ? n_expert : 1;
    if (tensor->dims[0] != n_in || tensor->dims[1] != n_out || tensor->dims[2] != n_matrices || tensor->dims[3] != 1) {
        char experts[24] = "";
        if (n_expert) {
            snprintf(experts, sizeof experts, ", %u", n_expert);
        }
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: tensor %s has shape [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
                          "], the hyperparameters ask for [%u, %u%s]",
                          gguf->path, name, tensor->dims[0], tensor->dims[1], tensor->dims[2], tensor->dims[3], n_in, n_out,
                          experts);
    }
    uint64_t row_bytes;
    if (!graft_quant_find(tensor->type) || !graft_type_row_bytes(tensor->type, n_in, &row_bytes)) {
        const char *type = graft_type_gguf_name(tensor->type);
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: tensor %s has type %s (%u); supported are " GRAFT_TYPE_NAMES, gguf->path,
                          name, type ? type : "?", tensor->type);
    }
    char *label = reader->source->labels + (size_t)reader->n_labels++ * LABEL_BYTES;
    snprintf(label, LABEL_BYTES, "%s", name);
    *weight = (struct graft_weight){.label = label,
                                    .data = graft_gguf_data(gguf, tensor),
                                    .type = tensor->type,
                                    .n_in = n_in,
                                    .n_out = n_out,
                                    .row_bytes = row_bytes,
                                    .n_expert = n_expert,
                                    .offset = tensor->offset};
    return GRAFT_OK;
}

enum graft_status graft_arch_vector(struct graft_arch_reader *reader, struct graft_weight *weight, const char *name,
                                    bool required, uint32_t n)
{
    GRAFT_TRY(graft_arch_weight(reader, weight, name, required, n, 1));
    if (weight->data && weight->type != GRAFT_TYPE_F32) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: tensor %s has type %s, a vector must be F32", reader->gguf->path, name,
                          graft_type_gguf_name(weight->type));
    }
    return GRAFT_OK;
}

enum graft_status graft_arch_check_tensors(const struct graft_arch_reader *reader)
{
    for (uint64_t i = 0; i < reader->gguf->n_tensors; i++) {
        const struct graft_gguf_tensor *tensor = &reader->gguf->tensors[i];
        if (!reader->taken[i]) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "%s: tensor %.*s is not part of the architecture %s as this version knows it", reader->gguf->path,
                              (int)tensor->name.length, tensor->name.data, reader->prefix);
        }
    }
    return GRAFT_OK;
}

void graft_rope_frequencies(const struct graft_config *config, float base, float linear_factor, const float *factors,
                            float out[GRAFT_MAX_ROPE_PAIRS])
{
    for (uint32_t i = 0; i < config->rope_dim / 2; i++) {
        double inv = 1.0 / pow((double)base, 2.0 * i / config->rope_dim);
        out[i] = (float)(inv / (double)linear_factor / (factors ? (double)factors[i] : 1.0));
    }
}
