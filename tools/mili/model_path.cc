#include "tools/mili/model_path.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

namespace mili {

absl::Status CheckModelPath(const std::string& path) {
  struct stat info;
  if (path.empty()) return absl::InvalidArgumentError("the path of the model is empty");
  if (stat(path.c_str(), &info) != 0) {
    const bool looks_like_hub_name = path[0] != '.' && path[0] != '/' &&
                                     !absl::EndsWith(path, ".gguf") &&
                                     std::count(path.begin(), path.end(), '/') == 1;
    return absl::NotFoundError(
        absl::StrCat("no model at ", path, ": ", strerror(errno),
                     "; give a GGUF file or a directory with ", "config.json and safetensors files",
                     looks_like_hub_name ? " (models are not downloaded by name)" : ""));
  }
  if (access(path.c_str(), R_OK) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot read the model ", path, ": ", strerror(errno)));
  }
  if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model ", path, " is neither a file nor a directory"));
  }
  return absl::OkStatus();
}

std::string ModelNameOf(const std::string& path) {
  std::filesystem::path name = path;
  std::error_code error;
  if (const auto full = std::filesystem::canonical(path, error); !error) name = full;
  std::error_code ignored;
  return std::filesystem::is_directory(name, ignored) ? name.filename().string()
                                                      : name.stem().string();
}

}  // namespace mili
