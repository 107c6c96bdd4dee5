// The GPU's linear layer against fp64 on the host: both kernels, odd shapes, every epilogue.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/linear/gated.h"
#include "kernels/cuda/linear/skinny.h"
#include "kernels/cuda/linear/wide.h"
#include "tests/kernels/cuda/linear_test_support.h"

namespace mili::kernels::cuda {
namespace {

class CudaLinear : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasDevice()) GTEST_SKIP() << "no CUDA device";
    std::string error;
    context_ = LinearContext::Create({}, &error);
    ASSERT_NE(context_, nullptr) << error;
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  void Run(const LinearParams& params) {
    ASSERT_EQ(context_->Linear(params, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  }

  void RunAndCheck(const Layer& layer) {
    SCOPED_TRACE(std::to_string(layer.num_rows) + " x " + std::to_string(layer.n) + " x " +
                 std::to_string(layer.k));
    const LayerData data(layer, ++seed_);
    data.Poison();
    Run(data.Params());
    if (!HasFatalFailure()) data.Check();
  }

  std::unique_ptr<LinearContext> context_;
  cudaStream_t stream_ = nullptr;
  uint64_t seed_ = 100;
};

constexpr DType kTypes[] = {DType::kBF16, DType::kF16};

TEST_F(CudaLinear, MultipliesOddShapesOfFewRows) {
  for (const DType dtype : kTypes) {
    for (const int m : {1, 2, 3, 8, 9, 16}) {
      for (const int n : {8, 24, 576, 2104, 4240}) {
        for (const int k : {64, 576, 1024, 1536})
          RunAndCheck({.dtype = dtype, .num_rows = m, .n = n, .k = k});
      }
    }
  }
}

TEST_F(CudaLinear, MultipliesTheMatricesOfModels) {
  for (const int m : {1, 5, 8, 16, 17, 64, 256}) {
    for (const auto& [n, k] : {std::pair{4096, 1024}, {1024, 3072}, {6144, 4096}, {4096, 12288}}) {
      RunAndCheck({.dtype = DType::kBF16, .num_rows = m, .n = n, .k = k, .has_add = true});
    }
  }
}

TEST_F(CudaLinear, MultipliesManyRows) {
  for (const DType dtype : kTypes) {
    RunAndCheck({.dtype = dtype, .num_rows = 4096, .n = 1536, .k = 1024, .has_add = true});
    RunAndCheck({.dtype = dtype,
                 .num_rows = 4096,
                 .n = 1024,
                 .k = 2048,
                 .has_fp8_weights = true,
                 .has_fp8_x = true});
  }
}

// Every way to cut a product, each with other epilogues.
TEST_F(CudaLinear, MultipliesBySeveralBlocksAndGroupsInTheWideKernel) {
  SkinnyDevice device;
  ASSERT_EQ(GetSkinnyDevice(0, &device), cudaSuccess);
  const auto run = [&](const Layer& layer) {
    const LayerData data(layer, ++seed_);
    ASSERT_TRUE(WideTakes(data.Params()));
    std::vector<WideCut> cuts = WideCuts(data.Params(), device);
    if (layer.num_rows <= 128) cuts.insert(cuts.end(), {{3, 1}, {3, 2}, {3, 4}, {3, 8}});
    for (const WideCut& cut : cuts) {
      SCOPED_TRACE(std::to_string(layer.num_rows) + " x " + std::to_string(layer.n) + " x " +
                   std::to_string(layer.k) + " in " + std::to_string(cut.groups) + " groups, " +
                   std::to_string(cut.splits) + " splits");
      data.Poison();
      ASSERT_EQ(WideLinear(data.Params(), cut, device, stream_), cudaSuccess);
      ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
      data.Check();
    }
  };
  for (const DType dtype : kTypes) {
    for (const int m : {1, 9, 16, 17, 33, 64, 100, 128, 200, 256, 300}) {
      run({.dtype = dtype, .num_rows = m, .n = 1096, .k = 1096, .has_add = true, .padding = 8});
      run({.dtype = dtype, .num_rows = m, .n = 512, .k = 832, .has_bias = true});
      run({.dtype = dtype, .num_rows = m, .n = 464, .k = 512, .is_y_f32 = true, .padding = 16});
      run({.dtype = dtype, .num_rows = m, .n = 1312, .k = 576, .silu_mul = true, .padding = 8});
      Layer fp8 = {.dtype = dtype, .num_rows = m, .n = 1040, .k = 1232, .has_add = true};
      fp8.has_fp8_weights = fp8.has_fp8_x = true;
      run(fp8);
      fp8.silu_mul = true;
      fp8.has_add = false;
      run(fp8);
    }
  }
}

TEST_F(CudaLinear, TakesSiluMulOfManyRowsInTheGatedKernel) {
  SkinnyDevice device;
  ASSERT_EQ(GetSkinnyDevice(0, &device), cudaSuccess);
  ASSERT_EQ(PrepareGated(), cudaSuccess);
  for (const DType dtype : kTypes) {
    for (const int m : {1, 100, 128, 129, 256, 300, 513, 2600}) {
      for (const auto& [n, k] : {std::pair{6144, 1024}, {1312, 576}, {16, 64}, {2320, 1096}}) {
        const LayerData data(
            {.dtype = dtype, .num_rows = m, .n = n, .k = k, .silu_mul = true, .padding = 8},
            ++seed_);
        for (const int groups : {2, 3}) {
          SCOPED_TRACE(std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) +
                       " in " + std::to_string(groups) + " groups");
          data.Poison();
          ASSERT_EQ(GatedLinear(data.Params(), groups, device, stream_), cudaSuccess);
          ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
          data.Check();
        }
      }
    }
  }
}

TEST_F(CudaLinear, MultipliesShapesThatTheSkinnyKernelDoesNotTake) {
  for (const DType dtype : kTypes) {
    for (const int m : {1, 7, 17, 64, 257}) {
      for (const int k : {8, 72, 1000})
        RunAndCheck({.dtype = dtype, .num_rows = m, .n = 136, .k = k});
    }
  }
}

TEST_F(CudaLinear, AddsBiasAndResidual) {
  for (const DType dtype : kTypes) {
    for (const int m : {1, 16, 40}) {
      RunAndCheck({.dtype = dtype, .num_rows = m, .n = 1032, .k = 896, .has_bias = true});
      RunAndCheck({.dtype = dtype, .num_rows = m, .n = 1032, .k = 896, .has_add = true});
      RunAndCheck({.dtype = dtype,
                   .num_rows = m,
                   .n = 1032,
                   .k = 896,
                   .has_bias = true,
                   .has_add = true,
                   .padding = 16});
      RunAndCheck({.dtype = dtype, .num_rows = m, .n = 1032, .k = 896, .adds_in_place = true});
    }
  }
}

TEST_F(CudaLinear, WritesLogitsInFp32) {
  for (const DType dtype : kTypes) {
    for (const int m : {1, 11, 70}) {
      RunAndCheck(
          {.dtype = dtype, .num_rows = m, .n = 5000, .k = 1024, .is_y_f32 = true, .padding = 8});
    }
  }
}

TEST_F(CudaLinear, TakesSiluMulOfInterleavedGateAndUp) {
  for (const DType dtype : kTypes) {
    for (const int m : {1, 2, 8, 13, 16}) {
      for (const auto& [n, k] : {std::pair{3072, 576}, {6144, 1024}, {1792, 4096}, {64, 12288}}) {
        const Layer layer = {
            .dtype = dtype, .num_rows = m, .n = n, .k = k, .silu_mul = true, .padding = 8};
        ASSERT_TRUE(context_->FusesSiluMul(LayerData(layer, 1).Params()));
        RunAndCheck(layer);
      }
    }
  }
}

TEST_F(CudaLinear, NormalizesItsInput) {
  for (const DType dtype : kTypes) {
    for (const int m : {1, 3, 8, 16}) {
      for (const int k : {64, 576, 1024, 4096}) {
        const Layer layer = {.dtype = dtype, .num_rows = m, .n = 264, .k = k, .has_norm = true};
        ASSERT_TRUE(context_->FusesNorm(LayerData(layer, 1).Params()));
        RunAndCheck(layer);
      }
      RunAndCheck({.dtype = dtype,
                   .num_rows = m,
                   .n = 512,
                   .k = 1024,
                   .silu_mul = true,
                   .has_norm = true,
                   .has_fp8_weights = true,
                   .padding = 8});
    }
  }
}

TEST_F(CudaLinear, MultipliesFp8WeightsBy16BitRows) {
  for (const DType dtype : kTypes) {
    for (const int m : {1, 4, 8, 12, 16}) {
      for (const auto& [n, k] : {std::pair{1024, 3072}, {520, 576}, {4096, 4096}, {256, 12288}}) {
        RunAndCheck({.dtype = dtype,
                     .num_rows = m,
                     .n = n,
                     .k = k,
                     .has_add = true,
                     .has_fp8_weights = true});
      }
      RunAndCheck({.dtype = dtype,
                   .num_rows = m,
                   .n = 3072,
                   .k = 1024,
                   .silu_mul = true,
                   .has_fp8_weights = true});
    }
  }
}

TEST_F(CudaLinear, MultipliesFp8WeightsByFp8Rows) {
  for (const DType dtype : kTypes) {
    for (const int m : {1, 8, 16, 17, 64, 200}) {
      RunAndCheck({.dtype = dtype,
                   .num_rows = m,
                   .n = 1024,
                   .k = 3072,
                   .has_fp8_weights = true,
                   .has_fp8_x = true});
      RunAndCheck({.dtype = dtype,
                   .num_rows = m,
                   .n = 1024,
                   .k = 512,
                   .has_add = true,
                   .has_fp8_weights = true,
                   .has_fp8_x = true});
    }
  }
}

// A row's numbers are the same alone and in a batch of up to kMaxSkinnyRows in the skinny kernel.
TEST_F(CudaLinear, GivesARowTheSameNumbersInAnyFewRowsOfTheSkinnyKernel) {
  SkinnyDevice device;
  ASSERT_EQ(GetSkinnyDevice(0, &device), cudaSuccess);
  for (const auto& [n, k] : {std::pair{6144, 1024}, {1024, 2048}, {512, 12288}}) {
    const LayerData data({.dtype = DType::kBF16, .num_rows = 16, .n = n, .k = k}, 7);
    const auto rows_of = [&](int m) {
      LinearParams params = data.Params();
      params.num_rows = m;
      data.Poison();
      EXPECT_EQ(SkinnyLinear(params, device, stream_), cudaSuccess);
      EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
      return data.Output();
    };
    const std::vector<float> together = rows_of(16);
    for (const int m : {1, 5, 8, 11}) {
      const std::vector<float> alone = rows_of(m);
      for (size_t i = 0; i < size_t(m) * data.y_stride(); ++i) ASSERT_EQ(alone[i], together[i]);
    }
  }
}

// A chain in which every layer reads what the one before it wrote, replayed from a graph.
TEST_F(CudaLinear, WaitsForTheLayerBeforeItUnderPdl) {
  for (const int m : {1, 16}) {
    constexpr int kSize = 2048;
    const LayerData even(
        {.dtype = DType::kBF16, .num_rows = m, .n = kSize, .k = kSize, .has_add = true}, 3);
    const LayerData odd({.dtype = DType::kBF16, .num_rows = m, .n = kSize, .k = kSize}, 4);
    const DeviceArray<uint16_t> spare(size_t(m) * kSize);
    const auto chain = [&](bool pdl) {
      for (int i = 0; i < 40; ++i) {
        LinearParams params = (i % 2 == 0 ? even : odd).Params();
        if (i > 0) params.x = (i % 2 == 0 ? odd : even).Params().y;
        params.pdl = pdl && i > 0;
        ASSERT_EQ(context_->Linear(params, stream_), cudaSuccess);
      }
    };
    even.Poison();
    odd.Poison();
    chain(false);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    const std::vector<float> want = odd.Output();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    chain(true);
    ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    for (int repeat = 0; repeat < 20; ++repeat) {
      even.Poison();
      odd.Poison();
      ASSERT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
      ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
      const std::vector<float> got = odd.Output();
      for (size_t i = 0; i < size_t(m) * kSize; ++i) ASSERT_EQ(got[i], want[i]);
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
  }
}

TEST_F(CudaLinear, StaysRightWhenTunedAndWhenTheTuningIsRestored) {
  const Layer layer = {.dtype = DType::kBF16, .num_rows = 96, .n = 1024, .k = 768, .has_add = true};
  const LayerData data(layer, 9);
  const LayerData other(layer, 10);
  std::string error;
  const std::string before = context_->SaveTuning();
  const std::vector<LinearTuneRequest> requests = {
      {data.Params(), {data.Params().w, other.Params().w}}};
  ASSERT_EQ(context_->Tune(requests, 10.0, stream_), cudaSuccess);
  const std::string tuned = context_->SaveTuning();
  EXPECT_GT(tuned.size(), before.size());
  RunAndCheck(layer);
  Layer fewer = layer;
  fewer.num_rows = 70;
  RunAndCheck(fewer);

  const auto restored = LinearContext::Create({}, &error);
  ASSERT_NE(restored, nullptr) << error;
  ASSERT_TRUE(restored->RestoreTuning(tuned, &error)) << error;
  data.Poison();
  ASSERT_EQ(restored->Linear(data.Params(), stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  data.Check();
  // Without time nothing more is tuned.
  Layer later = layer;
  later.num_rows = 200;
  const LayerData not_tuned(later, 11);
  ASSERT_EQ(context_->Tune({{not_tuned.Params(), {}}}, 0.0, stream_), cudaSuccess);
  EXPECT_EQ(context_->SaveTuning(), tuned);
  EXPECT_FALSE(restored->RestoreTuning(tuned.substr(1), &error));
  EXPECT_EQ(restored->SaveTuning(), before);
}

// As test models have them: every candidate runs on matrices smaller than any of its tiles.
TEST_F(CudaLinear, TunesTheMatricesOfTinyModels) {
  for (const int m : {16, 40, 200}) {
    for (const auto& [n, k] : {std::pair{8, 64}, {72, 64}, {136, 128}, {24, 256}, {200, 512}}) {
      for (const bool is_fp8 : {false, true}) {
        const Layer layer = {.dtype = DType::kBF16,
                             .num_rows = m,
                             .n = n,
                             .k = k,
                             .has_add = true,
                             .has_fp8_weights = is_fp8,
                             .has_fp8_x = is_fp8};
        const LayerData data(layer, ++seed_);
        ASSERT_EQ(context_->Tune({{data.Params(), {}}}, 10.0, stream_), cudaSuccess);
        RunAndCheck(layer);
      }
    }
  }
}

TEST_F(CudaLinear, RefusesWhatTheContractForbids) {
  const LayerData data({.dtype = DType::kBF16, .num_rows = 4, .n = 64, .k = 128}, 5);
  const auto refuses = [&](auto change) {
    LinearParams params = data.Params();
    change(&params);
    return context_->Linear(params, stream_) == cudaErrorInvalidValue;
  };
  EXPECT_TRUE(refuses([](LinearParams* p) { p->num_rows = 0; }));
  EXPECT_TRUE(refuses([](LinearParams* p) { p->k = 100; }));
  EXPECT_TRUE(refuses([](LinearParams* p) { p->n = 63; }));
  EXPECT_TRUE(refuses([](LinearParams* p) { p->x_stride = 64; }));
  EXPECT_TRUE(refuses([](LinearParams* p) { p->dtype = DType::kF32; }));
  EXPECT_TRUE(refuses([](LinearParams* p) { p->x = static_cast<const char*>(p->x) + 2; }));
  EXPECT_TRUE(refuses([](LinearParams* p) { p->w = nullptr; }));
}

}  // namespace
}  // namespace mili::kernels::cuda
