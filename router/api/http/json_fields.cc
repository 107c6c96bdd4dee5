#include "router/api/http/json_fields.h"

#include <limits>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/wire/status_wire.h"
#include "router/api/http/json_spec.h"

namespace mili::router {
namespace {

// Nesting of arrays and objects, without parsing: brackets outside of strings.
bool IsTooDeep(std::string_view body) {
  size_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '[' || c == '{') {
      if (++depth > kMaxJsonDepth) return true;
    }
    if ((c == ']' || c == '}') && depth > 0) --depth;
  }
  return false;
}

}  // namespace

std::string Shorten(const InputJson& value) {
  if (value.is_array()) return absl::StrCat("an array of ", value.size());
  if (value.is_object()) return "an object";
  std::string text = value.dump(-1, ' ', true, InputJson::error_handler_t::replace);
  if (text.size() > 64) text = text.substr(0, 61) + "...";
  return text;
}

absl::StatusOr<InputJson> ParseObject(std::string_view body) {
  if (body.size() > kMaxBodyBytes) return absl::InvalidArgumentError("the body is too large");
  if (IsTooDeep(body)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the body is no valid JSON: nested deeper than ", kMaxJsonDepth));
  }
  try {
    InputJson json = InputJson::parse(body.begin(), body.end());
    if (!json.is_object()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the body must be a JSON object, found ", Shorten(json)));
    }
    return json;
  } catch (const InputJson::exception& error) {
    const std::string what = error.what();
    const size_t begin = what.find("] ");
    return absl::InvalidArgumentError(
        absl::StrCat("the body is no valid JSON: ",
                     begin == std::string::npos ? what : what.substr(begin + 2, 200)));
  }
}

const InputJson* JsonFields::Get(const std::string& name) {
  known_.insert(name);
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void JsonFields::Complain(const std::string& name, const std::string& what) {
  if (status_.ok()) status_ = BadField(prefix_ + name, what);
}

void JsonFields::Number(const std::string& name, std::optional<double>* to) {
  const InputJson* value = Get(name);
  if (value == nullptr) return;
  if (!value->is_number()) return Complain(name, "must be a number, found " + Shorten(*value));
  *to = value->get<double>();
}

void JsonFields::Integer(const std::string& name, std::optional<int64_t>* to) {
  const InputJson* value = Get(name);
  if (value == nullptr) return;
  if (!value->is_number_integer()) {
    return Complain(name, "must be an integer, found " + Shorten(*value));
  }
  if (value->is_number_unsigned() &&
      value->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return Complain(name, "is too large: " + Shorten(*value));
  }
  *to = value->get<int64_t>();
}

void JsonFields::Bool(const std::string& name, std::optional<bool>* to) {
  const InputJson* value = Get(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) {
    return Complain(name, "must be true or false, found " + Shorten(*value));
  }
  *to = value->get<bool>();
}

void JsonFields::Bool(const std::string& name, bool* to) {
  std::optional<bool> value;
  Bool(name, &value);
  if (value.has_value()) *to = *value;
}

void JsonFields::String(const std::string& name, std::string* to) {
  const InputJson* value = Get(name);
  if (value == nullptr) return;
  if (!value->is_string()) return Complain(name, "must be a string, found " + Shorten(*value));
  *to = value->get_ref<const std::string&>();
}

void JsonFields::Integers(const std::string& name, std::vector<int64_t>* to) {
  const InputJson* value = Get(name);
  if (value == nullptr) return;
  if (!value->is_array()) {
    return Complain(name, "must be an array of integers, found " + Shorten(*value));
  }
  for (const InputJson& item : *value) {
    // Beyond int64 the cast would wrap; such an id is refused like a negative one.
    if (!item.is_number_integer() ||
        (item.is_number_unsigned() &&
         item.get<uint64_t>() > std::numeric_limits<uint32_t>::max())) {
      return Complain(name, "must be an array of token ids, found in it " + Shorten(item));
    }
    to->push_back(item.get<int64_t>());
  }
}

bool JsonFields::TokenIds(const std::string& name, const InputJson& array,
                          std::vector<TokenId>* to) {
  to->reserve(array.size());
  for (const InputJson& item : array) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > std::numeric_limits<TokenId>::max()) {
      Complain(name, "must be an array of token ids, found in it " + Shorten(item));
      return false;
    }
    to->push_back(item.get<TokenId>());
  }
  return true;
}

std::vector<std::string> JsonFields::Unknown() const {
  std::vector<std::string> unknown;
  for (const auto& [name, value] : object_.items()) {
    if (!known_.contains(name)) unknown.push_back(name);
  }
  return unknown;
}

}  // namespace mili::router
