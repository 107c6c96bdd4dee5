// Speaks HTTP/1.1 by hand over one kept connection: a load generator must cost less than what it
// measures, and the server's stream is plain "data: {json}" lines.
#include <string>
#include <string_view>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

#include "common/base/strings.h"
#include "tools/bench/load_client.h"

namespace mili::bench {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

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

class HttpLoadClient final : public LoadClient {
 public:
  explicit HttpLoadClient(std::string address) : address_(std::move(address)) {}

  absl::StatusOr<LoadSample> Run(const LoadRequest& load) override {
    try {
      return RunOrThrow(load);
    } catch (const std::exception& error) {
      socket_.close();
      return absl::UnavailableError(absl::StrCat(address_, ": ", error.what()));
    }
  }

 private:
  void Connect() {
    if (socket_.is_open()) return;
    const size_t colon = address_.rfind(':');
    tcp::resolver resolver(context_);
    asio::connect(socket_, resolver.resolve(address_.substr(0, colon), address_.substr(colon + 1)));
    socket_.set_option(tcp::no_delay(true));
    buffer_.clear();
  }

  std::string ReadLine() {
    const size_t size = asio::read_until(socket_, asio::dynamic_buffer(buffer_), "\n");
    std::string line = buffer_.substr(0, size);
    buffer_.erase(0, size);
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    return line;
  }

  absl::StatusOr<LoadSample> RunOrThrow(const LoadRequest& load) {
    Connect();
    std::string body = "{\"prompt\":[";
    for (const TokenId id : load.prompt_token_ids) {
      if (body.back() != '[') body += ',';
      absl::StrAppend(&body, id);
    }
    absl::StrAppend(&body, "],\"max_tokens\":", load.max_tokens,
                    ",\"temperature\":0,\"ignore_eos\":true,\"stream\":true,"
                    "\"return_token_ids\":true}");
    const std::string request = absl::StrCat(
        "POST /v1/completions HTTP/1.1\r\nHost: ", address_,
        "\r\nContent-Type: application/json\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
    SampleClock clock(absl::Now());
    asio::write(socket_, asio::buffer(request));
    const std::string status_line = ReadLine();
    if (status_line.find(" 200 ") == std::string::npos) {
      socket_.close();
      return absl::UnavailableError(absl::StrCat(address_, " answered ", status_line));
    }
    while (!ReadLine().empty()) {
    }
    // Chunk sizes and events alternate; events are known by their "data: ".
    for (;;) {
      const std::string line = ReadLine();
      if (line == "data: [DONE]") break;
      if (line.starts_with("data: ")) clock.OnTokens(CountTokenIds(line), absl::Now());
    }
    LoadSample sample = clock.Finish(absl::Now());
    while (ReadLine() != "0") {  // the last chunk
    }
    ReadLine();
    return sample;
  }

  const std::string address_;
  asio::io_context context_;
  tcp::socket socket_{context_};
  std::string buffer_;
};

}  // namespace

std::unique_ptr<LoadClient> NewHttpLoadClient(const std::string& address) {
  return std::make_unique<HttpLoadClient>(address);
}

}  // namespace mili::bench
