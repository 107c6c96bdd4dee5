#include "router/text/jinja/strings.h"

#include <algorithm>

#include <utf8proc.h>

#include "common/text/unicode.h"
#include "common/text/utf8.h"

namespace mili::router::jinja {
namespace {

struct Character {
  uint32_t code_point;  // 0xFFFFFFFF of bytes that are no UTF-8
  size_t size_bytes;
};

Character CharacterAt(std::string_view text, size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {byte, 1};
  const text::Utf8Unit unit = text::FirstUnit(text.substr(at));
  if (unit.kind != text::Utf8Kind::kValid) return {0xFFFFFFFF, unit.size_bytes};
  return {text::DecodeAt(text.data() + at).value, unit.size_bytes};
}

// The runs of characters that are (`wanted`) whitespace or not, found from `at` on.
size_t SkipWhile(std::string_view text, size_t at, bool wanted) {
  while (at < text.size()) {
    const Character c = CharacterAt(text, at);
    if (IsPythonSpace(c.code_point) != wanted) break;
    at += c.size_bytes;
  }
  return at;
}

std::vector<Text> SplitAtSpaces(const Text& text, int64_t max_splits) {
  std::vector<Text> parts;
  const std::string_view bytes = text.bytes();
  size_t at = SkipWhile(bytes, 0, true);
  while (at < bytes.size()) {
    if (max_splits >= 0 && static_cast<int64_t>(parts.size()) == max_splits) {
      parts.push_back(text.Part(at, bytes.size()));  // the rest stays as it is
      break;
    }
    const size_t end = SkipWhile(bytes, at, false);
    parts.push_back(text.Part(at, end));
    at = SkipWhile(bytes, end, true);
  }
  return parts;
}

}  // namespace

std::vector<size_t> CharacterStarts(std::string_view text) {
  std::vector<size_t> starts;
  for (size_t at = 0; at < text.size(); at += CharacterAt(text, at).size_bytes) {
    starts.push_back(at);
  }
  starts.push_back(text.size());
  return starts;
}

size_t CountCharacters(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); at += CharacterAt(text, at).size_bytes) ++count;
  return count;
}

bool IsPythonSpace(uint32_t code_point) {
  return (code_point >= 0x1C && code_point <= 0x1F) ||
         (code_point <= 0x10FFFF && text::IsSpace(code_point));
}

Text Strip(const Text& text, const std::string* set, bool left, bool right) {
  const std::string_view bytes = text.bytes();
  const std::vector<size_t> starts = CharacterStarts(bytes);
  const auto goes = [&](size_t index) {
    const Character c = CharacterAt(bytes, starts[index]);
    if (set == nullptr) return IsPythonSpace(c.code_point);
    const std::string_view character = bytes.substr(starts[index], c.size_bytes);
    for (size_t at = 0; at < set->size(); at += CharacterAt(*set, at).size_bytes) {
      if (set->compare(at, CharacterAt(*set, at).size_bytes, character) == 0) return true;
    }
    return false;
  };
  size_t first = 0;
  size_t last = starts.size() - 1;
  while (left && first < last && goes(first)) ++first;
  while (right && last > first && goes(last - 1)) --last;
  return text.Part(starts[first], starts[last]);
}

Text ChangeCase(const Text& text, Case to) {
  Text changed;
  bool in_word = false;
  text.ForEachRun([&](std::string_view run, bool from_user) {
    std::string out;
    for (size_t at = 0; at < run.size();) {
      const Character c = CharacterAt(run, at);
      if (c.code_point > 0x10FFFF) {
        out.append(run.substr(at, c.size_bytes));
        at += c.size_bytes;
        continue;
      }
      const auto code = static_cast<utf8proc_int32_t>(c.code_point);
      const utf8proc_int32_t lower = utf8proc_tolower(code);
      const bool is_cased = lower != code || utf8proc_toupper(code) != code;
      const bool raises = to == Case::kUpper || (to != Case::kLower && !in_word);
      const utf8proc_int32_t mapped = !raises              ? lower
                                      : to == Case::kUpper ? utf8proc_toupper(code)
                                                           : utf8proc_totitle(code);
      text::AppendCodePoint(static_cast<uint32_t>(mapped), out);
      in_word = to == Case::kCapitalize || is_cased;
      at += c.size_bytes;
    }
    changed.Append(out, from_user);
  });
  return changed;
}

