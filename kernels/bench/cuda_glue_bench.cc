// Times the GPU's row kernels and sampling on the shapes of Qwen3-0.6B and 8B, in graph replays of
// 24 calls, plain and as programmatic dependents (PDL). Up to 256 tokens the buffers stay in the
// L2, as they do in a decode step; above, and for logits, each call has buffers of its own, past
// the L2. Prints microseconds a call, node gap included, median of 9 replays, and the share that
// moving the bytes at 3.0 TB/s would take. For the end of a step: logits by a product and then
// sampling, and the head that finds the best tokens by itself and then sampling.
//
//   cuda_glue_bench [rows|sample|head] [PART OF A KERNEL'S NAME]
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/bench/cuda_call_timer.h"
#include "kernels/bench/cuda_head_bench.h"
#include "kernels/cuda/embed/embed.h"
#include "kernels/cuda/norm/add_rms_norm.h"
#include "kernels/cuda/qkv_prepare/qkv_prepare.h"
#include "kernels/cuda/quantize/quantize_fp8.h"
#include "kernels/cuda/sample/sample.h"
#include "kernels/cuda/silu/silu_mul.h"

namespace {

using namespace mili::kernels::cuda;

constexpr int kCalls = 24;
constexpr double kBytesPerUs = 3.0e6;
constexpr int32_t kVocab = 151936;

struct Model {
  const char* name;
  int32_t hidden, intermediate, num_heads, num_kv_heads;
};
constexpr Model kModels[] = {{"0.6B", 1024, 3072, 16, 8}, {"8B", 4096, 12288, 32, 8}};
constexpr int32_t kTokens[] = {1, 16, 64, 256, 1024, 4096};
constexpr int32_t kMaxTokens = 4096;
constexpr int32_t kPositions = 8192;

class RowBench {
 public:
  explicit RowBench(std::string part)
      : part_(std::move(part)),
        in_(Random(kPool)),
        delta_(Random(kPool)),
        out_(Random(kPool)),
        weight_(Random(1 << 20)),
        table_(Random(size_t{kVocab} * 4096 * 2)) {
    Check(cudaMalloc(reinterpret_cast<void**>(&scales_), kMaxTokens * 4), "memory");
    std::vector<float> angles(kPositions * 64, 0.5f);
    std::vector<int32_t> ids(kMaxTokens), slots(kMaxTokens);
    for (int32_t i = 0; i < kMaxTokens; ++i) {
      ids[i] = static_cast<int32_t>(int64_t{i} * 7919 % kVocab);
      slots[i] = i;
    }
    angles_ = OnDevice(angles);
    ids_ = OnDevice(ids);
    slots_ = OnDevice(slots);
    std::printf("%-22s %-5s %6s %9s %9s %7s\n", "kernel", "model", "tokens", "us", "us (PDL)",
                "% limit");
  }

  void Run() {
    for (const Model& model : kModels) {
      for (const int32_t tokens : kTokens) {
        Norm(model, tokens, false);
        Norm(model, tokens, true);
        Silu(model, tokens, false);
        Silu(model, tokens, true);
        Qkv(model, tokens);
        EmbedNorm(model, tokens);
        Quantize(model, tokens);
      }
    }
  }

 private:
  static constexpr size_t kPool = size_t{800} << 20;

  // The buffer of a call: one for all while they fit the L2.
  static void* At(void* pool, size_t bytes, int32_t tokens, int call) {
    const size_t aligned = (bytes + 255) / 256 * 256;
    const size_t copies = tokens <= 256 ? 1 : std::min<size_t>(kCalls, kPool / aligned);
    return static_cast<char*>(pool) + call % copies * aligned;
  }

  template <typename Call>
  void Report(const char* kernel, const Model& model, int32_t tokens, double bytes, Call&& call) {
    if (std::strstr(kernel, part_.c_str()) == nullptr) return;
    const double plain = timer_.Time([&](int i, cudaStream_t s) { return call(i, false, s); });
    const double pdl = timer_.Time([&](int i, cudaStream_t s) { return call(i, i > 0, s); });
    std::printf("%-22s %-5s %6d %9.2f %9.2f %7.1f\n", kernel, model.name, tokens, plain, pdl,
                100 * bytes / kBytesPerUs / std::min(plain, pdl));
  }

