// SPDX-License-Identifier: Apache-2.0
// Status texts, the thread-local error detail, and the bounded reader's errors.
#include "platform/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "platform/bytes.h"

enum { DETAIL_BYTES = 1024 };
static _Thread_local char detail[DETAIL_BYTES];

const char *graft_status_name(enum graft_status status)
{
    switch (status) {
#define CASE(name, value, text) \
    case name:                  \
        return #name;
        GRAFT_STATUS_MAP(CASE)
#undef CASE
    }
    return "GRAFT_E_?";
}

const char *graft_status_text(enum graft_status status)
{
    switch (status) {
#define CASE(name, value, text) \
    case name:                  \
        return text;
        GRAFT_STATUS_MAP(CASE)
#undef CASE
    }
    return "unknown status";
}

const char *graft_mem_class_name(enum graft_mem_class mem_class)
{
    switch (mem_class) {
#define CASE(name, text) \
    case name:           \
        return text;
        GRAFT_MEM_CLASS_MAP(CASE)
#undef CASE
    case GRAFT_MEM_CLASSES:
        break;
    }
    return "?";
}

const char *graft_last_error(void)
{
    return detail;
}

const char *graft_version(void)
{
    return GRAFT_VERSION_STRING;
}

enum graft_status(graft_fail)(enum graft_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    return status;
}

enum graft_status graft_fail_prefix(enum graft_status status, const char *format, ...)
{
    char old[DETAIL_BYTES];
    memcpy(old, detail, sizeof old);
    va_list args;
    va_start(args, format);
    int length = vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    if (length >= 0 && (size_t)length < sizeof detail) {
        snprintf(detail + length, sizeof detail - (size_t)length, ": %s", old);
    }
    return status;
}

enum graft_status graft_read_bytes(struct graft_reader *reader, uint64_t bytes, const uint8_t **out, const char *what)
{
    uint64_t left = reader->size - reader->position;
    if (bytes > left) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %s at offset %" PRIu64 " needs %" PRIu64 " bytes, the file has %" PRIu64 " left",
                          reader->file, what, reader->position, bytes, left);
    }
    *out = reader->data + reader->position;
    reader->position += bytes;
    return GRAFT_OK;
}

enum graft_status graft_read_u8(struct graft_reader *reader, uint8_t *out, const char *what)
{
    const uint8_t *p;
    GRAFT_TRY(graft_read_bytes(reader, 1, &p, what));
    *out = p[0];
    return GRAFT_OK;
}

enum graft_status graft_read_u16(struct graft_reader *reader, uint16_t *out, const char *what)
{
    const uint8_t *p;
    GRAFT_TRY(graft_read_bytes(reader, 2, &p, what));
    *out = graft_load_u16(p);
    return GRAFT_OK;
}

enum graft_status graft_read_u32(struct graft_reader *reader, uint32_t *out, const char *what)
{
    const uint8_t *p;
    GRAFT_TRY(graft_read_bytes(reader, 4, &p, what));
    *out = graft_load_u32(p);
    return GRAFT_OK;
}

enum graft_status graft_read_u64(struct graft_reader *reader, uint64_t *out, const char *what)
{
    const uint8_t *p;
    GRAFT_TRY(graft_read_bytes(reader, 8, &p, what));
    *out = graft_load_u64(p);
    return GRAFT_OK;
}

bool graft_utf8_valid(const uint8_t *data, uint64_t size)
{
    uint64_t i = 0;
    while (i < size) {
        uint8_t c = data[i];
        uint64_t extra;
        uint32_t code, least;
        if (c < 0x80) {
            i++;
            continue;
        } else if (c >= 0xc2 && c <= 0xdf) {
            extra = 1, code = c & 0x1fu, least = 0x80;
        } else if (c >= 0xe0 && c <= 0xef) {
            extra = 2, code = c & 0x0fu, least = 0x800;
        } else if (c >= 0xf0 && c <= 0xf4) {
            extra = 3, code = c & 0x07u, least = 0x10000;
        } else {
            return false;
        }
        if (size - i <= extra) {
            return false;
        }
        for (uint64_t k = 1; k <= extra; k++) {
            if ((data[i + k] & 0xc0) != 0x80) {
                return false;
            }
            code = code << 6 | (data[i + k] & 0x3fu);
        }
        if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
            return false;
        }
        i += extra + 1;
    }
    return true;
}
