// The first byte says which parser gets the rest: header (with a data size) or shard index.
#include <cstdint>
#include <cstring>
#include <string_view>

#include "common/formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 3, size - 3);
  if ((data[0] & 1) == 0) {
    const uint64_t data_bytes = uint64_t{data[1]} << 8 | data[2];
    const auto entries = mili::ParseSafetensorsHeader(rest, data_bytes, "fuzz");
    if (!entries.ok()) return 0;
    uint64_t covered = 0;
    for (const mili::SafetensorsEntry& entry : *entries) covered += entry.end - entry.begin;
    if (covered != data_bytes) __builtin_trap();
  } else {
    const auto index = mili::ParseSafetensorsIndex(rest, "fuzz");
    if (!index.ok()) return 0;
    for (const auto& [name, shard] : *index) {
      if (shard.empty() || shard.find('/') != std::string_view::npos || shard == "..")
        __builtin_trap();
    }
  }
  return 0;
}
