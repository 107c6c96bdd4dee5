# Compiler flags, ccache, linker, sanitizers, and the libraries that everything may use.

find_program(MILI_CCACHE ccache)
if(MILI_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}
                                  CCACHE_NOHASHDIR=1 ${MILI_CCACHE})
endif()
find_program(MILI_LLD ld.lld)
if(MILI_LLD AND NOT CMAKE_CROSSCOMPILING)
  add_link_options(-fuse-ld=lld)
endif()

# Release speed with line numbers, in assertions and backtraces; the paths of the build stay out.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
set(mili_warnings -Wall -Wextra -Wno-missing-field-initializers -Werror=return-type
                  -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${mili_warnings}>")

if(MILI_SANITIZE)
  # What sanitizers add to the code takes GCC twice as long to compile at -O2.
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-Og -g1")
  # GCC's flow analysis is wrong more often than right about instrumented code.
  add_compile_options(-fsanitize=${MILI_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
                      -Wno-maybe-uninitialized)
  add_link_options(-fsanitize=${MILI_SANITIZE})
endif()
if(MILI_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
endif()

find_package(Threads REQUIRED)
if(MILI_KERNELS_ONLY)
  # For another processor there is no built GoogleTest, but Debian ships its sources.
  add_subdirectory(/usr/src/googletest googletest EXCLUDE_FROM_ALL)
  set(GTest_FOUND TRUE)
  return()
endif()
find_package(Protobuf REQUIRED)  # module mode: Debian's 3.21 ships no config file
find_package(absl CONFIG REQUIRED)
find_package(gRPC CONFIG REQUIRED)  # not by pkg-config, which takes 10 to 30 s at every configure
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(Boost 1.74 CONFIG REQUIRED COMPONENTS headers)
find_package(yaml-cpp CONFIG REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
if(NOT MILI_FUZZ)
  find_package(GTest)
  find_package(benchmark CONFIG)
endif()

if(MILI_CUDA)
  include(MiliCuda)
endif()

execute_process(COMMAND git -C ${CMAKE_SOURCE_DIR} rev-parse --short=12 HEAD
                OUTPUT_VARIABLE MILI_GIT_REVISION OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT MILI_GIT_REVISION)
  set(MILI_GIT_REVISION unknown)
endif()
