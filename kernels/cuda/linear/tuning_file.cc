#include "kernels/cuda/linear/tuning_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace mili::kernels::cuda {
namespace {

constexpr size_t kMaxBytes = size_t{4} << 20;

struct Closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Closer>;

bool Fail(const std::string& path, std::string* error) {
  *error = path + ": " + std::strerror(errno);
  return false;
}

}  // namespace

bool ReadSmallFile(const std::string& path, std::string* text, std::string* error) {
  const File file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return Fail(path, error);
  text->resize(kMaxBytes + 1);
  text->resize(std::fread(text->data(), 1, text->size(), file.get()));
  if (std::ferror(file.get()) != 0) return Fail(path, error);
  if (text->size() <= kMaxBytes) return true;
  *error = path + ": larger than a tuning file can be";
  return false;
}

bool ReplaceFile(const std::string& path, const std::string& text, std::string* error) {
  // Of this process alone, so that two workers that start together do not mix their files.
  const std::string draft = path + "." + std::to_string(getpid());
  File file(std::fopen(draft.c_str(), "wbe"));
  if (file == nullptr) return Fail(draft, error);
  const bool is_written = std::fwrite(text.data(), 1, text.size(), file.get()) == text.size();
  const bool is_closed = std::fclose(file.release()) == 0;
  if (is_written && is_closed && std::rename(draft.c_str(), path.c_str()) == 0) return true;
  Fail(path, error);
  std::remove(draft.c_str());
  return false;
}

bool ReadTuning(const std::string& path, LinearContext* context, std::string* error) {
  std::string text;
  if (!ReadSmallFile(path, &text, error)) return false;
  if (context->RestoreTuning(text, error)) return true;
  *error = path + ": " + *error;
  return false;
}

bool WriteTuning(const std::string& path, const LinearContext& context, std::string* error) {
  return ReplaceFile(path, context.SaveTuning(), error);
}

}  // namespace mili::kernels::cuda
