#include "router/api/grpc/control_service.h"

#include <google/protobuf/util/time_util.h>

#include "common/base/version.h"
#include "common/wire/status_wire.h"
#include "router/api/validate.h"

namespace mili::router {
namespace {

using google::protobuf::util::TimeUtil;

void FillModel(const ServedModel& model, v1::GetModelInfoResponse* to) {
  const WorkerFacts& facts = model.facts;
  to->set_model(model.name);
  to->set_path(facts.model_path);
  to->set_architecture(facts.architecture);
  to->set_weight_dtype(facts.weight_dtype);
  to->set_max_model_len(facts.max_model_len);
  to->set_vocab_size(facts.vocab_size);
  to->mutable_eos_token_ids()->Assign(facts.eos_token_ids.begin(), facts.eos_token_ids.end());
  to->set_has_tokenizer(model.tokenizer != nullptr);
  to->set_has_chat_template(model.encode_chat != nullptr);
  to->set_default_sampling_params_json(ToJson(model.defaults));
}

void FillLoad(const GroupSnapshot& group, v1::GroupLoad* to) {
  for (const std::string& worker : group.workers) to->add_workers(worker);
  to->set_is_ready(group.is_ready);
  to->set_epoch(group.epoch.value);
  to->set_num_running(group.num_running);
  to->set_num_waiting(group.num_waiting);
  to->set_num_pages_total(group.num_pages_total);
  to->set_num_pages_free(group.num_pages_free);
  to->set_num_pages_leased(group.num_pages_leased);
  to->set_num_pages_cached(group.num_pages_cached);
  to->set_num_slots_total(group.num_slots_total);
  to->set_num_slots_free(group.num_slots_free);
}

v1::RequestState ToProto(RequestStatus::State state) {
  switch (state) {
    case RequestStatus::State::kWaiting:
      return v1::REQUEST_STATE_WAITING;
    case RequestStatus::State::kRunning:
      return v1::REQUEST_STATE_RUNNING;
    case RequestStatus::State::kRestarting:
      return v1::REQUEST_STATE_RESTARTING;
    case RequestStatus::State::kFinished:
      return v1::REQUEST_STATE_FINISHED;
  }
  return v1::REQUEST_STATE_UNSPECIFIED;
}

google::protobuf::Timestamp ToProto(absl::Time time) {
  return TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(time));
}

void FillRequest(const std::string& id, const RequestStatus& status, v1::GetRequestResponse* to) {
  to->set_request_id(id);
  to->set_state(ToProto(status.state));
  to->set_queue_place(status.queue_place);
  to->set_num_prompt_tokens(status.num_prompt_tokens);
  to->set_num_output_tokens(status.num_output_tokens);
  to->set_num_preemptions(status.num_preemptions);
  to->set_num_lost_batches(status.num_lost_batches);
  *to->mutable_arrived() = ToProto(status.arrived);
  if (status.started) *to->mutable_started() = ToProto(*status.started);
  if (status.first_token) *to->mutable_first_token() = ToProto(*status.first_token);
  if (status.finished) *to->mutable_finished() = ToProto(*status.finished);
  to->set_outcome(status.outcome);
}

class ControlService final : public v1::Control::CallbackService {
 public:
  ControlService(ServerState* state, const ModelSlot* model) : state_(state), model_(model) {}

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest*,
                                          v1::GetServerInfoResponse* response) override {
    response->set_version(kVersion);
    response->set_git_revision(kGitRevision);
    *response->mutable_uptime() = TimeUtil::NanosecondsToDuration(
        absl::ToInt64Nanoseconds(absl::Now() - state_->facts().started));
    response->set_num_active_requests(state_->engine().num_active_requests());
    response->set_is_draining(state_->draining());
    for (const auto& [name, value] : state_->facts().settings) {
      (*response->mutable_settings())[name] = value;
    }
    return Answer(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const v1::GetModelInfoRequest* request,
                                         v1::GetModelInfoResponse* response) override {
    const auto model = model_->Get();
    if (model == nullptr) {
      return Answer(context, absl::UnavailableError("no worker has been ready yet"));
    }
    if (absl::Status s = CheckModelName(request->model(), *model); !s.ok()) {
      return Answer(context, s);
    }
    FillModel(*model, response);
    return Answer(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest*,
                                       v1::ListModelsResponse* response) override {
    if (const auto model = model_->Get()) FillModel(*model, response->add_models());
    return Answer(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const v1::AbortRequest* request,
                                  v1::AbortResponse* response) override {
    const std::vector<std::string> ids(request->request_ids().begin(),
                                       request->request_ids().end());
    response->set_num_aborted(state_->engine().Abort(ids));
    return Answer(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* GetLoads(grpc::CallbackServerContext* context,
                                     const v1::GetLoadsRequest*,
                                     v1::GetLoadsResponse* response) override {
    for (const GroupSnapshot& group : state_->engine().Groups()) {
      FillLoad(group, response->add_groups());
    }
    return Answer(context, absl::OkStatus());
  }

  // There is no prefix cache yet, so nothing becomes free.
  grpc::ServerUnaryReactor* FlushPrefixCache(grpc::CallbackServerContext* context,
                                             const v1::FlushPrefixCacheRequest*,
                                             v1::FlushPrefixCacheResponse* response) override {
    response->set_num_pages(0);
    return Answer(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context, const v1::DrainRequest*,
                                  v1::DrainResponse* response) override {
    response->set_num_active_requests(state_->engine().num_active_requests());
    state_->Drain();
    return Answer(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* GetRequest(grpc::CallbackServerContext* context,
                                       const v1::GetRequestRequest* request,
                                       v1::GetRequestResponse* response) override {
    const auto status = state_->engine().Find(request->request_id());
    if (!status.has_value()) {
      return Answer(context, absl::NotFoundError(
                                 "no such request is running or ended within the last minute"));
    }
    FillRequest(request->request_id(), *status, response);
    return Answer(context, absl::OkStatus());
  }

 private:
  static grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                          const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpc(status));
    return reactor;
  }

  ServerState* const state_;
  const ModelSlot* const model_;
};

}  // namespace

std::unique_ptr<v1::Control::CallbackService> MakeControlService(ServerState* state,
                                                                 const ModelSlot* model) {
  return std::make_unique<ControlService>(state, model);
}

}  // namespace mili::router
