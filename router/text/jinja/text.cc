#include "router/text/jinja/text.h"

namespace mili::router::jinja {

void Text::AddSpan(size_t begin, size_t end) {
  if (begin == end) return;
  if (!spans_.empty() && spans_.back().end == begin) {
    spans_.back().end = end;
  } else {
    spans_.push_back({begin, end});
  }
}

void Text::Append(std::string_view bytes, bool from_user) {
  const size_t begin = bytes_.size();
  bytes_.append(bytes);
  if (from_user) AddSpan(begin, bytes_.size());
}

void Text::AppendPart(const Text& other, size_t begin, size_t end) {
  const size_t base = bytes_.size();
  bytes_.append(other.bytes_, begin, end - begin);
  auto span = std::partition_point(other.spans_.begin(), other.spans_.end(),
                                   [begin](const ByteSpan& s) { return s.end <= begin; });
  for (; span != other.spans_.end() && span->begin < end; ++span) {
    AddSpan(base + std::max(span->begin, begin) - begin, base + std::min(span->end, end) - begin);
  }
}

Text Text::Part(size_t begin, size_t end) const {
  Text part;
  part.AppendPart(*this, begin, end);
  return part;
}

}  // namespace mili::router::jinja
