#include "tools/mili/model_report.h"

#include "common/base/status_macros.h"

namespace mili {
namespace {

absl::StatusOr<ContextPlan> PlanContext(const ModelSource& source, const ReportOptions& options,
                                        uint32_t max_model_len) {
  ContextPlan plan{.max_model_len = max_model_len, .one = {}, .all = {}};
  MemoryLimits limits = options.limits;
  limits.max_model_len = max_model_len;
  const KvSpec kv{source.config().num_layers, source.config().num_kv_heads,
                  source.config().head_dim, limits.page_size_tokens, options.kv_dtype};
  if (limits.page_size_tokens == 0) {
    return absl::InvalidArgumentError("--page-size is 0; expected 1 to 1024");
  }
  const uint64_t pages =
      (uint64_t{max_model_len} + limits.page_size_tokens - 1) / limits.page_size_tokens;
  limits.kv_cache_memory_bytes = pages * kv.bytes_per_page();
  MILI_ASSIGN_OR_RETURN(
      plan.one, PlanMemory(source.config(), source.weights_bytes(), options.kv_dtype, limits));
  limits.kv_cache_memory_bytes *= limits.max_num_seqs;
  MILI_ASSIGN_OR_RETURN(
      plan.all, PlanMemory(source.config(), source.weights_bytes(), options.kv_dtype, limits));
  return plan;
}

}  // namespace

absl::StatusOr<ModelReport> Inspect(const ModelSource& source, const ReportOptions& options) {
  ModelReport report;
  report.source = &source;
  const auto bundle = source.LoadTokenizer();
  if (!bundle.ok()) {
    report.tokenizer_problem = std::string(bundle.status().message());
  } else if (bundle->has_value()) {
    report.bundle = **bundle;
    auto tokenizer = Tokenizer::FromJson(report.bundle->tokenizer_json);
    if (tokenizer.ok()) {
      report.tokenizer = *std::move(tokenizer);
    } else {
      report.tokenizer_problem = std::string(tokenizer.status().message());
    }
  }
  std::vector<uint32_t> lengths;
  const uint32_t longest = source.config().max_position;
  if (options.limits.max_model_len != 0) {
    lengths = {options.limits.max_model_len};
  } else {
    for (const uint32_t length : {2048u, 4096u, 8192u, 32768u}) {
      if (length < longest) lengths.push_back(length);
    }
    lengths.push_back(longest);
  }
  for (const uint32_t length : lengths) {
    MILI_ASSIGN_OR_RETURN(ContextPlan plan, PlanContext(source, options, length));
    report.kv = plan.one.kv;
    report.contexts.push_back(std::move(plan));
  }
  return report;
}

std::map<std::string, std::pair<uint64_t, uint32_t>> TotalsOf(const ModelSource& source) {
  std::map<std::string, std::pair<uint64_t, uint32_t>> totals;
  for (const TensorInfo& tensor : source.tensors()) {
    auto& [bytes, count] = totals[std::string(NameOf(tensor.dtype))];
    bytes += tensor.size_bytes;
    ++count;
  }
  return totals;
}

}  // namespace mili
