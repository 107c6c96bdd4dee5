// Tokenize and Detokenize of mili.v1.Inference, each one unary call.
#pragma once

#include <grpcpp/support/server_callback.h>

#include "mili/v1/inference.pb.h"
#include "router/api/frontend.h"

namespace mili::router {

grpc::ServerUnaryReactor* StartTokenize(Frontend* frontend, grpc::CallbackServerContext* context,
                                        const v1::TokenizeRequest& request,
                                        v1::TokenizeResponse* response);
grpc::ServerUnaryReactor* StartDetokenize(Frontend* frontend, grpc::CallbackServerContext* context,
                                          const v1::DetokenizeRequest& request,
                                          v1::DetokenizeResponse* response);

}  // namespace mili::router
