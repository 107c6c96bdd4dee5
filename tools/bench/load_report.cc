#include "tools/bench/load_report.h"

#include <algorithm>
#include <cstdio>

#include <absl/strings/str_format.h>

namespace mili::bench {
namespace {

double Quantile(std::vector<double>& values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

// Fields of the JSON object.
std::string FieldsOf(const DeviceTotals& device) {
  const double num_steps = std::max(device.num_steps, 1.0);
  return absl::StrFormat(
      ",\"steps\":%.0f,\"tokens_per_step\":%.1f,\"compute_ms_per_step\":%.4f,"
      "\"idle_ms_per_step\":%.4f",
      device.num_steps, device.num_tokens / num_steps, 1e3 * device.compute_s / num_steps,
      1e3 * device.idle_s / num_steps);
}

std::string TextOf(const DeviceTotals& device) {
  const double num_steps = std::max(device.num_steps, 1.0);
  return absl::StrFormat(
      "the device: %.0f steps of %.1f tokens, %.3f ms each, %.3f ms between two\n",
      device.num_steps, device.num_tokens / num_steps, 1e3 * device.compute_s / num_steps,
      1e3 * device.idle_s / num_steps);
}

}  // namespace

void LoadTotals::Add(const LoadSample& sample) {
  MutexLock lock(mutex_);
  num_tokens_ += sample.num_tokens;
  first_token_ms_.push_back(absl::ToDoubleMilliseconds(sample.first_token));
  total_ms_.push_back(absl::ToDoubleMilliseconds(sample.total));
  for (const absl::Duration gap : sample.inter_token) {
    inter_token_ms_.push_back(absl::ToDoubleMilliseconds(gap));
  }
}

void LoadTotals::AddError(const absl::Status& status) {
  MutexLock lock(mutex_);
  errors_.push_back(std::string(status.message()));
}

bool LoadTotals::Print(const Run& run, bool as_json) {
  MutexLock lock(mutex_);
  const double tokens_per_s = static_cast<double>(num_tokens_) / absl::ToDoubleSeconds(run.elapsed);
  const double ttft_p50 = Quantile(first_token_ms_, 0.5),
               ttft_p99 = Quantile(first_token_ms_, 0.99);
  const double itl_p50 = Quantile(inter_token_ms_, 0.5), itl_p99 = Quantile(inter_token_ms_, 0.99);
  if (as_json) {
    absl::PrintF(
        "{\"concurrency\":%d,\"requests\":%d,\"errors\":%d,\"output_tokens\":%d,"
        "\"tokens_per_s\":%.3f,\"ttft_ms_p50\":%.3f,\"ttft_ms_p99\":%.3f,\"itl_ms_p50\":%.3f,"
        "\"itl_ms_p99\":%.3f,\"e2e_ms_p50\":%.3f%s}\n",
        run.concurrency, run.num_requests, errors_.size(), num_tokens_, tokens_per_s, ttft_p50,
        ttft_p99, itl_p50, itl_p99, Quantile(total_ms_, 0.5),
        run.device ? FieldsOf(*run.device) : "");
  } else {
    absl::PrintF(
        "%d requests, %d at a time: %.1f tokens/s, TTFT p50 %.2f p99 %.2f ms, "
        "ITL p50 %.3f p99 %.3f ms, %d errors\n%s",
        run.num_requests, run.concurrency, tokens_per_s, ttft_p50, ttft_p99, itl_p50, itl_p99,
        errors_.size(), run.device ? TextOf(*run.device) : "");
  }
  for (const std::string& error : errors_) std::fprintf(stderr, "%s\n", error.c_str());
  return errors_.empty();
}

}  // namespace mili::bench
