#include "kernels/bench/cuda_head_bench.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "kernels/bench/cuda_call_timer.h"
#include "kernels/cuda/head/head.h"
#include "kernels/cuda/linear/linear.h"
#include "kernels/cuda/sample/sample.h"

namespace mili::kernels::cuda {
namespace {

constexpr double kBytesPerUs = 3.0e6;
constexpr int32_t kVocab = 151936;

struct Model {
  const char* name;
  int32_t hidden;
};
constexpr Model kModels[] = {{"0.6B", 1024}, {"8B", 4096}};

class HeadBench {
 public:
  void Run() {
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    cudaDeviceGetAttribute(&num_sms_, cudaDevAttrMultiProcessorCount, 0);
    std::string error;
    linear_ = LinearContext::Create({}, &error);
    if (major != 9 || linear_ == nullptr) {
      std::printf("no head: %s\n", major != 9 ? "not a Hopper GPU" : error.c_str());
      return;
    }
    Check(PrepareHead(), "head");
    std::printf("%-26s %-7s %5s %9s %9s %7s\n", "head and sampling, PDL", "model", "rows",
                "us apart", "us", "% limit");
    for (const Model& model : kModels) {
      w_ = Random(size_t{kVocab} * model.hidden * 2, 1 / std::sqrt(float(model.hidden)));
      x_ = Random(size_t{kMaxHeadRows} * model.hidden * 2);
      for (const int32_t rows : {32, 64, 128, 192, 256}) {
        for (const int32_t drawn : {0, rows / 2, rows}) Report(model, rows, drawn);
      }
      cudaFree(w_);
      cudaFree(x_);
    }
  }

 private:
  // `drawn` of the rows have a temperature.
  void Report(const Model& model, int32_t rows, int32_t drawn) {
    std::vector<SlotSampling> slots(rows);
    std::vector<int32_t> numbers(rows);
    for (int32_t i = 0; i < rows; ++i) {
      numbers[i] = i;
      if (i < drawn) slots[i].temperature = 0.8f;
    }
    SampleParams s;
    s.logits_stride = s.vocab_size = s.num_valid_tokens = kVocab;
    s.num_rows = rows;
    auto* const logits = OnDevice(std::vector<float>(size_t(rows) * kVocab));
    auto* const best = OnDevice(std::vector<uint64_t>(size_t(rows) * HeadParts(num_sms_, kVocab)));
    s.logits = logits;
    s.slots = OnDevice(slots);
    s.row_slots = s.positions = OnDevice(numbers);
    s.last_tokens = OnDevice(numbers);
    s.out = OnDevice(std::vector<SampledRow>(rows));
    s.workspace = OnDevice(std::vector<char>(SampleWorkspaceBytes(rows, kVocab)));
    LinearParams product;
    product.is_y_f32 = true;
    product.x = x_;
    product.w = w_;
    product.y = logits;
    product.y_stride = product.n = kVocab;
    product.x_stride = product.k = model.hidden;
    product.num_rows = rows;
    Check(linear_->Tune({{product, {}}}, 1.0, nullptr), "tuning");
    const double apart = timer_.Time([&](int i, cudaStream_t stream) {
      product.pdl = i > 0;
      s.pdl = true;
      const cudaError_t error = linear_->Linear(product, stream);
      return error != cudaSuccess ? error : Sample(s, stream);
    });
    HeadParams head = {.x = x_, .x_stride = model.hidden, .w = w_, .num_rows = rows};
    head.vocab_size = head.num_valid_tokens = kVocab;
    head.k = model.hidden;
    head.row_slots = s.row_slots;
    head.slots = s.slots;
    head.logits = logits;
    head.logits_stride = kVocab;
    head.best = best;
    s.best = best;
    s.num_best = HeadParts(num_sms_, kVocab);
    const double us = timer_.Time([&](int i, cudaStream_t stream) {
      head.pdl = i > 0;
      const cudaError_t error = Head(head, num_sms_, stream);
      return error != cudaSuccess ? error : Sample(s, stream);
    });
    const double limit = 2.0 * kVocab * model.hidden / kBytesPerUs;
    std::printf("%3d greedy, %3d drawn %5s %-7s %5d %9.2f %9.2f %7.1f\n", rows - drawn, drawn, "",
                model.name, rows, apart, us, 100 * limit / us);
    for (const void* data :
         {static_cast<const void*>(logits), static_cast<const void*>(best),
          static_cast<const void*>(s.slots), static_cast<const void*>(s.row_slots),
          static_cast<const void*>(s.last_tokens), static_cast<const void*>(s.out),
          static_cast<const void*>(s.workspace)}) {
      cudaFree(const_cast<void*>(data));
    }
  }

  Timer timer_{8};
  int num_sms_ = 0;
  std::unique_ptr<LinearContext> linear_;
  void* w_ = nullptr;
  void* x_ = nullptr;
};

}  // namespace

void RunHeadBench() { HeadBench().Run(); }

}  // namespace mili::kernels::cuda
