# SPDX-License-Identifier: Apache-2.0
# graft_test_shaders(TARGET NAME ...): compile tests/shaders/NAME.comp to headers shaders/NAME.h with `const uint32_t NAME[]`.
# TARGET is made: an interface library; what links to it finds the headers.
function(graft_test_shaders target)
  add_library(${target} INTERFACE)
  if(GRAFT_SPIRV_DIR) # compiled before, beside the kernels
    target_include_directories(${target} INTERFACE ${GRAFT_SPIRV_DIR}/tests)
    return()
  endif()
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${folder}/shaders)
  install(DIRECTORY ${folder}/shaders DESTINATION share/graft/spirv/tests COMPONENT spirv EXCLUDE_FROM_ALL)
  set(headers)
  foreach(name ${ARGN})
    set(source ${CMAKE_CURRENT_SOURCE_DIR}/shaders/${name}.comp)
    set(header ${folder}/shaders/${name}.h)
    add_custom_command(OUTPUT ${header} DEPENDS ${source} VERBATIM
                       COMMAND ${GLSLANG} -V --quiet --target-env vulkan1.2 --vn ${name} -o ${header} ${source})
    list(APPEND headers ${header})
  endforeach()
  add_custom_target(${target}_headers DEPENDS ${headers})
  add_dependencies(${target} ${target}_headers)
  target_include_directories(${target} INTERFACE ${folder})
endfunction()
