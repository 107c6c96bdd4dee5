#include "worker/program/bench.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/clock.h>

#include "common/base/mailbox.h"
#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/core/gpu_memory_plan.h"
#include "worker/engine/engine.h"
#include "worker/program/load.h"

namespace mili::worker {
namespace {

constexpr int kStepsInFlight = 2;  // as the router does by default

struct Measurement {
  uint32_t concurrency = 0;
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  double first_token_ms = 0;  // of the first sequence
  double step_p50_ms = 0;     // decode steps, computation only
  double idle_p50_ms = 0;     // of the device between two of them
};

template <typename Get>
double MedianOf(std::vector<Measurement> runs, Get get) {
  std::sort(runs.begin(), runs.end(), [&](auto& a, auto& b) { return get(a) < get(b); });
  return get(runs[runs.size() / 2]);
}

class Inbox final : public ResultSink {
 public:
  void OnResult(StepResult result) override { news.Post(std::move(result)); }
  void OnRefused(absl::Status status) override { news.Post(std::move(status)); }
  Mailbox<absl::StatusOr<StepResult>> news{0};
};

// One epoch: all prompts in chunks, then all sequences side by side, greedy.
class Run {
 public:
  Run(const Settings& settings, const LoadedModel& model, Engine* engine, uint32_t concurrency)
      : settings_(settings),
        model_(model),
        engine_(engine),
        concurrency_(concurrency),
        inbox_(std::make_shared<Inbox>()),
        epoch_(engine->last_epoch().value + 1) {}
  ~Run() { engine_->Detach(epoch_); }

  absl::StatusOr<Measurement> Measure() {
    MILI_RETURN_IF_ERROR(engine_->Attach(epoch_, inbox_));
    Measurement measured;
    measured.concurrency = concurrency_;
    const absl::Time start = absl::Now();
    MILI_RETURN_IF_ERROR(Prefill(start, &measured));
    const absl::Time prefilled = absl::Now();
    MILI_RETURN_IF_ERROR(Decode());
    const absl::Duration decode = absl::Now() - prefilled;
    const double prompt_tokens = double{1} * concurrency_ * settings_.bench_prompt_tokens;
    const double decode_tokens = double{1} * concurrency_ * (settings_.bench_output_tokens - 1);
    measured.prefill_tokens_per_s = prompt_tokens / absl::ToDoubleSeconds(prefilled - start);
    if (!steps_ms_.empty()) {
      measured.decode_tokens_per_s = decode_tokens / absl::ToDoubleSeconds(decode);
      std::sort(steps_ms_.begin(), steps_ms_.end());
      measured.step_p50_ms = steps_ms_[steps_ms_.size() / 2];
      std::sort(idle_ms_.begin(), idle_ms_.end());
      measured.idle_p50_ms = idle_ms_[idle_ms_.size() / 2];
    }
    return measured;
  }

 private:
  StepPlan NextPlan() {
    StepPlan plan;
    plan.epoch = epoch_;
    plan.step_id = StepId(++last_step_);
    return plan;
  }

  SeqStart StartOf(uint32_t slot) const {
    SeqStart start;
    start.slot = SlotId(slot);
    for (uint32_t i = 0; i < settings_.bench_prompt_tokens; ++i) {
      start.token_ids.push_back((17 * i + 5 + slot) % std::min(model_.config.vocab_size, 1000u));
    }
    start.num_prompt_tokens = settings_.bench_prompt_tokens;
    const uint32_t page_size = model_.plan.kv.page_size_tokens;
    const uint32_t tokens = settings_.bench_prompt_tokens + settings_.bench_output_tokens;
    const uint32_t num_pages = (tokens + page_size - 1) / page_size;
    for (uint32_t i = 0; i < num_pages; ++i) start.pages.push_back(PageId(slot * num_pages + i));
    start.sampling.temperature = 0;
    return start;
  }

