#include "common/wire/worker_wire.h"

#include <cmath>
#include <utility>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"

namespace mili {
namespace {

namespace pb = worker::v1;

template <typename Id, typename Repeated>
std::vector<Id> ToIds(const Repeated& values) {
  std::vector<Id> ids;
  ids.reserve(values.size());
  for (const auto value : values) ids.push_back(Id(value));
  return ids;
}

template <typename Id, typename Repeated>
void FromIds(const std::vector<Id>& ids, Repeated* values) {
  values->Reserve(static_cast<int>(ids.size()));
  for (const Id id : ids) values->Add(id.value);
}

template <typename Repeated>
void Copy(const std::vector<TokenId>& ids, Repeated* values) {
  values->Assign(ids.begin(), ids.end());
}

void ToProto(const SamplingParams& params, pb::SamplingParams* proto) {
  proto->set_temperature(params.temperature);
  proto->set_top_p(params.top_p);
  proto->set_top_k(params.top_k);
  proto->set_min_p(params.min_p);
  proto->set_seed(params.seed);
  proto->set_choice_idx(params.choice_idx);
  proto->set_presence_penalty(params.presence_penalty);
  proto->set_frequency_penalty(params.frequency_penalty);
  proto->set_repetition_penalty(params.repetition_penalty);
  for (const LogitBias& bias : params.logit_bias) {
    pb::LogitBias* entry = proto->add_logit_bias();
    entry->set_token_id(bias.token_id);
    entry->set_bias(bias.bias);
  }
  proto->set_min_tokens(params.min_tokens);
  Copy(params.banned_token_ids, proto->mutable_banned_token_ids());
  if (params.num_logprobs) proto->set_num_logprobs(*params.num_logprobs);
  if (params.num_prompt_logprobs) proto->set_num_prompt_logprobs(*params.num_prompt_logprobs);
}

SamplingParams FromProto(const pb::SamplingParams& proto) {
  SamplingParams params;
  params.temperature = proto.temperature();
  params.top_p = proto.top_p();
  params.top_k = proto.top_k();
  params.min_p = proto.min_p();
  params.seed = proto.seed();
  params.choice_idx = proto.choice_idx();
  params.presence_penalty = proto.presence_penalty();
  params.frequency_penalty = proto.frequency_penalty();
  params.repetition_penalty = proto.repetition_penalty();
  params.logit_bias.reserve(proto.logit_bias_size());
  for (const pb::LogitBias& entry : proto.logit_bias()) {
    params.logit_bias.push_back({entry.token_id(), entry.bias()});
  }
  params.min_tokens = proto.min_tokens();
  params.banned_token_ids.assign(proto.banned_token_ids().begin(), proto.banned_token_ids().end());
  if (proto.has_num_logprobs()) params.num_logprobs = proto.num_logprobs();
  if (proto.has_num_prompt_logprobs()) params.num_prompt_logprobs = proto.num_prompt_logprobs();
  return params;
}

void ToProto(const SampledToken& token, pb::Token* proto) {
  proto->set_id(token.id);
  proto->set_logprob(token.logprob);
  proto->set_rank(token.rank);
  for (const TopLogprob& top : token.top) {
    pb::TopLogprob* entry = proto->add_top();
    entry->set_id(top.id);
    entry->set_logprob(top.logprob);
  }
}

SampledToken FromProto(const pb::Token& proto) {
  SampledToken token{proto.id(), proto.logprob(), proto.rank(), {}};
  token.top.reserve(proto.top_size());
  for (const pb::TopLogprob& entry : proto.top()) {
    token.top.push_back({entry.id(), entry.logprob()});
  }
  return token;
}

absl::StatusOr<SeqStep> FromProto(const pb::SeqStep& proto) {
  SeqStep step;
  step.slot = SlotId(proto.slot());
  step.num_tokens = proto.num_tokens();
  step.new_pages = ToIds<PageId>(proto.new_pages());
  step.sample = proto.sample();
  switch (proto.source()) {
    case pb::TOKEN_SOURCE_KNOWN:
      step.source = TokenSource::kKnown;
      return step;
    case pb::TOKEN_SOURCE_LAST_SAMPLED:
      step.source = TokenSource::kLastSampled;
      return step;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("slot ", proto.slot(), ": token source is ", proto.source(),
                       "; expected TOKEN_SOURCE_KNOWN or TOKEN_SOURCE_LAST_SAMPLED"));
  }
}

SeqStart FromProto(const pb::SeqStart& proto) {
  SeqStart start;
  start.slot = SlotId(proto.slot());
  start.token_ids.assign(proto.token_ids().begin(), proto.token_ids().end());
  start.num_prompt_tokens = proto.num_prompt_tokens();
  start.num_cached_tokens = proto.num_cached_tokens();
  start.pages = ToIds<PageId>(proto.pages());
  start.sampling = FromProto(proto.sampling());
  return start;
}

// The code a row failed with; an unknown or absent one is our bug's.
absl::StatusCode CodeOf(uint32_t code) {
  return code >= 1 && code <= 16 ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown;
}

}  // namespace

