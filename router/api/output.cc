#include "router/api/output.h"

#include <unordered_map>
#include <utility>
#include <variant>

#include "common/base/actor.h"

namespace mili::router {
namespace {

// A step's news of so few choices, all threads together, are handled on the loop's thread.
constexpr size_t kMaxTokensOnTheSpot = 8;

struct AdoptMessage {
  std::shared_ptr<Call> call;
  std::vector<RequestPtr> requests;
};
struct AdmittedMessage {
  std::shared_ptr<Call> call;
};
struct RefusedMessage {
  std::shared_ptr<Call> call;
  size_t num_submitted;
  absl::Status status;
};
using Message =
    std::variant<AdoptMessage, AdmittedMessage, RefusedMessage, std::vector<TokenEvent>>;

// What an output thread knows of a call.
struct CallState {
  std::shared_ptr<Call> call;
  std::vector<RequestKey> keys;  // by prompt
  size_t num_choices_left = 0;   // not ended for the client
  size_t num_prompts_unscored = 0;
  CallTotals totals;
  bool admitted = false;
  bool has_news = false;  // of which the network side is to be told
  bool ended = false;     // for the client
};

// One request of a call, until the engine has finished every choice of it.
struct Part {
  std::shared_ptr<CallState> state;
  uint32_t prompt_idx = 0;
  std::vector<ChoiceOutput> choices = {};
  size_t num_unfinished = 0;
  bool scored = false;
};

class OutputThreadLoop final : public OutputThread {
 public:
  OutputThreadLoop(Engine* engine, OutputPool::OnFinished on_finished,
                   size_t max_tokens_on_the_spot)
      : engine_(engine),
        on_finished_(std::move(on_finished)),
        max_tokens_on_the_spot_(max_tokens_on_the_spot),
        // Bounded by its senders: what tickets admit.
        messages_(0, [this](std::vector<Message> messages) {
          HandleAll(std::move(messages));
          return absl::InfiniteFuture();
        }) {
    messages_.Start();
  }

  void Stop() {
    messages_.Stop();
    HandleAll(messages_.Close());
    const absl::Status gone = absl::UnavailableError("the server is shutting down");
    for (auto& [key, part] : parts_) End(*part.state, gone);
    parts_.clear();
  }

  void Adopt(std::shared_ptr<Call> call, std::vector<RequestPtr> requests) override {
    messages_.Post(AdoptMessage{std::move(call), std::move(requests)});
  }
  void Admitted(std::shared_ptr<Call> call) override {
    messages_.Post(AdmittedMessage{std::move(call)});
  }
  void Refused(std::shared_ptr<Call> call, size_t num_submitted, absl::Status status) override {
    messages_.Post(RefusedMessage{std::move(call), num_submitted, std::move(status)});
  }
  void OnTokens(std::vector<TokenEvent> events) override {
    // A few tokens are told sooner than another thread wakes.
    if (events.size() <= max_tokens_on_the_spot_) {
      messages_.PostAndHandle(std::move(events));
    } else {
      messages_.Post(std::move(events));
    }
  }

 private:
  void HandleAll(std::vector<Message> messages) {
    for (Message& message : messages) {
      std::visit([this](auto& m) { Handle(m); }, message);
    }
    // At the end of the turn: what several steps brought a call meanwhile goes out as one piece.
    for (const std::shared_ptr<CallState>& state : std::exchange(with_news_, {})) {
      if (std::exchange(state->has_news, false)) state->call->Wake();
    }
  }

  void Handle(AdoptMessage& message) {
    auto state = std::make_shared<CallState>();
    state->call = message.call;
    const ValidSpec& spec = message.call->spec();
    const bool scores = spec.sampling.num_prompt_logprobs.has_value();
    for (uint32_t p = 0; p < message.requests.size(); ++p) {
      const Request& request = *message.requests[p];
      const uint32_t num_prompt_tokens = static_cast<uint32_t>(request.prompt_token_ids.size());
      Part part{.state = state, .prompt_idx = p, .num_unfinished = request.num_choices};
      part.scored = !scores || num_prompt_tokens <= 1;
      state->num_prompts_unscored += part.scored ? 0 : 1;
      state->num_choices_left += request.num_choices;
      state->totals.num_prompt_tokens += num_prompt_tokens;
      state->keys.push_back(request.key);
      part.choices.reserve(request.num_choices);
      for (uint32_t c = 0; c < request.num_choices; ++c) {
        part.choices.emplace_back(message.call->model().tokenizer.get(), spec, p, c);
      }
      parts_.emplace(request.key, std::move(part));
    }
    states_.emplace(message.call.get(), std::move(state));
  }

