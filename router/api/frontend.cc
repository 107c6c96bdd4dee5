#include "router/api/frontend.h"

#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "common/base/status_macros.h"
#include "common/wire/status_wire.h"
#include "router/api/tokenise.h"

namespace mili::router {

Frontend::Frontend(Options options, Engine* engine, const ModelSlot* model, Logger* logger,
                   Clock* clock)
    : options_(options),
      engine_(engine),
      model_(model),
      logger_(logger),
      clock_(clock),
      random_state_(options.seed),
      output_(options.num_output_threads, engine,
              [this](const Call& call, const absl::Status& status, const CallTotals& totals) {
                LogFinished(call, status, totals);
              }),
      text_pool_(options.num_text_threads, options.max_num_text_jobs) {}

Frontend::~Frontend() = default;

absl::StatusOr<std::shared_ptr<const ServedModel>> Frontend::Model() const {
  if (auto model = model_->Get()) return model;
  std::string reason = "no worker has been ready yet";
  for (const GroupSnapshot& group : engine_->Groups()) {
    if (group.not_ready_reason.empty()) continue;
    reason = absl::StrCat("no worker has been ready yet: ", group.not_ready_reason);
  }
  return WithRetryInfo(absl::UnavailableError(reason), absl::Seconds(1));
}

absl::Status Frontend::RunText(std::function<void()> job) {
  if (text_pool_.TryRun(std::move(job))) return absl::OkStatus();
  return WithRetryInfo(
      absl::ResourceExhaustedError("too many texts wait to be tokenised; come again later"),
      absl::Seconds(1));
}

// splitmix64 over a counter: every value once, no lock.
uint64_t Frontend::NextRandom() {
  uint64_t z = random_state_.fetch_add(0x9E3779B97F4A7C15) + 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

absl::StatusOr<std::vector<std::unique_ptr<Ticket>>> Frontend::Admit(const ValidSpec& spec) {
  std::vector<std::unique_ptr<Ticket>> tickets;
  const uint64_t num_bytes = spec.PromptBytes() / spec.prompts.size();
  for (size_t i = 0; i < spec.prompts.size(); ++i) {
    Engine::Admission admission = engine_->Admit(num_bytes, spec.num_choices);
    if (admission.ticket == nullptr) {
      return WithRetryInfo(std::move(admission.refusal.status), admission.refusal.retry_after);
    }
    tickets.push_back(std::move(admission.ticket));
  }
  return tickets;
}

absl::StatusOr<std::shared_ptr<Call>> Frontend::Start(GenerateSpec spec,
                                                      std::function<void()> wake) {
  MILI_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model, Model());
  if (spec.request_id.empty()) spec.request_id = absl::StrFormat("req-%016x", NextRandom());
  MILI_ASSIGN_OR_RETURN(ValidSpec valid, Validate(std::move(spec), *model, options_.limits,
                                                  NextRandom(), clock_->Now()));
  MILI_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<Ticket>> tickets, Admit(valid));
  auto call = std::make_shared<Call>(std::move(valid), model, std::move(wake));
  // std::function copies what it holds, so the tickets travel behind a shared pointer.
  auto box = std::make_shared<std::vector<std::unique_ptr<Ticket>>>(std::move(tickets));
  MILI_RETURN_IF_ERROR(RunText([this, call, box] { TokeniseAndSubmit(call, std::move(*box)); }));
  return call;
}

