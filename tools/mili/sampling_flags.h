// SamplingFlags: how tokens are chosen, as `generate` and `chat` take it. Only what was given is
// sent; the rest is the server's default.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/config/flag_table.h"
#include "mili/v1/inference.pb.h"

namespace mili {

struct SamplingFlags {
  std::string model_name;
  std::optional<uint32_t> max_tokens;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int32_t> top_k;
  std::optional<double> min_p;
  std::optional<int64_t> seed;
  std::optional<double> presence_penalty;
  std::optional<double> frequency_penalty;
  std::optional<double> repetition_penalty;
  std::vector<std::string> stop;
  bool ignore_eos = false;
};

void AddSamplingFlags(FlagTable& table, SamplingFlags& flags);
void Apply(const SamplingFlags& flags, v1::GenerateRequest* request);

}  // namespace mili
