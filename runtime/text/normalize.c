// SPDX-License-Identifier: Apache-2.0
// Unicode normalization form C (Unicode Standard Annex 15), on utf8proc's tables.
//
// utf8proc's own ordering of combining marks is quadratic in the length of a run of marks, so the ordering is done here by a
// stable counting sort over the combining classes.
#include <string.h>
#include <utf8proc.h>

#include "platform/bytes.h"
#include "runtime/text/vocab_private.h"

enum { SHORT_RUN = 32 };

static uint32_t combining_class(int32_t character)
{
    return (uint32_t)utf8proc_get_property(character)->combining_class & 255u;
}

// Sort one run of marks by class; marks of one class keep their order.
static enum graft_status order_run(struct graft_ctx *ctx, int32_t *run, uint64_t count)
{
    if (count <= SHORT_RUN) {
        for (uint64_t i = 1; i < count; i++) {
            int32_t mark = run[i];
            uint64_t k = i;
            for (; k > 0 && combining_class(run[k - 1]) > combining_class(mark); k--) {
                run[k] = run[k - 1];
            }
            run[k] = mark;
        }
        return GRAFT_OK;
    }
    int32_t *copy;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &copy, count, "normalization of a run of marks"));
    memcpy(copy, run, (size_t)count * sizeof *run);
    uint64_t starts[257] = {0};
    for (uint64_t i = 0; i < count; i++) {
        starts[combining_class(copy[i]) + 1]++;
    }
    for (uint32_t c = 1; c <= 256; c++) {
        starts[c] += starts[c - 1];
    }
    for (uint64_t i = 0; i < count; i++) {
        run[starts[combining_class(copy[i])]++] = copy[i];
    }
    GRAFT_FREE(ctx, &copy);
    return GRAFT_OK;
}

static enum graft_status order_marks(struct graft_ctx *ctx, int32_t *characters, uint64_t count)
{
    for (uint64_t i = 0; i < count;) {
        uint64_t end = i;
        while (end < count && combining_class(characters[end]) != 0) {
            end++;
        }
        if (end - i > 1) {
            GRAFT_TRY(order_run(ctx, characters + i, end - i));
        }
        i = end > i ? end : i + 1;
    }
    return GRAFT_OK;
}

// Canonical decomposition; characters may be NULL to count only.
static uint64_t decompose(const char *text, uint64_t length, int32_t *characters)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < length;) {
        uint32_t character;
        i += graft_utf8_decode(text + i, &character);
        int32_t parts[8];
        int boundary = 0;
        utf8proc_ssize_t n =
            utf8proc_decompose_char((int32_t)character, parts, 8, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
        if (n < 1 || n > 8) { // nothing in Unicode decomposes into more than four
            parts[0] = (int32_t)character;
            n = 1;
        }
        for (utf8proc_ssize_t k = 0; characters && k < n; k++) {
            characters[count + (uint64_t)k] = parts[k];
        }
        count += (uint64_t)n;
    }
    return count;
}

enum graft_status graft_normalize_c(struct graft_ctx *ctx, const char *text, uint64_t length, char **out, uint64_t *out_length)
{
    *out = NULL;
    *out_length = length;
    bool plain = true; // everything below U+0300 is in form C: lead bytes up to 0xcb
    for (uint64_t i = 0; i < length && plain; i++) {
        plain = (uint8_t)text[i] < 0xcc;
    }
    if (plain) {
        return GRAFT_OK;
    }
    uint64_t count = decompose(text, length, NULL);
    int32_t *characters;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &characters, count, "normalization of a text"));
    decompose(text, length, characters);
    enum graft_status status = order_marks(ctx, characters, count);
    if (status == GRAFT_OK) {
        utf8proc_ssize_t left =
            utf8proc_normalize_utf32(characters, (utf8proc_ssize_t)count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        count = left < 0 ? 0 : (uint64_t)left;
        status = left < 0 ? graft_fail(GRAFT_E_INTERNAL, "utf8proc cannot normalize a text: error %" PRId64, (int64_t)left)
                          : graft_alloc(ctx, GRAFT_MEM_HOST, (void **)out, count + 1, 4, "a normalized text");
    }
    if (status == GRAFT_OK) {
        uint64_t bytes = 0;
        for (uint64_t i = 0; i < count; i++) {
            bytes += graft_utf8_encode((uint32_t)characters[i], *out + bytes);
        }
        *out_length = bytes;
    }
    GRAFT_FREE(ctx, &characters);
    return status;
}
