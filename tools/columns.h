// SPDX-License-Identifier: Apache-2.0
// Texts side by side on a terminal.
#ifndef GRAFT_TOOLS_COLUMNS_H
#define GRAFT_TOOLS_COLUMNS_H

#include <stdint.h>

#include "tools/tool.h"

enum { COLUMNS_LEAST = 24 }; // characters of a column

// Characters that a column of `n` may have on standard output; 0 if it is no terminal, or one too narrow for so many.
uint32_t columns_width(uint32_t n);
// Print n texts under their heads, wrapped between words to `width` characters; longer words are cut. Characters are counted as
// code points of UTF-8: those that take two cells push what stands right of them.
void columns_print(const char *const *heads, const struct text *texts, uint32_t n, uint32_t width);

#endif