  absl::StatusOr<StepResult> Take() {
    absl::StatusOr<StepResult> news = *inbox_->news.Take();
    --in_flight_;
    if (!news.ok()) return news;
    for (const RowResult& row : news->rows) MILI_RETURN_IF_ERROR(row.status);
    return news;
  }
  absl::Status Post(StepPlan plan) {
    ++in_flight_;
    return engine_->Post(std::move(plan));
  }

  absl::Status Prefill(absl::Time start, Measurement* measured) {
    const uint32_t budget = model_.plan.max_num_batched_tokens;
    uint32_t slot = 0;
    uint32_t done = 0;  // tokens of the slot's prompt
    bool has_first = false;
    while (slot < concurrency_ || in_flight_ > 0) {
      while (slot < concurrency_ && in_flight_ < kStepsInFlight) {
        StepPlan plan = NextPlan();
        for (uint32_t left = budget; left > 0 && slot < concurrency_;) {
          if (done == 0) plan.start.push_back(StartOf(slot));
          const uint32_t count = std::min(left, settings_.bench_prompt_tokens - done);
          const bool is_last = done + count == settings_.bench_prompt_tokens;
          plan.step.push_back({SlotId(slot), count, {}, TokenSource::kKnown, is_last});
          left -= count;
          done = is_last ? 0 : done + count;
          slot += is_last ? 1 : 0;
        }
        MILI_RETURN_IF_ERROR(Post(std::move(plan)));
      }
      MILI_ASSIGN_OR_RETURN(const StepResult result, Take());
      if (!has_first && !result.rows.empty()) {
        has_first = true;
        measured->first_token_ms = absl::ToDoubleMilliseconds(absl::Now() - start);
      }
    }
    return absl::OkStatus();
  }

  absl::Status Decode() {
    uint32_t left = settings_.bench_output_tokens - 1;
    while (left > 0 || in_flight_ > 0) {
      for (; left > 0 && in_flight_ < kStepsInFlight; --left) {
        StepPlan plan = NextPlan();
        for (uint32_t slot = 0; slot < concurrency_; ++slot) {
          plan.step.push_back({SlotId(slot), 1, {}, TokenSource::kLastSampled, true});
        }
        MILI_RETURN_IF_ERROR(Post(std::move(plan)));
      }
      MILI_ASSIGN_OR_RETURN(const StepResult result, Take());
      steps_ms_.push_back(absl::ToDoubleMilliseconds(result.compute));
      idle_ms_.push_back(absl::ToDoubleMilliseconds(result.idle));
    }
    return absl::OkStatus();
  }

