#include "common/text/nfc.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>

#include "common/base/check.h"
#include "common/base/huge_pages.h"
#include "common/text/ascii_block.h"
#include "common/text/unicode_tables.h"
#include "common/text/utf8.h"

namespace mili::text {
namespace {

// Hangul syllables, by arithmetic: section 3.12 of the Unicode standard.
constexpr uint32_t kSBase = 0xAC00, kLBase = 0x1100, kVBase = 0x1161, kTBase = 0x11A7;
constexpr uint32_t kLCount = 19, kVCount = 21, kTCount = 28, kSCount = kLCount * kVCount * kTCount;

uint8_t CombiningClass(uint32_t code_point) {
  const ClassRange* range = FindRange<ClassRange>(kCombiningClasses, code_point);
  return range ? range->combining_class : 0;
}

template <typename Row>
const Row* FindRow(std::span<const Row> rows, uint32_t Row::*key, uint32_t code_point) {
  const auto row = std::lower_bound(
      rows.begin(), rows.end(), code_point,
      [key](const Row& candidate, uint32_t value) { return candidate.*key < value; });
  return row != rows.end() && (*row).*key == code_point ? &*row : nullptr;
}

// The lead byte of U+0300; what is below is as it should be.
constexpr uint8_t kFirstLead = 0xCC;

// Those of U+4000 to U+9FFF, ideographs all, which only ever stay as they are.
constexpr uint8_t kFirstQuietLead = 0xE4, kLastQuietLead = 0xE9;
constexpr uint32_t kFirstQuiet = 0x4000, kLastQuiet = 0x9FFF;

uint64_t PairKey(uint32_t first, uint32_t second) { return uint64_t{first} << 32 | second; }

}  // namespace

Nfc::Nfc() : events_(1) {
  for (const ClassRange& range : kCombiningClasses) {
    for (uint32_t c = range.first; c <= range.last; ++c) SetEventful(c);
  }
  for (const FullDecomposition& row : kOtherDecompositions) SetEventful(row.code_point);
  for (uint32_t c = kVBase; c < kVBase + kVCount; ++c) SetEventful(c);
  for (uint32_t c = kTBase + 1; c < kTBase + kTCount; ++c) SetEventful(c);
  for (const Decomposition& row : kComposites) {
    SetEventful(row.second);
    pairs_.emplace_back(PairKey(row.first, row.second), row.composed);
  }
  std::sort(pairs_.begin(), pairs_.end());
  for (uint32_t c = kFirstQuiet; c <= kLastQuiet; c += 64) {
    MILI_CHECK(block_of_[c / 64] == 0, "no ideograph changes, moves or joins");
  }
}

void Nfc::SetEventful(uint32_t c) {
  uint16_t& block = block_of_[c >> 6];
  if (block == 0) {
    block = static_cast<uint16_t>(events_.size());
    events_.push_back(0);
  }
  events_[block] |= uint64_t{1} << (c & 63);
  std::string bytes;
  AppendCodePoint(c, bytes);
  maybe_events_[bytes[0] & 0x3F] |= uint64_t{1} << (bytes[1] & 0x3F);
}

uint64_t Nfc::MaybeEvents(const char* p) const {
  uint64_t leads = 0;
  for (size_t i = 0; i < kBlock; i += kBlockBytes) {
    const uint32_t quiet = BytesWithin(p + i, kFirstQuietLead, kLastQuietLead);
    leads |= uint64_t{BytesWithin(p + i, kFirstLead, 0xFF) & ~quiet} << i;
  }
  uint64_t maybe = 0;
  for (; leads != 0; leads &= leads - 1) {
    const int at = std::countr_zero(leads);
    maybe |= (maybe_events_[p[at] & 0x3F] >> (p[at + 1] & 0x3F) & 1) << at;
  }
  return maybe;
}

size_t Nfc::FindEvent(std::string_view text) const {
  for (size_t begin = 0; begin < text.size(); begin += kBlock) {
    const char* const p = text.data() + begin;
    const char* block = p;
    char copy[kBlock + 1] = {};
    if (text.size() - begin <= kBlock) {
      std::memcpy(copy, p, text.size() - begin);
      block = copy;
    }
    for (uint64_t maybe = MaybeEvents(block); maybe != 0; maybe &= maybe - 1) {
      const int at = std::countr_zero(maybe);
      if (!IsPlain(DecodeAt(p + at).value)) return begin + at;
    }
  }
  return text.size();
}

// A plain character changes nothing before it, so what stands between two can be done alone.
bool Nfc::NormalizeTo(std::string& out, std::string_view text) const {
  size_t num_copied = 0;  // bytes of the text whose like is in `out`
  std::vector<Mark> scratch;
  std::string stretch;
  for (size_t at = 0;;) {
    const size_t event = at + FindEvent(text.substr(at));
    if (event == text.size()) break;
    size_t begin = event;
    while (begin > at && (static_cast<unsigned char>(text[--begin]) & 0xC0) == 0x80) {
    }
    size_t end = event;
    while (end < text.size()) {
      const CodePoint c = DecodeAt(text.data() + end);
      if (IsPlain(c.value)) break;
      end += c.size_bytes;
    }
    at = end;
    stretch.clear();
    AppendNormalized(text.substr(begin, end - begin), scratch, stretch);
    if (stretch == text.substr(begin, end - begin)) continue;
    if (num_copied == 0) {
      out.reserve(text.size() + text.size() / 8);
      PreferHugePages(out.data(), out.capacity());
    }
    out.append(text.substr(num_copied, begin - num_copied)).append(stretch);
    num_copied = end;
  }
  if (num_copied == 0) return false;
  out.append(text.substr(num_copied));
  return true;
}

std::string Nfc::Normalize(std::string_view text) const {
  std::string out;
  return NormalizeTo(out, text) ? out : std::string(text);
}

void Nfc::AppendNormalized(std::string_view text, std::vector<Mark>& marks,
                           std::string& out) const {
  marks.clear();
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text.data() + i);
    Decompose(c.value, marks);
    i += c.size_bytes;
  }
  const auto is_starter = [](const Mark& mark) { return mark.combining_class == 0; };
  for (auto run = marks.begin(); run != marks.end();) {
    run = std::find_if_not(run, marks.end(), is_starter);
    const auto end = std::find_if(run, marks.end(), is_starter);
    SortByClass({run, end});
    run = end;
  }
  Compose(marks);
  for (const Mark& mark : marks) AppendCodePoint(mark.code_point, out);
}

