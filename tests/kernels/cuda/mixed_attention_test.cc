#include <memory>

#include "kernels/cuda/embed/embed.h"
#include "kernels/cuda/silu/silu_mul.h"
#include "tests/kernels/cuda/attention_case.h"

namespace mili::kernels::cuda {
namespace {

// A case of which the first num_decodes sequences have one row each, with plans for prompts on
// num_prompt_sms of the GPU's SMs and decodes on the others.
struct SideBySide {
  SideBySide(const AttentionCase& c, int32_t num_decodes, int32_t num_prompt_sms, int32_t num_sms)
      : device(c),
        varlen_workspace(VarlenWorkspaceBytes(c.shape(), num_sms)),
        decode_workspace(DecodeWorkspaceBytes(c.shape(), DecodeCtas(num_sms - num_prompt_sms))) {
    const AttentionShape& shape = c.shape();
    EXPECT_EQ(cudaMemset(varlen_workspace.data(), 0, VarlenWorkspaceBytes(shape, num_sms)),
              cudaSuccess);
    varlen = {.shape = shape,
              .q = device.q.data(),
              .q_stride = c.q_stride(),
              .out = device.out.data(),
              .out_stride = c.out_stride(),
              .cache = device.cache,
              .scale = c.scale(),
              .num_tiles = VarlenTiles(shape, c.num_rows(), c.num_seqs(), num_sms),
              .num_sms = num_sms,
              .max_ctas = num_prompt_sms,
              .pdl = true};
    varlen.cache.page_table += int64_t{num_decodes} * varlen.cache.page_table_stride;
    varlen.cache.context_lens += num_decodes;
    std::vector<int32_t> tiles(VarlenPlanInts(varlen.num_tiles));
    const VarlenPlanUse use = PlanVarlen(
        shape, c.cu_seqlens().data() + num_decodes, c.context_lens().data() + num_decodes,
        c.num_seqs() - num_decodes, varlen.num_tiles, tiles.data(), num_prompt_sms);
    varlen_plan = std::make_unique<GpuArray<int32_t>>(tiles);
    varlen.plan = varlen_plan->data();
    varlen.workspace = use.has_parts ? varlen_workspace.data() : nullptr;

    const int32_t num_ctas = DecodeCtas(num_sms - num_prompt_sms);
    EXPECT_EQ(cudaMemset(decode_workspace.data(), 0, DecodeWorkspaceBytes(shape, num_ctas)),
              cudaSuccess);
    decode = {.shape = shape,
              .q = device.q.data(),
              .q_stride = c.q_stride(),
              .out = device.out.data(),
              .out_stride = c.out_stride(),
              .cache = device.cache,
              .scale = c.scale(),
              .grid = DecodeGridOf(num_decodes, shape.num_kv_heads, num_ctas),
              .workspace = decode_workspace.data(),
              .pdl = true,
              .is_beside = true};
    std::vector<int32_t> shares(DecodePlanInts(decode.grid.num_ctas));
    PlanDecode(c.context_lens().data(), num_decodes, shape.num_kv_heads, decode.grid,
               shares.data());
    decode_plan = std::make_unique<GpuArray<int32_t>>(shares);
    decode.plan = decode_plan->data();
  }

