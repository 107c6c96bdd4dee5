// WorkerFacts: all that the router knows of a worker before it plans for it. Fields as in
// worker.proto.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "common/base/ids.h"

namespace mili {

// Version of proto/mili/worker/v1; router and worker refuse each other if it differs.
inline constexpr uint32_t kWorkerProtocolVersion = 1;

struct WorkerFacts {
  uint32_t protocol_version = kWorkerProtocolVersion;
  std::string build;
  Epoch last_epoch;
  std::string model_digest;
  std::string tokenizer_digest;  // empty: no tokenizer
  std::string model_name;
  std::string model_path;
  std::string architecture;
  std::string weight_dtype;
  std::string kv_dtype;
  std::string device;
  uint32_t page_size_tokens = 0;
  uint32_t num_pages = 0;
  uint32_t num_slots = 0;
  uint32_t max_num_batched_tokens = 0;
  uint32_t max_model_len = 0;
  uint32_t vocab_size = 0;
  std::vector<TokenId> eos_token_ids;
  uint64_t weights_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t workspace_bytes = 0;
  uint64_t process_bytes = 0;
  absl::Duration load;
  std::string generation_config_json;
  uint64_t num_parameters = 0;
};

}  // namespace mili
