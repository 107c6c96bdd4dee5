// StopMatcher: finds stop strings in text that comes in pieces, and holds back what may still
// become one. The outcome does not depend on where the pieces are cut. One per choice, on its
// output thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mili::router {

class StopMatcher {
 public:
  // `stops`: none empty; may itself be empty.
  explicit StopMatcher(const std::vector<std::string>& stops);

  // Takes the next text and returns what is safe to show. After a match (the stop string whose last
  // byte comes first; the longest of those that end there) it returns what stands before the stop,
  // and nothing ever after.
  std::string Push(std::string_view text);
  // What is held back, when no more text comes.
  std::string Flush();

  // Index of the stop that matched.
  std::optional<size_t> matched() const { return matched_; }

 private:
  // Knuth-Morris-Pratt: `matched` bytes of `text` are a suffix of what was pushed; next[i] is the
  // longest proper border of text[0, i].
  struct Pattern {
    std::string text;
    std::vector<uint32_t> next;
    uint32_t matched = 0;
    bool Step(char c);  // true: the whole pattern ends here
  };

  std::vector<Pattern> patterns_;
  std::string held_;
  std::optional<size_t> matched_;
};

}  // namespace mili::router
