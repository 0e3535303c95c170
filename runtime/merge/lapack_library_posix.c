// SPDX-License-Identifier: Apache-2.0
#include "runtime/merge/lapack_library.h"

#include <dlfcn.h>
#include <stddef.h>

const char graft_lapack_libraries[] = "liblapacke.so.3 and libopenblas.so.0 (Debian: liblapacke, libopenblas0)";

void *graft_lapack_find(const char *name)
{
    static void *lapack, *blas;
    lapack = lapack ? lapack : dlopen("liblapacke.so.3", RTLD_NOW | RTLD_LOCAL);
    blas = blas ? blas : dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    void *found = lapack ? dlsym(lapack, name) : NULL;
    return found || !blas ? found : dlsym(blas, name);
}
