// LineSplitter: bytes of a pipe in, whole lines out. Bounded: a longer line comes in pieces. Not
// thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace mili {

class LineSplitter {
 public:
  static constexpr size_t kMaxLineBytes = 64 * 1024;

  // Calls on_line(std::string_view) for each line that `bytes` ends, without its line end.
  template <typename OnLine>
  void Push(std::string_view bytes, OnLine&& on_line) {
    while (!bytes.empty()) {
      const std::string_view piece = bytes.substr(0, kMaxLineBytes - held_.size());
      const size_t end = piece.find('\n');
      held_.append(piece.substr(0, end));
      bytes.remove_prefix(end == std::string_view::npos ? piece.size() : end + 1);
      if (end != std::string_view::npos || held_.size() == kMaxLineBytes) Emit(on_line);
    }
  }

  // What came after the last line end.
  template <typename OnLine>
  void Finish(OnLine&& on_line) {
    if (!held_.empty()) Emit(on_line);
  }

 private:
  template <typename OnLine>
  void Emit(OnLine& on_line) {
    std::string line = std::exchange(held_, {});
    if (!line.empty() && line.back() == '\r') line.pop_back();
    on_line(std::string_view(line));
  }

  std::string held_;
};

}  // namespace mili
