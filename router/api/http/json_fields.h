// JsonFields: reads the fields of one JSON object by name and type, remembers the first complaint
// and which fields nobody asked for. Null is as good as absent. Private to http/*.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <nlohmann/json.hpp>

#include "common/base/ids.h"

namespace mili::router {

using InputJson = nlohmann::json;

// Parses a body into an object; INVALID_ARGUMENT says where it breaks, is too deep or no object.
absl::StatusOr<InputJson> ParseObject(std::string_view body);

class JsonFields {
 public:
  // `prefix` heads names in complaints ("stream_options."). Borrows `object`, a JSON object.
  explicit JsonFields(const InputJson& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  // Null if the field is absent or null; marks it as known.
  const InputJson* Get(const std::string& name);
  void Number(const std::string& name, std::optional<double>* to);
  void Integer(const std::string& name, std::optional<int64_t>* to);
  void Bool(const std::string& name, bool* to);
  void Bool(const std::string& name, std::optional<bool>* to);
  void String(const std::string& name, std::string* to);
  void Integers(const std::string& name, std::vector<int64_t>* to);
  // An array of ids; false and a complaint if it is none.
  bool TokenIds(const std::string& name, const InputJson& array, std::vector<TokenId>* to);

  void Complain(const std::string& name, const std::string& what);
  // The first complaint.
  const absl::Status& status() const { return status_; }
  // Fields that were never asked for.
  std::vector<std::string> Unknown() const;

 private:
  const InputJson& object_;
  const std::string prefix_;
  std::set<std::string> known_;
  absl::Status status_;
};

// What is there, short enough for an error.
std::string Shorten(const InputJson& value);

}  // namespace mili::router
