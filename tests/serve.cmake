# SPDX-License-Identifier: Apache-2.0
# Check programs that talk to tools/serve's HTTP server over raw sockets.
if(TARGET graft_http)
  file(GLOB GRAFT_SERVE_TESTS CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/serve/test_*.c)
  file(GLOB GRAFT_SERVE_SUPPORT CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/journal_*.c ${CMAKE_SOURCE_DIR}/tools/system_*.c)
  graft_sources_of_system(GRAFT_SERVE_SUPPORT)
  if(WIN32) # signals, modes of files, Unix sockets, links
    list(FILTER GRAFT_SERVE_TESTS EXCLUDE REGEX "/test_(http|jwt|log|select)\\.c$")
  endif()
  foreach(source ${GRAFT_SERVE_TESTS})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source} serve/http_world.c ${GRAFT_SERVE_SUPPORT} serve/tls_client.c support/certificate.c $<TARGET_OBJECTS:graft_http> $<TARGET_OBJECTS:graft_objects>)
    target_link_libraries(${name} PRIVATE graft_test_support PkgConfig::JANSSON PkgConfig::MHD PkgConfig::GNUTLS PkgConfig::SODIUM)
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
    if(JWT_FOUND)
      target_link_libraries(${name} PRIVATE PkgConfig::JWT)
      target_compile_definitions(${name} PRIVATE GRAFT_HAVE_JWT)
    endif()
    if(WIN32) # the archives of Check and of GnuTLS both have a localtime_r
      target_link_options(${name} PRIVATE -Wl,--allow-multiple-definition)
    endif()
    add_test(NAME ${name} COMMAND ${name})
  endforeach()
  target_sources(test_usage PRIVATE ${CMAKE_SOURCE_DIR}/tools/serve/usage.c ${CMAKE_SOURCE_DIR}/tools/serve/histogram.c
                 ${CMAKE_SOURCE_DIR}/tools/out.c ${CMAKE_SOURCE_DIR}/tools/serve/body.c ${CMAKE_SOURCE_DIR}/tools/output.c)
  # The table of adapters without a server.
  if(TARGET test_select)
  target_sources(test_select PRIVATE ${CMAKE_SOURCE_DIR}/tools/serve/adapters.c ${CMAKE_SOURCE_DIR}/tools/serve/adapters_change.c
                 ${CMAKE_SOURCE_DIR}/tools/serve/adapters_load.c ${CMAKE_SOURCE_DIR}/tools/serve/select.c
                 ${CMAKE_SOURCE_DIR}/tools/serve/aliases.c
                 ${CMAKE_SOURCE_DIR}/tools/out.c ${CMAKE_SOURCE_DIR}/tools/serve/body.c ${CMAKE_SOURCE_DIR}/tools/options.c ${CMAKE_SOURCE_DIR}/tools/tables.c
                 ${CMAKE_SOURCE_DIR}/tools/output.c)
  endif()
endif()
