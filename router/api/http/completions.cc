#include "router/api/http/completions.h"

#include <limits>
#include <optional>
#include <utility>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "common/base/mutex.h"
#include "router/api/http/completion_render.h"
#include "router/api/http/errors.h"

namespace mili::router {
namespace {

using Json = nlohmann::ordered_json;

// Of rendered text in one write; what comes meanwhile coalesces in the Call.
constexpr size_t kMaxWriteBytes = 64 * 1024;

// An operator's abort is no way for a choice to end in this API.
absl::Status Aborted() {
  return absl::CancelledError("the request was aborted by the server's operator");
}

bool IsAborted(const ChoiceDelta& delta) {
  return delta.end.has_value() && delta.end->reason == FinishReason::kAbort;
}

// The answer of /generate.
std::string RenderGenerate(const Call& call, const std::vector<ChoiceDelta>& deltas) {
  Json json;
  std::string text;
  Json tokens = Json::array();
  size_t num_tokens = 0;
  for (const ChoiceDelta& delta : deltas) {
    text += delta.text;
    for (const OutputToken& token : delta.tokens) tokens.push_back(token.token.id);
    if (delta.end.has_value()) num_tokens += delta.end->num_output_tokens;
  }
  const size_t num_prompt_tokens = call.prompts().front().token_ids.size();
  json["generated_text"] = std::move(text);
  json["tokens"] = std::move(tokens);
  json["total_tokens"] = num_prompt_tokens + num_tokens;
  json["prompt_tokens"] = num_prompt_tokens;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// One request. The exchange and the Call know it weakly or for the exchange's life; it lives as
// long as the exchange.
class Completion final : public HttpStreamSource, public std::enable_shared_from_this<Completion> {
 public:
  Completion(Frontend* frontend, CompletionBody body, HttpHeaders headers,
             std::shared_ptr<HttpExchange> exchange)
      : frontend_(frontend),
        body_(std::move(body)),
        headers_(std::move(headers)),
        exchange_(std::move(exchange)) {}

  void Begin(const std::string& request_id) {
    if (body_.spec.request_id.empty()) body_.spec.request_id = request_id;
    is_stream_ = body_.spec.stream;
    is_generate_ = body_.spec.endpoint == Endpoint::kGenerate;
    absl::Status refusal;
    {
      MutexLock lock(mutex_);
      auto call = frontend_->Start(std::move(body_.spec), [weak = weak_from_this()] {
        if (auto self = weak.lock()) self->OnNews();
      });
      if (call.ok()) {
        call_ = *std::move(call);
      } else {
        refusal = call.status();
      }
    }
    if (!refusal.ok()) return Refuse(refusal);
    exchange_->OnGone([self = shared_from_this()] { self->Abandon(); });
  }

  // On the connection's thread.
  Piece Next() override {
    MutexLock lock(mutex_);
    const Call::News news = call_->Take(kMaxWriteBytes);
    Piece piece;
    if (news.started && !render_.has_value()) MakeRender();
    for (const ChoiceDelta& delta : news.deltas) {
      if (IsAborted(delta)) return Fail(std::move(piece), Aborted());
      absl::StrAppend(&piece.bytes, "data: ", render_->Chunk(delta), "\n\n");
    }
    if (!news.done) return piece;
    if (!news.status.ok()) return Fail(std::move(piece), news.status);
    if (body_.include_usage) {
      absl::StrAppend(&piece.bytes, "data: ", render_->UsageChunk(), "\n\n");
    }
    piece.bytes += "data: [DONE]\n\n";
    piece.done = true;
    return piece;
  }

 private:
  static Piece Fail(Piece piece, const absl::Status& status) {
    absl::StrAppend(&piece.bytes, "data: ", ErrorJson(status), "\n\n");
    piece.done = true;
    return piece;
  }

  void OnNews() {
    bool begin = false;
    std::optional<HttpReply> reply;
    {
      MutexLock lock(mutex_);
      if (call_ == nullptr || answered_) return;
      if (!streaming_) {
        const Call::Standing standing = call_->standing();
        if (standing.finished && !standing.status.ok()) {
          reply = WithHeaders(ErrorReply(standing.status));
        } else if (is_stream_) {
          if (!standing.started) return;
          begin = streaming_ = true;
        } else if (standing.finished) {
          reply = WithHeaders(WholeReply());
        } else {
          return;
        }
        answered_ = reply.has_value();
      }
    }
    if (reply.has_value()) return exchange_->Reply(*std::move(reply));
    if (begin) return exchange_->Stream(headers_, shared_from_this());
    exchange_->Wake();
  }

  HttpReply WholeReply() MILI_REQUIRES(mutex_) {
    const Call::News news = call_->Take(std::numeric_limits<size_t>::max());
    for (const ChoiceDelta& delta : news.deltas) {
      if (IsAborted(delta)) return ErrorReply(Aborted());
    }
    HttpReply reply;
    if (is_generate_) {
      reply.body = RenderGenerate(*call_, news.deltas);
    } else {
      MakeRender();
      reply.body = render_->Whole(news.deltas);
    }
    return reply;
  }

  void MakeRender() MILI_REQUIRES(mutex_) {
    render_.emplace(CompletionRender::Options{.id = "cmpl-" + call_->spec().request_id,
                                              .created = absl::ToUnixSeconds(call_->spec().arrival),
                                              .include_usage = body_.include_usage,
                                              .tokens_as_token_ids = body_.tokens_as_token_ids,
                                              .want_prompt_logprobs = body_.want_prompt_logprobs},
                    call_.get());
  }

  HttpReply WithHeaders(HttpReply reply) const {
    reply.headers.insert(reply.headers.end(), headers_.begin(), headers_.end());
    return reply;
  }

  void Refuse(const absl::Status& status) { exchange_->Reply(WithHeaders(ErrorReply(status))); }

  void Abandon() {
    std::shared_ptr<Call> call;
    {
      MutexLock lock(mutex_);
      answered_ = true;
      call = call_;
    }
    frontend_->Abandon(call);
  }

  Frontend* const frontend_;
  CompletionBody body_;  // its spec is moved out in Begin
  const HttpHeaders headers_;
  const std::shared_ptr<HttpExchange> exchange_;
  bool is_stream_ = false;
  bool is_generate_ = false;
  Mutex mutex_;
  std::shared_ptr<Call> call_ MILI_GUARDED_BY(mutex_);
  std::optional<CompletionRender> render_ MILI_GUARDED_BY(mutex_);
  bool streaming_ MILI_GUARDED_BY(mutex_) = false;
  bool answered_ MILI_GUARDED_BY(mutex_) = false;
};

}  // namespace

void StartCompletion(Frontend* frontend, CompletionBody body, const std::string& request_id,
                     HttpHeaders headers, std::shared_ptr<HttpExchange> exchange) {
  std::make_shared<Completion>(frontend, std::move(body), std::move(headers), std::move(exchange))
      ->Begin(request_id);
}

}  // namespace mili::router
