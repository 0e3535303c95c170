// SPDX-License-Identifier: Apache-2.0
// graft devices: what --device can be.
#include <inttypes.h>
#include <stdlib.h>

#include "tools/tool.h"

int verb_DEVICES(const struct options *options)
{
    struct session session = {0};
    struct graft_device_info *infos = NULL;
    uint32_t count = 0;
    const char *missing = NULL;
    int code = session_context(&session, options);
    if (code == EXIT_GOOD) {
        code = devices_list(session.ctx, &infos, &count, &missing);
    }
    if (code == EXIT_GOOD && options->json) {
        json_t *array = json_array();
        for (uint32_t i = 0; i < count; i++) {
            json_array_append_new(array, device_json(&infos[i], i));
        }
        code = print_json(array);
    } else if (code == EXIT_GOOD) {
        for (uint32_t i = 0; i < count; i++) {
            const struct graft_device_info *d = &infos[i];
            printf("%" PRIu32 "  %s\n   %s", i, d->name, device_kind_name(d->kind));
            if (*d->driver) {
                printf(", %s", d->driver);
            }
            if (d->memory_bytes) {
                printf(", %s%s", bytes_text(d->memory_bytes).text, d->unified ? " shared with the processor" : "");
            }
            printf("\n   %s%s%s\n", d->usable ? "usable" : "not usable", *d->reason ? ": " : "", d->reason);
        }
    }
    if (code == EXIT_GOOD && missing) {
        note("%s", missing);
    }
    free(infos);
    session_close(&session);
    return code;
}
