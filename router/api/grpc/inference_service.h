// InferenceService: mili.v1.Inference over gRPC's callback API. Runs on gRPC's threads, which it
// never blocks: work goes to the Frontend, answers come as news of a Call.
#pragma once

#include <memory>

#include "mili/v1/inference.grpc.pb.h"
#include "router/api/frontend.h"

namespace mili::router {

// `frontend` outlives the service. A stream whose client takes nothing for `max_stall` is cut.
std::unique_ptr<v1::Inference::CallbackService> MakeInferenceService(
    Frontend* frontend, absl::Duration max_stall = absl::Seconds(30));

}  // namespace mili::router
