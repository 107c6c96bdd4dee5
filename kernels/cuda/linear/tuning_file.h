// What a linear context has tuned, kept in a file between runs. Blocks its thread; used while a
// worker starts. A file that is damaged, or of another GPU, driver or library, counts as none.
#pragma once

#include <string>

#include "kernels/cuda/linear/linear.h"

namespace mili::kernels::cuda {

// False, and why in *error, when nothing was restored.
bool ReadTuning(const std::string& path, LinearContext* context, std::string* error);

// Replaces the file as a whole, or leaves it as it was and gives false and why in *error. Its
// folder must exist.
bool WriteTuning(const std::string& path, const LinearContext& context, std::string* error);

// The parts that need no GPU: at most 4 MiB of text.
bool ReadSmallFile(const std::string& path, std::string* text, std::string* error);
bool ReplaceFile(const std::string& path, const std::string& text, std::string* error);

}  // namespace mili::kernels::cuda
