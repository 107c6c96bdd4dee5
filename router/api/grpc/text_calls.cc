#include "router/api/grpc/text_calls.h"

#include <utility>

#include <grpcpp/server_context.h>

#include "common/wire/status_wire.h"
#include "router/api/pb_spec.h"
#include "router/api/text_service.h"

namespace mili::router {

// The default reactor and the response live until Finish, which each path calls once.
grpc::ServerUnaryReactor* StartTokenize(Frontend* frontend, grpc::CallbackServerContext* context,
                                        const v1::TokenizeRequest& request,
                                        v1::TokenizeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  TokenizeJob job{.model = request.model(), .input = {}, .add_special_tokens = {}};
  if (request.has_text()) {
    job.input = request.text();
  } else if (request.has_messages()) {
    job.input = ChatFromProto(request.messages());
  } else {
    reactor->Finish(ToGrpc(BadField("input", "is missing; set text or messages")));
    return reactor;
  }
  if (request.has_add_special_tokens()) job.add_special_tokens = request.add_special_tokens();
  job.return_token_strs = request.return_token_strs();
  Tokenize(frontend, std::move(job), [reactor, response](absl::StatusOr<TokenizeOutcome> outcome) {
    if (outcome.ok()) {
      response->mutable_token_ids()->Assign(outcome->token_ids.begin(), outcome->token_ids.end());
      for (std::string& text : outcome->token_strs) {
        response->add_token_strs(std::move(text));
      }
      response->set_max_model_len(outcome->max_model_len);
    }
    reactor->Finish(ToGrpc(outcome.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* StartDetokenize(Frontend* frontend, grpc::CallbackServerContext* context,
                                          const v1::DetokenizeRequest& request,
                                          v1::DetokenizeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  DetokenizeJob job{.model = request.model(),
                    .token_ids = {request.token_ids().begin(), request.token_ids().end()},
                    .skip_special_tokens = request.skip_special_tokens()};
  Detokenize(frontend, std::move(job), [reactor, response](absl::StatusOr<std::string> text) {
    if (text.ok()) response->set_text(*std::move(text));
    reactor->Finish(ToGrpc(text.status()));
  });
  return reactor;
}

}  // namespace mili::router
