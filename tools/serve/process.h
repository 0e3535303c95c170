// SPDX-License-Identifier: Apache-2.0
// Lines of Prometheus' text format, and what the operating system says about this process, by the names every client library
// gives them.
#ifndef GRAFT_TOOLS_SERVE_PROCESS_H
#define GRAFT_TOOLS_SERVE_PROCESS_H

struct out;

// # HELP and # TYPE of a metric.
void metric_header(struct out *out, const char *name, const char *type, const char *help);
// A metric without labels, whole.
void metric_one(struct out *out, const char *name, const char *type, const char *help, double value);
// process_cpu_seconds_total, process_resident_memory_bytes, process_virtual_memory_bytes, process_open_fds, process_max_fds,
// process_start_time_seconds, process_threads: those that /proc has.
void process_print(struct out *out);

#endif
