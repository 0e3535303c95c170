// SPDX-License-Identifier: Apache-2.0
#include "tools/tool.h"
int verb_LOAD_TEST(const struct options *options) { (void)options; return EXIT_FAILED; }