  void Norm(const Model& model, int32_t tokens, bool fp8) {
    const size_t bytes = size_t(tokens) * model.hidden * 2;
    Report(fp8 ? "add_rms_norm fp8" : "add_rms_norm", model, tokens, bytes * (fp8 ? 3.5 : 4.0),
           [&](int i, bool pdl, cudaStream_t s) {
             AddRmsNormParams p;
             p.residual = At(in_, bytes, tokens, i);
             p.delta = At(delta_, bytes, tokens, i);
             p.weight = weight_;
             p.num_tokens = tokens;
             p.hidden_size = model.hidden;
             p.out = fp8 ? nullptr : At(out_, bytes, tokens, i);
             if (fp8) p.fp8 = {static_cast<uint8_t*>(At(out_, bytes, tokens, i)), scales_};
             p.pdl = pdl;
             return AddRmsNorm(p, s);
           });
  }

  void Silu(const Model& model, int32_t tokens, bool fp8) {
    const size_t bytes = size_t(tokens) * model.intermediate * 2;
    Report(fp8 ? "silu_mul fp8" : "silu_mul", model, tokens, bytes * (fp8 ? 2.5 : 3.0),
           [&](int i, bool pdl, cudaStream_t s) {
             SiluMulParams p;
             p.gate_up = At(in_, 2 * bytes, tokens, i);
             p.num_tokens = tokens;
             p.size = model.intermediate;
             p.out = fp8 ? nullptr : At(out_, bytes, tokens, i);
             if (fp8) p.fp8 = {static_cast<uint8_t*>(At(out_, bytes, tokens, i)), scales_};
             p.pdl = pdl;
             return SiluMul(p, s);
           });
  }

  void Qkv(const Model& model, int32_t tokens) {
    const int64_t width = (model.num_heads + 2 * model.num_kv_heads) * 128;
    const size_t bytes = size_t(tokens) * width * 2;
    Report("qkv_prepare", model, tokens, bytes * 2.0, [&](int i, bool pdl, cudaStream_t s) {
      QkvPrepareParams p;
      p.qkv = At(in_, bytes, tokens, i);
      p.qkv_stride = width;
      p.q_norm = weight_;
      p.k_norm = weight_;
      p.rope_cos = angles_;
      p.rope_sin = angles_;
      p.positions = slots_;
      p.slot_map = slots_;
      p.num_tokens = tokens;
      p.num_heads = model.num_heads;
      p.num_kv_heads = model.num_kv_heads;
      p.head_dim = 128;
      p.pages = At(out_, size_t(kMaxTokens) * model.num_kv_heads * 512, tokens, i);
      p.page_stride = int64_t{model.num_kv_heads} * 4096;
      p.pdl = pdl;
      return QkvPrepare(p, s);
    });
  }

  void EmbedNorm(const Model& model, int32_t tokens) {
    const size_t bytes = size_t(tokens) * model.hidden * 2;
    Report("embed + norm", model, tokens, bytes * 3.0, [&](int i, bool pdl, cudaStream_t s) {
      EmbedParams p;
      p.table = table_;
      p.token_ids = ids_;
      p.num_tokens = tokens;
      p.vocab_size = kVocab;
      p.hidden_size = model.hidden;
      p.out = At(in_, bytes, tokens, i);
      p.norm_weight = weight_;
      p.normed = At(out_, bytes, tokens, i);
      p.pdl = pdl;
      return Embed(p, s);
    });
  }

  void Quantize(const Model& model, int32_t tokens) {
    const int32_t size = model.num_heads * 128;
    const size_t bytes = size_t(tokens) * size * 2;
    Report("quantize_fp8", model, tokens, bytes * 1.5, [&](int i, bool pdl, cudaStream_t s) {
      QuantizeFp8Params p;
      p.in = At(in_, bytes, tokens, i);
      p.in_stride = size;
      p.num_rows = tokens;
      p.size = size;
      p.out = {static_cast<uint8_t*>(At(out_, bytes, tokens, i)), scales_};
      p.pdl = pdl;
      return QuantizeFp8(p, s);
    });
  }

  Timer timer_{kCalls};
  const std::string part_;
  void* in_;
  void* delta_;
  void* out_;
  void* weight_;
  void* table_;
  float* scales_ = nullptr;
  float* angles_ = nullptr;
  int32_t* ids_ = nullptr;
  int32_t* slots_ = nullptr;
};

struct Mode {
  const char* name;
  SlotSampling sampling;
  bool counts;
};

// Logits like a model's: most near each other, some dozens far above.
std::vector<float> PeakedLogits(size_t rows) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(rows * kVocab);
  for (float& logit : logits) logit = normal(random);
  for (size_t row = 0; row < rows; ++row) {
    for (int i = 0; i < 40; ++i) {
      logits[row * kVocab + random() % kVocab] = 12 + 4 * std::fabs(normal(random));
    }
  }
  return logits;
}

