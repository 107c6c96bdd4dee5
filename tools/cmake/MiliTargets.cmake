# The four kinds of target: library, program, test, fuzz target. Includes run from the root.

# mili_library(NAME SRCS ... DEPS ...): a static library; without SRCS, headers only.
function(mili_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  if(ARG_SRCS)
    add_library(${name} STATIC ${ARG_SRCS})
    target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} INTERFACE ${ARG_DEPS})
  endif()
endfunction()

# mili_program(NAME SRCS ... DEPS ...): an executable in bin/. It looks for shared libraries in a lib/
# beside that first, as tools/bundle lays them out; by the older tag, which holds for the libraries of
# libraries too.
function(mili_program name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES BUILD_RPATH "$ORIGIN/../lib")
  target_link_options(${name} PRIVATE LINKER:--disable-new-dtags)
endfunction()

add_custom_target(mili_programs)    # the three programs: what the quickstart builds
add_custom_target(mili_unit_tests)  # all unit tests
add_custom_target(mili_tsan_tests)  # the unit tests that link no gRPC and start threads
add_custom_target(mili_fuzzers)     # all fuzz targets

# mili_test(NAME SRCS ... DEPS ... [TSAN] [LABEL gpu]): a GoogleTest program of the unit tier.
# TSAN marks a test that must also run under ThreadSanitizer; it may link no gRPC.
function(mili_test name)
  cmake_parse_arguments(ARG "TSAN" "LABEL" "SRCS;DEPS" ${ARGN})
  if(MILI_FUZZ OR NOT GTest_FOUND)
    return()
  endif()
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SRCS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock_main GTest::gtest)
  target_compile_definitions(${name} PRIVATE MILI_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data")
  add_dependencies(mili_unit_tests ${name})
  if(ARG_TSAN)
    add_dependencies(mili_tsan_tests ${name})
    set(ARG_LABEL "${ARG_LABEL};tsan")
  endif()
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABEL}" TIMEOUT 300 SKIP_RETURN_CODE 77)
endfunction()

# mili_fuzzer(NAME SRCS ... DEPS ...): a libFuzzer target; its corpus is tests/fuzz/corpus/NAME.
function(mili_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  if(NOT MILI_FUZZ)
    return()
  endif()
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SRCS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} -fsanitize=fuzzer)
  add_dependencies(mili_fuzzers ${name})
endfunction()
