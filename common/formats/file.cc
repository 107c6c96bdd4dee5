#include "common/formats/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/huge_pages.h"
#include "common/base/status_macros.h"

namespace mili {
namespace {

// Linux transfers at most a little less than 2 GiB at once.
constexpr size_t kMaxReadBytes = size_t{1} << 30;

absl::Status OpenError(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  }
  const std::string message = absl::StrCat(path, ": ", std::strerror(error));
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(message);
  return absl::InvalidArgumentError(message);
}

}  // namespace

absl::StatusOr<File> File::Open(const std::string& path) {
  int fd;
  do {
    // Non-blocking, so that a FIFO in the place of a file does not hang the opening.
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return OpenError(path, errno);
  File file(path, fd, 0);
  struct stat info {};
  if (::fstat(fd, &info) != 0) return OpenError(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  file.size_bytes_ = static_cast<uint64_t>(info.st_size);
  return file;
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_bytes_(other.size_bytes_) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status File::ReadAt(uint64_t offset_bytes, std::span<std::byte> to) const {
  if (offset_bytes > size_bytes_ || to.size() > size_bytes_ - offset_bytes) {
    return absl::DataLossError(absl::StrCat(path_, ": ", to.size(), " bytes wanted at offset ",
                                            offset_bytes, "; the file has ", size_bytes_));
  }
  while (!to.empty()) {
    const ssize_t got = ::pread(fd_, to.data(), std::min(to.size(), kMaxReadBytes),
                                static_cast<off_t>(offset_bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return absl::DataLossError(absl::StrCat(path_, ": cannot be read at offset ", offset_bytes,
                                              ": ", std::strerror(errno)));
    }
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path_, ": ends at byte ", offset_bytes, "; it had ",
                                              size_bytes_, " when it was opened"));
    }
    to = to.subspan(static_cast<size_t>(got));
    offset_bytes += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path, uint64_t max_bytes) {
  MILI_ASSIGN_OR_RETURN(const File file, File::Open(path));
  if (file.size_bytes() > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has ", file.size_bytes(),
                                                   " bytes; at most ", max_bytes, " expected"));
  }
  std::string text;
  text.reserve(file.size_bytes());
  // A fault for every 4 KiB of a large file takes longer than reading it.
  PreferHugePages(text.data(), text.capacity());
  text.resize(file.size_bytes());
  MILI_RETURN_IF_ERROR(file.ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

}  // namespace mili
