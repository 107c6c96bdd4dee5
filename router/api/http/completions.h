// /v1/completions and /generate: from a parsed body to an answer on an exchange, streamed or whole.
// Starts on a network thread, goes on with the Call's news; never blocks.
#pragma once

#include <memory>

#include "router/api/frontend.h"
#include "router/api/http/exchange.h"
#include "router/api/http/json_spec.h"

namespace mili::router {

// `request_id` (may be empty) is taken where the body names none. `headers` ride on the answer.
void StartCompletion(Frontend* frontend, CompletionBody body, const std::string& request_id,
                     HttpHeaders headers, std::shared_ptr<HttpExchange> exchange);

}  // namespace mili::router
