#include "tools/mili/programs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/strings.h"

namespace mili {
namespace {

// sockaddr_un holds 108 bytes with the zero at the end.
constexpr size_t kMaxSocketPath = 107;
constexpr std::string_view kLongestSocketName = "/worker.sock";
constexpr std::string_view kDirPattern = "/mili-XXXXXX";

// A younger directory may be one that its owner has not locked yet.
constexpr auto kLeastAgeOfLeftovers = std::chrono::minutes(1);

// Opens and locks a directory; -1 if someone else holds it.
int LockDir(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

// Removes what killed programs of this user left in `base`.
void RemoveLeftovers(const std::string& base) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(base, error), end; !error && it != end;
       it.increment(error)) {
    const std::string path = it->path().string();
    const std::string name = it->path().filename().string();
    struct stat info;
    if (name.size() != kDirPattern.size() - 1 || name.rfind("mili-", 0) != 0 ||
        lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid()) {
      continue;
    }
    const auto age =
        std::chrono::system_clock::now() - std::chrono::system_clock::from_time_t(info.st_mtime);
    const int lock_fd = age > kLeastAgeOfLeftovers ? LockDir(path) : -1;
    if (lock_fd < 0) continue;
    // Nothing but sockets is ever in it; anything else is not ours to remove.
    std::error_code ignored;
    std::filesystem::remove(path + std::string(kLongestSocketName), ignored);
    std::filesystem::remove(path, ignored);
    close(lock_fd);
  }
}

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
  std::string pattern = absl::StrCat(base, ToAbsl(kDirPattern));
  if (pattern.size() + kLongestSocketName.size() > kMaxSocketPath) {
    return absl::InvalidArgumentError(absl::StrCat(
        base, " is too long a path for a socket; set TMPDIR to a shorter one, such as /tmp"));
  }
  if (mkdtemp(pattern.data()) == nullptr) {
    return absl::InternalError(absl::StrCat("cannot make a directory in ", base, ": ",
                                            strerror(errno),
                                            "; set TMPDIR to one that is writable"));
  }
  const int lock_fd = LockDir(pattern);
  RemoveLeftovers(base);
  return SocketDir(std::move(pattern), lock_fd);
}

SocketDir::SocketDir(SocketDir&& other) noexcept
    : path_(std::exchange(other.path_, {})), lock_fd_(std::exchange(other.lock_fd_, -1)) {}

SocketDir::~SocketDir() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  if (lock_fd_ >= 0) close(lock_fd_);
}

}  // namespace mili
