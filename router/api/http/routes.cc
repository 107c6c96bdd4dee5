#include "router/api/http/routes.h"

#include <utility>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <nlohmann/json.hpp>

#include "common/base/version.h"
#include "common/obs/metrics.h"
#include "common/wire/status_wire.h"
#include "router/api/http/completions.h"
#include "router/api/http/errors.h"
#include "router/api/http/json_spec.h"

namespace mili::router {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kModelsPrefix[] = "/v1/models/";
constexpr size_t kMaxIgnoredHeaderBytes = 1024;

HttpReply JsonReply(const Json& json) {
  return {.headers = {}, .body = json.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

// 200 {"status":"ok"}, or 503 with the reason.
HttpReply StatusReply(const absl::Status& status) {
  if (status.ok()) return JsonReply({{"status", "ok"}});
  return ErrorReply(WithRetryInfo(status, absl::Seconds(1)));
}

Json ModelJson(const ServedModel& model) {
  Json json;
  json["id"] = model.name;
  json["object"] = "model";
  json["created"] = absl::ToUnixSeconds(model.created);
  json["owned_by"] = "mili";
  json["root"] = model.facts.model_path;
  json["parent"] = nullptr;
  json["max_model_len"] = model.facts.max_model_len;
  json["default_sampling_params"] = Json::parse(ToJson(model.defaults));
  return json;
}

// Fields that were passed over, for the client to see. Only what may stand in a header.
HttpHeaders IgnoredHeader(const std::vector<std::string>& ignored) {
  if (ignored.empty()) return {};
  std::string value = absl::StrJoin(ignored, ",");
  for (char& c : value) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
  }
  value.resize(std::min(value.size(), kMaxIgnoredHeaderBytes));
  return {{"x-mili-ignored", std::move(value)}};
}

void PostTokenize(Frontend* frontend, const HttpRequest& request, bool strict,
                  const std::shared_ptr<HttpExchange>& exchange) {
  auto body = ParseTokenize(request.body, strict);
  if (!body.ok()) return exchange->Reply(ErrorReply(body.status()));
  const bool want_strs = body->job.return_token_strs;
  Tokenize(frontend, std::move(body->job),
           [exchange, want_strs,
            headers = IgnoredHeader(body->ignored)](absl::StatusOr<TokenizeOutcome> outcome) {
             if (!outcome.ok()) return exchange->Reply(ErrorReply(outcome.status()));
             Json json;
             json["count"] = outcome->token_ids.size();
             json["max_model_len"] = outcome->max_model_len;
             json["tokens"] = outcome->token_ids;
             json["token_strs"] = want_strs ? Json(outcome->token_strs) : Json(nullptr);
             HttpReply reply = JsonReply(json);
             reply.headers = headers;
             exchange->Reply(std::move(reply));
           });
}

void PostDetokenize(Frontend* frontend, const HttpRequest& request, bool strict,
                    const std::shared_ptr<HttpExchange>& exchange) {
  auto body = ParseDetokenize(request.body, strict);
  if (!body.ok()) return exchange->Reply(ErrorReply(body.status()));
  Detokenize(frontend, std::move(body->job),
             [exchange, headers = IgnoredHeader(body->ignored)](absl::StatusOr<std::string> text) {
               if (!text.ok()) return exchange->Reply(ErrorReply(text.status()));
               HttpReply reply = JsonReply({{"prompt", *text}});
               reply.headers = headers;
               exchange->Reply(std::move(reply));
             });
}

}  // namespace

bool Routes::IsGet(const std::string& path) const {
  if (path == "/health" || path == "/livez" || path == "/ready" || path == "/ping" ||
      path == "/version") {
    return true;
  }
  if (path == "/metrics") return options_.metrics != nullptr;
  if (options_.admin_only) return false;
  return path == "/" || path == "/v1/models" || absl::StartsWith(path, kModelsPrefix);
}

bool Routes::IsPost(const std::string& path) const {
  return !options_.admin_only && (path == "/v1/completions" || path == "/generate" ||
                                  path == "/tokenize" || path == "/detokenize");
}

HttpReply Routes::Models(const std::string& id) const {
  const auto model = model_->Get();
  if (!id.empty()) {
    if (model == nullptr) return ErrorReply(frontend_->Model().status());
    if (absl::Status s = CheckModelName(id, *model); !s.ok()) return ErrorReply(s);
    return JsonReply(ModelJson(*model));
  }
  Json data = Json::array();
  if (model != nullptr) data.push_back(ModelJson(*model));
  return JsonReply({{"object", "list"}, {"data", std::move(data)}});
}

HttpReply Routes::Get(const std::string& path) const {
  // That this runs at all is the answer.
  if (path == "/livez" || path == "/ping") return StatusReply(absl::OkStatus());
  if (path == "/health") return StatusReply(state_->Health());
  if (path == "/ready") return StatusReply(state_->Ready());
  if (path == "/version") return JsonReply({{"version", kVersion}});
  if (path == "/metrics") {
    return {.content_type = kMetricsContentType, .headers = {}, .body = options_.metrics()};
  }
  if (path == "/v1/models") return Models("");
  if (absl::StartsWith(path, kModelsPrefix)) return Models(path.substr(sizeof(kModelsPrefix) - 1));
  Json json;
  const auto model = model_->Get();
  json["name"] = "mili";
  json["version"] = kVersion;
  json["model"] = model == nullptr ? Json(nullptr) : Json(model->name);
  json["endpoints"] = {"GET /health",          "GET /livez",     "GET /ready",
                       "GET /metrics",         "GET /version",   "GET /v1/models",
                       "POST /v1/completions", "POST /generate", "POST /tokenize",
                       "POST /detokenize"};
  return JsonReply(json);
}

void Routes::Post(const std::string& path, bool strict, const HttpRequest& request,
                  const std::shared_ptr<HttpExchange>& exchange) {
  const std::string type = absl::AsciiStrToLower(request.content_type);
  if (!type.empty() && !absl::StartsWith(type, "application/json")) {
    return exchange->Reply(
        ErrorReply(415, "Content-Type must be application/json, found " + type.substr(0, 100)));
  }
  if (path == "/tokenize") return PostTokenize(frontend_, request, strict, exchange);
  if (path == "/detokenize") return PostDetokenize(frontend_, request, strict, exchange);
  const Endpoint endpoint = path == "/generate" ? Endpoint::kGenerate : Endpoint::kCompletions;
  auto body = ParseCompletion(request.body, endpoint, strict);
  if (!body.ok()) return exchange->Reply(ErrorReply(body.status()));
  HttpHeaders headers = IgnoredHeader(body->ignored);
  StartCompletion(frontend_, *std::move(body), request.request_id, std::move(headers), exchange);
}

void Routes::Handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange) {
  const absl::StatusOr<HttpTarget> target = ParseTarget(request.target);
  if (!target.ok()) return exchange->Reply(ErrorReply(target.status()));
  const bool is_get = IsGet(target->path);
  const bool is_post = IsPost(target->path);
  if (!is_get && !is_post) {
    return exchange->Reply(ErrorReply(absl::NotFoundError(absl::StrCat(
        "no such path: ", target->path.substr(0, 200), "; GET / lists what is here"))));
  }
  const std::string allow = is_get ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
  if (request.method == "OPTIONS") {
    return exchange->Reply({.status = 204, .headers = {{"Allow", allow}}, .body = ""});
  }
  if (is_get && (request.method == "GET" || request.method == "HEAD")) {
    return exchange->Reply(Get(target->path));
  }
  if (is_post && request.method == "POST") {
    return Post(target->path, target->strict, request, exchange);
  }
  HttpReply reply = ErrorReply(
      405, absl::StrCat(request.method, " is not allowed here; use ", is_get ? "GET" : "POST"));
  reply.headers.emplace_back("Allow", allow);
  exchange->Reply(std::move(reply));
}

}  // namespace mili::router
