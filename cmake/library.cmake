# SPDX-License-Identifier: Apache-2.0
# libgraft.so and libgraft.a from graft_objects, and everything that is installed for programs that embed them.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(GRAFT_DEPENDENCIES PkgConfig::JANSSON PkgConfig::PCRE2 PkgConfig::NETTLE PkgConfig::SODIUM PkgConfig::UTF8PROC Threads::Threads m ${CMAKE_DL_LIBS})

add_library(graft_shared SHARED $<TARGET_OBJECTS:graft_objects>)
set_target_properties(graft_shared PROPERTIES OUTPUT_NAME graft EXPORT_NAME graft VERSION ${PROJECT_VERSION} SOVERSION 0)
target_link_libraries(graft_shared PRIVATE ${GRAFT_DEPENDENCIES})

# The archive holds one relocatable object, in which only names that begin with graft_ stay global: what else the objects define
# for each other (volk's tables) cannot collide with the embedding program's.
set(GRAFT_ONE_OBJECT ${CMAKE_CURRENT_BINARY_DIR}/graft_all.o)
add_custom_command(
  OUTPUT ${GRAFT_ONE_OBJECT}
  COMMAND ${CMAKE_C_COMPILER} -r -nostdlib -o ${GRAFT_ONE_OBJECT} $<TARGET_OBJECTS:graft_objects>
  COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=graft_* ${GRAFT_ONE_OBJECT}
  DEPENDS graft_objects $<TARGET_OBJECTS:graft_objects>
  COMMAND_EXPAND_LISTS VERBATIM)
add_library(graft_static STATIC ${GRAFT_ONE_OBJECT})
set_source_files_properties(${GRAFT_ONE_OBJECT} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
set_target_properties(graft_static PROPERTIES OUTPUT_NAME graft EXPORT_NAME graft_static LINKER_LANGUAGE C)
target_link_libraries(graft_static PUBLIC ${GRAFT_DEPENDENCIES})

foreach(target graft_shared graft_static)
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
                                              $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()

install(TARGETS graft_shared graft_static EXPORT graft
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/include/graft DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# find_package(graft) gives graft::graft (shared) and graft::graft_static.
set(GRAFT_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/graft)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/graftConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/graftConfig.cmake
                              INSTALL_DESTINATION ${GRAFT_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/graftConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT graft FILE graftTargets.cmake NAMESPACE graft:: DESTINATION ${GRAFT_PACKAGE_DIR})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/graftConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/graftConfigVersion.cmake
        DESTINATION ${GRAFT_PACKAGE_DIR})
if(CMAKE_DL_LIBS)
  set(GRAFT_PC_DL "-l${CMAKE_DL_LIBS}")
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/graft.pc.in ${CMAKE_CURRENT_BINARY_DIR}/graft.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/graft.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
