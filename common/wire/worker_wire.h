// The worker contract between its core structs and its protobuf messages. Pure functions.
// FromProto checks what the struct's type cannot hold and nothing else: rules of the plan are the
// engine's to check.
#pragma once

#include <absl/status/statusor.h>

#include "common/base/sha256.h"  // digest of a bundle on the wire
#include "common/core/step_plan.h"
#include "common/core/tokenizer_bundle.h"
#include "common/core/worker_facts.h"
#include "mili/worker/v1/worker.pb.h"

namespace mili {

worker::v1::StepPlan ToProto(const StepPlan& plan);
absl::StatusOr<StepPlan> FromProto(const worker::v1::StepPlan& proto);

worker::v1::StepResult ToProto(const StepResult& result);
StepResult FromProto(const worker::v1::StepResult& proto);

worker::v1::WorkerFacts ToProto(const WorkerFacts& facts);
WorkerFacts FromProto(const worker::v1::WorkerFacts& proto);

worker::v1::TokenizerBundle ToProto(const TokenizerBundle& bundle);
TokenizerBundle FromProto(const worker::v1::TokenizerBundle& proto);

}  // namespace mili
