#include "router/api/http/errors.h"

#include <cmath>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "common/wire/status_wire.h"
#include "router/api/validate.h"

namespace mili::router {
namespace {

using Json = nlohmann::ordered_json;

const char* TypeOf(int http_code) {
  switch (http_code) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    default:
      return http_code >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string Render(const std::string& message, int http_code, Json param, Json code) {
  Json error;
  error["message"] = message;
  error["type"] = TypeOf(http_code);
  error["param"] = std::move(param);
  error["code"] = std::move(code);
  return Json{{"error", std::move(error)}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json CodeOf(const absl::Status& status) {
  if (const auto reason = ReasonOf(status)) return absl::AsciiStrToLower(*reason);
  if (absl::IsResourceExhausted(status)) return "rate_limit_exceeded";
  return nullptr;
}

Json ParamOf(const absl::Status& status) {
  if (const auto field = FieldOf(status)) return *field;
  if (ReasonOf(status) == kModelNotFound) return "model";
  return nullptr;
}

}  // namespace

int HttpCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

std::string ErrorJson(const absl::Status& status) {
  return Render(std::string(status.message()), HttpCodeOf(status), ParamOf(status), CodeOf(status));
}

HttpReply ErrorReply(const absl::Status& status) {
  HttpReply reply{.status = HttpCodeOf(status), .headers = {}, .body = ErrorJson(status)};
  if (const auto wait = RetryAfterOf(status)) {
    const int64_t ms = absl::ToInt64Milliseconds(*wait);
    reply.headers.emplace_back("Retry-After", absl::StrCat((ms + 999) / 1000));
    reply.headers.emplace_back("retry-after-ms", absl::StrCat(ms));
  }
  // A prompt that can never fit does not fit the next time either.
  if (ReasonOf(status) == kContextLengthExceeded) {
    reply.headers.emplace_back("x-should-retry", "false");
  }
  return reply;
}

HttpReply ErrorReply(int http_code, const std::string& message) {
  return {.status = http_code, .headers = {}, .body = Render(message, http_code, nullptr, nullptr)};
}

}  // namespace mili::router
