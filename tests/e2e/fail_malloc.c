// SPDX-License-Identifier: Apache-2.0
// To be preloaded: malloc, calloc and realloc that fail once. SIGUSR2 reads the file fail_at in the working directory: "K N",
// the K-th allocation from now on fails, and the N - 1 behind it. What has failed is written to the file failed.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t item);
extern void *__libc_realloc(void *memory, size_t bytes);

#define SEEN __attribute__((visibility("default")))

static atomic_long until, left;

static _Bool fails(void)
{
    if (atomic_load(&until) <= 0 || atomic_fetch_sub(&until, 1) > 1) {
        return 0;
    }
    if (atomic_fetch_sub(&left, 1) > 1) {
        atomic_store(&until, 1);
    }
    int fd = open("failed", O_WRONLY | O_CREAT, 0600);
    close(fd);
    errno = ENOMEM;
    return 1;
}

SEEN void *malloc(size_t bytes)
{
    return fails() ? NULL : __libc_malloc(bytes);
}

SEEN void *calloc(size_t count, size_t item)
{
    return fails() ? NULL : __libc_calloc(count, item);
}

SEEN void *realloc(void *memory, size_t bytes)
{
    return fails() ? NULL : __libc_realloc(memory, bytes);
}

static long number(const char **text)
{
    long value = 0;
    for (; **text >= '0' && **text <= '9'; ++*text) {
        value = value * 10 + (**text - '0');
    }
    *text += **text == ' ';
    return value;
}

static void on_signal(int sig)
{
    char text[32] = "";
    const char *at = text;
    int fd = open("fail_at", O_RDONLY);
    (void)sig;
    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0) {
        long k = number(&at), n = number(&at);
        atomic_store(&left, n);
        atomic_store(&until, k);
    }
    close(fd);
}

__attribute__((constructor)) static void begin(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR2, &action, NULL);
}
