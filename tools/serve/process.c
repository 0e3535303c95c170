// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/process.h"

#include "tools/serve/body.h"

void metric_header(struct out *out, const char *name, const char *type, const char *help)
{
    out_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metric_one(struct out *out, const char *name, const char *type, const char *help, double value)
{
    metric_header(out, name, type, help);
    out_format(out, "%s %.15g\n", name, value);
}
