// A frontend over a FakeEngine and a FakeTokenizer, as every test of the api needs it.
#pragma once

#include <memory>

#include "router/api/frontend.h"
#include "router/api/server_state.h"
#include "tests/support/fake_engine.h"
#include "tests/support/fake_tokenizer.h"

namespace mili::router {

inline ServedModel FakeModel() {
  ServedModel model;
  model.name = "tiny";
  model.facts.max_model_len = 64;
  model.facts.vocab_size = FakeTokenizer::kVocabSize;
  model.facts.eos_token_ids = {FakeTokenizer::kEnd};
  model.facts.architecture = "llama";
  model.tokenizer = std::make_shared<FakeTokenizer>();
  model.encode_chat = [](const ChatPrompt& chat) -> absl::StatusOr<std::vector<TokenId>> {
    std::vector<TokenId> ids;
    for (const ChatTurn& turn : chat.turns) {
      for (const char c : turn.role + ":" + turn.content) ids.push_back(c & 0xFF);
      ids.push_back(FakeTokenizer::kEnd);
    }
    return ids;
  };
  model.count_chat = [encode = model.encode_chat](const ChatPrompt& chat) {
    return absl::StatusOr<size_t>(encode(chat)->size());
  };
  model.created = absl::FromUnixSeconds(1700000000);
  return model;
}

struct ApiFixture {
  ApiFixture() : ApiFixture(FakeModel()) {}
  explicit ApiFixture(ServedModel served) {
    model.Set(std::make_shared<const ServedModel>(std::move(served)));
  }

  FakeEngine engine;
  ModelSlot model;
  RealClock clock;
  std::atomic<int> num_drains = 0;
  ServerState state{&engine, {.started = absl::Now(), .settings = {{"port", "0"}}, .drain = [this] {
                                ++num_drains;
                              }}};
  Frontend frontend{{.seed = 7}, &engine, &model, nullptr, &clock};
};

}  // namespace mili::router