pb::StepPlan ToProto(const StepPlan& plan) {
  pb::StepPlan proto;
  proto.set_epoch(plan.epoch.value);
  proto.set_step_id(plan.step_id.value);
  FromIds(plan.release, proto.mutable_release());
  for (const SeqStart& start : plan.start) {
    pb::SeqStart* entry = proto.add_start();
    entry->set_slot(start.slot.value);
    Copy(start.token_ids, entry->mutable_token_ids());
    entry->set_num_prompt_tokens(start.num_prompt_tokens);
    entry->set_num_cached_tokens(start.num_cached_tokens);
    FromIds(start.pages, entry->mutable_pages());
    ToProto(start.sampling, entry->mutable_sampling());
  }
  for (const SeqStep& step : plan.step) {
    pb::SeqStep* entry = proto.add_step();
    entry->set_slot(step.slot.value);
    entry->set_num_tokens(step.num_tokens);
    FromIds(step.new_pages, entry->mutable_new_pages());
    entry->set_source(step.source == TokenSource::kKnown ? pb::TOKEN_SOURCE_KNOWN
                                                         : pb::TOKEN_SOURCE_LAST_SAMPLED);
    entry->set_sample(step.sample);
  }
  return proto;
}

absl::StatusOr<StepPlan> FromProto(const pb::StepPlan& proto) {
  StepPlan plan;
  plan.epoch = Epoch(proto.epoch());
  plan.step_id = StepId(proto.step_id());
  plan.release = ToIds<SlotId>(proto.release());
  plan.start.reserve(proto.start_size());
  for (const pb::SeqStart& start : proto.start()) plan.start.push_back(FromProto(start));
  plan.step.reserve(proto.step_size());
  for (const pb::SeqStep& entry : proto.step()) {
    MILI_ASSIGN_OR_RETURN(SeqStep step, FromProto(entry));
    plan.step.push_back(std::move(step));
  }
  return plan;
}

pb::StepResult ToProto(const StepResult& result) {
  pb::StepResult proto;
  proto.set_epoch(result.epoch.value);
  proto.set_step_id(result.step_id.value);
  for (const RowResult& row : result.rows) {
    pb::RowResult* entry = proto.add_rows();
    entry->set_slot(row.slot.value);
    for (const SampledToken& token : row.tokens) ToProto(token, entry->add_tokens());
    for (const SampledToken& token : row.prompt_logprobs) {
      ToProto(token, entry->add_prompt_logprobs());
    }
    if (!row.status.ok()) {
      entry->mutable_error()->set_code(static_cast<uint32_t>(row.status.code()));
      entry->mutable_error()->set_message(std::string(row.status.message()));
    }
  }
  proto.set_compute_us(absl::ToInt64Microseconds(result.compute));
  proto.set_idle_us(absl::ToInt64Microseconds(result.idle));
  return proto;
}

StepResult FromProto(const pb::StepResult& proto) {
  StepResult result;
  result.epoch = Epoch(proto.epoch());
  result.step_id = StepId(proto.step_id());
  result.rows.reserve(proto.rows_size());
  for (const pb::RowResult& entry : proto.rows()) {
    RowResult row;
    row.slot = SlotId(entry.slot());
    row.tokens.reserve(entry.tokens_size());
    for (const pb::Token& token : entry.tokens()) row.tokens.push_back(FromProto(token));
    row.prompt_logprobs.reserve(entry.prompt_logprobs_size());
    for (const pb::Token& token : entry.prompt_logprobs()) {
      row.prompt_logprobs.push_back(FromProto(token));
    }
    if (entry.has_error()) {
      row.status = absl::Status(CodeOf(entry.error().code()), entry.error().message());
    }
    result.rows.push_back(std::move(row));
  }
  result.compute = absl::Microseconds(proto.compute_us());
  result.idle = absl::Microseconds(proto.idle_us());
  return result;
}

