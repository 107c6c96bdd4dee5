// FlagTable's reading of the YAML file of --config. yaml-cpp throws; nothing leaves this file.
#include <fstream>
#include <set>
#include <sstream>

#include <absl/strings/str_cat.h>
#include <yaml-cpp/yaml.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/config/flag_table.h"
#include "common/config/flag_value.h"

namespace mili {
namespace {

constexpr size_t kMaxYamlBytes = 1 << 20;

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  if (file) {
    text.resize(kMaxYamlBytes + 1);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
  }
  if (!file.is_open() || file.bad()) {
    return absl::NotFoundError(absl::StrCat("--config ", path, " cannot be read"));
  }
  if (text.size() > kMaxYamlBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--config ", path, " is larger than 1 MiB: it cannot be a settings file"));
  }
  return text;
}

// The root of the file: a map, or null if the file says nothing.
absl::StatusOr<YAML::Node> LoadYaml(const std::string& path, const std::string& text) {
  try {
    YAML::Node root = YAML::Load(text);
    if (!root.IsMap() && !root.IsNull()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is no list of 'name: value' lines, as --config expects"));
    }
    return root;
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ", line ", error.mark.line + 1, ": no valid YAML: ", error.msg));
  }
}

struct YamlSetting {
  std::string name;
  std::string place;  // "FILE, line 3"
  bool is_null = false;
  bool is_sequence = false;
  std::vector<std::string> texts;
};

absl::StatusOr<std::vector<YamlSetting>> ReadSettings(const std::string& path,
                                                      const YAML::Node& root) {
  std::vector<YamlSetting> settings;
  std::set<std::string> seen;
  try {
    for (const auto& pair : root) {
      YamlSetting setting;
      setting.place = absl::StrCat(path, ", line ", pair.first.Mark().line + 1);
      const auto error = [&](const auto&... what) {
        return absl::InvalidArgumentError(absl::StrCat(setting.place, ": ", what...));
      };
      if (!pair.first.IsScalar()) return error("a key that is no name");
      setting.name = pair.first.Scalar();
      if (!seen.insert(setting.name).second) return error(setting.name, " is set twice");
      if (pair.second.IsMap()) {
        return error(setting.name, " has settings below it; expected a value or a list");
      }
      setting.is_null = pair.second.IsNull();
      setting.is_sequence = pair.second.IsSequence();
      if (pair.second.IsScalar()) setting.texts.push_back(pair.second.Scalar());
      if (setting.is_sequence) {
        for (const YAML::Node& item : pair.second) {
          if (!item.IsScalar()) return error(setting.name, " has an item that is no plain value");
          setting.texts.push_back(item.Scalar());
        }
      }
      settings.push_back(std::move(setting));
    }
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no valid YAML: ", error.msg));
  }
  return settings;
}

}  // namespace

absl::Status FlagTable::ReadYaml(const std::string& path) {
  MILI_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path));
  MILI_ASSIGN_OR_RETURN(const YAML::Node root, LoadYaml(path, text));
  MILI_ASSIGN_OR_RETURN(const std::vector<YamlSetting> settings, ReadSettings(path, root));
  for (const YamlSetting& setting : settings) {
    const std::optional<size_t> idx = FindEntry(setting.name);
    if (!idx || *idx < kNumBuiltIn) {
      return absl::InvalidArgumentError(absl::StrCat(setting.place, ": unknown setting ",
                                                     setting.name, Suggestion(setting.name, "")));
    }
    Entry& entry = entries_[*idx];
    // What --print-config writes for a setting that has no value.
    if (setting.is_null && !ReadValue(entry.flag)) continue;
    const bool is_list = IsList(entry.flag.target);
    if (setting.is_null || (setting.is_sequence && !is_list)) {
      return absl::InvalidArgumentError(absl::StrCat(
          setting.place, ": ", setting.name, " has ", setting.is_null ? "no value" : "a list",
          "; expected ", is_list ? "a list" : entry.flag.value_name));
    }
    if (is_list && setting.texts.empty() && entry.origin < Origin::kYaml) {
      ClearList(entry.flag.target);
      entry.origin = Origin::kYaml;
    }
    for (const std::string& item : setting.texts) {
      MILI_RETURN_IF_ERROR(
          Assign(entry, Origin::kYaml, item,
                 absl::StrCat(setting.place, ": ", setting.name, ": \"", item, "\"")));
    }
  }
  return absl::OkStatus();
}

}  // namespace mili
