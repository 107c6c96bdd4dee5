// SessionExchange: the meeting point of one request's connection and whoever answers it. Private to
// http/*.cc.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "common/base/mutex.h"
#include "router/api/http/exchange.h"

namespace mili::router {

class SessionExchange final : public HttpExchange {
 public:
  // `notify` is called after each change, on any thread.
  explicit SessionExchange(std::function<void()> notify) : notify_(std::move(notify)) {}

  void Reply(HttpReply reply) override {
    {
      MutexLock lock(mutex_);
      if (reply_.has_value() || source_ != nullptr) return;
      reply_ = std::move(reply);
    }
    notify_();
  }
  void Stream(HttpHeaders headers, std::shared_ptr<HttpStreamSource> source) override {
    {
      MutexLock lock(mutex_);
      if (closed_ || reply_.has_value() || source_ != nullptr) return;
      stream_headers_ = std::move(headers);
      source_ = std::move(source);
    }
    notify_();
  }
  void Wake() override { notify_(); }
  void OnGone(std::function<void()> gone) override {
    bool now = false;
    {
      MutexLock lock(mutex_);
      if (closed_ && !gone_) return;
      now = gone_;
      if (!now) on_gone_ = std::move(gone);
    }
    if (now) gone();
  }

  // For the connection.
  std::optional<HttpReply> TakeReply() {
    MutexLock lock(mutex_);
    return std::exchange(reply_, std::nullopt);
  }
  std::shared_ptr<HttpStreamSource> source() {
    MutexLock lock(mutex_);
    return source_;
  }
  HttpHeaders stream_headers() {
    MutexLock lock(mutex_);
    return stream_headers_;
  }
  // The end of the exchange: lets go of all that it holds. `gone`: the client went before it.
  void Close(bool gone) {
    std::function<void()> on_gone;
    std::shared_ptr<HttpStreamSource> source;
    {
      MutexLock lock(mutex_);
      if (closed_) return;
      closed_ = true;
      gone_ = gone;
      on_gone = std::move(on_gone_);
      on_gone_ = nullptr;
      source = std::move(source_);
    }
    if (gone && on_gone) on_gone();
  }

 private:
  const std::function<void()> notify_;
  Mutex mutex_;
  std::optional<HttpReply> reply_ MILI_GUARDED_BY(mutex_);
  HttpHeaders stream_headers_ MILI_GUARDED_BY(mutex_);
  std::shared_ptr<HttpStreamSource> source_ MILI_GUARDED_BY(mutex_);
  std::function<void()> on_gone_ MILI_GUARDED_BY(mutex_);
  bool closed_ MILI_GUARDED_BY(mutex_) = false;
  bool gone_ MILI_GUARDED_BY(mutex_) = false;
};

}  // namespace mili::router