pb::WorkerFacts ToProto(const WorkerFacts& facts) {
  pb::WorkerFacts proto;
  proto.set_protocol_version(facts.protocol_version);
  proto.set_build(facts.build);
  proto.set_last_epoch(facts.last_epoch.value);
  proto.set_model_digest(facts.model_digest);
  proto.set_tokenizer_digest(facts.tokenizer_digest);
  proto.set_model_name(facts.model_name);
  proto.set_model_path(facts.model_path);
  proto.set_architecture(facts.architecture);
  proto.set_weight_dtype(facts.weight_dtype);
  proto.set_kv_dtype(facts.kv_dtype);
  proto.set_device(facts.device);
  proto.set_page_size_tokens(facts.page_size_tokens);
  proto.set_num_pages(facts.num_pages);
  proto.set_num_slots(facts.num_slots);
  proto.set_max_num_batched_tokens(facts.max_num_batched_tokens);
  proto.set_max_model_len(facts.max_model_len);
  proto.set_vocab_size(facts.vocab_size);
  Copy(facts.eos_token_ids, proto.mutable_eos_token_ids());
  proto.set_weights_bytes(facts.weights_bytes);
  proto.set_kv_bytes(facts.kv_bytes);
  proto.set_workspace_bytes(facts.workspace_bytes);
  proto.set_process_bytes(facts.process_bytes);
  proto.set_load_seconds(absl::ToDoubleSeconds(facts.load));
  proto.set_generation_config_json(facts.generation_config_json);
  proto.set_num_parameters(facts.num_parameters);
  return proto;
}

WorkerFacts FromProto(const pb::WorkerFacts& proto) {
  WorkerFacts facts;
  facts.protocol_version = proto.protocol_version();
  facts.build = proto.build();
  facts.last_epoch = Epoch(proto.last_epoch());
  facts.model_digest = proto.model_digest();
  facts.tokenizer_digest = proto.tokenizer_digest();
  facts.model_name = proto.model_name();
  facts.model_path = proto.model_path();
  facts.architecture = proto.architecture();
  facts.weight_dtype = proto.weight_dtype();
  facts.kv_dtype = proto.kv_dtype();
  facts.device = proto.device();
  facts.page_size_tokens = proto.page_size_tokens();
  facts.num_pages = proto.num_pages();
  facts.num_slots = proto.num_slots();
  facts.max_num_batched_tokens = proto.max_num_batched_tokens();
  facts.max_model_len = proto.max_model_len();
  facts.vocab_size = proto.vocab_size();
  facts.eos_token_ids.assign(proto.eos_token_ids().begin(), proto.eos_token_ids().end());
  facts.weights_bytes = proto.weights_bytes();
  facts.kv_bytes = proto.kv_bytes();
  facts.workspace_bytes = proto.workspace_bytes();
  facts.process_bytes = proto.process_bytes();
  facts.load = std::isfinite(proto.load_seconds()) ? absl::Seconds(proto.load_seconds())
                                                   : absl::ZeroDuration();
  facts.generation_config_json = proto.generation_config_json();
  facts.num_parameters = proto.num_parameters();
  return facts;
}

pb::TokenizerBundle ToProto(const TokenizerBundle& bundle) {
  pb::TokenizerBundle proto;
  proto.set_tokenizer_json(bundle.tokenizer_json);
  proto.set_chat_template(bundle.chat_template);
  proto.set_bos_token(bundle.bos_token);
  proto.set_eos_token(bundle.eos_token);
  proto.set_pad_token(bundle.pad_token);
  proto.set_unk_token(bundle.unk_token);
  return proto;
}

TokenizerBundle FromProto(const pb::TokenizerBundle& proto) {
  return {proto.tokenizer_json(), proto.chat_template(), proto.bos_token(),
          proto.eos_token(),      proto.pad_token(),     proto.unk_token()};
}

}  // namespace mili
