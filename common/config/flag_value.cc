#include "common/config/flag_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <type_traits>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "common/base/strings.h"

namespace mili {
namespace {

using Flag = FlagTable::Flag;
using Problem = std::optional<std::string>;

// All of `text` as a T.
template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string Shortest(double value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), value);
  return std::string(buffer, end);
}

template <typename T>
std::string ExpectedNumber(const Flag& flag) {
  const bool whole = std::is_integral_v<T>;
  const double low = flag.min_value;
  const double high = flag.max_value;
  std::string lowest = Shortest(low);
  std::string highest = Shortest(high);
  if constexpr (std::is_integral_v<T>) {
    using Limits = std::numeric_limits<T>;
    const bool own_low = low <= static_cast<double>(Limits::min());
    const bool own_high = high >= static_cast<double>(Limits::max());
    lowest = own_low ? absl::StrCat(Limits::min()) : absl::StrCat(static_cast<int64_t>(low));
    highest = own_high ? absl::StrCat(Limits::max()) : absl::StrCat(static_cast<int64_t>(high));
  }
  const std::string kind = whole ? "a whole number" : "a number";
  if (!whole && std::isinf(low) && std::isinf(high)) return absl::StrCat("expected ", kind);
  if (std::isinf(high) && !whole) return absl::StrCat("expected ", kind, " of at least ", lowest);
  if (std::isinf(low) && !whole) return absl::StrCat("expected ", kind, " of at most ", highest);
  return absl::StrCat("expected ", kind, " from ", lowest, " to ", highest);
}

template <typename T>
Problem WriteNumber(const Flag& flag, std::string_view text, T* target) {
  const std::optional<T> value = ParseNumber<T>(text);
  bool good = value.has_value();
  if constexpr (std::is_floating_point_v<T>) good = good && std::isfinite(*value);
  if (!good || static_cast<double>(*value) < flag.min_value ||
      static_cast<double>(*value) > flag.max_value) {
    return ExpectedNumber<T>(flag);
  }
  *target = *value;
  return std::nullopt;
}

struct Unit {
  std::string_view name;
  uint64_t bytes;
};
constexpr Unit kUnits[] = {
    {"B", 1},
    {"KiB", uint64_t{1} << 10},
    {"MiB", uint64_t{1} << 20},
    {"GiB", uint64_t{1} << 30},
    {"TiB", uint64_t{1} << 40},
    {"KB", 1000},
    {"MB", 1000 * 1000},
    {"GB", 1000 * 1000 * 1000},
    {"TB", uint64_t{1000} * 1000 * 1000 * 1000},
    // As Kubernetes spells them.
    {"Ki", uint64_t{1} << 10},
    {"Mi", uint64_t{1} << 20},
    {"Gi", uint64_t{1} << 30},
    {"Ti", uint64_t{1} << 40},
};

std::optional<uint64_t> ParseSize(std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  std::string_view number = text.substr(0, digits);
  std::string_view unit_name = text.substr(digits);
  while (!unit_name.empty() && unit_name.front() == ' ') unit_name.remove_prefix(1);
  uint64_t unit = 0;
  if (unit_name.empty()) unit = 1;
  for (const Unit& known : kUnits) {
    if (known.name == unit_name) unit = known.bytes;
  }
  if (unit == 0) return std::nullopt;
  if (const auto whole = ParseNumber<uint64_t>(number)) {
    if (*whole > UINT64_MAX / unit) return std::nullopt;
    return *whole * unit;
  }
  const auto fraction = ParseNumber<double>(number);
  if (!fraction) return std::nullopt;
  const double bytes = *fraction * static_cast<double>(unit);
  if (bytes != std::floor(bytes) || bytes >= 18446744073709551616.0) return std::nullopt;
  return static_cast<uint64_t>(bytes);
}

std::string FormatSize(uint64_t bytes) {
  for (int i = 4; i >= 2; --i) {  // TiB, GiB, MiB
    if (bytes >= kUnits[i].bytes && bytes % kUnits[i].bytes == 0) {
      return absl::StrCat(bytes / kUnits[i].bytes, ToAbsl(kUnits[i].name));
    }
  }
  return absl::StrCat(bytes);
}

Problem WriteBool(std::string_view text, bool* target) {
  for (std::string_view yes : {"true", "1", "yes", "on"}) {
    if (text == yes) return *target = true, std::nullopt;
  }
  for (std::string_view no : {"false", "0", "no", "off"}) {
    if (text == no) return *target = false, std::nullopt;
  }
  return "expected true or false";
}

