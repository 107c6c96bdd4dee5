#include "worker/engine/cuda/step_packer.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"

namespace mili::worker {
namespace {

namespace k = gpu::k;

uint32_t NumTokens(const StepBatch& batch, uint32_t row) {
  return static_cast<uint32_t>(batch.cu_seqlens[row + 1] - batch.cu_seqlens[row]);
}

constexpr uint32_t kPaddingRow = UINT32_MAX;  // one token that writes nothing

}  // namespace

StepPacker::StepPacker(const ModelConfig& config, const MemoryPlan& plan, const CudaWorkspace& ws)
    : plan_(plan), ws_(ws), attention_(AttentionShapeOf(config, plan.kv.dtype)) {
  order_.reserve(plan.max_num_seqs + kMaxGraphPrompts);
  first_tokens_.reserve(plan.max_num_seqs);
}

PackedStep StepPacker::Pack(const StepBatch& batch, std::span<const SlotRecord> records,
                            const StepPadding& padding, std::byte* host, const std::byte* device,
                            k::SampledRow* sampled) {
  packed_ = {};
  host_ = reinterpret_cast<int32_t*>(host);
  device_ = reinterpret_cast<const int32_t*>(device);
  used_words_ = 0;
  OrderRows(batch, padding);
  SetShape(batch, padding);
  PackTokens(batch);
  PackSequences(batch);
  PackPages(batch);
  PackHead(batch, sampled);
  PackRecords(records);
  packed_.size_bytes = used_words_ * sizeof(int32_t);
  MILI_CHECK(packed_.size_bytes <= ws_.staging_bytes, "the staging memory holds every step");
  return packed_;
}

CudaStepShape StepPacker::ShapeOf(const StepPadding& padding) const {
  CudaStepShape shape;
  shape.num_decode = static_cast<int32_t>(padding.num_decode);
  shape.num_varlen = static_cast<int32_t>(padding.num_prompts);
  const auto num_prompt_tokens = static_cast<int32_t>(padding.num_prompt_tokens);
  shape.num_tokens = shape.num_decode + num_prompt_tokens;
  if (shape.num_varlen > 0) {
    shape.num_varlen_tiles =
        k::VarlenTiles(attention_, num_prompt_tokens, shape.num_varlen, ws_.num_sms);
    shape.has_varlen_parts = true;
  }
  shape.num_head_rows = static_cast<int32_t>(padding.num_head_rows);
  return shape;
}

void StepPacker::SetShape(const StepBatch& batch, const StepPadding& padding) {
  packed_.num_samples = static_cast<int32_t>(batch.samples.size());
  packed_.num_scores = static_cast<int32_t>(batch.scores.size());
  packed_.is_padded = padding.is_any();
  if (packed_.is_padded) {
    packed_.shape = ShapeOf(padding);
    return;
  }
  CudaStepShape& shape = packed_.shape;
  shape.num_tokens = num_tokens_;
  shape.num_decode = num_decode_;
  shape.num_varlen = static_cast<int32_t>(batch.num_rows()) - num_decode_;
  shape.num_head_rows = packed_.num_samples;
  shape.has_scores = packed_.num_scores > 0;
}

void StepPacker::OrderRows(const StepBatch& batch, const StepPadding& padding) {
  order_.clear();
  for (uint32_t row = 0; row < batch.num_rows(); ++row) {
    if (NumTokens(batch, row) == 1) order_.push_back(row);
  }
  num_decode_ = static_cast<int32_t>(order_.size());
  if (padding.num_prompts > 0) order_.resize(padding.num_decode, kPaddingRow);
  num_before_prompts_ = static_cast<int32_t>(order_.size());
  for (uint32_t row = 0; row < batch.num_rows(); ++row) {
    if (NumTokens(batch, row) != 1) order_.push_back(row);
  }
  first_tokens_.resize(batch.num_rows());
  num_tokens_ = 0;
  for (const uint32_t row : order_) {
    if (row != kPaddingRow) first_tokens_[row] = num_tokens_;
    num_tokens_ += row == kPaddingRow ? 1 : static_cast<int32_t>(NumTokens(batch, row));
  }
}

int32_t StepPacker::TokenOnDevice(const StepBatch& batch, uint32_t row, uint32_t token_idx) const {
  return first_tokens_[row] + static_cast<int32_t>(token_idx - batch.cu_seqlens[row]);
}

int32_t* StepPacker::Take(uint64_t count) {
  int32_t* words = host_ + used_words_;
  used_words_ += (count + 3) / 4 * 4;
  return words;
}

int32_t* StepPacker::Segment(int32_t* to, uint64_t count, uint64_t padded_count, int32_t pad) {
  int32_t* words = Take(count);
  MILI_CHECK(packed_.layout.num_segments < k::LayOutStepParams::kMaxSegments, "arrays of a step");
  packed_.layout.segments[packed_.layout.num_segments++] = {
      .from = OnDevice(words),
      .to = to,
      .count = static_cast<int32_t>(count),
      .padded_count = static_cast<int32_t>(padded_count),
      .pad = pad};
  return words;
}

const int32_t* StepPacker::OnDevice(const int32_t* words) const {
  return device_ + (words - host_);
}

void StepPacker::PackTokens(const StepBatch& batch) {
  const uint64_t count = num_tokens_;
  const uint64_t padded = packed_.shape.num_tokens;
  int32_t* const token_ids = Segment(ws_.token_ids, count, padded, 0);
  int32_t* const positions = Segment(ws_.positions, count, padded, 0);
  int32_t* const slot_map = Segment(ws_.slot_map, count, padded, -1);
  int32_t* const feed_slots = Segment(ws_.feed_slots, count, padded, -1);
  int32_t next = 0;
  for (const uint32_t row : order_) {
    if (row == kPaddingRow) {
      token_ids[next] = positions[next] = 0;
      slot_map[next] = feed_slots[next] = -1;
      ++next;
      continue;
    }
    for (int64_t t = batch.cu_seqlens[row]; t < batch.cu_seqlens[row + 1]; ++t, ++next) {
      token_ids[next] = static_cast<int32_t>(batch.token_ids[t]);
      positions[next] = static_cast<int32_t>(batch.positions[t]);
      slot_map[next] = static_cast<int32_t>(batch.slot_map[t]);
      feed_slots[next] = -1;
    }
  }
  for (const uint32_t row : batch.fed_rows) {
    feed_slots[first_tokens_[row]] = static_cast<int32_t>(batch.slots[row].value);
  }
}

void StepPacker::PackSequences(const StepBatch& batch) {
  const uint64_t num_rows = order_.size();
  const uint64_t padded = packed_.shape.num_decode + packed_.shape.num_varlen;
  int32_t* const context_lens = Segment(ws_.context_lens, num_rows, padded, 0);
  int32_t* const cu_seqlens = Segment(ws_.cu_seqlens, num_rows + 1, num_rows + 1, 0);
  for (uint64_t i = 0; i < num_rows; ++i) {
    const bool is_padding = order_[i] == kPaddingRow;
    cu_seqlens[i] = is_padding ? static_cast<int32_t>(i) : first_tokens_[order_[i]];
    context_lens[i] = is_padding ? 0 : static_cast<int32_t>(batch.context_lens[order_[i]]);
  }
  cu_seqlens[num_rows] = num_tokens_;
  const auto num_varlen = static_cast<int32_t>(num_rows) - num_before_prompts_;
  // A captured step cannot: what would suit depends on the lengths.
  if (ws_.has_side_by_side && !packed_.is_padded && num_decode_ > 0 && num_varlen > 0) {
    packed_.shape.num_varlen_sms =
        k::SmsOfPrompts(attention_, cu_seqlens, context_lens, num_decode_, num_varlen, ws_.num_sms);
  }
  if (packed_.shape.num_decode > 0) {
    const k::DecodeGrid grid = ws_.DecodeGridFor(packed_.shape.num_decode, attention_.num_kv_heads,
                                                 packed_.shape.num_varlen_sms);
    const uint64_t ints = k::DecodePlanInts(grid.num_ctas);
    k::PlanDecode(context_lens, num_decode_, attention_.num_kv_heads, grid,
                  Segment(ws_.decode_plan, ints, ints, 0));
  }
  if (packed_.shape.num_varlen > 0) {
    int32_t& num_tiles = packed_.shape.num_varlen_tiles;
    if (!packed_.is_padded) {
      num_tiles =
          k::VarlenTiles(attention_, num_tokens_ - num_before_prompts_, num_varlen, ws_.num_sms);
    }
    const uint64_t ints = k::VarlenPlanInts(num_tiles);
    const k::VarlenPlanUse use = k::PlanVarlen(
        attention_, cu_seqlens + num_before_prompts_, context_lens + num_before_prompts_,
        num_varlen, num_tiles, Segment(ws_.varlen_plan, ints, ints, 0),
        packed_.shape.num_varlen_sms > 0 ? packed_.shape.num_varlen_sms : ws_.num_sms);
    if (!packed_.is_padded) {
      num_tiles = use.num_tiles;
      packed_.shape.has_varlen_parts = use.has_parts;
    }
  }
}

void StepPacker::PackPages(const StepBatch& batch) {
  const uint64_t num_rows = order_.size();
  const int64_t page_size = plan_.kv.page_size_tokens;
  const auto num_pages = [&](uint32_t row) -> int64_t {
    if (row == kPaddingRow) return 0;
    return (batch.context_lens[row] + page_size - 1) / page_size;
  };
  int32_t* const offsets = Take(num_rows + 1);
  offsets[0] = 0;
  for (uint64_t i = 0; i < num_rows; ++i) {
    offsets[i + 1] = offsets[i] + static_cast<int32_t>(num_pages(order_[i]));
  }
  int32_t* const pages = Take(offsets[num_rows]);
  for (uint64_t i = 0; i < num_rows; ++i) {
    if (order_[i] == kPaddingRow) continue;
    std::memcpy(pages + offsets[i],
                batch.page_table.data() + order_[i] * uint64_t(batch.page_table_stride),
                (offsets[i + 1] - offsets[i]) * sizeof(int32_t));
  }
  packed_.layout.page_offsets = OnDevice(offsets);
  packed_.layout.pages = OnDevice(pages);
  packed_.layout.page_table = ws_.page_table;
  packed_.layout.page_table_stride = ws_.page_table_stride;
  packed_.layout.num_seqs = static_cast<int32_t>(num_rows);
}

void StepPacker::PackHead(const StepBatch& batch, k::SampledRow* sampled) {
  constexpr uint64_t kPointerWords = sizeof(sampled) / sizeof(int32_t);
  std::memcpy(Segment(reinterpret_cast<int32_t*>(ws_.sampled_at), kPointerWords, kPointerWords, 0),
              &sampled, sizeof(sampled));
  const uint64_t padded = packed_.shape.num_head_rows;
  const uint64_t count = batch.samples.size();
  int32_t* const rows = Segment(ws_.head_rows, count, padded, -1);
  int32_t* const slots = Segment(ws_.head_slots, count, padded, -1);
  int32_t* const positions = Segment(ws_.head_positions, count, padded, 0);
  for (uint64_t i = 0; i < count; ++i) {
    const SampleRow& sample = batch.samples[i];
    rows[i] = TokenOnDevice(batch, sample.row_idx, sample.token_idx);
    slots[i] = static_cast<int32_t>(batch.slots[sample.row_idx].value);
    positions[i] = static_cast<int32_t>(sample.position);
  }
  const uint64_t num_scores = batch.scores.size();
  if (num_scores == 0) return;
  int32_t* const score_rows = Segment(ws_.score_rows, num_scores, num_scores, 0);
  int32_t* const targets = Segment(ws_.score_targets, num_scores, num_scores, 0);
  int32_t* const num_top = Segment(ws_.score_num_top, num_scores, num_scores, 0);
  for (uint64_t i = 0; i < num_scores; ++i) {
    const ScoreRow& score = batch.scores[i];
    score_rows[i] = TokenOnDevice(batch, score.row_idx, score.token_idx);
    targets[i] = static_cast<int32_t>(score.target);
    num_top[i] = static_cast<int32_t>(score.num_top);
  }
}

void StepPacker::PackRecords(std::span<const SlotRecord> records) {
  constexpr uint64_t kWords = sizeof(k::SlotSampling) / sizeof(int32_t);
  static_assert(sizeof(k::SlotSampling) % sizeof(int32_t) == 0);
  int32_t* const slots = Take(records.size());
  int32_t* const words = Take(records.size() * kWords);
  for (size_t i = 0; i < records.size(); ++i) {
    slots[i] = static_cast<int32_t>(records[i].slot.value);
    std::memcpy(words + i * kWords, &records[i].sampling, sizeof(k::SlotSampling));
  }
  packed_.layout.record_idxs = OnDevice(slots);
  packed_.layout.record_from = OnDevice(words);
  packed_.layout.records = reinterpret_cast<int32_t*>(ws_.slots);
  packed_.layout.num_records = static_cast<int32_t>(records.size());
  packed_.layout.record_words = static_cast<int32_t>(kWords);
}

}  // namespace mili::worker
