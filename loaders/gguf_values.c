// SPDX-License-Identifier: Apache-2.0
// Typed reads of GGUF metadata values. graft_gguf_open has checked that every value lies inside the file.
#include <float.h>
#include <math.h>

#include "loaders/gguf.h"
#include "platform/bytes.h"

const char *graft_gguf_value_name(enum graft_gguf_value_type type)
{
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return (uint32_t)type < sizeof names / sizeof *names ? names[type] : "?";
}

uint32_t graft_gguf_value_bytes(enum graft_gguf_value_type type)
{
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return (uint32_t)type < sizeof bytes ? bytes[type] : 0;
}

// An integer of any GGUF type: magnitude and sign.
struct integer {
    uint64_t magnitude;
    bool negative;
};

#define KEY_FORMAT "%s: key %.*s at offset %" PRIu64
#define KEY_ARGS(gguf, key) (gguf)->path, (int)(key)->name.length, (key)->name.data, (key)->offset

static const char *type_text(const struct graft_gguf_key *key)
{
    return graft_gguf_value_name(key->type);
}

static bool is_integer(enum graft_gguf_value_type type)
{
    return type <= GRAFT_GGUF_I32 || type == GRAFT_GGUF_U64 || type == GRAFT_GGUF_I64;
}

static struct integer signed_integer(int64_t value)
{
    return (struct integer){value < 0 ? 0 - (uint64_t)value : (uint64_t)value, value < 0};
}

static struct integer load_integer(const uint8_t *data, enum graft_gguf_value_type type)
{
    switch (type) {
    case GRAFT_GGUF_U8:
        return (struct integer){data[0], false};
    case GRAFT_GGUF_I8:
        return signed_integer((int8_t)data[0]);
    case GRAFT_GGUF_U16:
        return (struct integer){graft_load_u16(data), false};
    case GRAFT_GGUF_I16:
        return signed_integer((int16_t)graft_load_u16(data));
    case GRAFT_GGUF_U32:
        return (struct integer){graft_load_u32(data), false};
    case GRAFT_GGUF_I32:
        return signed_integer((int32_t)graft_load_u32(data));
    case GRAFT_GGUF_I64:
        return signed_integer((int64_t)graft_load_u64(data));
    default:
        return (struct integer){graft_load_u64(data), false};
    }
}

static double load_float(const uint8_t *data, enum graft_gguf_value_type type)
{
    if (type == GRAFT_GGUF_F32) {
        uint32_t bits = graft_load_u32(data);
        float value;
        memcpy(&value, &bits, sizeof value);
        return (double)value;
    }
    uint64_t bits = graft_load_u64(data);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Number of any type as double; false if the type is no number.
static bool load_number(const uint8_t *data, enum graft_gguf_value_type type, double *out)
{
    if (type == GRAFT_GGUF_F32 || type == GRAFT_GGUF_F64) {
        *out = load_float(data, type);
        return true;
    }
    if (!is_integer(type)) {
        return false;
    }
    struct integer value = load_integer(data, type);
    *out = value.negative ? -(double)value.magnitude : (double)value.magnitude;
    return true;
}

static enum graft_status find_required(const struct graft_gguf *gguf, const char *name, const struct graft_gguf_key **out)
{
    *out = graft_gguf_find(gguf, name);
    return *out ? GRAFT_OK : graft_fail(GRAFT_E_FORMAT, "%s: the required key %s is missing", gguf->path, name);
}

static enum graft_status wrong_type(const struct graft_gguf *gguf, const struct graft_gguf_key *key, const char *wanted)
{
    return graft_fail(GRAFT_E_FORMAT, KEY_FORMAT ": the type is %s, it must be %s", KEY_ARGS(gguf, key), type_text(key),
                      wanted);
}

static enum graft_status u32_of(const struct graft_gguf *gguf, const struct graft_gguf_key *key, uint32_t *out)
{
    if (!is_integer(key->type)) {
        return wrong_type(gguf, key, "an integer");
    }
    struct integer value = load_integer(key->data, key->type);
    if (value.negative || value.magnitude > UINT32_MAX) {
        return graft_fail(GRAFT_E_FORMAT, KEY_FORMAT ": the value is %s%" PRIu64 ", allowed are 0 to 4294967295",
                          KEY_ARGS(gguf, key), value.negative ? "-" : "", value.magnitude);
    }
    *out = (uint32_t)value.magnitude;
    return GRAFT_OK;
}

enum graft_status graft_gguf_u32(const struct graft_gguf *gguf, const char *name, uint32_t *out)
{
    const struct graft_gguf_key *key;
    GRAFT_TRY(find_required(gguf, name, &key));
    return u32_of(gguf, key, out);
}

enum graft_status graft_gguf_u32_or(const struct graft_gguf *gguf, const char *name, uint32_t fallback, uint32_t *out)
{
    const struct graft_gguf_key *key = graft_gguf_find(gguf, name);
    if (key) {
        return u32_of(gguf, key, out);
    }
    *out = fallback;
    return GRAFT_OK;
}

static enum graft_status f32_of(const struct graft_gguf *gguf, const struct graft_gguf_key *key, float *out)
{
    double value;
    if (!load_number(key->data, key->type, &value)) {
        return wrong_type(gguf, key, "a number");
    }
    if (isfinite(value) && fabs(value) > (double)FLT_MAX) {
        return graft_fail(GRAFT_E_FORMAT, KEY_FORMAT ": the value is %g, the largest allowed magnitude is %g",
                          KEY_ARGS(gguf, key), value, (double)FLT_MAX);
    }
    *out = (float)value;
    return GRAFT_OK;
}

enum graft_status graft_gguf_f32(const struct graft_gguf *gguf, const char *name, float *out)
{
    const struct graft_gguf_key *key;
    GRAFT_TRY(find_required(gguf, name, &key));
    return f32_of(gguf, key, out);
}

enum graft_status graft_gguf_f32_or(const struct graft_gguf *gguf, const char *name, float fallback, float *out)
{
    const struct graft_gguf_key *key = graft_gguf_find(gguf, name);
    if (key) {
        return f32_of(gguf, key, out);
    }
    *out = fallback;
    return GRAFT_OK;
}

enum graft_status graft_gguf_bool_or(const struct graft_gguf *gguf, const char *name, bool fallback, bool *out)
{
    const struct graft_gguf_key *key = graft_gguf_find(gguf, name);
    if (key && key->type != GRAFT_GGUF_BOOL) {
        return wrong_type(gguf, key, "bool");
    }
    *out = key ? key->data[0] != 0 : fallback;
    return GRAFT_OK;
}

// The string at `at` of the value's bytes.
static enum graft_status text_at(const struct graft_gguf *gguf, const struct graft_gguf_key *key, uint64_t at,
                                 struct graft_text *out)
{
    uint64_t left = key->bytes - at, length = left < 8 ? 0 : graft_load_u64(key->data + at);
    if (left < 8 || length > left - 8) {
        return graft_fail(GRAFT_E_ARGUMENT, KEY_FORMAT ": no string starts %" PRIu64 " bytes into the value",
                          KEY_ARGS(gguf, key), at);
    }
    const uint8_t *data = key->data + at + 8;
    if (!graft_utf8_valid(data, length)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: key %.*s: the string at offset %" PRIu64 " is not UTF-8", gguf->path,
                          (int)key->name.length, key->name.data, key->offset + at + 8);
    }
    out->data = (const char *)data;
    out->length = length;
    return GRAFT_OK;
}

