// Calls between an engine's thread, an output thread and a client, all at once.
#include "router/api/output.h"

#include <atomic>
#include <map>
#include <random>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "common/base/mutex.h"
#include "tests/support/fake_engine.h"
#include "tests/support/fake_tokenizer.h"

namespace mili::router {
namespace {

// The network side of a call, played by a test: waits for news.
class Client {
 public:
  // Shares what it rings: a wake may still be under way when the client has gone.
  std::function<void()> wake() {
    return [bell = bell_] {
      MutexLock lock(bell->mutex);
      ++bell->num_rings;
      bell->changed.NotifyAll();
    };
  }
  void WaitForWake() {
    MutexLock lock(bell_->mutex);
    while (bell_->num_rings == num_seen_) bell_->changed.Wait(bell_->mutex);
    num_seen_ = bell_->num_rings;
  }
  uint64_t num_rings() const {
    MutexLock lock(bell_->mutex);
    return bell_->num_rings;
  }
  // Takes news until the end; the text of choice 0.
  absl::Status ReadAll(Call& call, size_t max_bytes = 1 << 20) {
    while (true) {
      const Call::News news = call.Take(max_bytes);
      if (!news.deltas.empty()) EXPECT_TRUE(news.started);
      for (const ChoiceDelta& delta : news.deltas) {
        text[delta.choice_idx] += delta.text;
        if (delta.end.has_value()) ends.insert(delta.choice_idx);
      }
      if (news.done) return news.status;
      if (news.deltas.empty()) WaitForWake();
    }
  }

  std::map<uint32_t, std::string> text;
  std::multiset<uint32_t> ends;

 private:
  struct Bell {
    Mutex mutex;
    CondVar changed;
    uint64_t num_rings MILI_GUARDED_BY(mutex) = 0;
  };
  const std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();
  uint64_t num_seen_ = 0;
};

std::shared_ptr<const ServedModel> Model() {
  auto model = std::make_shared<ServedModel>();
  model->tokenizer = std::make_shared<FakeTokenizer>();
  return model;
}

ValidSpec SpecOf(uint32_t num_choices, bool stream) {
  ValidSpec spec;
  spec.prompts.emplace_back(std::string("a"));
  spec.num_choices = num_choices;
  spec.stream = stream;
  return spec;
}

class OutputTest : public testing::Test {
 protected:
  RequestPtr RequestFor(Call& call, uint32_t max_tokens = 100) {
    auto request = std::make_shared<Request>();
    request->key = RequestKey(++next_key_);
    request->prompt_token_ids = {1, 2, 3};
    request->num_choices = call.spec().num_choices;
    request->sampling = call.spec().sampling;
    request->max_tokens = max_tokens;
    call.mutable_prompts()[0].token_ids = request->prompt_token_ids;
    call.AddKey(request->key);
    return request;
  }
  RequestKey Submit(const std::shared_ptr<Call>& call, uint32_t max_tokens = 100) {
    const RequestPtr request = RequestFor(*call, max_tokens);
    const auto output = pool_.Next();
    output->Adopt(call, {request});
    EXPECT_TRUE(engine_.Submit(request, output).ok());
    output->Admitted(call);
    return request->key;
  }

  std::atomic<uint64_t> next_key_ = 0;
  void WaitForFinished(int count) {
    MutexLock lock(mutex_);
    while (num_finished_ < count) finished_.Wait(mutex_);
  }

