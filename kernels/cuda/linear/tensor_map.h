// Describes matrices to the copy engine of Hopper (TMA). Private to this folder; any thread, owns
// nothing, reads no device memory.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace mili::kernels::cuda {

// A row-major matrix that is copied in boxes: what of a box lies outside is read as zero and not
// written.
struct BoxedMatrix {
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  int32_t element_bytes = 2;
  const void* data = nullptr;  // aligned to 16 bytes
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;  // elements from one row to the next, of a multiple of 16 bytes
  int32_t box_rows = 0;
  int32_t box_columns = 0;   // of a multiple of 16 bytes, 128 of them if swizzled
  bool is_swizzled = false;  // in shared memory, as products read them (wgmma.cuh)
};

cudaError_t MakeTensorMap(const BoxedMatrix& matrix, CUtensorMap* map);

}  // namespace mili::kernels::cuda
