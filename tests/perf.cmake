# SPDX-License-Identifier: Apache-2.0
if(CMAKE_CROSSCOMPILING)
  return()
endif()
# What compilers for hardware that is not here make of the kernels.
add_executable(radv_stats perf/radv_stats.c)
target_include_directories(radv_stats PRIVATE ${CMAKE_SOURCE_DIR})
target_link_libraries(radv_stats PRIVATE ${CMAKE_DL_LIBS})
add_test(NAME amd_stats COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/perf/amd_stats $<TARGET_FILE:radv_stats> ${CMAKE_SOURCE_DIR})
