# SPDX-License-Identifier: Apache-2.0
# 64-bit ARM Linux from another machine: Jetson (JetPack 6 is Ubuntu 22.04), single-board computers, servers.
#   apt-get install gcc-aarch64-linux-gnu qemu-user-static
#   toolchains/make-sysroot arm64 DIR          # the libraries, as the target's packages; or copy /usr and /lib of the device
#   cmake -S . -B build-arm -G Ninja --toolchain toolchains/aarch64-linux-gnu.cmake -DGRAFT_SYSROOT=DIR
# Tests run through qemu-user where it is installed. Without GRAFT_SYSROOT the libraries are expected beside this machine's own
# (dpkg --add-architecture arm64).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(triple aarch64-linux-gnu)
set(GRAFT_SYSROOT "" CACHE PATH "Folder with the target's /usr and /lib")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES GRAFT_SYSROOT)

set(CMAKE_C_COMPILER ${triple}-gcc)
set(CMAKE_OBJCOPY ${triple}-objcopy)
set(CMAKE_LIBRARY_ARCHITECTURE ${triple})
if(GRAFT_SYSROOT)
  set(CMAKE_SYSROOT ${GRAFT_SYSROOT})
  set(ENV{PKG_CONFIG_SYSROOT_DIR} ${GRAFT_SYSROOT})
endif()
set(libraries ${GRAFT_SYSROOT}/usr/lib/${triple})
set(ENV{PKG_CONFIG_LIBDIR} ${libraries}/pkgconfig:${libraries}/openblas-pthread/pkgconfig:${GRAFT_SYSROOT}/usr/share/pkgconfig)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

find_program(GRAFT_QEMU NAMES qemu-aarch64-static qemu-aarch64)
if(GRAFT_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${GRAFT_QEMU} -L ${GRAFT_SYSROOT}/)
endif()
