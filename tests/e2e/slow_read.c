// SPDX-License-Identifier: Apache-2.0
// Preloaded: a read of 100,000 bytes or more reads half of them and then waits 2 ms, so that others can write meanwhile.
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

ssize_t read(int fd, void *out, size_t bytes)
{
    if (bytes < 100000) {
        return syscall(SYS_read, fd, out, bytes);
    }
    ssize_t n = syscall(SYS_read, fd, out, bytes / 2);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    return n;
}