  DeviceCase device;
  GpuArray<uint8_t> varlen_workspace, decode_workspace;
  std::unique_ptr<GpuArray<int32_t>> varlen_plan, decode_plan;
  VarlenAttentionParams varlen;
  DecodeAttentionParams decode;
};

// gate_up of which SiluMul makes `rows`, exactly: silu(64) is 64.
std::vector<uint16_t> GateUpOf(const std::vector<uint16_t>& rows, DType dtype) {
  std::vector<uint16_t> gate_up(2 * rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    gate_up[i / 8 * 16 + i % 8] = ToBits(dtype, 64);
    gate_up[i / 8 * 16 + 8 + i % 8] = ToBits(dtype, FromBits(dtype, rows[i]) / 64);
  }
  return gate_up;
}

class MixedAttentionTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(cudaDeviceGetAttribute(&num_sms_, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
    int major = 0;
    ASSERT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
    if (major != 9) GTEST_SKIP() << "needs Hopper";
  }

  // On one stream, with early starts: something long, what writes the queries, attention of
  // prompts, attention of decodes, what reads the outputs.
  void ExpectAnswers(const AttentionCase& c, int32_t num_decodes) {
    const std::vector<uint16_t> gate_up = GateUpOf(c.q(), c.shape().dtype);
    const GpuArray<uint16_t> from(gate_up);
    const GpuArray<uint16_t> copy(static_cast<size_t>(c.num_rows() * c.out_stride()));
    std::vector<int32_t> all_rows(static_cast<size_t>(c.num_rows()));
    std::iota(all_rows.begin(), all_rows.end(), 0);
    const GpuArray<int32_t> rows(all_rows);
    for (const int32_t num_prompt_sms : {1, 7, num_sms_ / 2, num_sms_ - 1}) {
      SideBySide step(c, num_decodes, num_prompt_sms, num_sms_);
      VarlenAttentionParams ahead = step.varlen;
      ahead.out = copy.data();
      ahead.max_ctas = 1;
      ahead.pdl = false;
      for (int round = 0; round < 4; ++round) {
        ASSERT_EQ(cudaMemsetAsync(step.device.q.data(), 0xff, c.q().size() * 2, nullptr),
                  cudaSuccess);
        ASSERT_EQ(cudaMemsetAsync(step.device.out.data(), 0xff,
                                  all_rows.size() * c.out_stride() * 2, nullptr),
                  cudaSuccess);
        ASSERT_EQ(VarlenAttention(ahead, nullptr), cudaSuccess);
        ASSERT_EQ(SiluMul({.dtype = c.shape().dtype,
                           .gate_up = from.data(),
                           .num_tokens = c.num_rows(),
                           .size = static_cast<int32_t>(c.q_stride()),
                           .out = step.device.q.data(),
                           .pdl = true},
                          nullptr),
                  cudaSuccess);
        ASSERT_EQ(VarlenAttention(step.varlen, nullptr), cudaSuccess);
        ASSERT_EQ(DecodeAttention(step.decode, nullptr), cudaSuccess);
        ASSERT_EQ(Embed({.dtype = c.shape().dtype,
                         .table = step.device.out.data(),
                         .token_ids = rows.data(),
                         .num_tokens = c.num_rows(),
                         .vocab_size = c.num_rows(),
                         .hidden_size = static_cast<int32_t>(c.out_stride()),
                         .out = copy.data(),
                         .pdl = true},
                        nullptr),
                  cudaSuccess);
        ASSERT_LT(c.Error(copy.Read()), AttentionTolerance(c.shape().dtype))
            << num_prompt_sms << " SMs for prompts, round " << round;
      }
    }
  }

  int32_t num_sms_ = 0;
};

TEST_F(MixedAttentionTest, EndsNoSoonerThanThePromptsWhenTheseTakeLonger) {
  ExpectAnswers(AttentionCase({DType::kBF16, 128, 8, 2}, {{1, 5}, {1, 40}, {1, 16}, {40, 9000}}, 1),
                3);
}

TEST_F(MixedAttentionTest, EndsNoSoonerThanTheDecodesWhenTheseTakeLonger) {
  ExpectAnswers(AttentionCase({DType::kBF16, 64, 16, 4},
                              {{1, 20000}, {1, 3000}, {1, 1}, {1, 700}, {40, 40}, {2, 130}}, 2),
                4);
}

TEST_F(MixedAttentionTest, RefusesDecodesBesideWithoutAnEarlyStart) {
  const AttentionCase c({DType::kBF16, 128, 8, 2}, {{1, 5}, {3, 3}}, 3);
  SideBySide step(c, 1, 1, num_sms_);
  step.decode.pdl = false;
  EXPECT_EQ(DecodeAttention(step.decode, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace mili::kernels::cuda
