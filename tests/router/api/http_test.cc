// The HTTP routes over a loopback port: shapes of every answer, errors, streams.
#include <thread>

#include <gmock/gmock.h>

#include "tests/router/api/http_fixture.h"

namespace mili::router {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(HttpTest, CompletionHasTheShapeOfTheOpenAiApi) {
  const Answer answer =
      Post("/v1/completions", R"({"prompt":"abc","max_tokens":5})", "X-Request-Id: r1\r\n");
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_THAT(answer.head, HasSubstr("x-request-id: r1"));
  EXPECT_THAT(answer.head, HasSubstr("Content-Type: application/json"));
  const auto json = answer.json();
  EXPECT_EQ(json["id"], "cmpl-r1");
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_TRUE(json["created"].is_number_integer());
  EXPECT_EQ(json["model"], "tiny");
  ASSERT_EQ(json["choices"].size(), 1u);
  const auto& choice = json["choices"][0];
  EXPECT_EQ(choice["index"], 0);
  EXPECT_EQ(choice["text"], "hello");
  EXPECT_TRUE(choice["logprobs"].is_null());
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_EQ(json["usage"],
            (nlohmann::json{{"prompt_tokens", 3}, {"completion_tokens", 5}, {"total_tokens", 8}}));
}

TEST_F(HttpTest, PromptListIsABatchInOrder) {
  const auto json = Post("/v1/completions",
                         R"({"prompt":["a",[98,99]],"n":2,"max_tokens":1,"return_token_ids":true})")
                        .json();
  ASSERT_EQ(json["choices"].size(), 4u) << json;
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(json["choices"][i]["index"], i);
    EXPECT_EQ(json["choices"][i]["text"], "h");
    EXPECT_EQ(json["choices"][i]["token_ids"], (nlohmann::json{'h'}));
  }
  EXPECT_EQ(json["choices"][0]["prompt_token_ids"], (nlohmann::json{97}));
  EXPECT_EQ(json["choices"][3]["prompt_token_ids"], (nlohmann::json{98, 99}));
  EXPECT_EQ(json["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(json["usage"]["completion_tokens"], 4);
}

TEST_F(HttpTest, EchoScoresThePrompt) {
  const auto json =
      Post("/v1/completions", R"({"prompt":"abc","max_tokens":0,"echo":true,"logprobs":1})").json();
  const auto& choice = json["choices"][0];
  EXPECT_EQ(choice["text"], "abc");
  EXPECT_EQ(choice["logprobs"]["tokens"], (nlohmann::json{"a", "b", "c"}));
  EXPECT_TRUE(choice["logprobs"]["token_logprobs"][0].is_null());
  EXPECT_TRUE(choice["logprobs"]["top_logprobs"][0].is_null());
  EXPECT_FLOAT_EQ(choice["logprobs"]["token_logprobs"][1], -0.5);
  EXPECT_EQ(choice["logprobs"]["text_offset"], (nlohmann::json{0, 1, 2}));
  EXPECT_EQ(json["usage"]["completion_tokens"], 0);
}

TEST_F(HttpTest, EchoedLogprobsGoOnIntoTheAnswer) {
  const auto json =
      Post("/v1/completions", R"({"prompt":"abc","max_tokens":2,"echo":true,"logprobs":0})").json();
  const auto& choice = json["choices"][0];
  EXPECT_EQ(choice["text"], "abche");
  EXPECT_EQ(choice["logprobs"]["text_offset"], (nlohmann::json{0, 1, 2, 3, 4}));
  EXPECT_EQ(choice["logprobs"]["top_logprobs"][4].size(), 1u);
}

TEST_F(HttpTest, PromptLogprobsAreALinePerToken) {
  const auto json =
      Post("/v1/completions", R"({"prompt":"abc","max_tokens":1,"prompt_logprobs":0})").json();
  const auto& list = json["choices"][0]["prompt_logprobs"];
  ASSERT_EQ(list.size(), 3u);
  EXPECT_TRUE(list[0].is_null());
  EXPECT_EQ(list[1]["98"]["decoded_token"], "b");
}

TEST_F(HttpTest, StreamEndsWithUsageAndDone) {
  TestClient client(server_->address());
  client.Send(PostBytes("/v1/completions", R"({"prompt":"abc","max_tokens":5,"stream":true,
                        "stream_options":{"include_usage":true}})"));
  const std::string all = client.ReadUntil("0\r\n\r\n");
  EXPECT_THAT(all, HasSubstr("Content-Type: text/event-stream; charset=utf-8"));
  EXPECT_THAT(all, HasSubstr("Cache-Control: no-cache"));
  EXPECT_THAT(all, HasSubstr(R"("finish_reason":"length")"));
  EXPECT_THAT(all, HasSubstr(R"("choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5)"));
  EXPECT_THAT(all, HasSubstr("data: [DONE]\n\n"));
  std::string text;
  for (size_t at = all.find("\"text\":\""); at != std::string::npos;
       at = all.find("\"text\":\"", at + 1)) {
    text += all.substr(at + 8, all.find('"', at + 8) - at - 8);
  }
  EXPECT_EQ(text, "hello");
}

TEST_F(HttpTest, StreamWithoutTheOptionHasNoUsageKey) {
  TestClient client(server_->address());
  client.Send(PostBytes("/v1/completions", R"({"prompt":"abc","max_tokens":2,"stream":true})"));
  EXPECT_THAT(client.ReadUntil("0\r\n\r\n"), Not(HasSubstr("usage")));
}

// Those in between are made without a tree of JSON; nothing may tell them from the first and last.
TEST_F(HttpTest, EveryChunkOfAStreamHasTheSameForm) {
  using Json = nlohmann::ordered_json;
  api_.engine.hold = true;
  TestClient client(server_->address());
  client.Send(PostBytes("/v1/completions", R"({"prompt":"abc","max_tokens":12,"stream":true,"n":2,
                        "return_token_ids":true})"));
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  const std::vector<std::string> pieces = {"a", "\"", "\\", "\n", "\xC3\xA9", "/\x7F", "~ z"};
  std::string forms[2], texts[2];
  for (size_t i = 0; i < 2 * pieces.size(); ++i) {
    const std::string& piece = pieces[i / 2];
    TokenEvent event{.request = key, .choice_idx = static_cast<uint32_t>(i % 2)};
    for (const char c : piece) event.tokens.push_back({.id = static_cast<unsigned char>(c)});
    if (i / 2 + 1 == pieces.size()) event.finish = Finish{.reason = FinishReason::kLength};
    api_.engine.Send(event);
    const std::string bytes = client.ReadUntil("\n\n");
    Json json = Json::parse(bytes.substr(bytes.find("data: ") + 6));
    Json choice = json["choices"][0];
    EXPECT_EQ(choice["index"], i % 2);
    EXPECT_EQ(choice["token_ids"].size(), piece.size());
    texts[i % 2] += choice["text"].get<std::string>();
    // Told once.
    EXPECT_EQ(choice.value("prompt_token_ids", Json()), i < 2 ? Json({97, 98, 99}) : Json());
    choice.erase("prompt_token_ids");
    json["choices"] = nullptr;
    std::string form = json.dump();
    for (const auto& [name, value] : choice.items()) form += " " + name;
    if (forms[i % 2].empty()) forms[i % 2] = form;
    EXPECT_EQ(form, forms[i % 2]);
  }
  for (const std::string& text : texts) EXPECT_EQ(text, "a\"\\\n\xC3\xA9/\x7F~ z");
}

TEST_F(HttpTest, ErrorInsideAStreamIsAnEventAndTheEnd) {
  api_.engine.hold = true;
  TestClient client(server_->address());
  client.Send(PostBytes("/v1/completions", R"({"prompt":"abc","max_tokens":9,"stream":true})"));
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  TokenEvent event{.request = key};
  event.tokens.push_back({.id = 'x'});
  api_.engine.Send(event);
  client.ReadUntil("\"x\"");
  event.tokens.clear();
  event.finish = Finish{.status = absl::UnavailableError("the worker is lost")};
  api_.engine.Send(event);
  const std::string rest = client.ReadUntil("0\r\n\r\n");
  EXPECT_THAT(rest, HasSubstr("data: {\"error\":{\"message\":\"the worker is lost\""));
  EXPECT_THAT(rest, Not(HasSubstr("[DONE]")));
}

TEST_F(HttpTest, ErrorsHaveFourKeys) {
  const Answer answer = Post("/v1/completions", R"({"prompt":"abc","temperature":-1})");
  EXPECT_EQ(answer.status, 400);
  const auto error = answer.json()["error"];
  EXPECT_EQ(error.size(), 4u);
  EXPECT_EQ(error["param"], "temperature");
  EXPECT_EQ(error["type"], "invalid_request_error");
  EXPECT_TRUE(error["code"].is_null());
  EXPECT_THAT(std::string(error["message"]), HasSubstr("0 to 100"));
}

TEST_F(HttpTest, PromptOverTheContextSaysTheNumbers) {
  const Answer answer = Post("/v1/completions", R"({"prompt":")" + std::string(60, 'x') + R"("})");
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.json()["error"]["code"], "context_length_exceeded");
  EXPECT_THAT(answer.body, HasSubstr("maximum context length is 64 tokens"));
  EXPECT_THAT(answer.body, HasSubstr("60 tokens"));
  EXPECT_THAT(answer.head, HasSubstr("x-should-retry: false"));
}

TEST_F(HttpTest, PromptFarOverTheContextSaysTheNumbersToo) {
  const Answer answer =
      Post("/v1/completions", R"({"prompt":")" + std::string(5000, 'x') + R"("})");
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.json()["error"]["code"], "context_length_exceeded");
  EXPECT_THAT(answer.body, HasSubstr("5000 tokens"));
}

TEST_F(HttpTest, UnknownModelIs404WithItsCode) {
  const Answer answer = Post("/v1/completions", R"({"prompt":"a","model":"other"})");
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.json()["error"]["code"], "model_not_found");
  EXPECT_EQ(answer.json()["error"]["param"], "model");
}

