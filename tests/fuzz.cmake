# SPDX-License-Identifier: Apache-2.0
# Every tests/fuzz/fuzz_NAME.c is a target with the corpus tests/fuzz/corpus/NAME: ctest replays it; with GRAFT_FUZZ (clang) the
# programs are libFuzzer's instead (tests/fuzz/run).
file(GLOB GRAFT_FUZZ_TARGETS CONFIGURE_DEPENDS fuzz/fuzz_*.c)
list(REMOVE_ITEM GRAFT_FUZZ_TARGETS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/fuzz_main.c)
if(GRAFT_FUZZ) # their loops over characters spend half of the time in tracing comparisons; dictionaries (fuzz/dict) stand in for it
  file(GLOB texts ${CMAKE_SOURCE_DIR}/runtime/text/*.c)
  set_property(SOURCE ${texts} TARGET_DIRECTORY graft_objects APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize-coverage=trace-cmp)
endif()
foreach(source ${GRAFT_FUZZ_TARGETS})
  get_filename_component(name ${source} NAME_WE)
  string(REPLACE fuzz_ "" subject ${name})
  add_executable(${name} ${source} $<TARGET_OBJECTS:graft_objects>)
  target_link_libraries(${name} PRIVATE graft_test_support)
  if(GRAFT_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name} PRIVATE fuzz/fuzz_main.c)
    add_test(NAME ${name}_replay COMMAND ${name} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${subject})
  endif()
endforeach()
target_sources(fuzz_json PRIVATE ${CMAKE_SOURCE_DIR}/tools/out.c ${CMAKE_SOURCE_DIR}/tools/serve/body.c) # with answers that are never given
target_include_directories(fuzz_json PRIVATE ${CMAKE_SOURCE_DIR})
target_sources(fuzz_http_head PRIVATE ${CMAKE_SOURCE_DIR}/tools/serve/http_head.c ${CMAKE_SOURCE_DIR}/tools/serve/http_target.c)
target_include_directories(fuzz_http_head PRIVATE ${CMAKE_SOURCE_DIR})
