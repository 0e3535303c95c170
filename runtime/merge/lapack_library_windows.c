// SPDX-License-Identifier: Apache-2.0
// OpenBLAS as its project publishes it for Windows: one DLL with LAPACKE and CBLAS in it, beside the program or in the system's
// folder; the current folder and PATH are not searched.
#include "runtime/merge/lapack_library.h"

#include <string.h>

#include "platform/wide_windows.h"

const char graft_lapack_libraries[] = "libopenblas.dll beside graft.exe (of OpenBLAS's releases, with 32-bit integers)";

void *graft_lapack_find(const char *name)
{
    static HMODULE library;
    library =
        library ? library
                : LoadLibraryExW(L"libopenblas.dll", NULL, LOAD_LIBRARY_SEARCH_APPLICATION_DIR | LOAD_LIBRARY_SEARCH_SYSTEM32);
    FARPROC function = library ? GetProcAddress(library, name) : NULL;
    void *found;
    memcpy(&found, &function, sizeof found); // ISO C has no cast for it
    return found;
}
