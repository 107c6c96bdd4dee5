// The public protobuf contract -> GenerateSpec, and the reply's messages from what a Call tells.
// Pure functions.
#pragma once

#include <absl/status/statusor.h>

#include "mili/v1/inference.pb.h"
#include "router/api/call.h"
#include "router/api/generate_spec.h"

namespace mili::router {

// Takes the request apart; INVALID_ARGUMENT if it has no prompt. Ranges are Validate's to check.
absl::StatusOr<GenerateSpec> SpecFromProto(v1::GenerateRequest&& request);
ChatPrompt ChatFromProto(const v1::Messages& messages);

v1::PromptInfo PromptInfoOf(const Call& call);
// Text, ids and logprobs of a delta; its end is FinishInfoOf's.
v1::Chunk ChunkOf(const ChoiceDelta& delta, const Call& call);
v1::FinishInfo FinishInfoOf(const ChoiceDelta& delta, const Call& call);

}  // namespace mili::router
