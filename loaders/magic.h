// SPDX-License-Identifier: Apache-2.0
// For error messages: what a file that is not of the expected format seems to be.
#ifndef GRAFT_LOADERS_MAGIC_H
#define GRAFT_LOADERS_MAGIC_H

#include <stdint.h>

// "a zip archive, perhaps a PyTorch checkpoint; convert it to GGUF", by the first bytes; NULL if there is no guess.
// data may be NULL if size is 0.
const char *graft_magic_guess(const uint8_t *data, uint64_t size);

#endif
