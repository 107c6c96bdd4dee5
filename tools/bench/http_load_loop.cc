// Speaks HTTP/1.1 by hand over kept connections: a load generator must cost less than what it
// measures, and the server's stream is plain "data: {json}" lines.
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>

#include "common/base/strings.h"
#include "tools/bench/load_loop.h"

namespace mili::bench {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Error = boost::system::error_code;

// Numbers in the array that follows "token_ids": in one event; 0 if there is none.
uint32_t CountTokenIds(std::string_view event) {
  constexpr std::string_view kKey = "\"token_ids\":[";
  const size_t at = event.find(kKey);
  if (at == std::string_view::npos) return 0;
  const size_t begin = at + kKey.size();
  const size_t end = event.find(']', begin);
  if (end == std::string_view::npos || end == begin) return 0;
  uint32_t count = 1;
  for (const char c : event.substr(begin, end - begin)) count += c == ',';
  return count;
}

std::string RequestText(const std::string& address, const LoadRequest& load) {
  std::string body = "{\"prompt\":[";
  for (const TokenId id : load.prompt_token_ids) {
    if (body.back() != '[') body += ',';
    absl::StrAppend(&body, id);
  }
  absl::StrAppend(&body, "],\"max_tokens\":", load.max_tokens,
                  ",\"temperature\":0,\"ignore_eos\":true,\"stream\":true,"
                  "\"return_token_ids\":true}");
  return absl::StrCat("POST /v1/completions HTTP/1.1\r\nHost: ", address,
                      "\r\nContent-Type: application/json\r\nContent-Length: ", body.size(),
                      "\r\n\r\n", body);
}

class Connection {
 public:
  Connection(asio::io_context* context, std::string address)
      : address_(std::move(address)), socket_(*context) {}

  void Start(const LoadRequest& load, LoadLoop::Done done) {
    done_ = std::move(done);
    request_ = RequestText(address_, load);
    place_ = Place::kStatus;
    unread_.clear();
    clock_.emplace(absl::Now());
    if (Error error; !socket_.is_open() && !Connect(error)) {
      return asio::post(socket_.get_executor(), [this, error] { Fail(error.message()); });
    }
    asio::async_write(socket_, asio::buffer(request_), [this](const Error& error, size_t) {
      if (error) return Fail(error.message());
      Read();
    });
  }

 private:
  // Chunk sizes and events alternate in the body; events are known by their "data: ".
  enum class Place { kStatus, kHeaders, kEvents, kLastChunk, kTrailer, kEnd };

  bool Connect(Error& error) {
    const size_t colon = address_.rfind(':');
    tcp::resolver resolver(socket_.get_executor());
    const auto found =
        resolver.resolve(address_.substr(0, colon), address_.substr(colon + 1), error);
    if (!error) asio::connect(socket_, found, error);
    if (!error) socket_.set_option(tcp::no_delay(true), error);
    return !error;
  }

  void Fail(const std::string& why) {
    socket_.close();
    TellDone(absl::UnavailableError(absl::StrCat(address_, ": ", why)));
  }

  // May start the next request.
  void TellDone(absl::StatusOr<LoadSample> sample) {
    std::exchange(done_, nullptr)(std::move(sample));
  }

  void Read() {
    socket_.async_read_some(asio::buffer(piece_), [this](const Error& error, size_t size) {
      if (error) return Fail(error.message());
      unread_.append(piece_.data(), size);
      TakeLines();
    });
  }

  void TakeLines() {
    size_t begin = 0;
    for (size_t end; (end = unread_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      std::string_view line(unread_.data() + begin, end - begin);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (place_ == Place::kStatus && line.find(" 200 ") == std::string_view::npos) {
        return Fail(absl::StrCat("answered ", ToAbsl(line)));
      }
      TakeLine(line);
      if (place_ == Place::kEnd) return TellDone(*std::move(sample_));
    }
    unread_.erase(0, begin);
    Read();
  }

  void TakeLine(std::string_view line) {
    switch (place_) {
      case Place::kStatus:
        place_ = Place::kHeaders;
        break;
      case Place::kHeaders:
        if (line.empty()) place_ = Place::kEvents;
        break;
      case Place::kEvents:
        if (line == "data: [DONE]") {
          sample_ = clock_->Finish(absl::Now());
          place_ = Place::kLastChunk;
        } else if (line.starts_with("data: ")) {
          clock_->OnTokens(CountTokenIds(line), absl::Now());
        }
        break;
      case Place::kLastChunk:
        if (line == "0") place_ = Place::kTrailer;
        break;
      case Place::kTrailer:
        if (line.empty()) place_ = Place::kEnd;
        break;
      case Place::kEnd:
        break;
    }
  }

  const std::string address_;
  tcp::socket socket_;
  LoadLoop::Done done_;
  std::string request_;
  std::optional<SampleClock> clock_;
  std::optional<LoadSample> sample_;
  Place place_ = Place::kStatus;
  std::string unread_;
  std::array<char, 16 << 10> piece_;
};

class HttpLoadLoop final : public LoadLoop {
 public:
  HttpLoadLoop(const std::string& address, uint32_t num_clients) {
    for (uint32_t i = 0; i < num_clients; ++i) {
      connections_.push_back(std::make_unique<Connection>(&context_, address));
    }
  }

  void Start(uint32_t client_idx, const LoadRequest& request, Done done) override {
    connections_[client_idx]->Start(request, std::move(done));
  }

  void Run() override {
    context_.restart();
    context_.run();
  }

 private:
  asio::io_context context_{1};
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace

std::unique_ptr<LoadLoop> NewHttpLoadLoop(const std::string& address, uint32_t num_clients) {
  return std::make_unique<HttpLoadLoop>(address, num_clients);
}

}  // namespace mili::bench
