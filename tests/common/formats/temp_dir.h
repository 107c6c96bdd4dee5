// A directory for the hostile files of one test, gone with it.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace mili::testing {

class TempDir {
 public:
  TempDir() {
    std::string form = (std::filesystem::temp_directory_path() / "mili_formats_XXXXXX").string();
    path_ = ::mkdtemp(form.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::string path() const { return path_; }
  std::string path(std::string_view name) const { return path_ + "/" + std::string(name); }

  // Returns the new file's path.
  std::string Write(std::string_view name, std::string_view bytes) const {
    std::ofstream(path(name), std::ios::binary | std::ios::trunc)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path(name);
  }

 private:
  std::string path_;
};

inline std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// MILI_TEST_DATA/models/NAME.
inline std::string TestModel(std::string_view name) {
  return std::string(MILI_TEST_DATA "/models/") + std::string(name);
}

// A copy of a model directory of the test data, to be spoilt.
inline void CopyModel(std::string_view name, const TempDir& to) {
  std::filesystem::copy(TestModel(name), to.path(), std::filesystem::copy_options::recursive);
}

// Replaces the one place where `from` stands in a file.
inline bool ReplaceIn(const std::string& path, std::string_view from, std::string_view to) {
  std::string text = ReadAll(path);
  const size_t at = text.find(from);
  if (at == std::string::npos || text.find(from, at + 1) != std::string::npos) return false;
  text.replace(at, from.size(), to);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  return true;
}

}  // namespace mili::testing
