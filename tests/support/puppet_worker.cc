#include "tests/support/puppet_worker.h"

#include <algorithm>
#include <set>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"

namespace mili::testing {
namespace {

absl::Status Broken(const StepPlan* plan, SlotId slot, absl::string_view rule) {
  return absl::InvalidArgumentError(
      absl::StrCat(plan == nullptr ? "" : absl::StrCat("step ", plan->step_id.value, ", "), "slot ",
                   slot.value, ": ", rule));
}

uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9;
  x ^= x >> 27;
  x *= 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

WorkerFacts PuppetFacts() {
  WorkerFacts facts;
  facts.model_digest = "model";
  facts.model_name = "puppet";
  facts.page_size_tokens = 4;
  facts.num_pages = 64;
  facts.num_slots = 8;
  facts.max_num_batched_tokens = 32;
  facts.max_model_len = 128;
  facts.vocab_size = 100;
  return facts;
}

uint64_t ExtendDigest(uint64_t digest, TokenId token) { return Mix(digest + token + 1); }

TokenId PuppetSample(const SamplingParams& sampling, uint64_t digest, uint64_t position,
                     uint32_t num_output, uint32_t vocab_size) {
  const uint64_t draw =
      Mix(digest ^ Mix(sampling.seed ^ Mix(position ^ Mix(sampling.choice_idx + 1))));
  TokenId id = static_cast<TokenId>(draw % vocab_size);
  if (num_output < sampling.min_tokens) {
    const auto& banned = sampling.banned_token_ids;
    while (std::find(banned.begin(), banned.end(), id) != banned.end()) id = (id + 1) % vocab_size;
  }
  return id;
}

PuppetStream UndisturbedStream(const Request& request, uint32_t choice_idx, uint32_t vocab_size) {
  PuppetStream stream;
  SamplingParams sampling = request.sampling;
  sampling.choice_idx = choice_idx;
  uint64_t digest = kEmptyDigest;
  for (TokenId id : request.prompt_token_ids) digest = ExtendDigest(digest, id);
  const std::vector<TokenId>& stops = request.stop_token_ids;
  while (stream.tokens.size() < request.max_tokens) {
    const uint32_t num_output = static_cast<uint32_t>(stream.tokens.size());
    const uint64_t position = request.prompt_token_ids.size() + num_output;
    const TokenId id = PuppetSample(sampling, digest, position, num_output, vocab_size);
    stream.tokens.push_back(id);
    digest = ExtendDigest(digest, id);
    if (num_output >= sampling.min_tokens &&
        std::find(stops.begin(), stops.end(), id) != stops.end()) {
      stream.reason = FinishReason::kStop;
      break;
    }
  }
  return stream;
}

float PuppetPromptLogprob(uint64_t digest_before, TokenId token) {
  return -static_cast<float>(ExtendDigest(digest_before, token) % 1000);
}

PuppetWorker::PuppetWorker(const WorkerFacts& facts, Epoch epoch)
    : facts_(facts),
      epoch_(epoch),
      slots_(facts.num_slots),
      page_owner_(facts.num_pages),
      arena_(size_t{facts.num_pages} * facts.page_size_tokens, 0) {}

uint32_t PuppetWorker::num_slots_held() const {
  return static_cast<uint32_t>(std::count_if(slots_.begin(), slots_.end(),
                                             [](const auto& slot) { return slot.has_value(); }));
}

absl::Status PuppetWorker::Release(SlotId slot) {
  if (slot.value >= slots_.size()) return Broken(nullptr, slot, "no such slot");
  if (!slots_[slot.value].has_value()) return Broken(nullptr, slot, "released, but is empty");
  for (PageId page : slots_[slot.value]->pages) page_owner_[page.value].reset();
  slots_[slot.value].reset();
  return absl::OkStatus();
}

absl::Status PuppetWorker::TakePages(SlotId slot, const std::vector<PageId>& pages) {
  for (PageId page : pages) {
    if (page.value >= page_owner_.size()) return Broken(nullptr, slot, "no such page");
    if (page_owner_[page.value].has_value()) {
      return Broken(nullptr, slot,
                    absl::StrCat("page ", page.value, " is slot ", page_owner_[page.value]->value,
                                 "'s already"));
    }
    page_owner_[page.value] = slot;
    slots_[slot.value]->pages.push_back(page);
  }
  return absl::OkStatus();
}

absl::Status PuppetWorker::Start(const SeqStart& start) {
  if (start.slot.value >= slots_.size()) return Broken(nullptr, start.slot, "no such slot");
  if (slots_[start.slot.value].has_value()) return Broken(nullptr, start.slot, "is not empty");
  if (start.token_ids.empty() || start.num_prompt_tokens == 0 ||
      start.num_prompt_tokens > start.token_ids.size()) {
    return Broken(nullptr, start.slot, "starts without a prompt");
  }
  if (start.token_ids.size() > facts_.max_model_len) {
    return Broken(nullptr, start.slot, "is longer than the context");
  }
  if (start.num_cached_tokens != 0) return Broken(nullptr, start.slot, "nothing is cached yet");
  Slot slot;
  slot.tokens = start.token_ids;
  slot.num_started = static_cast<uint32_t>(start.token_ids.size());
  slot.num_prompt = start.num_prompt_tokens;
  slot.sampling = start.sampling;
  slots_[start.slot.value] = std::move(slot);
  return TakePages(start.slot, start.pages);
}

absl::Status PuppetWorker::CheckStep(const SeqStep& step) const {
  const Slot& slot = *slots_[step.slot.value];
  const uint32_t end = slot.num_computed + step.num_tokens;
  if (step.num_tokens == 0) return Broken(nullptr, step.slot, "computes nothing");
  if (end > slot.tokens.size()) return Broken(nullptr, step.slot, "computes unknown tokens");
  if (end > facts_.max_model_len) return Broken(nullptr, step.slot, "leaves the context");
  if (end > slot.pages.size() * facts_.page_size_tokens) {
    return Broken(nullptr, step.slot, "has too few pages");
  }
  if (step.sample != (end == slot.tokens.size())) {
    return Broken(nullptr, step.slot, "samples exactly after the last known token");
  }
  const bool is_known = step.source == TokenSource::kKnown;
  if (is_known && end > slot.num_started) {
    return Broken(nullptr, step.slot, "feeds a sampled token as known");
  }
  if (!is_known && (step.num_tokens != 1 || end <= slot.num_started)) {
    return Broken(nullptr, step.slot, "has no last sampled token to feed");
  }
  return absl::OkStatus();
}

absl::Status PuppetWorker::CheckHistory(const Slot& slot) const {
  uint64_t digest = kEmptyDigest;
  for (uint32_t p = 0; p < slot.num_computed; ++p) {
    digest = ExtendDigest(digest, slot.tokens[p]);
    const size_t page = slot.pages[p / facts_.page_size_tokens].value;
    if (arena_[page * facts_.page_size_tokens + p % facts_.page_size_tokens] != digest) {
      return absl::InternalError(
          absl::StrCat("page ", page, " does not hold position ", p, " of this sequence"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RowResult> PuppetWorker::Compute(const SeqStep& step) {
  Slot& slot = *slots_[step.slot.value];
  if (absl::Status s = CheckHistory(slot); !s.ok()) return Broken(nullptr, step.slot, s.message());
  RowResult row;
  row.slot = step.slot;
  for (uint32_t i = 0; i < step.num_tokens; ++i) {
    const uint32_t p = slot.num_computed++;
    slot.digest = ExtendDigest(slot.digest, slot.tokens[p]);
    const size_t page = slot.pages[p / facts_.page_size_tokens].value;
    arena_[page * facts_.page_size_tokens + p % facts_.page_size_tokens] = slot.digest;
    if (slot.sampling.num_prompt_logprobs.has_value() && p + 1 < slot.num_prompt) {
      const TokenId next = slot.tokens[p + 1];
      row.prompt_logprobs.push_back(
          {.id = next, .logprob = PuppetPromptLogprob(slot.digest, next), .rank = 1, .top = {}});
    }
  }
  if (step.sample) {
    const auto num_output = static_cast<uint32_t>(slot.tokens.size()) - slot.num_prompt;
    const TokenId id =
        PuppetSample(slot.sampling, slot.digest, slot.tokens.size(), num_output, facts_.vocab_size);
    slot.tokens.push_back(id);
    row.tokens.push_back({.id = id, .logprob = 0, .rank = 0, .top = {}});
  }
  return row;
}

absl::StatusOr<StepResult> PuppetWorker::Execute(const StepPlan& plan) {
  if (plan.epoch != epoch_) return absl::FailedPreconditionError("a plan of another epoch");
  if (plan.step_id.value != last_step_.value + 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("step ", plan.step_id.value, " follows step ", last_step_.value));
  }
  last_step_ = plan.step_id;
  for (SlotId slot : plan.release) MILI_RETURN_IF_ERROR(Release(slot));
  for (const SeqStart& start : plan.start) MILI_RETURN_IF_ERROR(Start(start));
  uint64_t num_tokens = 0;
  std::set<SlotId> seen;
  StepResult result;
  result.epoch = plan.epoch;
  result.step_id = plan.step_id;
  for (const SeqStep& step : plan.step) {
    if (step.slot.value >= slots_.size() || !slots_[step.slot.value].has_value()) {
      return Broken(&plan, step.slot, "has no sequence");
    }
    if (!seen.insert(step.slot).second) return Broken(&plan, step.slot, "has two rows");
    num_tokens += step.num_tokens;
    MILI_RETURN_IF_ERROR(TakePages(step.slot, step.new_pages));
    MILI_RETURN_IF_ERROR(CheckStep(step));
    MILI_ASSIGN_OR_RETURN(RowResult row, Compute(step));
    if (!row.tokens.empty() || !row.prompt_logprobs.empty()) result.rows.push_back(std::move(row));
  }
  if (num_tokens == 0) return absl::InvalidArgumentError("a step without rows");
  if (num_tokens > facts_.max_num_batched_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("the step computes ", num_tokens, " tokens"));
  }
  return result;
}

}  // namespace mili::testing
