# SPDX-License-Identifier: Apache-2.0
# Tests of the tree itself: rules of its files, headers that compile alone, who may include whom, which names leave the library,
# what is installed.

# Every public header alone and twice, as C11 and as C++17: these libraries only have to compile.
if(CMAKE_CROSSCOMPILING) # headers are headers: the native build checks them
  return()
endif()
enable_language(CXX)
file(GLOB GRAFT_PUBLIC_HEADERS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/include/graft/*.h)
foreach(header ${GRAFT_PUBLIC_HEADERS})
  get_filename_component(name ${header} NAME_WE)
  foreach(language c cpp)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/headers/${name}.${language})
    file(CONFIGURE OUTPUT ${source} CONTENT "#include \"graft/${name}.h\"\n#include \"graft/${name}.h\"\n")
    list(APPEND header_sources ${source})
  endforeach()
endforeach()
add_library(graft_test_headers OBJECT ${header_sources})
target_include_directories(graft_test_headers PRIVATE ${CMAKE_SOURCE_DIR}/include)
set_target_properties(graft_test_headers PROPERTIES CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF)
# In C a function may have the name of a struct (graft_file_tensor fills a struct graft_file_tensor); g++ -Wshadow minds.
target_compile_options(graft_test_headers PRIVATE -Werror $<$<COMPILE_LANGUAGE:CXX>:-Wno-shadow>)

add_test(NAME layering COMMAND ${CMAKE_COMMAND} -DROOT=${CMAKE_SOURCE_DIR} -P ${CMAKE_CURRENT_SOURCE_DIR}/layering.cmake)
add_test(NAME prebuilt COMMAND ${CMAKE_COMMAND} -DROOT=${CMAKE_SOURCE_DIR} -P ${CMAKE_CURRENT_SOURCE_DIR}/prebuilt.cmake)
add_test(NAME tree COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/lint ${CMAKE_SOURCE_DIR})
add_test(NAME symbols COMMAND ${CMAKE_COMMAND} -DNM=${CMAKE_NM} -DSHARED=$<TARGET_FILE:graft_shared>
         -DARCHIVE=$<TARGET_FILE:graft_static> -P ${CMAKE_CURRENT_SOURCE_DIR}/symbols.cmake)
add_test(NAME install COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/install.sh ${CMAKE_BINARY_DIR} ${CMAKE_SOURCE_DIR})
# Sanitizers add their own names, and programs that use the installed library would need their run-time libraries.
if(GRAFT_SANITIZE)
  set_tests_properties(symbols install PROPERTIES DISABLED ON)
elseif(NOT GRAFT_TOOLS)
  set_tests_properties(install PROPERTIES DISABLED ON)
endif()
