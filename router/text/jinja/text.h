// Text: a string that knows which of its bytes came from users. Every operation of the template
// language carries that along, so that the prompt's special tokens can be told from look-alikes.
// A value type, no thread of its own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mili::router::jinja {

// Bytes [begin, end).
struct ByteSpan {
  size_t begin = 0;
  size_t end = 0;
};

class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, bool from_user = false) : bytes_(std::move(bytes)) {
    if (from_user && !bytes_.empty()) spans_.push_back({0, bytes_.size()});
  }

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  // Sorted; they do not touch.
  const std::vector<ByteSpan>& user_spans() const { return spans_; }

  void Append(std::string_view bytes, bool from_user);
  void Append(const Text& other) { AppendPart(other, 0, other.size()); }
  // Bytes [begin, end) of `other`; begin <= end <= other.size().
  void AppendPart(const Text& other, size_t begin, size_t end);
  Text Part(size_t begin, size_t end) const;

  // Calls visit(bytes, from_user) for the longest stretches of one origin, in order.
  template <typename Visit>
  void ForEachRun(Visit visit) const {
    size_t at = 0;
    for (const ByteSpan& span : spans_) {
      if (span.begin > at) visit(std::string_view(bytes_).substr(at, span.begin - at), false);
      visit(std::string_view(bytes_).substr(span.begin, span.end - span.begin), true);
      at = span.end;
    }
    if (at < bytes_.size()) visit(std::string_view(bytes_).substr(at), false);
  }

 private:
  void AddSpan(size_t begin, size_t end);

  std::string bytes_;
  std::vector<ByteSpan> spans_;
};

}  // namespace mili::router::jinja
