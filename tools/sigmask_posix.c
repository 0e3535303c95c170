// SPDX-License-Identifier: Apache-2.0
// The process's own pthread_sigmask: SIGBUS is never blocked. Software Vulkan (Mesa's lavapipe) starts its threads with all
// signals blocked but SIGSEGV and SIGSYS; when such a thread reads a page of the mapped model that is gone, the system ends the
// process instead of calling the handler of graft_guard_mapped_files. What a blocked SIGBUS does is undefined in POSIX, so
// nothing can rely on it. A definition in the program goes before that of libc, also for the libraries it loads.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

// As in POSIX. errors: those of libc's, and ENOSYS if there is none.
__attribute__((visibility("default"))) int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    static _Atomic(void *) found;
    void *real = atomic_load(&found);
    if (!real) {
        real = dlsym(RTLD_NEXT, "pthread_sigmask");
        atomic_store(&found, real);
    }
    if (!real) {
        return ENOSYS;
    }
    int (*next)(int, const sigset_t *, sigset_t *);
    *(void **)(void *)&next = real; // the way POSIX gives for functions
    if (!set || how == SIG_UNBLOCK) {
        return next(how, set, old);
    }
    sigset_t without = *set;
    sigdelset(&without, SIGBUS);
    return next(how, &without, old);
}
