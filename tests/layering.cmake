# SPDX-License-Identifier: Apache-2.0
# cmake -DROOT=... -P layering.cmake: a file includes only what stands left of its folder in the line of folders, and only
# runtime/vk sees Vulkan. Ends with Check's line.
cmake_minimum_required(VERSION 3.22)

# Each folder's place in the line; the longest folder that begins a path counts.
set(line include platform loaders shaders runtime/quant runtime/ref runtime/vk runtime/kernels runtime/model runtime/adapter
         runtime/merge runtime/text runtime/session tools)

# Index in `line` of a path relative to the root, or -1.
function(place_of path out)
  set(${out} -1 PARENT_SCOPE)
  set(index 0)
  foreach(folder ${line})
    if(path MATCHES "^${folder}/")
      set(${out} ${index} PARENT_SCOPE)
    endif()
    math(EXPR index "${index} + 1")
  endforeach()
endfunction()

set(checks 0)
set(failures 0)
macro(fail text)
  message("${text}")
  math(EXPR failures "${failures} + 1")
endmacro()

file(GLOB_RECURSE files RELATIVE ${ROOT} ${ROOT}/include/*.h ${ROOT}/platform/*.[ch] ${ROOT}/loaders/*.[ch] ${ROOT}/shaders/*.h
     ${ROOT}/runtime/*.[ch] ${ROOT}/tools/*.[ch])
foreach(file ${files})
  math(EXPR checks "${checks} + 1")
  place_of(${file} place)
  file(STRINGS ${ROOT}/${file} includes REGEX "^[ \t]*#[ \t]*include")
  foreach(include ${includes})
    if(include MATCHES "<(vulkan/|volk)" AND NOT file MATCHES "^runtime/vk/")
      fail("${file}: ${include}: only runtime/vk sees Vulkan")
    endif()
    if(NOT include MATCHES "\"([^\"]+)\"")
      continue()
    endif()
    set(target ${CMAKE_MATCH_1})
    if(target MATCHES "^graft/")
      set(target include/${target})
    endif()
    if(file MATCHES "^shaders/params.h" OR target MATCHES "^spirv/")
      continue()
    endif()
    place_of(${target} target_place)
    if(target_place EQUAL -1)
      fail("${file}: ${include}: not written from the root, or in no folder of the line")
    elseif(target MATCHES "^shaders/" AND NOT target STREQUAL "shaders/params.h")
      fail("${file}: ${include}: of shaders only params.h is included")
    elseif(target_place GREATER place)
      fail("${file}: ${include}: stands right of its own folder")
    elseif(file MATCHES "^tools/" AND NOT target MATCHES "^(include|tools)/" AND NOT target STREQUAL "platform/plat.h" AND
           NOT (file MATCHES "_windows\\.c$" AND target STREQUAL "platform/wide_windows.h"))
      fail("${file}: ${include}: the command uses the public API and platform/plat.h only, for Windows also wide_windows.h")
    endif()
  endforeach()
endforeach()

math(EXPR percent "100 * (${checks} - ${failures}) / ${checks}")
message("${percent}%: Checks: ${checks}, Failures: ${failures}, Errors: 0")
if(failures GREATER 0)
  message(FATAL_ERROR "the layering is broken")
endif()
