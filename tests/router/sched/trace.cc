#include "tests/router/sched/trace.h"

#include <random>
#include <string>
#include <utility>

#include <absl/strings/str_cat.h>

#include "tests/support/puppet_worker.h"

namespace mili::router::testing {
namespace {

// How often each op is drawn, out of the sum.
constexpr std::pair<OpKind, uint32_t> kWeights[] = {
    {OpKind::kSubmit, 90},      {OpKind::kPlan, 400}, {OpKind::kDeliver, 380}, {OpKind::kCancel, 6},
    {OpKind::kFinishChoice, 4}, {OpKind::kAbort, 3},  {OpKind::kFailRow, 2},   {OpKind::kLose, 4},
    {OpKind::kOpen, 30},        {OpKind::kMove, 4},   {OpKind::kExpire, 10},
};

const char* NameOf(OpKind kind) {
  constexpr const char* kNames[] = {"submit",        "plan",  "deliver",  "cancel",
                                    "finish_choice", "abort", "fail_row", "lose",
                                    "open",          "move",  "expire"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace

Trace RandomTrace(uint64_t seed, size_t num_ops) {
  std::mt19937_64 random(seed);
  const auto draw = [&](uint32_t below) { return static_cast<uint32_t>(random() % below); };
  Trace trace;
  trace.facts = mili::testing::PuppetFacts();
  trace.facts.page_size_tokens = 1 + draw(5);
  trace.facts.num_slots = 1 + draw(8);
  trace.facts.max_num_batched_tokens = 1 + draw(24);
  trace.facts.num_pages = (30 + draw(80)) / trace.facts.page_size_tokens;
  trace.facts.max_model_len = 60;
  trace.facts.vocab_size = 30;
  trace.options.run_ahead_depth = 1 + draw(3);
  trace.options.max_num_seqs = draw(2) == 0 ? 0 : 1 + draw(8);
  trace.options.policy =
      draw(2) == 0 ? SchedulerOptions::Policy::kFcfs : SchedulerOptions::Policy::kPriority;
  uint32_t sum = 0;
  for (const auto& [kind, weight] : kWeights) sum += weight;
  for (size_t i = 0; i < num_ops; ++i) {
    uint32_t drawn = draw(sum);
    for (const auto& [kind, weight] : kWeights) {
      if (drawn < weight) {
        trace.ops.push_back(
            {kind, static_cast<uint32_t>(random()), static_cast<uint32_t>(random())});
        break;
      }
      drawn -= weight;
    }
  }
  return trace;
}

Trace Shorten(Trace trace) {
  for (size_t length = trace.ops.size() / 2; length > 0; length /= 2) {
    for (size_t begin = 0; begin + length <= trace.ops.size();) {
      Trace shorter = trace;
      shorter.ops.erase(shorter.ops.begin() + begin, shorter.ops.begin() + begin + length);
      if (RunTrace(shorter).has_value()) {
        trace = std::move(shorter);
      } else {
        begin += length;
      }
    }
  }
  return trace;
}

std::string ToString(const Trace& trace) {
  std::string text = absl::StrCat(
      "page_size=", trace.facts.page_size_tokens, " pages=", trace.facts.num_pages,
      " slots=", trace.facts.num_slots, " budget=", trace.facts.max_num_batched_tokens,
      " depth=", trace.options.run_ahead_depth, " max_num_seqs=", trace.options.max_num_seqs,
      " priority=", trace.options.policy == SchedulerOptions::Policy::kPriority, "\n");
  for (const Op& op : trace.ops)
    absl::StrAppend(&text, NameOf(op.kind), " ", op.a, " ", op.b, "\n");
  return text;
}

}  // namespace mili::router::testing