  Mutex mutex_;
  CondVar finished_;
  int num_finished_ MILI_GUARDED_BY(mutex_) = 0;
  FakeEngine engine_;
  OutputPool pool_{2, &engine_, [this](const Call&, const absl::Status&, const CallTotals&) {
                     MutexLock lock(mutex_);
                     ++num_finished_;
                     finished_.NotifyAll();
                   }};
};

TEST_F(OutputTest, EveryChoiceEndsOnceAndTheCallWithThem) {
  Client client;
  auto call = std::make_shared<Call>(SpecOf(3, true), Model(), client.wake());
  Submit(call);
  EXPECT_TRUE(client.ReadAll(*call).ok());
  EXPECT_EQ(client.text[2], "hello world");
  EXPECT_EQ(client.ends, (std::multiset<uint32_t>{0, 1, 2}));
  EXPECT_EQ(num_finished_, 1);
}

TEST_F(OutputTest, NewsOfASlowReaderCoalesceIntoOnePieceAChoice) {
  Client client;
  auto call = std::make_shared<Call>(SpecOf(2, false), Model(), client.wake());
  Submit(call);
  while (!call->standing().finished) client.WaitForWake();
  const Call::News news = call->Take(1 << 20);
  ASSERT_EQ(news.deltas.size(), 2u);
  EXPECT_EQ(news.deltas[0].text, "hello world");
  EXPECT_TRUE(news.deltas[0].end.has_value());
  EXPECT_TRUE(news.done);
}

TEST_F(OutputTest, ATurnTellsACallOnceHoweverMuchItBrings) {
  engine_.hold = true;
  Client client;
  auto call = std::make_shared<Call>(SpecOf(2, true), Model(), client.wake());
  const RequestPtr request = RequestFor(*call);
  const auto output = pool_.Next();
  output->Adopt(call, {request});
  output->Admitted(call);
  client.WaitForWake();
  std::vector<TokenEvent> events(3, TokenEvent{.request = request->key});
  for (TokenEvent& event : events) event.tokens.push_back({.id = 'x'});
  events[1].choice_idx = 1;
  output->OnTokens(events);
  client.WaitForWake();
  EXPECT_EQ(client.num_rings(), 2u);
  EXPECT_EQ(call->Take(1 << 20).deltas.size(), 2u);
  for (uint32_t i : {0, 1}) {
    events[i].finish = Finish{.reason = FinishReason::kLength};
  }
  events.pop_back();
  output->OnTokens(events);
  EXPECT_TRUE(client.ReadAll(*call).ok());
  EXPECT_EQ(client.num_rings(), 3u);
}

TEST_F(OutputTest, TakeKeepsToItsBytes) {
  Client client;
  auto call = std::make_shared<Call>(SpecOf(4, false), Model(), client.wake());
  Submit(call);
  while (!call->standing().finished) client.WaitForWake();
  const Call::News first = call->Take(1);
  EXPECT_EQ(first.deltas.size(), 1u);
  EXPECT_FALSE(first.done);
  EXPECT_EQ(call->Take(1 << 20).deltas.size(), 3u);
}

TEST_F(OutputTest, NothingComesBeforeThePromptIsScored) {
  engine_.hold = true;
  Client client;
  ValidSpec spec = SpecOf(1, true);
  spec.sampling.num_prompt_logprobs = 0;
  auto call = std::make_shared<Call>(std::move(spec), Model(), client.wake());
  const RequestKey key = Submit(call);
  TokenEvent event{.request = key};
  event.prompt_logprobs.resize(1);
  engine_.Send(event);
  EXPECT_FALSE(call->standing().started);
  event.tokens.push_back({.id = 'x'});
  event.finish = Finish{.reason = FinishReason::kLength};
  engine_.Send(event);
  EXPECT_TRUE(client.ReadAll(*call).ok());
  EXPECT_EQ(call->prompts()[0].logprobs.size(), 2u);
  EXPECT_EQ(client.text[0], "x");
}

TEST_F(OutputTest, RefusedSubmitIsTheEndOfTheCall) {
  Client client;
  auto call = std::make_shared<Call>(SpecOf(1, true), Model(), client.wake());
  const RequestPtr request = RequestFor(*call);
  const auto output = pool_.Next();
  output->Adopt(call, {request});
  output->Refused(call, 0, absl::ResourceExhaustedError("full"));
  EXPECT_EQ(client.ReadAll(*call).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(OutputTest, DetachedClientIsNotWoken) {
  engine_.hold = true;
  Client client;
  auto call = std::make_shared<Call>(SpecOf(1, true), Model(), client.wake());
  const RequestKey key = Submit(call);
  call->Detach();
  engine_.Cancel(key, absl::CancelledError("gone"));
  WaitForFinished(1);
  EXPECT_TRUE(call->Take(1).deltas.empty());
}

TEST_F(OutputTest, PoolThatEndsFailsWhatIsLeft) {
  FakeEngine engine;
  engine.hold = true;
  Client client;
  auto call = std::make_shared<Call>(SpecOf(1, true), Model(), client.wake());
  {
    OutputPool pool(1, &engine, nullptr);
    const auto output = pool.Next();
    const RequestPtr request = RequestFor(*call);
    output->Adopt(call, {request});
    EXPECT_TRUE(engine.Submit(request, output).ok());
  }
  EXPECT_EQ(client.ReadAll(*call).code(), absl::StatusCode::kUnavailable);
}

TEST_F(OutputTest, ManyCallsWithStopsAndCancelsAllEndOnce) {
  constexpr int kNumThreads = 4;
  constexpr int kNumCalls = 50;
  std::vector<std::thread> threads;
  for (int t = 0; t < kNumThreads; ++t) {
    threads.emplace_back([this, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      for (int i = 0; i < kNumCalls; ++i) {
        Client client;
        ValidSpec spec = SpecOf(1 + random() % 3, random() % 2 == 0);
        if (random() % 3 == 0) spec.stop = {"o w"};
        const bool stops = !spec.stop.empty();
        auto call = std::make_shared<Call>(std::move(spec), Model(), client.wake());
        const RequestKey key = Submit(call);
        const bool cancels = random() % 4 == 0;
        if (cancels) engine_.Cancel(key, absl::CancelledError("gone"));
        const absl::Status status = client.ReadAll(*call, 1 + random() % 600);
        EXPECT_TRUE(status.ok() || (cancels && absl::IsCancelled(status))) << status;
        if (status.ok()) EXPECT_EQ(client.text[0], stops ? "hell" : "hello world");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_finished_, kNumThreads * kNumCalls);
}

}  // namespace
}  // namespace mili::router
