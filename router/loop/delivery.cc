#include "router/loop/delivery.h"

#include <utility>

#include "common/base/check.h"

namespace mili::router {

void Delivery::Add(const Request& request, std::shared_ptr<TokenSink> sink) {
  Recipient recipient;
  recipient.sink = std::move(sink);
  recipient.arrival = request.arrival;
  recipient.num_prompt_tokens = static_cast<uint32_t>(request.prompt_token_ids.size());
  recipient.num_unfinished = request.num_choices;
  recipient.last_token.assign(request.num_choices, absl::InfinitePast());
  recipients_.insert_or_assign(request.key, std::move(recipient));
}

Recipient Delivery::Take(RequestKey key) {
  const auto it = recipients_.find(key);
  MILI_CHECK(it != recipients_.end(), "every request has a recipient");
  Recipient recipient = std::move(it->second);
  recipients_.erase(it);
  return recipient;
}

Delivery::Outcomes Delivery::Account(std::vector<TokenEvent> events,
                                     const std::vector<RequestProgress>& news, absl::Time now) {
  for (const RequestProgress& progress : news) {
    const auto it = recipients_.find(progress.key);
    if (it == recipients_.end() || it->second.is_start_told || !progress.started.has_value()) {
      continue;
    }
    it->second.is_start_told = true;
    if (probe_ != nullptr) {
      probe_->OnStarted(it->second.num_prompt_tokens, *progress.started - it->second.arrival);
    }
  }
  Outcomes outcomes;
  std::unordered_map<TokenSink*, size_t> batch_of;
  for (TokenEvent& event : events) {
    const auto it = recipients_.find(event.request);
    MILI_CHECK(it != recipients_.end(), "every request has a recipient");
    Recipient& recipient = it->second;
    CountTokens(event, recipient, now);
    CountFinish(event, recipient, now);
    const auto [batch, is_new] = batch_of.emplace(recipient.sink.get(), batches_.size());
    if (is_new) batches_.push_back({recipient.sink, {}});
    batches_[batch->second].events.push_back(std::move(event));
    if (recipient.num_unfinished > 0) continue;
    outcomes.emplace_back(it->first, std::move(recipient.outcome));
    recipients_.erase(it);
  }
  return outcomes;
}

void Delivery::CountTokens(const TokenEvent& event, Recipient& recipient, absl::Time now) {
  if (event.tokens.empty()) return;
  const auto num_tokens = static_cast<uint32_t>(event.tokens.size());
  recipient.num_generated += num_tokens;
  absl::Time& last = recipient.last_token[event.choice_idx];
  const absl::Duration since_last =
      last == absl::InfinitePast() ? absl::ZeroDuration() : now - last;
  const bool is_choices_first = last == absl::InfinitePast();
  last = now;
  if (probe_ == nullptr) return;
  probe_->OnGenerated(num_tokens);
  if (!recipient.is_first_token_told) {
    recipient.is_first_token_told = true;
    probe_->OnFirstToken(now - recipient.arrival);
  }
  for (uint32_t i = is_choices_first ? 1 : 0; i < num_tokens; ++i) {
    probe_->OnNextToken(since_last / num_tokens);
  }
}

void Delivery::CountFinish(const TokenEvent& event, Recipient& recipient, absl::Time now) {
  if (!event.finish.has_value()) return;
  const Finish& finish = *event.finish;
  if (!finish.status.ok()) {
    recipient.finished_reason = absl::IsCancelled(finish.status) ? "abort" : "error";
    recipient.outcome = finish.status.ToString(absl::StatusToStringMode::kWithNoExtraData);
  } else if (event.choice_idx == 0 || recipient.outcome.empty()) {
    recipient.finished_reason = NameOf(finish.reason);
    recipient.outcome = NameOf(finish.reason);
  }
  if (--recipient.num_unfinished > 0 || probe_ == nullptr) return;
  probe_->OnFinished({recipient.finished_reason, now - recipient.arrival,
                      recipient.num_prompt_tokens, recipient.num_generated});
}

void Delivery::Send() {
  for (Batch& batch : std::exchange(batches_, {})) batch.sink->OnTokens(std::move(batch.events));
}

}  // namespace mili::router
