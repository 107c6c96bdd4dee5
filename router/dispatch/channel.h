// The channel between router and worker: its keepalive, message and reconnect limits.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/channel.h>

namespace mili::router {

// One connection of its own to `address`; connects when first used.
std::shared_ptr<grpc::Channel> MakeWorkerChannel(const std::string& address);

}  // namespace mili::router
