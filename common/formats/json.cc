#include "common/formats/json.h"

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "common/base/status_macros.h"
#include "common/base/strings.h"

namespace mili {
namespace {

using nlohmann::json;

// Walks the text without building anything and stops at the first limit broken.
class LimitCheck : public nlohmann::json_sax<json> {
 public:
  explicit LimitCheck(const JsonLimits& limits) : limits_(limits) {}

  const std::string& problem() const { return problem_; }

  bool null() override { return Node(); }
  bool boolean(bool) override { return Node(); }
  bool number_integer(number_integer_t) override { return Node(); }
  bool number_unsigned(number_unsigned_t) override { return Node(); }
  bool number_float(number_float_t, const string_t&) override { return Node(); }
  bool string(string_t&) override { return Node(); }
  bool binary(binary_t&) override { return Node(); }
  bool start_object(std::size_t) override {
    keys_.emplace_back();
    return Node() && Deeper();
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override { return Node() && Deeper(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) {
      return Fail(absl::StrCat("the key \"", name.substr(0, 100), "\" occurs twice"));
    }
    return Node();
  }
  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    return Fail(absl::StrCat("not valid JSON at byte ", position));
  }

 private:
  bool Fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }
  bool Node() {
    if (++num_nodes_ <= limits_.max_nodes) return true;
    return Fail(absl::StrCat("more than ", limits_.max_nodes, " keys and values"));
  }
  bool Deeper() {
    if (++depth_ <= limits_.max_depth) return true;
    return Fail(absl::StrCat("nested deeper than ", limits_.max_depth));
  }

  const JsonLimits limits_;
  size_t num_nodes_ = 0;
  size_t depth_ = 0;
  std::vector<std::set<std::string>> keys_;
  std::string problem_;
};

}  // namespace

absl::StatusOr<json> ParseJsonObject(std::string_view text, std::string_view file,
                                     const JsonLimits& limits) {
  LimitCheck check(limits);
  // The lexer reports numbers such as 1e999 through parse_error as well: nothing throws here.
  if (!json::sax_parse(text.begin(), text.end(), &check)) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(file), ": ", check.problem()));
  }
  json object = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(file), ": expected a JSON object"));
  }
  return object;
}

std::string Describe(const json& value) {
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

const json* JsonFields::Find(const char* field) const {
  const auto it = object_.find(field);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

absl::Status JsonFields::Wrong(const char* field, std::string_view expected) const {
  const json* value = Find(field);
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(file_), ": ", ToAbsl(prefix_), field,
                                                 " is ", value ? Describe(*value) : "missing",
                                                 "; expected ", ToAbsl(expected)));
}

absl::Status JsonFields::Missing(const char* field, std::string_view expected) const {
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(file_), ": ", ToAbsl(prefix_), field,
                                                 " is missing; expected ", ToAbsl(expected)));
}

absl::StatusOr<std::optional<uint32_t>> JsonFields::OptionalUint32(const char* field) const {
  const json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_unsigned() ||
      value->get<uint64_t>() > std::numeric_limits<uint32_t>::max()) {
    return Wrong(field, "a whole number of at most 32 bits");
  }
  return value->get<uint32_t>();
}

absl::StatusOr<std::optional<double>> JsonFields::OptionalDouble(const char* field) const {
  const json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) return Wrong(field, "a number");
  return value->get<double>();
}

absl::StatusOr<std::optional<std::string>> JsonFields::OptionalString(const char* field) const {
  const json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return Wrong(field, "a string");
  return value->get<std::string>();
}

absl::StatusOr<std::optional<bool>> JsonFields::OptionalBool(const char* field) const {
  const json* value = Find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return Wrong(field, "true or false");
  return value->get<bool>();
}

absl::StatusOr<uint32_t> JsonFields::Uint32(const char* field) const {
  MILI_ASSIGN_OR_RETURN(const std::optional<uint32_t> value, OptionalUint32(field));
  if (!value) return Missing(field, "a whole number");
  return *value;
}

absl::StatusOr<double> JsonFields::Double(const char* field) const {
  MILI_ASSIGN_OR_RETURN(const std::optional<double> value, OptionalDouble(field));
  if (!value) return Missing(field, "a number");
  return *value;
}

}  // namespace mili
