// File: a model file opened for reading. Knows the size it had when opened; whoever reads past it,
// or finds the file shorter, gets a status, not a signal. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

namespace mili {

class File {
 public:
  // NOT_FOUND, PERMISSION_DENIED, or INVALID_ARGUMENT if it is no regular file.
  static absl::StatusOr<File> Open(const std::string& path);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }

  // Fills all of `to` from `offset_bytes` on. DATA_LOSS if the file ends before or cannot be read.
  absl::Status ReadAt(uint64_t offset_bytes, std::span<std::byte> to) const;

 private:
  File(std::string path, int fd, uint64_t size_bytes)
      : path_(std::move(path)), fd_(fd), size_bytes_(size_bytes) {}

  std::string path_;
  int fd_ = -1;
  uint64_t size_bytes_ = 0;
};

// The whole of a file that has at most `max_bytes`; as Open and ReadAt, and INVALID_ARGUMENT if it
// is larger.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, uint64_t max_bytes);

}  // namespace mili
