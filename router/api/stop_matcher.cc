#include "router/api/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace mili::router {

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    Pattern pattern{stop, std::vector<uint32_t>(stop.size() + 1, 0)};
    for (size_t i = 1; i < stop.size(); ++i) {
      uint32_t border = pattern.next[i];
      while (border > 0 && stop[border] != stop[i]) border = pattern.next[border];
      pattern.next[i + 1] = stop[border] == stop[i] ? border + 1 : 0;
    }
    patterns_.push_back(std::move(pattern));
  }
}

bool StopMatcher::Pattern::Step(char c) {
  while (matched > 0 && text[matched] != c) matched = next[matched];
  if (text[matched] == c) ++matched;
  return matched == text.size();
}

std::string StopMatcher::Push(std::string_view text) {
  if (matched_.has_value()) return "";
  if (patterns_.empty()) return std::string(text);
  for (size_t i = 0; i < text.size(); ++i) {
    for (size_t p = 0; p < patterns_.size(); ++p) {
      if (!patterns_[p].Step(text[i])) continue;
      if (!matched_ || patterns_[p].text.size() > patterns_[*matched_].text.size()) matched_ = p;
    }
    if (!matched_.has_value()) continue;
    held_.append(text.substr(0, i + 1));
    held_.resize(held_.size() - patterns_[*matched_].text.size());
    return std::exchange(held_, "");
  }
  held_.append(text);
  size_t keep = 0;
  for (const Pattern& pattern : patterns_) keep = std::max<size_t>(keep, pattern.matched);
  std::string safe = held_.substr(0, held_.size() - keep);
  held_.erase(0, safe.size());
  return safe;
}

std::string StopMatcher::Flush() { return std::exchange(held_, ""); }

}  // namespace mili::router