Problem WriteDuration(const Flag& flag, std::string_view text, absl::Duration* target) {
  absl::Duration value;
  if (const auto seconds = ParseNumber<double>(text); seconds && std::isfinite(*seconds)) {
    value = absl::Seconds(*seconds);
  } else if (!absl::ParseDuration(ToAbsl(text), &value)) {
    return "expected a duration as 30s, 500ms, 1m30s or plain seconds";
  }
  const double seconds = absl::ToDoubleSeconds(value);
  if (value < absl::ZeroDuration() || value == absl::InfiniteDuration() ||
      seconds < flag.min_value || seconds > flag.max_value) {
    const double low = std::max(flag.min_value, 0.0);
    if (std::isinf(flag.max_value)) {
      return absl::StrCat("expected a finite duration of at least ", Shortest(low), "s");
    }
    return absl::StrCat("expected a duration from ", Shortest(low), "s to ",
                        Shortest(flag.max_value), "s");
  }
  *target = value;
  return std::nullopt;
}

Problem CheckString(const Flag& flag, std::string_view text) {
  if (text.find('\0') != std::string_view::npos) return "expected text without a zero byte";
  if (flag.choices.empty()) return std::nullopt;
  for (const std::string& choice : flag.choices) {
    if (choice == text) return std::nullopt;
  }
  return absl::StrCat("expected ", flag.choices.size() == 1 ? "" : "one of ",
                      absl::StrJoin(flag.choices, ", "));
}

// One overload a plain type; the optional and list forms come down to these.
Problem Write(const Flag& flag, std::string_view text, uint64_t* target) {
  if (flag.value_name != "SIZE") return WriteNumber(flag, text, target);
  const std::optional<uint64_t> bytes = ParseSize(text);
  if (!bytes) return "expected a size as 4GiB, 512MiB, 1.5GB or plain bytes";
  *target = *bytes;
  return std::nullopt;
}
Problem Write(const Flag&, std::string_view text, bool* target) { return WriteBool(text, target); }
Problem Write(const Flag& flag, std::string_view text, int32_t* target) {
  return WriteNumber(flag, text, target);
}
Problem Write(const Flag& flag, std::string_view text, uint32_t* target) {
  return WriteNumber(flag, text, target);
}
Problem Write(const Flag& flag, std::string_view text, int64_t* target) {
  return WriteNumber(flag, text, target);
}
Problem Write(const Flag& flag, std::string_view text, double* target) {
  return WriteNumber(flag, text, target);
}
Problem Write(const Flag& flag, std::string_view text, absl::Duration* target) {
  return WriteDuration(flag, text, target);
}
Problem Write(const Flag& flag, std::string_view text, std::string* target) {
  if (Problem problem = CheckString(flag, text)) return problem;
  *target = std::string(text);
  return std::nullopt;
}
Problem Write(const Flag& flag, std::string_view text, std::vector<std::string>* target) {
  if (Problem problem = CheckString(flag, text)) return problem;
  target->emplace_back(text);
  return std::nullopt;
}
template <typename T>
Problem Write(const Flag& flag, std::string_view text, std::optional<T>* target) {
  T value{};
  if (Problem problem = Write(flag, text, &value)) return problem;
  *target = std::move(value);
  return std::nullopt;
}

std::optional<std::string> Format(const Flag& flag, const uint64_t& value) {
  return flag.value_name == "SIZE" ? FormatSize(value) : absl::StrCat(value);
}
std::optional<std::string> Format(const Flag&, const bool& value) {
  return value ? "true" : "false";
}
std::optional<std::string> Format(const Flag&, const int32_t& value) { return absl::StrCat(value); }
std::optional<std::string> Format(const Flag&, const uint32_t& value) {
  return absl::StrCat(value);
}
std::optional<std::string> Format(const Flag&, const int64_t& value) { return absl::StrCat(value); }
std::optional<std::string> Format(const Flag&, const double& value) { return Shortest(value); }
std::optional<std::string> Format(const Flag&, const absl::Duration& value) {
  return absl::FormatDuration(value);
}
std::optional<std::string> Format(const Flag&, const std::string& value) { return value; }
std::optional<std::string> Format(const Flag&, const std::vector<std::string>& value) {
  return absl::StrCat("[", absl::StrJoin(value, ", "), "]");
}
template <typename T>
std::optional<std::string> Format(const Flag& flag, const std::optional<T>& value) {
  return value ? Format(flag, *value) : std::nullopt;
}

}  // namespace

std::optional<std::string> WriteValue(const Flag& flag, std::string_view text) {
  return std::visit([&](auto* target) { return Write(flag, text, target); }, flag.target);
}

std::optional<std::string> CheckValue(const Flag& flag, std::string_view text) {
  return std::visit(
      [&](auto* target) {
        auto scratch = *target;
        return Write(flag, text, &scratch);
      },
      flag.target);
}

std::optional<std::string> ReadValue(const Flag& flag) {
  return std::visit([&](auto* target) { return Format(flag, *target); }, flag.target);
}

void ClearList(const FlagTable::Target& target) {
  if (auto* const* list = std::get_if<std::vector<std::string>*>(&target)) (*list)->clear();
}

bool IsBool(const FlagTable::Target& target) { return std::holds_alternative<bool*>(target); }

bool IsList(const FlagTable::Target& target) {
  return std::holds_alternative<std::vector<std::string>*>(target);
}

bool SameTarget(const FlagTable::Target& a, const FlagTable::Target& b) { return a == b; }

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace mili