std::vector<Text> Split(const Text& text, const std::string* separator, int64_t max_splits,
                        bool from_right) {
  if (separator == nullptr && !from_right) return SplitAtSpaces(text, max_splits);
  if (separator == nullptr) {
    std::vector<Text> parts = SplitAtSpaces(text, -1);
    if (max_splits < 0 || static_cast<int64_t>(parts.size()) <= max_splits + 1) return parts;
    // All but the last `max_splits` words stay one text, as they stood.
    const std::string_view bytes = text.bytes();
    size_t end = 0;
    for (size_t i = 0; i < parts.size() - static_cast<size_t>(max_splits); ++i) {
      end = SkipWhile(bytes, SkipWhile(bytes, end, true), false);
    }
    std::vector<Text> joined = {text.Part(0, end)};
    joined.insert(joined.end(), parts.end() - max_splits, parts.end());
    return joined;
  }
  const std::string& bytes = text.bytes();
  std::vector<std::pair<size_t, size_t>> cuts;
  if (from_right) {
    size_t end = bytes.size();
    while (end >= separator->size() &&
           (max_splits < 0 || static_cast<int64_t>(cuts.size()) < max_splits)) {
      const size_t found = bytes.rfind(*separator, end - separator->size());
      if (found == std::string::npos) break;
      cuts.emplace_back(found, found + separator->size());
      end = found;
    }
    std::reverse(cuts.begin(), cuts.end());
  } else {
    size_t at = 0;
    while (max_splits < 0 || static_cast<int64_t>(cuts.size()) < max_splits) {
      const size_t found = bytes.find(*separator, at);
      if (found == std::string::npos) break;
      at = found + separator->size();
      cuts.emplace_back(found, at);
    }
  }
  std::vector<Text> parts;
  size_t begin = 0;
  for (const auto& [cut_begin, cut_end] : cuts) {
    parts.push_back(text.Part(begin, cut_begin));
    begin = cut_end;
  }
  parts.push_back(text.Part(begin, bytes.size()));
  return parts;
}

std::vector<Text> SplitLines(const Text& text) {
  std::vector<Text> lines;
  const std::string& bytes = text.bytes();
  size_t begin = 0;
  for (size_t at = 0; at < bytes.size();) {
    const Character c = CharacterAt(bytes, at);
    const size_t end = at;
    at += c.size_bytes;
    const bool ends = (c.code_point >= '\n' && c.code_point <= '\r') ||
                      (c.code_point >= 0x1C && c.code_point <= 0x1E) || c.code_point == 0x85 ||
                      c.code_point == 0x2028 || c.code_point == 0x2029;
    if (!ends) continue;
    if (c.code_point == '\r' && at < bytes.size() && bytes[at] == '\n') ++at;
    lines.push_back(text.Part(begin, end));
    begin = at;
  }
  if (begin < bytes.size()) lines.push_back(text.Part(begin, bytes.size()));
  return lines;
}

Text Replace(const Text& text, const std::string& from, const Text& to, int64_t max_count) {
  Text replaced;
  const std::string& bytes = text.bytes();
  if (from.empty()) {
    const std::vector<size_t> starts = CharacterStarts(bytes);
    for (size_t i = 0; i < starts.size(); ++i) {
      if (max_count < 0 || static_cast<int64_t>(i) < max_count) replaced.Append(to);
      if (i + 1 < starts.size()) replaced.AppendPart(text, starts[i], starts[i + 1]);
    }
    return replaced;
  }
  size_t at = 0;
  for (int64_t count = 0; max_count < 0 || count < max_count; ++count) {
    const size_t found = bytes.find(from, at);
    if (found == std::string::npos) break;
    replaced.AppendPart(text, at, found);
    replaced.Append(to);
    at = found + from.size();
  }
  replaced.AppendPart(text, at, bytes.size());
  return replaced;
}

}  // namespace mili::router::jinja
