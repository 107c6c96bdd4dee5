// Answers as JSON text, one line each.
#pragma once

#include <string>

#include <absl/time/time.h>

#include "mili/v1/inference.pb.h"

namespace mili {

// The whole answer; `took` is what the caller measured.
std::string JsonOf(const v1::GenerateResponse& response, absl::Duration took);
// One piece of a streamed one: {"prompt_info": ...}, {"chunk": ...} or {"finish_info": ...}.
std::string JsonOf(const v1::GenerateStreamResponse& message);

}  // namespace mili
