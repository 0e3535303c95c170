// SPDX-License-Identifier: Apache-2.0
#include "support/model_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char model_name[] = "SmolLM2-135M-Instruct.Q4_1.gguf";

const char *graft_test_model_path(void)
{
    static char path[4096];
    const char *given = getenv("GRAFT_TEST_MODEL"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (given && *given) {
        snprintf(path, sizeof path, "%s", given);
    } else if (data && *data) {
        snprintf(path, sizeof path, "%s/graft/%s", data, model_name);
    } else {
        snprintf(path, sizeof path, "%s/.local/share/graft/%s", home ? home : "", model_name);
    }
    return access(path, R_OK) == 0 ? path : NULL;
}

int graft_test_shared_path(char *out, size_t room, const char *name)
{
    const char *folder = getenv("GRAFT_TEST_SHARED_DIR");
    snprintf(out, room, "%s/%s", folder && *folder ? folder : GRAFT_TEST_SHARED_DIR, name);
    if (access(out, R_OK) == 0) {
        return 1;
    }
    out[0] = '\0';
    return 0;
}
