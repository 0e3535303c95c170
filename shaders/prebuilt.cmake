# SPDX-License-Identifier: Apache-2.0
# Kernels that need a newer glslang than Debian 12 has (GL_KHR_cooperative_matrix: 13 or later) are kept compiled in shaders/prebuilt,
# beside a hash of their sources, for builds with an older one. After a change of their sources:
#   cmake -DGLSLANG=/path/to/newer/glslang -P shaders/prebuilt.cmake
# A folder whose hash is of other sources is not used; the test `prebuilt` says so.
set(GRAFT_PREBUILT_DIR ${CMAKE_CURRENT_LIST_DIR}/prebuilt)
set(GRAFT_PREBUILT_SOURCES qkv residual gate_up head)
set(GRAFT_PREBUILT_KERNELS ${GRAFT_PREBUILT_SOURCES} qkv_lora residual_lora gate_up_lora head_lora) # NAME.blocks.matrix
set(GRAFT_PREBUILT_INCLUDES params.h lib/arrive.glsl lib/expand.glsl lib/io.glsl lib/kv.glsl lib/kv_pack.glsl lib/lora.glsl
    lib/matmul.glsl lib/matrix.glsl lib/reduce.glsl lib/shrink.glsl) # and quant/*.glsl
set(GRAFT_VARIANT_matrix -DSUBGROUPS -DMATRIX)
set(GRAFT_PREBUILT_FLAGS -V --quiet -g0 --target-env vulkan1.1 -DGRAFT_GLSL ${GRAFT_VARIANT_matrix} -DFAMILY_blocks
    -I${CMAKE_CURRENT_LIST_DIR})

# What a kernel is compiled from: NAME_lora is NAME with adapters.
function(graft_prebuilt_source kernel source defines)
  string(REGEX REPLACE "_lora$" "" name ${kernel})
  set(${source} ${name} PARENT_SCOPE)
  if(name STREQUAL kernel)
    set(${defines} PARENT_SCOPE)
  else()
    set(${defines} -DLORA PARENT_SCOPE)
  endif()
endfunction()

# SHA-256 of the SHA-256s of the kernels' sources.
function(graft_prebuilt_hash out)
  file(GLOB files ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/quant/*.glsl)
  foreach(name ${GRAFT_PREBUILT_INCLUDES})
    list(APPEND files ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${name})
  endforeach()
  foreach(kernel ${GRAFT_PREBUILT_SOURCES})
    list(APPEND files ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${kernel}.comp)
  endforeach()
  list(SORT files)
  set(hashes "${GRAFT_VARIANT_matrix}")
  foreach(file ${files})
    file(SHA256 ${file} hash)
    string(APPEND hashes ${hash})
  endforeach()
  string(SHA256 hash "${hashes}")
  set(${out} ${hash} PARENT_SCOPE)
endfunction()

# *out: the hash in the folder is that of the sources.
function(graft_prebuilt_current out)
  graft_prebuilt_hash(want)
  set(found "nothing")
  if(EXISTS ${GRAFT_PREBUILT_DIR}/sources.sha256)
    file(READ ${GRAFT_PREBUILT_DIR}/sources.sha256 found)
    string(STRIP "${found}" found)
  endif()
  string(COMPARE EQUAL "${found}" "${want}" same)
  set(${out} ${same} PARENT_SCOPE)
endfunction()

# *out: GLSLANG knows cooperative matrices.
function(graft_glslang_has_matrices glslang folder out)
  file(WRITE ${folder}/probe.comp "#version 450\n#extension GL_KHR_cooperative_matrix : require\n"
       "#extension GL_KHR_memory_scope_semantics : require\nvoid main() {}\n")
  execute_process(COMMAND ${glslang} -V --quiet --target-env vulkan1.1 -o ${folder}/probe.spv ${folder}/probe.comp
                  RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
  string(COMPARE EQUAL "${result}" 0 same)
  set(${out} ${same} PARENT_SCOPE)
endfunction()

# A module of the folder as a C array, as glslang writes it.
function(graft_prebuilt_header name symbol header)
  file(READ ${GRAFT_PREBUILT_DIR}/${name}.spv hex HEX)
  string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1," words "${hex}")
  string(REGEX REPLACE "((0x........,){16})" "\\1\n" words "${words}")
  file(CONFIGURE OUTPUT ${header} CONTENT "#pragma once\nconst uint32_t graft_spirv_${symbol}[] = {\n${words}\n};\n" @ONLY)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  if(NOT GLSLANG)
    message(FATAL_ERROR "-DGLSLANG=... is missing")
  endif()
  foreach(kernel ${GRAFT_PREBUILT_KERNELS})
    graft_prebuilt_source(${kernel} source defines)
    execute_process(COMMAND ${GLSLANG} ${GRAFT_PREBUILT_FLAGS} ${defines} -o ${GRAFT_PREBUILT_DIR}/${kernel}.blocks.matrix.spv
                            ${CMAKE_CURRENT_LIST_DIR}/${source}.comp
                    RESULT_VARIABLE result)
    if(NOT result EQUAL 0)
      message(FATAL_ERROR "${kernel} does not compile")
    endif()
  endforeach()
  graft_prebuilt_hash(hash)
  file(WRITE ${GRAFT_PREBUILT_DIR}/sources.sha256 "${hash}\n")
endif()
