// ControlService: mili.v1.Control, for the admin port only. Answers at once, on gRPC's threads.
#pragma once

#include <memory>

#include "mili/v1/control.grpc.pb.h"
#include "router/api/served_model.h"
#include "router/api/server_state.h"

namespace mili::router {

// Both outlive the service.
std::unique_ptr<v1::Control::CallbackService> MakeControlService(ServerState* state,
                                                                 const ModelSlot* model);

}  // namespace mili::router
