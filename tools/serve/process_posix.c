// SPDX-License-Identifier: Apache-2.0
// proc(5): /proc/self/stat, /proc/self/fd, /proc/stat.
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tools/serve/body.h"
#include "tools/serve/process.h"

// Seconds since 1970 when the machine was started; 0: not known.
static double boot_time(void)
{
    char line[256];
    unsigned long long seconds = 0;
    FILE *file = fopen("/proc/stat", "rb");
    while (file && !seconds && fgets(line, sizeof line, file)) {
        (void)sscanf(line, "btime %llu", &seconds);
    }
    if (file) {
        fclose(file);
    }
    return (double)seconds;
}

static int open_files(void)
{
    int n = -3; // ".", ".." and the folder itself
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder)) {
        n++;
    }
    if (folder) {
        closedir(folder);
    }
    return n;
}

void process_print(struct out *out)
{
    char text[1024];
    FILE *file = fopen("/proc/self/stat", "rb");
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    text[length] = 0;
    const char *rest = strrchr(text, ')'); // the name may hold anything
    unsigned long long user, system, started, bytes;
    long threads, pages;
    double tick = (double)sysconf(_SC_CLK_TCK), boot = boot_time();
    if (rest && sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %ld %*d %llu %llu %ld",
                       &user, &system, &threads, &started, &bytes, &pages) == 6) {
        metric_one(out, "process_cpu_seconds_total", "counter", "Processor time, user and system.",
                   (double)(user + system) / tick);
        metric_one(out, "process_resident_memory_bytes", "gauge", "Resident memory, pages of the model's file included.",
                   (double)pages * (double)sysconf(_SC_PAGESIZE));
        metric_one(out, "process_virtual_memory_bytes", "gauge", "Address space.", (double)bytes);
        metric_one(out, "process_threads", "gauge", "Threads, those of drivers and libraries included.", (double)threads);
        if (boot > 0) {
            metric_one(out, "process_start_time_seconds", "gauge", "Since 1970.", boot + (double)started / tick);
        }
    }
    struct rlimit limit;
    int files = open_files();
    if (files > 0) {
        metric_one(out, "process_open_fds", "gauge", "Open files.", files);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        metric_one(out, "process_max_fds", "gauge", "Files that may be open.", (double)limit.rlim_cur);
    }
}
