// SPDX-License-Identifier: Apache-2.0
// Where tests find files that are not in the project.
#ifndef GRAFT_TESTS_MODEL_PATH_H
#define GRAFT_TESTS_MODEL_PATH_H

#include <stddef.h>

// The real model SmolLM2-135M-Instruct.Q4_1.gguf: the file named by GRAFT_TEST_MODEL, else the one in $XDG_DATA_HOME/graft or
// ~/.local/share/graft. NULL if it is not there. The text lives until the next call.
const char *graft_test_model_path(void);

// Path of a file in the shared folder (GRAFT_TEST_SHARED_DIR of the environment, else of the build) into out; false, with
// out "", if it cannot be read.
int graft_test_shared_path(char *out, size_t room, const char *name);

#endif
