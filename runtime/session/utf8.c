// SPDX-License-Identifier: Apache-2.0
// UTF-8 in pieces: tokens may end inside a character.
#include "platform/bytes.h"
#include "runtime/session/session.h"

int graft_utf8_step(const uint8_t *bytes, uint64_t count)
{
    uint8_t c = bytes[0];
    uint32_t length = c < 0x80 ? 1 : c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (length == 0) {
        return -1;
    }
    uint64_t have = count < length ? count : length;
    for (uint64_t i = 1; i < have; i++) {
        // The second byte has a narrower range after some first bytes: no overlong forms, no surrogates, at most U+10FFFF.
        uint8_t low = i == 1 && c == 0xe0 ? 0xa0 : i == 1 && c == 0xf0 ? 0x90 : 0x80;
        uint8_t high = i == 1 && c == 0xed ? 0x9f : i == 1 && c == 0xf4 ? 0x8f : 0xbf;
        if (bytes[i] < low || bytes[i] > high) {
            return -1;
        }
    }
    return have < length ? 0 : (int)length;
}

uint64_t graft_utf8_clean(const uint8_t *bytes, uint64_t count, char *out, uint32_t *partial)
{
    uint64_t written = 0, i = 0;
    if (partial) {
        *partial = 0;
    }
    while (i < count) {
        int length = graft_utf8_step(bytes + i, count - i);
        if (length == 0 && partial) {
            *partial = (uint32_t)(count - i);
            break;
        }
        if (length <= 0 || bytes[i] == 0) {
            memcpy(out + written, "\xef\xbf\xbd", 3);
            written += 3;
            i++;
        } else {
            memcpy(out + written, bytes + i, (size_t)length);
            written += (uint64_t)length;
            i += (uint64_t)length;
        }
    }
    return written;
}
