# SPDX-License-Identifier: Apache-2.0
# Check programs that run the graft command as a user would. They link nothing of the library but the version.
if(GRAFT_TOOLS AND NOT WIN32)
  file(GLOB GRAFT_E2E_TESTS CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/e2e/test_*.c)
  foreach(source ${GRAFT_E2E_TESTS})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source} e2e/command.c e2e/served.c $<TARGET_OBJECTS:graft_objects>)
    target_link_libraries(${name} PRIVATE graft_test_support PkgConfig::JANSSON)
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE GRAFT_TEST_COMMAND="$<TARGET_FILE:graft>")
    add_dependencies(${name} graft)
    add_test(NAME ${name} COMMAND ${name})
  endforeach()
  if(TARGET graft_http)
    target_sources(test_load PRIVATE support/certificate.c)
    target_link_libraries(test_load PRIVATE PkgConfig::GNUTLS)
  endif()
  # Takes the place of malloc and fails when it is told to.
  add_library(fail_malloc MODULE e2e/fail_malloc.c)
  target_compile_definitions(fail_malloc PRIVATE _GNU_SOURCE)
  target_compile_definitions(test_serve_memory PRIVATE GRAFT_TEST_FAIL_MALLOC="$<TARGET_FILE:fail_malloc>")
  add_dependencies(test_serve_memory fail_malloc)
  # Reads so slowly that others can write meanwhile.
  add_library(slow_read MODULE e2e/slow_read.c)
  target_compile_definitions(slow_read PRIVATE _GNU_SOURCE)
  target_compile_definitions(test_serve_faults PRIVATE GRAFT_TEST_SLOW_READ="$<TARGET_FILE:slow_read>")
  add_dependencies(test_serve_faults slow_read)
  # A Vulkan layer that loses the device when it is told to.
  add_library(graft_lose_layer MODULE layer/lose_layer.c layer/layer.c)
  target_compile_definitions(graft_lose_layer PRIVATE _GNU_SOURCE)
  target_include_directories(graft_lose_layer PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  file(GENERATE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/layers/lose.json INPUT ${CMAKE_CURRENT_SOURCE_DIR}/layer/lose_layer.json)
  target_compile_definitions(test_serve_device PRIVATE GRAFT_TEST_LAYERS="${CMAKE_CURRENT_BINARY_DIR}/layers")
  add_dependencies(test_serve_device graft_lose_layer)
  # Merged files against numpy and PyPI gguf.
  add_test(NAME merge_reference COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/merge_reference $<TARGET_FILE:graft> ${CMAKE_CURRENT_SOURCE_DIR}/golden)
  # What an administrator installs, and the page that walks through it.
  add_test(NAME packaging COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/packaging $<TARGET_FILE:graft> ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/tools/graft.service)
  add_test(NAME departments COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/departments $<TARGET_FILE:graft>)
endif()
