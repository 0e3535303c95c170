# SPDX-License-Identifier: Apache-2.0
# graft_test_shaders(TARGET NAME ...): compile tests/shaders/NAME.comp to the header shaders/NAME.h with `const uint32_t NAME[]`,
# and put it on TARGET's include path.
find_program(GRAFT_GLSLANG NAMES glslangValidator glslang REQUIRED)
function(graft_test_shaders target)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${folder}/shaders)
  foreach(name ${ARGN})
    set(source ${CMAKE_CURRENT_SOURCE_DIR}/shaders/${name}.comp)
    set(header ${folder}/shaders/${name}.h)
    add_custom_command(OUTPUT ${header} DEPENDS ${source} VERBATIM
                       COMMAND ${GRAFT_GLSLANG} -V --quiet --target-env vulkan1.2 --vn ${name} -o ${header} ${source})
    target_sources(${target} PRIVATE ${header})
  endforeach()
  target_include_directories(${target} PRIVATE ${folder})
endfunction()