TEST_F(HttpTest, FullQueueIs429WithRetryAfter) {
  api_.engine.admit_refusal = absl::ResourceExhaustedError("the queue is full");
  api_.engine.admit_retry_after = absl::Milliseconds(1500);
  const Answer answer = Post("/v1/completions", R"({"prompt":"a"})");
  EXPECT_EQ(answer.status, 429);
  EXPECT_THAT(answer.head, HasSubstr("Retry-After: 2\r\n"));
  EXPECT_THAT(answer.head, HasSubstr("retry-after-ms: 1500"));
  EXPECT_EQ(answer.json()["error"]["code"], "rate_limit_exceeded");
}

TEST_F(HttpTest, UnknownFieldsAreNamedOrRefused) {
  const Answer named = Post("/v1/completions", R"({"prompt":"a","usr":1,"length_penalty":2})");
  EXPECT_EQ(named.status, 200);
  EXPECT_THAT(named.head, HasSubstr("x-mili-ignored: length_penalty,usr"));
  const Answer refused = Post("/v1/completions?strict=1", R"({"prompt":"a","usr":1})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.json()["error"]["param"], "usr");
}

TEST_F(HttpTest, GenerateAnswersInItsOwnShape) {
  const auto json = Post("/generate", R"({"prompt":"abc","max_tokens":5})").json();
  EXPECT_EQ(json["generated_text"], "hello");
  EXPECT_EQ(json["tokens"].size(), 5u);
  EXPECT_EQ(json["prompt_tokens"], 3);
  EXPECT_EQ(json["total_tokens"], 8);
  const RequestPtr request = api_.engine.WaitForRequest(0);
  EXPECT_FLOAT_EQ(request->sampling.top_p, 0.95f);
  EXPECT_EQ(request->sampling.top_k, 50u);
}

TEST_F(HttpTest, TokenizeAndDetokenize) {
  const auto json = Post("/tokenize", R"({"prompt":"ab","return_token_strs":true})").json();
  EXPECT_EQ(json["count"], 2);
  EXPECT_EQ(json["tokens"], (nlohmann::json{97, 98}));
  EXPECT_EQ(json["token_strs"], (nlohmann::json{"a", "b"}));
  EXPECT_EQ(json["max_model_len"], 64);
  EXPECT_TRUE(Post("/tokenize", R"({"prompt":"ab"})").json()["token_strs"].is_null());
  const auto chat = Post("/tokenize", R"({"messages":[{"role":"u","content":"x"}]})").json();
  EXPECT_EQ(chat["tokens"], (nlohmann::json{'u', ':', 'x', FakeTokenizer::kEnd}));
  EXPECT_EQ(Post("/detokenize", R"({"tokens":[97,98]})").json()["prompt"], "ab");
  EXPECT_EQ(Post("/detokenize", R"({"tokens":[9999]})").status, 400);
}

TEST_F(HttpTest, SmallRoutes) {
  EXPECT_EQ(Get("/health").status, 200);
  EXPECT_EQ(Get("/livez").status, 200);
  EXPECT_EQ(Get("/ready").status, 200);
  EXPECT_TRUE(Get("/version").json().contains("version"));
  EXPECT_EQ(Get("/").json()["model"], "tiny");
  EXPECT_EQ(Get("/v1/models").json()["data"][0]["id"], "tiny");
  EXPECT_EQ(Get("/v1/models").json()["object"], "list");
  EXPECT_EQ(Get("/v1/models/tiny").json()["max_model_len"], 64);
  EXPECT_EQ(Get("/v1/models/none").status, 404);
  EXPECT_EQ(Get("/metrics").body, "mili_up 1\n");
  EXPECT_EQ(Get("/nothing").status, 404);
  EXPECT_EQ(Get("/v1/completions").status, 405);
  const Answer head = Get("/health", "HEAD");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.body, "");
  const Answer options = Get("/v1/completions", "OPTIONS");
  EXPECT_EQ(options.status, 204);
  EXPECT_THAT(options.head, HasSubstr("Allow: POST, OPTIONS"));
}

TEST_F(HttpTest, HealthAndReadinessSayWhyNot) {
  api_.engine.group.has_produced_token = false;
  EXPECT_EQ(Get("/health").status, 200);
  EXPECT_EQ(Get("/ready").status, 503);
  api_.engine.group.is_ready = false;
  api_.engine.group.not_ready_reason = "worker lost";
  const Answer health = Get("/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.json()["error"]["message"], "worker lost");
  EXPECT_EQ(Get("/livez").status, 200);
}

TEST_F(HttpTest, DrainingIsNotReady) {
  api_.state.SetDraining();
  EXPECT_EQ(Get("/ready").status, 503);
  EXPECT_EQ(Get("/health").status, 200);
}

TEST_F(HttpTest, WrongContentTypeIs415) {
  TestClient client(server_->address());
  client.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
      "Content-Length: 2\r\n\r\n{}");
  EXPECT_EQ(Parse(client.ReadResponse()).status, 415);
}

}  // namespace
}  // namespace mili::router
