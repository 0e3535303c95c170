// SPDX-License-Identifier: Apache-2.0
#include "tools/out.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Room for `length` more bytes and the NUL.
static bool make_room(struct out *out, size_t length)
{
    if (out->failed || length > SIZE_MAX / 4 - out->length) {
        out->failed = true;
        return false;
    }
    if (out->length + length + 1 > out->room) {
        size_t room = 2 * (out->length + length + 1) + 64;
        char *grown = realloc(out->data, room);
        if (!grown) {
            out->failed = true;
            return false;
        }
        out->data = grown;
        out->room = room;
    }
    return true;
}

void out_bytes(struct out *out, const char *text, size_t length)
{
    if (make_room(out, length)) {
        memcpy(out->data + out->length, text, length);
        out->length += length;
        out->data[out->length] = 0;
    }
}

void out_text(struct out *out, const char *text)
{
    out_bytes(out, text, strlen(text));
}

void out_format(struct out *out, const char *format, ...)
{
    va_list args;
    if (!make_room(out, 256)) {
        return;
    }
    for (int i = 0; i < 2; i++) { // the second time there is room for all of it
        size_t room = out->room - out->length;
        va_start(args, format);
        int n = vsnprintf(out->data + out->length, room, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < room) {
            out->length += (size_t)n;
            return;
        }
        out->data[out->length] = 0;
        out->failed = out->failed || n < 0;
        if (!make_room(out, n < 0 ? 0 : (size_t)n)) {
            return;
        }
    }
}

void out_json(struct out *out, const char *text, size_t length)
{
    size_t plain = 0;
    out_bytes(out, "\"", 1);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            continue;
        }
        out_bytes(out, text + plain, i - plain);
        plain = i + 1;
        if (c == '\n') {
            out_bytes(out, "\\n", 2);
        } else if (c == '"' || c == '\\') {
            out_format(out, "\\%c", c);
        } else {
            out_format(out, "\\u%04x", c);
        }
    }
    out_bytes(out, text + plain, length - plain);
    out_bytes(out, "\"", 1);
}

void out_free(struct out *out)
{
    free(out->data);
    *out = (struct out){0};
}
