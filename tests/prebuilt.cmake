# SPDX-License-Identifier: Apache-2.0
# Are the kernels kept compiled in shaders/prebuilt those of the sources beside them?
include(${ROOT}/shaders/prebuilt.cmake)
graft_prebuilt_current(current)
if(NOT current)
  message("shaders/prebuilt is of other sources; with a glslang that knows cooperative matrices (tests/newer-vulkan fetches one):\n"
          "  cmake -DGLSLANG=... -P shaders/prebuilt.cmake")
  message(FATAL_ERROR "0%: Checks: 1, Failures: 1, Errors: 0")
endif()
message("100%: Checks: 1, Failures: 0, Errors: 0")
