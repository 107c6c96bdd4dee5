#include "tools/bench/load_loop.h"

namespace mili::bench {

void SampleClock::OnTokens(uint32_t num_tokens, absl::Time now) {
  if (num_tokens == 0) return;
  uint32_t num_gaps = num_tokens;
  if (sample_.num_tokens == 0) {
    sample_.first_token = now - start_;
    --num_gaps;
  }
  for (uint32_t i = 0; i < num_gaps; ++i) {
    sample_.inter_token.push_back((now - last_) / num_gaps);
  }
  sample_.num_tokens += num_tokens;
  last_ = now;
}

LoadSample SampleClock::Finish(absl::Time now) {
  sample_.total = now - start_;
  return std::move(sample_);
}

}  // namespace mili::bench