void Nfc::SortByClass(std::span<Mark> run) {
  const auto is_before = [](const Mark& a, const Mark& b) {
    return a.combining_class < b.combining_class;
  };
  // Most are of a mark or two, for which stable_sort asks for memory.
  constexpr size_t kFew = 16;
  if (run.size() > kFew) return std::stable_sort(run.begin(), run.end(), is_before);
  for (auto mark = run.begin(); mark != run.end(); ++mark) {
    std::rotate(std::upper_bound(run.begin(), mark, *mark, is_before), mark, mark + 1);
  }
}

void Nfc::Decompose(uint32_t c, std::vector<Mark>& out) const {
  if (c < 0xC0) {
    out.push_back({c, 0});
  } else if (c - kSBase < kSCount) {
    const uint32_t index = c - kSBase;
    out.push_back({kLBase + index / (kVCount * kTCount), 0});
    out.push_back({kVBase + index % (kVCount * kTCount) / kTCount, 0});
    if (index % kTCount != 0) out.push_back({kTBase + index % kTCount, 0});
  } else if (const auto* pair = FindRow<Decomposition>(kComposites, &Decomposition::composed, c)) {
    Decompose(pair->first, out);  // at most three deep: the tables are of the longest chain
    out.push_back({pair->second, CombiningClass(pair->second)});
  } else if (const auto* full = FindRow<FullDecomposition>(kOtherDecompositions,
                                                           &FullDecomposition::code_point, c)) {
    for (const uint32_t to : {full->first, full->second, full->third}) {
      if (to != 0) out.push_back({to, CombiningClass(to)});
    }
  } else {
    out.push_back({c, CombiningClass(c)});
  }
}

// Section 3.11, canonical composition: a mark joins the last starter unless a mark of its own or
// a higher class stands between.
void Nfc::Compose(std::vector<Mark>& marks) const {
  size_t size = 0;
  size_t starter = 0;
  bool has_starter = false;
  int last_class = -1;  // -1: nothing between
  for (const Mark mark : marks) {
    if (has_starter && last_class < mark.combining_class) {
      const uint32_t composed = Composed(marks[starter].code_point, mark.code_point);
      if (composed != 0) {
        marks[starter].code_point = composed;
        continue;
      }
    }
    if (mark.combining_class == 0) {
      starter = size;
      has_starter = true;
      last_class = -1;
    } else {
      last_class = mark.combining_class;
    }
    marks[size++] = mark;
  }
  marks.resize(size);
}

uint32_t Nfc::Composed(uint32_t first, uint32_t second) const {
  if (IsPlain(second)) return 0;
  if (first - kLBase < kLCount && second - kVBase < kVCount) {
    return kSBase + ((first - kLBase) * kVCount + (second - kVBase)) * kTCount;
  }
  if (first - kSBase < kSCount && (first - kSBase) % kTCount == 0 && second - kTBase < kTCount &&
      second != kTBase) {
    return first + (second - kTBase);
  }
  const uint64_t key = PairKey(first, second);
  const auto found = std::lower_bound(pairs_.begin(), pairs_.end(), std::pair(key, uint32_t{0}));
  return found != pairs_.end() && found->first == key ? found->second : 0;
}

}  // namespace mili::text
