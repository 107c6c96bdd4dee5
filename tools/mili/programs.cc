#include "tools/mili/programs.h"

#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include <absl/strings/str_cat.h>

namespace mili {
namespace {

// sockaddr_un holds 108 bytes with the zero at the end.
constexpr size_t kMaxSocketPath = 107;
constexpr std::string_view kLongestSocketName = "/worker.sock";

}  // namespace

std::string ProgramBeside(const std::string& name) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return name;
  return (self.parent_path() / name).string();
}

std::vector<std::string> ChildEnvironment(const char* const* environ) {
  std::vector<std::string> kept;
  for (; environ != nullptr && *environ != nullptr; ++environ) {
    const std::string_view variable = *environ;
    const bool is_ours = variable.rfind("MILI_", 0) == 0;
    if (!is_ours || variable.rfind("MILI_API_KEY=", 0) == 0) kept.emplace_back(variable);
  }
  return kept;
}

absl::StatusOr<SocketDir> SocketDir::Make() {
  const char* base = getenv("XDG_RUNTIME_DIR");
  if (base == nullptr || *base == 0 || access(base, W_OK) != 0) base = getenv("TMPDIR");
  if (base == nullptr || *base == 0) base = "/tmp";
  std::string pattern = absl::StrCat(base, "/mili-XXXXXX");
  if (pattern.size() + kLongestSocketName.size() > kMaxSocketPath) {
    return absl::InvalidArgumentError(absl::StrCat(
        base, " is too long a path for a socket; set TMPDIR to a shorter one, such as /tmp"));
  }
  if (mkdtemp(pattern.data()) == nullptr) {
    return absl::InternalError(absl::StrCat("cannot make a directory in ", base, ": ",
                                            strerror(errno),
                                            "; set TMPDIR to one that is writable"));
  }
  return SocketDir(std::move(pattern));
}

SocketDir::SocketDir(SocketDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}

SocketDir::~SocketDir() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

}  // namespace mili