absl::StatusOr<std::vector<RequestPtr>> Frontend::MakeRequests(
    Call& call, std::vector<std::unique_ptr<Ticket>> tickets) {
  const ValidSpec& spec = call.spec();
  if (clock_->Now() >= spec.deadline) {
    return absl::DeadlineExceededError("the deadline passed before the prompt was tokenised");
  }
  std::vector<RequestPtr> requests;
  for (size_t i = 0; i < spec.prompts.size(); ++i) {
    if (const auto count = CountLongText(spec.prompts[i], call.model(), spec.add_special_tokens)) {
      MILI_RETURN_IF_ERROR(
          ResolveMaxTokens(spec, static_cast<uint32_t>(*count), call.model(), options_.limits)
              .status());
    }
    MILI_ASSIGN_OR_RETURN(std::vector<TokenId> ids,
                          Tokenise(spec.prompts[i], call.model(), spec.add_special_tokens));
    MILI_ASSIGN_OR_RETURN(
        const uint32_t max_tokens,
        ResolveMaxTokens(spec, static_cast<uint32_t>(ids.size()), call.model(), options_.limits));
    MILI_RETURN_IF_ERROR(CheckTokenIds(ids, call.model(), "prompt"));
    call.mutable_prompts()[i].token_ids = ids;
    auto request = std::make_shared<Request>();
    request->key = RequestKey(next_key_++);
    request->request_id =
        spec.prompts.size() == 1 ? spec.request_id : absl::StrCat(spec.request_id, "-", i);
    request->prompt_token_ids = std::move(ids);
    request->sampling = spec.sampling;
    request->num_choices = spec.num_choices;
    request->max_tokens = max_tokens;
    request->stop_token_ids = spec.stop_token_ids;
    request->priority = spec.priority;
    request->cache_salt = spec.cache_salt;
    request->arrival = spec.arrival;
    request->deadline = spec.deadline;
    request->queue_deadline = spec.queue_deadline;
    request->ticket = std::move(tickets[i]);
    requests.push_back(std::move(request));
  }
  return requests;
}

void Frontend::TokeniseAndSubmit(const std::shared_ptr<Call>& call,
                                 std::vector<std::unique_ptr<Ticket>> tickets) {
  if (call->detached()) return;
  absl::StatusOr<std::vector<RequestPtr>> requests = MakeRequests(*call, std::move(tickets));
  if (!requests.ok()) {
    LogFinished(*call, requests.status(), {});
    call->Finish(requests.status());
    return;
  }
  const std::shared_ptr<OutputThread> output = output_.Next();
  output->Adopt(call, *requests);
  for (size_t i = 0; i < requests->size(); ++i) {
    const RequestPtr request = std::move((*requests)[i]);
    call->AddKey(request->key);
    if (absl::Status status = engine_->Submit(request, output); !status.ok()) {
      output->Refused(call, i, std::move(status));
      return;
    }
  }
  output->Admitted(call);
  // The client may have gone while no key was there to cancel.
  if (call->detached()) Abandon(call);
}

void Frontend::Abandon(const std::shared_ptr<Call>& call) {
  call->Detach();
  for (const RequestKey key : call->keys()) {
    engine_->Cancel(key, absl::CancelledError("the client went away"));
  }
}

void Frontend::LogFinished(const Call& call, const absl::Status& status, const CallTotals& totals) {
  if (logger_ == nullptr || options_.log_requests == LogRequests::kNone) return;
  const ValidSpec& spec = call.spec();
  const absl::Duration took = clock_->Now() - spec.arrival;
  logger_->Info("request ended", {{"request_id", spec.request_id},
                                  {"code", std::string(absl::StatusCodeToString(status.code()))},
                                  {"error", std::string(status.message())},
                                  {"prompt_tokens", absl::StrCat(totals.num_prompt_tokens)},
                                  {"output_tokens", absl::StrCat(totals.num_output_tokens)},
                                  {"choices", absl::StrCat(spec.num_choices * spec.prompts.size())},
                                  {"took_ms", absl::StrCat(absl::ToInt64Milliseconds(took))}});
  if (options_.log_requests != LogRequests::kFull) return;
  for (const Prompt& prompt : spec.prompts) {
    const auto* text = std::get_if<std::string>(&prompt);
    if (text != nullptr) {
      logger_->Info("request prompt", {{"request_id", spec.request_id}, {"prompt", *text}});
    }
  }
}

}  // namespace mili::router
