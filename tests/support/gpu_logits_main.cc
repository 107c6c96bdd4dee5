// mili-gpu-logits MODEL PROMPTS CHUNK NUM_GREEDY OUT: what the GPU computes of prompts, for
// comparison with another program. PROMPTS is JSON, a list of lists of token ids. OUT gets the
// logits of every prompt token, float32 [tokens, vocab_size], prompt after prompt, computed in
// chunks of CHUNK tokens; stdout one line of NUM_GREEDY token ids for each prompt, all prompts
// side by side.
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include <nlohmann/json.hpp>

#include "tests/support/gpu_model_runner.h"

namespace mili::worker {
namespace {

absl::Status Run(const char* const* argv) {
  MILI_ASSIGN_OR_RETURN(const Gpu gpu, OpenGpu());
  MILI_ASSIGN_OR_RETURN(const std::unique_ptr<ModelSource> source, ModelSource::Open(argv[1]));
  GpuMemoryLimits limits;
  limits.max_num_seqs = 256;
  limits.max_model_len = std::min(4096u, source->config().max_position);
  MILI_ASSIGN_OR_RETURN(const std::unique_ptr<GpuModelRunner> runner,
                        GpuModelRunner::Load(*source, gpu, limits));
  std::ifstream text(argv[2]);
  std::vector<DriverRequest> requests;
  std::ofstream out(argv[5], std::ios::binary);
  for (const nlohmann::json& ids : nlohmann::json::parse(text)) {
    DriverRequest request;
    request.prompt = ids.get<std::vector<TokenId>>();
    request.max_tokens = static_cast<uint32_t>(std::atoi(argv[4]));
    request.sampling.temperature = 0;
    MILI_ASSIGN_OR_RETURN(
        const std::vector<float> logits,
        runner->PromptLogits(request.prompt, static_cast<uint32_t>(std::atoi(argv[3]))));
    out.write(reinterpret_cast<const char*>(logits.data()),
              static_cast<std::streamsize>(logits.size() * sizeof(float)));
    requests.push_back(std::move(request));
  }
  MILI_ASSIGN_OR_RETURN(const std::vector<DriverResult> results, runner->Generate(requests));
  for (const DriverResult& result : results) {
    for (const TokenId id : result.ids()) std::printf("%u ", id);
    std::printf("\n");
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace mili::worker

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: mili-gpu-logits MODEL PROMPTS CHUNK NUM_GREEDY OUT\n");
    return 2;
  }
  const absl::Status status = mili::worker::Run(argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "mili-gpu-logits: %s\n", std::string(status.message()).c_str());
  return 1;
}
