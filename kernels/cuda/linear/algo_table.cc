#include "kernels/cuda/linear/algo_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>

namespace mili::kernels::cuda {
namespace {

// Counts up when the format or the kernels change.
constexpr std::string_view kHeader = "mili-linear-tuning 7";
constexpr size_t kMaxEntries = 16384;
constexpr int32_t kMaxDimension = 1 << 24;
constexpr size_t kNumFields = 11 + 8;
constexpr std::string_view kKernelNames[] = {"skinny", "wide", "library", "gated"};

// FNV-1a: finds a torn or edited file, and defends against nobody; the algorithms are checked by
// the library before they run.
uint64_t Checksum(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

std::string Hex(uint64_t value) {
  char buffer[17];
  std::snprintf(buffer, sizeof(buffer), "%016llx", static_cast<unsigned long long>(value));
  return buffer;
}

// Takes the text up to `separator`, or all of it, from the front of *text.
std::string_view Take(std::string_view* text, char separator) {
  const size_t end = text->find(separator);
  const std::string_view taken = text->substr(0, end);
  text->remove_prefix(end == std::string_view::npos ? text->size() : end + 1);
  return taken;
}

template <typename T>
bool ParseNumber(std::string_view text, int base, T* value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), *value, base);
  return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

bool ParseEntry(std::string_view line, MatmulShape* shape, AlgoTable::Entry* entry) {
  std::array<std::string_view, kNumFields> fields;
  for (std::string_view& field : fields) field = Take(&line, ' ');
  if (!line.empty()) return false;
  if (fields[0] == NameOf(DType::kBF16)) {
    shape->dtype = DType::kBF16;
  } else if (fields[0] == NameOf(DType::kF16)) {
    shape->dtype = DType::kF16;
  } else {
    return false;
  }
  bool* flags[] = {&shape->is_y_f32, &shape->is_fp8, &shape->has_bias, &shape->has_add,
                   &shape->silu_mul};
  for (size_t i = 0; i < 5; ++i) {
    if (fields[1 + i] != "0" && fields[1 + i] != "1") return false;
    *flags[i] = fields[1 + i] == "1";
  }
  int32_t* dimensions[] = {&shape->n, &shape->k, &shape->num_rows};
  for (size_t i = 0; i < 3; ++i) {
    int32_t value = 0;
    if (!ParseNumber(fields[6 + i], 10, &value) || value < 1 || value > kMaxDimension) return false;
    *dimensions[i] = value;
  }
  int32_t nanoseconds = 0;
  if (!ParseNumber(fields[9], 10, &nanoseconds) || nanoseconds < 0) return false;
  entry->us = static_cast<float>(nanoseconds) * 1e-3f;
  const auto* name = std::find(std::begin(kKernelNames), std::end(kKernelNames), fields[10]);
  if (name == std::end(kKernelNames)) return false;
  entry->kernel = static_cast<LinearKernel>(name - kKernelNames);
  for (size_t i = 0; i < entry->algo.size(); ++i) {
    if (fields[11 + i].size() != 16 || !ParseNumber(fields[11 + i], 16, &entry->algo[i])) {
      return false;
    }
  }
  return true;
}

}  // namespace

const AlgoTable::Entry* AlgoTable::Find(const MatmulShape& shape) const {
  const auto found = entries_.lower_bound(shape);
  if (found == entries_.end()) return nullptr;
  MatmulShape same = found->first;
  same.num_rows = shape.num_rows;
  const bool is_same = same.Key() == shape.Key();
  return is_same && found->first.num_rows <= 2 * int64_t{shape.num_rows} ? &found->second : nullptr;
}

const AlgoTable::Entry* AlgoTable::FindExactly(const MatmulShape& shape) const {
  const auto found = entries_.find(shape);
  return found != entries_.end() ? &found->second : nullptr;
}

std::string AlgoTable::Format(std::string_view identity) const {
  std::string text(kHeader);
  text.append("\n").append(identity).append("\n");
  for (const auto& [shape, entry] : entries_) {
    text.append(NameOf(shape.dtype));
    for (const int64_t value :
         {int64_t{shape.is_y_f32}, int64_t{shape.is_fp8}, int64_t{shape.has_bias},
          int64_t{shape.has_add}, int64_t{shape.silu_mul}, int64_t{shape.n}, int64_t{shape.k},
          int64_t{shape.num_rows}, static_cast<int64_t>(std::lround(entry.us * 1e3f))}) {
      text.append(" ").append(std::to_string(value));
    }
    text.append(" ").append(kKernelNames[static_cast<size_t>(entry.kernel)]);
    for (const uint64_t word : entry.algo) text.append(" ").append(Hex(word));
    text.append("\n");
  }
  return text + "end " + Hex(Checksum(text)) + "\n";
}

bool AlgoTable::Parse(std::string_view text, std::string_view identity, std::string* error) {
  entries_.clear();
  const size_t end = text.rfind("end ");
  if (end == std::string_view::npos ||
      text.substr(end) != "end " + Hex(Checksum(text.substr(0, end))) + "\n") {
    *error = "the file is damaged or incomplete";
    return false;
  }
  std::string_view rest = text.substr(0, end);
  if (Take(&rest, '\n') != kHeader) {
    *error = "the file is of another version";
    return false;
  }
  if (Take(&rest, '\n') != identity) {
    *error = "the file was made with another GPU, driver or cublasLt";
    return false;
  }
  while (!rest.empty()) {
    MatmulShape shape;
    Entry entry;
    if (entries_.size() >= kMaxEntries || !ParseEntry(Take(&rest, '\n'), &shape, &entry)) {
      entries_.clear();
      *error = "the file has a line that is not an entry";
      return false;
    }
    entries_[shape] = entry;
  }
  return true;
}

}  // namespace mili::kernels::cuda
