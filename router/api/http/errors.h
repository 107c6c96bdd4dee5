// absl::Status -> the error object of the OpenAI API, with all four keys. Pure functions.
#pragma once

#include <string>

#include <absl/status/status.h>

#include "router/api/http/exchange.h"

namespace mili::router {

int HttpCodeOf(const absl::Status& status);
// {"error":{"message","type","param","code"}}
std::string ErrorJson(const absl::Status& status);
// The whole reply, with Retry-After and retry-after-ms where the status says when to come again.
HttpReply ErrorReply(const absl::Status& status);
// For what no Status has a code for (405, 413, 415, 431).
HttpReply ErrorReply(int http_code, const std::string& message);

}  // namespace mili::router
