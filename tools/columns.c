// SPDX-License-Identifier: Apache-2.0
#include "tools/columns.h"

#include <stdlib.h>
#include <string.h>

#include "tools/system.h"

enum { GAP = 3 };

uint32_t columns_width(uint32_t n)
{
    uint32_t columns = system_columns();
    if (n < 2 || columns < GAP * n) {
        return 0;
    }
    uint32_t width = (columns - GAP * (n - 1)) / n;
    return width < COLUMNS_LEAST ? 0 : width;
}

// Bytes of the character at p; p < end.
static size_t character(const char *p, const char *end)
{
    size_t n = 1;
    while (p + n < end && ((unsigned char)p[n] & 0xc0) == 0x80) {
        n++;
    }
    return n;
}

// Print the next line of [*p, end), at most `width` characters, and go behind it; how many were printed.
static uint32_t print_line(const char **p, const char *end, uint32_t width)
{
    const char *at = *p, *stop = NULL; // behind the last whole word
    uint32_t n = 0, n_stop = 0;
    while (at < end && *at != '\n' && n < width) {
        if (*at == ' ') {
            stop = at;
            n_stop = n;
        }
        at += character(at, end);
        n++;
    }
    bool whole = at == end || *at == '\n' || *at == ' ';
    if (!whole && stop) {
        at = stop;
        n = n_stop;
    }
    fwrite(*p, 1, (size_t)(at - *p), stdout);
    *p = at + (at < end && (*at == '\n' || *at == ' '));
    return n;
}

void columns_print(const char *const *heads, const struct text *texts, uint32_t n, uint32_t width)
{
    const char **at = get_memory(n, sizeof *at);
    bool more = true;
    for (uint32_t i = 0; i < n; i++) {
        at[i] = texts[i].data ? texts[i].data : "";
        printf("%-*.*s%s", i + 1 < n ? (int)width : 0, (int)width, heads[i], i + 1 < n ? " | " : "\n");
    }
    for (uint32_t i = 0; i < n * width + (n - 1) * GAP; i++) {
        putchar(i % (width + GAP) == width + 1 ? '+' : '-');
    }
    puts("");
    while (more) {
        more = false;
        for (uint32_t i = 0; i < n; i++) {
            const char *end = texts[i].data ? texts[i].data + texts[i].length : at[i];
            uint32_t used = at[i] < end ? print_line(&at[i], end, width) : 0;
            more = more || at[i] < end;
            printf("%*s%s", i + 1 < n ? (int)(width - used) : 0, "", i + 1 < n ? " | " : "\n");
        }
    }
    free(at);
}