class SampleBench {
 public:
  explicit SampleBench(std::string part) : part_(std::move(part)) {}

  void Run() {
    std::printf("%-26s %-7s %5s %9s %9s %7s\n", "sample, V = 151936", "logits", "rows", "us",
                "us (PDL)", "% limit");
    std::vector<float> flat(kRows * kVocab);
    std::mt19937 random(5);
    std::normal_distribution<float> normal(0, 1);
    for (float& logit : flat) logit = normal(random);
    Measure("peaked", PeakedLogits(kRows));
    Measure("normal", flat);
  }

 private:
  static constexpr size_t kRows = 256;

  void Measure(const char* kind, const std::vector<float>& host) {
    float* logits = OnDevice(host);
    uint16_t* counts = nullptr;
    Check(cudaMalloc(reinterpret_cast<void**>(&counts), kRows * kVocab * 2), "counts");
    Check(cudaMemset(counts, 0, kRows * kVocab * 2), "counts");
    SlotSampling greedy, drawn, top, top_p, min_p, logprobs, penalties;
    drawn.temperature = top.temperature = top_p.temperature = min_p.temperature = 0.8f;
    top.top_k = 50;
    top.top_p = top_p.top_p = 0.9f;
    min_p.min_p = 0.05f;
    logprobs.num_top = 20;
    penalties.repetition_penalty = 1.1f;
    for (const Mode& mode : {Mode{"greedy", greedy, false},
                             {"temperature", drawn, false},
                             {"top_k 50, top_p 0.9", top, false},
                             {"top_p 0.9", top_p, false},
                             {"min_p 0.05", min_p, false},
                             {"greedy, 20 logprobs", logprobs, false},
                             {"greedy, penalties", penalties, true}}) {
      for (const int32_t rows : {1, 16, 64, 256}) Report(mode, kind, rows, logits, counts);
    }
    cudaFree(logits);
    cudaFree(counts);
  }

  void Report(const Mode& mode, const char* kind, int32_t rows, float* logits, uint16_t* counts) {
    if (std::strstr(mode.name, part_.c_str()) == nullptr) return;
    std::vector<SlotSampling> slots(kRows, mode.sampling);
    std::vector<int32_t> numbers(kRows);
    for (size_t i = 0; i < kRows; ++i) {
      numbers[i] = static_cast<int32_t>(i);
      slots[i].seed = i;
      if (mode.counts) slots[i].counts = counts + i * kVocab;
    }
    SampleParams p;
    p.logits_stride = kVocab;
    p.num_rows = rows;
    p.vocab_size = kVocab;
    p.num_valid_tokens = 151669;
    p.slots = OnDevice(slots);
    p.row_slots = p.positions = OnDevice(numbers);
    p.last_tokens = OnDevice(numbers);
    p.out = OnDevice(std::vector<SampledRow>(kRows));
    p.top = OnDevice(std::vector<SampledLogprob>(kRows * 20));
    p.max_top = 20;
    p.workspace = OnDevice(std::vector<char>(SampleWorkspaceBytes(kRows, kVocab)));
    const auto call = [&](int i, bool pdl, cudaStream_t stream) {
      SampleParams here = p;
      const int32_t sets = kRows / rows;  // up to 155 MB of logits
      here.logits = logits + i % sets * int64_t{rows} * kVocab;
      here.pdl = pdl;
      return Sample(here, stream);
    };
    const double plain = timer_.Time([&](int i, cudaStream_t s) { return call(i, false, s); });
    const double pdl = timer_.Time([&](int i, cudaStream_t s) { return call(i, i > 0, s); });
    const double bytes = 1.0 * rows * kVocab * (mode.counts ? 6 : 4);
    std::printf("%-26s %-7s %5d %9.2f %9.2f %7.1f\n", mode.name, kind, rows, plain, pdl,
                100 * bytes / kBytesPerUs / std::min(plain, pdl));
    for (const void* data :
         {static_cast<const void*>(p.slots), static_cast<const void*>(p.row_slots),
          static_cast<const void*>(p.last_tokens), static_cast<const void*>(p.out),
          static_cast<const void*>(p.top), static_cast<const void*>(p.workspace)}) {
      cudaFree(const_cast<void*>(data));
    }
  }

  Timer timer_{kCalls};
  const std::string part_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string only = argc > 1 ? argv[1] : "";
  const std::string part = argc > 2 ? argv[2] : "";
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a bench that is cut off keeps its rows
  if (only.empty() || only == "rows") RowBench(part).Run();
  if (only.empty() || only == "sample") SampleBench(part).Run();
  if (only.empty() || only == "head") RunHeadBench();
  return 0;
}
