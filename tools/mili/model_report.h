// ModelReport: what can be said of a model from its files alone, without reading a weight.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "common/core/memory_plan.h"
#include "common/core/tokenizer_bundle.h"
#include "common/formats/model_source.h"
#include "common/text/tokenizer.h"

namespace mili {

struct ReportOptions {
  MemoryLimits limits;  // max_model_len 0: several contexts
  DType kv_dtype = DType::kBF16;
};

// The memory of one worker at one context length.
struct ContextPlan {
  uint32_t max_model_len = 0;
  MemoryPlan one;  // with the KV of one full context
  MemoryPlan all;  // with that of max_num_seqs
};

struct ModelReport {
  const ModelSource* source = nullptr;  // not owned
  std::optional<TokenizerBundle> bundle;
  std::unique_ptr<Tokenizer> tokenizer;  // null: none
  std::string tokenizer_problem;         // not empty: there is one that does not work
  KvSpec kv;
  std::vector<ContextPlan> contexts;
};

// RESOURCE_EXHAUSTED or INVALID_ARGUMENT as PlanMemory; a tokenizer that cannot be used is part of
// the report. `source` outlives it.
absl::StatusOr<ModelReport> Inspect(const ModelSource& source, const ReportOptions& options);

// Bytes and number of tensors of each type.
std::map<std::string, std::pair<uint64_t, uint32_t>> TotalsOf(const ModelSource& source);

}  // namespace mili