  const Settings& settings_;
  const LoadedModel& model_;
  Engine* const engine_;
  const uint32_t concurrency_;
  const std::shared_ptr<Inbox> inbox_;
  const Epoch epoch_;
  uint64_t last_step_ = 0;
  int in_flight_ = 0;
  std::vector<double> steps_ms_;
  std::vector<double> idle_ms_;
};

absl::StatusOr<Measurement> MeasureMedian(const Settings& settings, const LoadedModel& model,
                                          Engine* engine, uint32_t concurrency) {
  std::vector<Measurement> runs;
  for (uint32_t i = 0; i <= settings.bench_repeat; ++i) {
    MILI_ASSIGN_OR_RETURN(const Measurement run,
                          Run(settings, model, engine, concurrency).Measure());
    if (i > 0) runs.push_back(run);  // the first one warms up
  }
  Measurement median;
  median.concurrency = concurrency;
  median.prefill_tokens_per_s = MedianOf(runs, [](auto& m) { return m.prefill_tokens_per_s; });
  median.decode_tokens_per_s = MedianOf(runs, [](auto& m) { return m.decode_tokens_per_s; });
  median.first_token_ms = MedianOf(runs, [](auto& m) { return m.first_token_ms; });
  median.step_p50_ms = MedianOf(runs, [](auto& m) { return m.step_p50_ms; });
  median.idle_p50_ms = MedianOf(runs, [](auto& m) { return m.idle_p50_ms; });
  return median;
}

std::string FieldsOf(const Measurement& m) {
  return absl::StrFormat(
      "\"concurrency\": %d, \"prefill_tokens_per_s\": %.1f, \"decode_tokens_per_s\": %.1f, "
      "\"first_token_ms\": %.2f, \"step_p50_ms\": %.3f, \"idle_p50_ms\": %.3f",
      m.concurrency, m.prefill_tokens_per_s, m.decode_tokens_per_s, m.first_token_ms, m.step_p50_ms,
      m.idle_p50_ms);
}

void Print(const Settings& settings, const LoadedModel& model,
           const std::vector<Measurement>& all) {
  if (settings.json) {
    std::string runs;
    for (const Measurement& m : all) {
      absl::StrAppend(&runs, runs.empty() ? "" : ", ", "{", FieldsOf(m), "}");
    }
    // The fields of the first concurrency stand at the top as well, for scripts that compare one.
    std::printf(
        "{%s, \"prompt_tokens\": %u, \"output_tokens\": %u, \"load_s\": %.3f, "
        "\"device\": \"%s\", \"runs\": [%s]}\n",
        FieldsOf(all.front()).c_str(), settings.bench_prompt_tokens, settings.bench_output_tokens,
        absl::ToDoubleSeconds(model.facts.load), model.facts.device.c_str(), runs.c_str());
    return;
  }
  std::printf("%s (%s) on %s: %u prompt tokens, %u output tokens, median of %u\n",
              model.facts.model_name.c_str(), model.facts.weight_dtype.c_str(),
              model.facts.device.c_str(), settings.bench_prompt_tokens,
              settings.bench_output_tokens, settings.bench_repeat);
  std::printf("%11s  %13s  %12s  %14s  %11s  %11s\n", "concurrency", "prefill tok/s",
              "decode tok/s", "first token ms", "step p50 ms", "idle p50 ms");
  for (const Measurement& m : all) {
    std::printf("%11u  %13.1f  %12.1f  %14.2f  %11.3f  %11.3f\n", m.concurrency,
                m.prefill_tokens_per_s, m.decode_tokens_per_s, m.first_token_ms, m.step_p50_ms,
                m.idle_p50_ms);
  }
}

}  // namespace

absl::Status RunBench(const Settings& asked) {
  Settings settings = asked;
  const uint32_t context = settings.bench_prompt_tokens + settings.bench_output_tokens;
  const uint32_t most =
      *std::max_element(settings.bench_concurrency.begin(), settings.bench_concurrency.end());
  MILI_ASSIGN_OR_RETURN(const Device device, OpenDevice(settings));
  if (!device.fallback.empty()) {
    std::fprintf(stderr, "computing on the CPU: %s\n", device.fallback.c_str());
  }
  const uint32_t usual = device.gpu ? GpuMemoryLimits().max_num_seqs : MemoryLimits().max_num_seqs;
  settings.max_num_seqs = std::max({settings.max_num_seqs, usual, most});
  MILI_ASSIGN_OR_RETURN(LoadedModel model, LoadModel(settings, device, {}));
  const uint32_t page_size = model.plan.kv.page_size_tokens;
  const uint64_t pages_needed = uint64_t{most} * ((context + page_size - 1) / page_size);
  if (context > model.plan.max_model_len || pages_needed > model.plan.num_pages) {
    return absl::InvalidArgumentError(absl::StrCat(
        most, " sequences of ", context, " tokens do not fit: the context is ",
        model.plan.max_model_len, ", the KV cache holds ", model.plan.num_kv_tokens(), " tokens"));
  }
  const std::unique_ptr<Engine> engine = MakeEngine(model, nullptr, nullptr);
  std::vector<Measurement> all;
  for (const uint32_t concurrency : settings.bench_concurrency) {
    MILI_ASSIGN_OR_RETURN(Measurement m, MeasureMedian(settings, model, engine.get(), concurrency));
    all.push_back(m);
  }
  Print(settings, model, all);
  return absl::OkStatus();
}

}  // namespace mili::worker