enum graft_status graft_gguf_text_or_none(const struct graft_gguf *gguf, const char *name, struct graft_text *out)
{
    const struct graft_gguf_key *key = graft_gguf_find(gguf, name);
    if (!key) {
        *out = (struct graft_text){NULL, 0};
        return GRAFT_OK;
    }
    if (key->type != GRAFT_GGUF_STRING) {
        return wrong_type(gguf, key, "string");
    }
    return text_at(gguf, key, 0, out);
}

enum graft_status graft_gguf_text(const struct graft_gguf *gguf, const char *name, struct graft_text *out)
{
    const struct graft_gguf_key *key;
    GRAFT_TRY(find_required(gguf, name, &key));
    return graft_gguf_text_or_none(gguf, name, out);
}

enum graft_status graft_gguf_next_text(const struct graft_gguf *gguf, const struct graft_gguf_key *key, uint64_t *cursor,
                                       struct graft_text *out)
{
    if (key->item_type != GRAFT_GGUF_STRING) {
        return graft_fail(GRAFT_E_FORMAT, KEY_FORMAT ": the items are of type %s, they must be strings", KEY_ARGS(gguf, key),
                          graft_gguf_value_name(key->item_type));
    }
    if (*cursor >= key->bytes) {
        return graft_fail(GRAFT_E_ARGUMENT, KEY_FORMAT ": read behind the last of %" PRIu64 " strings", KEY_ARGS(gguf, key),
                          key->count);
    }
    GRAFT_TRY(text_at(gguf, key, *cursor, out));
    *cursor += 8 + out->length;
    return GRAFT_OK;
}

// Where item i of an array of numbers starts.
static enum graft_status item_at(const struct graft_gguf *gguf, const struct graft_gguf_key *key, uint64_t i, bool want_integer,
                                 const uint8_t **out)
{
    bool is_float = key->item_type == GRAFT_GGUF_F32 || key->item_type == GRAFT_GGUF_F64;
    if (!is_integer(key->item_type) && (want_integer || !is_float)) {
        return graft_fail(GRAFT_E_FORMAT, KEY_FORMAT ": the items are of type %s, they must be %s", KEY_ARGS(gguf, key),
                          graft_gguf_value_name(key->item_type), want_integer ? "integers" : "numbers");
    }
    if (i >= key->count) {
        return graft_fail(GRAFT_E_ARGUMENT, KEY_FORMAT ": item %" PRIu64 " of %" PRIu64, KEY_ARGS(gguf, key), i, key->count);
    }
    *out = key->data + i * graft_gguf_value_bytes(key->item_type);
    return GRAFT_OK;
}

enum graft_status graft_gguf_item_f64(const struct graft_gguf *gguf, const struct graft_gguf_key *key, uint64_t i, double *out)
{
    const uint8_t *data;
    GRAFT_TRY(item_at(gguf, key, i, false, &data));
    (void)load_number(data, key->item_type, out);
    return GRAFT_OK;
}

enum graft_status graft_gguf_item_i64(const struct graft_gguf *gguf, const struct graft_gguf_key *key, uint64_t i, int64_t *out)
{
    const uint8_t *data;
    GRAFT_TRY(item_at(gguf, key, i, true, &data));
    struct integer value = load_integer(data, key->item_type);
    if (!value.negative && value.magnitude > INT64_MAX) {
        return graft_fail(GRAFT_E_FORMAT, KEY_FORMAT ": item %" PRIu64 " is %" PRIu64 ", allowed are values up to 2^63 - 1",
                          KEY_ARGS(gguf, key), i, value.magnitude);
    }
    *out = value.negative ? -(int64_t)(value.magnitude - 1) - 1 : (int64_t)value.magnitude;
    return GRAFT_OK;
}
