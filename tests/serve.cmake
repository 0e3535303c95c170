# SPDX-License-Identifier: Apache-2.0
# Check programs that talk to tools/serve's HTTP server over raw sockets.
if(TARGET graft_http)
  file(GLOB GRAFT_SERVE_TESTS CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/serve/test_*.c)
  foreach(source ${GRAFT_SERVE_TESTS})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source} serve/http_world.c ${CMAKE_SOURCE_DIR}/tools/journal_posix.c
                   ${CMAKE_SOURCE_DIR}/tools/system_posix.c serve/tls_client.c support/certificate.c $<TARGET_OBJECTS:graft_http> $<TARGET_OBJECTS:graft_objects>)
    target_link_libraries(${name} PRIVATE graft_test_support PkgConfig::JANSSON PkgConfig::MHD PkgConfig::GNUTLS PkgConfig::SODIUM)
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
    if(JWT_FOUND)
      target_link_libraries(${name} PRIVATE PkgConfig::JWT)
      target_compile_definitions(${name} PRIVATE GRAFT_HAVE_JWT)
    endif()
    add_test(NAME ${name} COMMAND ${name})
  endforeach()
  target_sources(test_usage PRIVATE ${CMAKE_SOURCE_DIR}/tools/serve/usage.c ${CMAKE_SOURCE_DIR}/tools/serve/histogram.c
                 ${CMAKE_SOURCE_DIR}/tools/out.c ${CMAKE_SOURCE_DIR}/tools/serve/body.c ${CMAKE_SOURCE_DIR}/tools/output.c)
  # The table of adapters without a server.
  target_sources(test_select PRIVATE ${CMAKE_SOURCE_DIR}/tools/serve/adapters.c ${CMAKE_SOURCE_DIR}/tools/serve/adapters_change.c
                 ${CMAKE_SOURCE_DIR}/tools/serve/adapters_load.c ${CMAKE_SOURCE_DIR}/tools/serve/select.c
                 ${CMAKE_SOURCE_DIR}/tools/serve/aliases.c
                 ${CMAKE_SOURCE_DIR}/tools/out.c ${CMAKE_SOURCE_DIR}/tools/serve/body.c ${CMAKE_SOURCE_DIR}/tools/options.c ${CMAKE_SOURCE_DIR}/tools/tables.c
                 ${CMAKE_SOURCE_DIR}/tools/output.c)
endif()
