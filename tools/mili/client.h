// Client: calls a running server over gRPC and puts its errors into people's words. Thread-safe
// but for Stream and Generate, of which one runs at a time and Cancel ends it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <absl/status/status.h>

#include "mili/v1/inference.pb.h"

namespace mili {

class Client {
 public:
  // "host:port", or "unix:/path". Connects with the first call.
  explicit Client(const std::string& address);
  ~Client();

  // UNAVAILABLE: no server, or one that cannot serve now; CANCELLED: Cancel was called; else as the
  // server says. Messages are complete sentences for people.
  absl::Status Generate(const v1::GenerateRequest& request, v1::GenerateResponse* response);
  absl::Status Stream(const v1::GenerateRequest& request,
                      const std::function<void(const v1::GenerateStreamResponse&)>& on_message);
  absl::Status Tokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response);
  absl::Status Detokenize(const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response);

  // Ends the call that runs now, or the next one if none does, with CANCELLED. From any thread.
  void Cancel();
  // Takes back a Cancel that came when no call ran.
  void ForgetCancel();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace mili
