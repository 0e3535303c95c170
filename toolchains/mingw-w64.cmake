# SPDX-License-Identifier: Apache-2.0
# 64-bit Windows from a Debian or Ubuntu machine, with mingw-w64. Everything is linked statically: one graft.exe, one libgraft.dll.
#   apt-get install gcc-mingw-w64-x86-64 make autoconf automake libtool m4 pkg-config dpkg-dev wine64
#   toolchains/make-sysroot-windows DIR        # the libraries, built from this distribution's source packages
#   cmake -S . -B build-windows -G Ninja --toolchain toolchains/mingw-w64.cmake -DGRAFT_SYSROOT=DIR
# Tests run through wine where it is installed. What Windows has no library or no server for is left out; configuring says what.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(triple x86_64-w64-mingw32)
set(GRAFT_SYSROOT "" CACHE PATH "Folder that make-sysroot-windows has filled")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES GRAFT_SYSROOT)
if(NOT EXISTS ${GRAFT_SYSROOT}/lib/pkgconfig)
  message(FATAL_ERROR "-DGRAFT_SYSROOT=DIR names a folder that toolchains/make-sysroot-windows has filled")
endif()

set(CMAKE_C_COMPILER ${triple}-gcc-posix) # with POSIX threads
set(CMAKE_RC_COMPILER ${triple}-windres)
set(CMAKE_OBJCOPY ${triple}-objcopy)
# Windows 10 and newer; printf and its friends as C99 has them; gmtime_r.
set(CMAKE_C_FLAGS_INIT "-D_WIN32_WINNT=0x0A00 -D__USE_MINGW_ANSI_STDIO=1 -D_FILE_OFFSET_BITS=64 -D_POSIX_THREAD_SAFE_FUNCTIONS=200112L")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")
set(CMAKE_SHARED_LINKER_FLAGS_INIT "-static")
set(CMAKE_FIND_ROOT_PATH ${GRAFT_SYSROOT} /usr/${triple})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${GRAFT_SYSROOT}/lib/pkgconfig)

find_program(GRAFT_WINE NAMES wine64 wine PATHS /usr/lib/wine)
if(GRAFT_WINE)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${GRAFT_WINE})
endif()
