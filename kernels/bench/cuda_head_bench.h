// The part of cuda_glue_bench that times the end of a step: logits and sampling.
#pragma once

namespace mili::kernels::cuda {

void RunHeadBench();

}  // namespace mili::kernels::cuda