  void Handle(AdmittedMessage& message) {
    const auto it = states_.find(message.call.get());
    if (it == states_.end()) return;  // ended already
    it->second->admitted = true;
    MaybeStart(*it->second);
  }

  void Handle(RefusedMessage& message) {
    const auto it = states_.find(message.call.get());
    if (it == states_.end()) return;
    const std::shared_ptr<CallState> state = it->second;
    for (size_t i = message.num_submitted; i < state->keys.size(); ++i) {
      parts_.erase(state->keys[i]);
    }
    End(*state, message.status);
  }

  void Handle(std::vector<TokenEvent>& events) {
    for (TokenEvent& event : events) {
      const auto it = parts_.find(event.request);
      if (it == parts_.end()) continue;
      Part& part = it->second;
      Score(part, event);
      Deliver(part, event);
      if (event.finish.has_value() && --part.num_unfinished == 0) parts_.erase(it);
    }
  }

  // Collects prompt logprobs; news wait until they are complete.
  void Score(Part& part, TokenEvent& event) {
    if (part.scored) return;
    PromptOutcome& prompt = part.state->call->mutable_prompts()[part.prompt_idx];
    std::move(event.prompt_logprobs.begin(), event.prompt_logprobs.end(),
              std::back_inserter(prompt.logprobs));
    const bool complete = prompt.logprobs.size() + 1 >= prompt.token_ids.size();
    const bool first_ended = event.choice_idx == 0 && event.finish.has_value();
    if (!complete && !first_ended) return;
    part.scored = true;
    --part.state->num_prompts_unscored;
    MaybeStart(*part.state);
  }

  void Deliver(Part& part, const TokenEvent& event) {
    CallState& state = *part.state;
    if (event.choice_idx >= part.choices.size()) return;
    if (event.finish.has_value() && !event.finish->status.ok()) {
      End(state, event.finish->status);
      return;
    }
    ChoiceOutput& choice = part.choices[event.choice_idx];
    if (state.ended || choice.ended()) return;  // ghost tokens after a stop string
    ChoiceDelta delta = choice.Push(event.tokens, event.finish);
    const bool ended = delta.end.has_value();
    if (ended) {
      delta.end->num_cached_tokens = event.num_cached_tokens;
      state.totals.num_output_tokens += choice.num_output_tokens();
    }
    if (state.call->Push(std::move(delta)) && !std::exchange(state.has_news, true)) {
      with_news_.push_back(part.state);
    }
    if (!ended) return;
    if (!event.finish.has_value()) engine_->FinishChoice(event.request, event.choice_idx);
    if (--state.num_choices_left == 0) End(state, absl::OkStatus());
  }

  void MaybeStart(CallState& state) {
    if (state.admitted && state.num_prompts_unscored == 0 && !state.ended) state.call->Start();
  }

  // The terminal status. What the engine still says of the call is heard and dropped.
  void End(CallState& state, absl::Status status) {
    if (state.ended) return;
    state.ended = true;
    state.has_news = false;  // Finish tells all
    if (!status.ok()) {
      for (const RequestKey key : state.keys) engine_->Cancel(key, status);
    }
    const std::shared_ptr<Call> call = state.call;
    if (on_finished_) on_finished_(*call, status, state.totals);
    call->Finish(std::move(status));
    states_.erase(call.get());
  }

  Engine* const engine_;
  const OutputPool::OnFinished on_finished_;
  const size_t max_tokens_on_the_spot_;
  std::vector<std::shared_ptr<CallState>> with_news_;  // in this turn
  // Of the calls not yet ended.
  std::unordered_map<const Call*, std::shared_ptr<CallState>> states_;
  std::unordered_map<RequestKey, Part> parts_;
  Actor<Message> messages_;
};

}  // namespace

OutputPool::OutputPool(size_t num_threads, Engine* engine, OnFinished on_finished) {
  for (size_t i = 0; i < num_threads; ++i) {
    threads_.push_back(
        std::make_shared<OutputThreadLoop>(engine, on_finished, kMaxTokensOnTheSpot / num_threads));
  }
}

OutputPool::~OutputPool() {
  for (const auto& thread : threads_) static_cast<OutputThreadLoop&>(*thread).Stop();
}

std::shared_ptr<OutputThread> OutputPool::Next() { return threads_[next_++ % threads_.size()]; }

}  // namespace mili::router
