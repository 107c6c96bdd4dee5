# CUDA as a language, and the one kind of CUDA target there is. cudart is linked statically; cublasLt,
# NCCL and the driver are opened at run time (worker/device), so the worker starts without them.

set(MILI_CUDA_ARCHITECTURES "90a-real" CACHE STRING
    "GPUs to compile for: 90a-real (Hopper) while developing, 80-real;90a-real in a release")
set(CMAKE_CUDA_ARCHITECTURES ${MILI_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
if(NOT CMAKE_CUDA_COMPILER)
  find_program(CMAKE_CUDA_COMPILER nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
  if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "The presets cuda and cuda-release need nvcc of a CUDA toolkit 13, which is "
                        "neither on PATH nor in CUDA_HOME/bin nor in /usr/local/cuda/bin; a GPU is "
                        "not needed to build. Without CUDA: cmake --preset cpu.")
  endif()
endif()
if(MILI_CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
enable_language(CUDA)
# CMake 3.25 knows nvcc's C++17 at most.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O3 -lineinfo")
add_compile_options(
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers,-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=>")
find_package(CUDAToolkit 13.0 REQUIRED)

# mili_cuda_kernels(SRCS ...): kernels of one family, which become part of mili_kernels_cuda.
function(mili_cuda_kernels)
  cmake_parse_arguments(ARG "" "" "SRCS" ${ARGN})
  list(TRANSFORM ARG_SRCS PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  target_sources(mili_kernels_cuda PRIVATE ${ARG_SRCS})
endfunction()
