// SPDX-License-Identifier: Apache-2.0
// The one compiled copy of volk (a package's header): it opens libvulkan at run time, so that the library itself links to no
// driver and can say in words what is missing.
#define VOLK_IMPLEMENTATION
#include <volk.h>
