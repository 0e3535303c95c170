// SPDX-License-Identifier: Apache-2.0
// The SIGBUS handler of guard.h. It uses nothing but atomics and mmap, which is one system call on every POSIX system.
#define _GNU_SOURCE
#include "platform/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "platform/plat.h"

enum { SLOTS = 1024 };

// `begin` 0: free or not complete yet. Written last when it is taken, first when it is given back.
struct graft_guarded {
    atomic_bool taken;
    atomic_uintptr_t begin;
    atomic_size_t bytes; // whole pages
    atomic_bool struck;
};

static struct graft_guarded slots[SLOTS];
static atomic_size_t page_bytes;
static pthread_mutex_t install_mutex = PTHREAD_MUTEX_INITIALIZER; // guards `installed`
static bool installed;
static struct sigaction before;

struct graft_guarded *graft_guard_add(const void *data, uint64_t bytes)
{
    size_t page = (size_t)graft_page_bytes();
    atomic_store(&page_bytes, page);
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct graft_guarded *slot = &slots[i];
        bool free_one = false;
        if (atomic_compare_exchange_strong(&slot->taken, &free_one, true)) {
            atomic_store(&slot->struck, false);
            atomic_store(&slot->bytes, ((size_t)bytes + page - 1) / page * page);
            atomic_store(&slot->begin, (uintptr_t)data);
            return slot;
        }
    }
    return NULL;
}

void graft_guard_remove(struct graft_guarded *guarded)
{
    if (guarded) {
        atomic_store(&guarded->begin, 0);
        atomic_store(&guarded->taken, false);
    }
}

bool graft_guard_struck(const struct graft_guarded *guarded)
{
    return guarded && atomic_load(&guarded->struck);
}

// Zeros from the page of `address` to the end of its mapping; false if it is in none that is watched.
static bool heal(uintptr_t address)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        uintptr_t begin = atomic_load(&slots[i].begin);
        size_t bytes = atomic_load(&slots[i].bytes), page = atomic_load(&page_bytes);
        if (begin == 0 || address < begin || address - begin >= bytes) {
            continue;
        }
        size_t skip = (address - begin) / page * page;
        void *at = mmap((void *)(begin + skip), bytes - skip, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (at == MAP_FAILED) {
            return false;
        }
        atomic_store(&slots[i].struck, true);
        return true;
    }
    return false;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int error = errno;
    bool healed = info->si_code > 0 && heal((uintptr_t)info->si_addr); // <= 0: sent by a process
    errno = error;
    if (healed) {
        return;
    }
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    } else if (before.sa_handler == SIG_DFL || info->si_code > 0) {
        // Ends the process as without this handler: the reading instruction is run again, or the signal is sent again.
        struct sigaction plain = {.sa_handler = SIG_DFL};
        sigaction(number, &plain, NULL);
        if (info->si_code <= 0) {
            raise(number);
        }
    }
}

enum graft_status graft_guard_mapped_files(void)
{
    enum graft_status status = GRAFT_OK;
    pthread_mutex_lock(&install_mutex);
    if (!installed) {
        struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
        sigemptyset(&action.sa_mask);
        installed = sigaction(SIGBUS, NULL, &before) == 0 && sigaction(SIGBUS, &action, NULL) == 0;
        if (!installed) {
            status = graft_fail(GRAFT_E_INTERNAL, "no handler for SIGBUS could be installed: %s", strerror(errno));
        }
    }
    pthread_mutex_unlock(&install_mutex);
    return status;
}
