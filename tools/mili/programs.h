// Where the other two programs are, and what they inherit.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

namespace mili {

// The path of `name` beside this very executable.
std::string ProgramBeside(const std::string& name);

// This process's environment without MILI_* settings: what was set is handed on as flags, and a
// variable meant for one program must not reach the other. MILI_API_KEY stays: flags show in ps.
std::vector<std::string> ChildEnvironment(const char* const* environ);

// A private directory for sockets, removed with what is in it at the end; one whose owner was
// killed goes when the next is made. Short enough a path for a Unix socket, or an error that says
// which variable to set.
class SocketDir {
 public:
  static absl::StatusOr<SocketDir> Make();
  SocketDir(SocketDir&& other) noexcept;
  SocketDir& operator=(SocketDir&&) = delete;
  ~SocketDir();

  const std::string& path() const { return path_; }

 private:
  SocketDir(std::string path, int lock_fd) : path_(std::move(path)), lock_fd_(lock_fd) {}

  std::string path_;  // empty: moved from
  int lock_fd_ = -1;  // holds the lock that says the owner lives
};

}  // namespace mili
