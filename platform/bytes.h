// SPDX-License-Identifier: Apache-2.0
// Checked size arithmetic and the one bounded little-endian reader that every parser uses.
#ifndef GRAFT_PLATFORM_BYTES_H
#define GRAFT_PLATFORM_BYTES_H

#include <inttypes.h>
#include <string.h>

#include "platform/err.h"

// a * b and a + b into *out; false on overflow, *out is untouched then.
static inline bool graft_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (b != 0 && a > UINT64_MAX / b) {
        return false;
    }
    *out = a * b;
    return true;
}
static inline bool graft_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (a > UINT64_MAX - b) {
        return false;
    }
    *out = a + b;
    return true;
}
// Round up to a multiple of `alignment` (a power of two); false on overflow.
static inline bool graft_align_u64(uint64_t value, uint64_t alignment, uint64_t *out)
{
    uint64_t sum;
    if (!graft_add_u64(value, alignment - 1, &sum)) {
        return false;
    }
    *out = sum & ~(alignment - 1);
    return true;
}

// A view of bytes with a read position that never passes the end. `file` names it in errors.
struct graft_reader {
    const uint8_t *data;
    uint64_t size;     // bytes in data
    uint64_t position; // <= size
    const char *file;
};

// Advance by `bytes` and hand out a pointer to them. `what` names the field in the error: GRAFT_E_FORMAT with file, offset,
// bytes wanted and bytes left. On failure position is unchanged.
GRAFT_MUST_CHECK enum graft_status graft_read_bytes(struct graft_reader *reader, uint64_t bytes, const uint8_t **out,
                                                    const char *what);
// Little-endian scalars; errors as graft_read_bytes.
GRAFT_MUST_CHECK enum graft_status graft_read_u8(struct graft_reader *reader, uint8_t *out, const char *what);
GRAFT_MUST_CHECK enum graft_status graft_read_u16(struct graft_reader *reader, uint16_t *out, const char *what);
GRAFT_MUST_CHECK enum graft_status graft_read_u32(struct graft_reader *reader, uint32_t *out, const char *what);
GRAFT_MUST_CHECK enum graft_status graft_read_u64(struct graft_reader *reader, uint64_t *out, const char *what);

// Unaligned little-endian loads from memory known to be long enough.
static inline uint16_t graft_load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (uint16_t)p[1] << 8);
}
static inline uint32_t graft_load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t graft_load_u64(const uint8_t *p)
{
    return (uint64_t)graft_load_u32(p) | (uint64_t)graft_load_u32(p + 4) << 32;
}

// True if data[0..size) is well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF; RFC 3629).
bool graft_utf8_valid(const uint8_t *data, uint64_t size);

#endif
