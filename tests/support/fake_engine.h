// FakeEngine: an Engine whose tokens a test writes down. Requests are answered on a thread of its
// own with the bytes of `script` one token an event, or held until the test says what comes.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mailbox.h"
#include "common/base/mutex.h"
#include "router/loop/engine.h"

namespace mili::router {

class FakeEngine final : public Engine {
 public:
  FakeEngine();
  ~FakeEngine() override;

  // Before anything is submitted: what every choice says, byte by byte, until max_tokens.
  std::string script = "hello world";
  // Requests get nothing until Send is called.
  bool hold = false;
  // Refusals, if set.
  absl::Status admit_refusal;
  absl::Duration admit_retry_after = absl::Seconds(2);
  absl::Status submit_refusal;
  // What Groups() says.
  GroupSnapshot group;

  // For held requests: delivers an event as the loop would.
  void Send(TokenEvent event);
  // Waits until the n-th request (from 0) was submitted, or n cancels came.
  RequestPtr WaitForRequest(size_t n);
  std::vector<std::pair<RequestKey, absl::Status>> WaitForCancels(size_t n);
  std::vector<std::pair<RequestKey, uint32_t>> finished_choices() const;
  size_t num_tickets() const { return *num_tickets_; }

  Admission Admit(uint64_t num_bytes, uint32_t num_choices) override;
  absl::Status Submit(RequestPtr request, std::shared_ptr<TokenSink> sink) override;
  void Cancel(RequestKey key, absl::Status reason) override;
  void FinishChoice(RequestKey key, uint32_t choice_idx) override;
  uint32_t Abort(const std::vector<std::string>& request_ids) override;
  std::optional<RequestStatus> Find(const std::string& request_id) const override;
  std::vector<GroupSnapshot> Groups() const override;
  uint32_t num_active_requests() const override;
  void Drain(std::function<void()> on_drained) override;

 private:
  struct Live {
    std::shared_ptr<TokenSink> sink;
    std::vector<bool> finished;
  };
  void Deliver(TokenEvent event);
  void Play(const RequestPtr& request);
  void EndAll(RequestKey key, const Finish& finish);

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<RequestPtr> requests_;
  std::map<RequestKey, Live> live_;
  std::vector<std::pair<RequestKey, absl::Status>> cancels_;
  std::vector<std::pair<RequestKey, uint32_t>> finished_choices_;
  std::shared_ptr<std::atomic<size_t>> num_tickets_ = std::make_shared<std::atomic<size_t>>(0);
  Mailbox<std::function<void()>> jobs_{0};
  std::thread thread_;
};

}  // namespace mili::router
