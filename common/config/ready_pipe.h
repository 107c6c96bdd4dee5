// ReadyPipe: what mili-router and mili-worker tell the program that started them with --ready-fd N,
// one line an event. ReadyEvent is the reader's side. Not thread-safe; never blocks for long: the
// reader is a supervisor that waits on the pipe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mili {

class ReadyPipe {
 public:
  using Fields = std::vector<std::pair<std::string, std::string>>;

  // Owns `fd` and closes it at the end; -1: every call does nothing. SIGPIPE never arises from a
  // reader that is gone. Children of this process do not inherit it.
  explicit ReadyPipe(int fd);
  ~ReadyPipe();
  ReadyPipe(const ReadyPipe&) = delete;
  ReadyPipe& operator=(const ReadyPipe&) = delete;

  // All sockets are bound, the real ports known. Router: {"http", "127.0.0.1:8000"}, {"grpc", ...},
  // {"admin", ...}. Worker: {"worker", "127.0.0.1:40001" or "unix:/path"}.
  void Listening(const Fields& fields);
  // Weights read so far; call about every 100 ms at most.
  void Loading(uint64_t bytes_done, uint64_t bytes_total);
  // A token can come out. Router: each time it becomes so again after NotReady.
  void Ready();
  // Router: the last worker is lost, and why, for people.
  void NotReady(std::string_view reason);

 private:
  void Write(std::string_view line);

  int fd_;
};

struct ReadyEvent {
  enum class Kind { kListening, kLoading, kReady, kNotReady };
  Kind kind = Kind::kReady;
  ReadyPipe::Fields fields;  // kListening
  uint64_t bytes_done = 0;   // kLoading
  uint64_t bytes_total = 0;
  std::string reason;  // kNotReady

  // Of one line without its end; nothing if it is none of the above.
  static std::optional<ReadyEvent> Parse(std::string_view line);
};

// Asks the kernel to kill this process when the one that started it is gone, and ends it at once if
// that has happened already. For --die-with-parent; the parent may equally do it before exec.
void DieWithParent();

}  // namespace mili
