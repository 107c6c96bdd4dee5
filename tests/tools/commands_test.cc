// generate, chat and tokenize against a server of the test's own, on a Unix socket.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "mili/v1/inference.grpc.pb.h"
#include "tools/mili/command.h"
#include "tools/mili/exit_codes.h"

namespace mili {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Answers as the test says; keeps what it was asked.
class FakeServer final : public v1::Inference::Service {
 public:
  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        v1::GenerateResponse* response) override {
    requests.push_back(*request);
    if (!status.ok()) return status;
    for (uint32_t i = 0; i < std::max(request->n(), 1u); ++i) {
      v1::Choice* choice = response->add_choices();
      choice->set_index(i);
      choice->set_text(absl::StrCat("answer ", i));
      choice->add_token_ids(7);
      choice->mutable_finish_info()->set_finish_reason(v1::FINISH_REASON_LENGTH);
    }
    response->mutable_usage()->set_completion_tokens(2);
    return grpc::Status::OK;
  }

  grpc::Status GenerateStream(grpc::ServerContext*, const v1::GenerateRequest* request,
                              grpc::ServerWriter<v1::GenerateStreamResponse>* writer) override {
    requests.push_back(*request);
    if (!status.ok()) return status;
    v1::GenerateStreamResponse message;
    for (const std::string& piece : pieces) {
      message.mutable_chunk()->set_text(piece);
      writer->Write(message);
    }
    if (on_pieces_sent) {
      on_pieces_sent();
      while (writer->Write(message)) {  // until the client cancels
      }
    }
    v1::FinishInfo* finish = message.mutable_finish_info();
    finish->set_finish_reason(v1::FINISH_REASON_STOP);
    finish->mutable_usage()->set_prompt_tokens(5);
    finish->mutable_usage()->set_completion_tokens(2);
    writer->Write(message);
    return grpc::Status::OK;
  }

  grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override {
    if (!status.ok()) return status;
    for (const char c : request->text()) response->add_token_ids(static_cast<unsigned char>(c));
    return grpc::Status::OK;
  }
  grpc::Status Detokenize(grpc::ServerContext*, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override {
    for (const uint32_t id : request->token_ids())
      *response->mutable_text() += static_cast<char>(id);
    return grpc::Status::OK;
  }

  std::vector<v1::GenerateRequest> requests;
  std::vector<std::string> pieces = {"Hel", "lo"};
  grpc::Status status;
  std::function<void()> on_pieces_sent;
};

struct Result {
  int code = -1;
  std::string out;
  std::string err;
};

class CommandsTest : public ::testing::Test {
 protected:
  CommandsTest() {
    std::string pattern = "/tmp/mili_commands_XXXXXX";
    dir_ = mkdtemp(pattern.data());
    address_ = "unix:" + dir_ + "/s";
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
    builder.RegisterService(&fake_);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
  }
  ~CommandsTest() override {
    server_->Shutdown();
    std::filesystem::remove_all(dir_);
  }

  // Runs a command with `input` on stdin.
  Result Run(int (*command)(const CommandLineArgs&), std::vector<std::string> words,
             const std::string& input = "") {
    std::ofstream(dir_ + "/in") << input;
    const int old_stdin = dup(STDIN_FILENO);
    const int fd = open((dir_ + "/in").c_str(), O_RDONLY);
    dup2(fd, STDIN_FILENO);
    close(fd);
    std::vector<const char*> argv = {"command"};
    for (const std::string& word : words) argv.push_back(word.c_str());
    const char* environ[] = {nullptr};
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    Result result;
    result.code = command({static_cast<int>(argv.size()), argv.data(), environ});
    result.out = testing::internal::GetCapturedStdout();
    result.err = testing::internal::GetCapturedStderr();
    dup2(old_stdin, STDIN_FILENO);
    close(old_stdin);
    return result;
  }

  std::string dir_;
  std::string address_;
  FakeServer fake_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(CommandsTest, GenerateStreamsTextAndCountsOnStderr) {
  const Result result = Run(RunGenerate, {"--server", address_, "-p", "Say", "--max-tokens", "4",
                                          "--temperature", "0.5", "--seed=-3", "--stop", "x"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(result.out, "Hello\n");
  EXPECT_THAT(result.err, HasSubstr("[5 prompt tokens, 2 tokens, "));
  ASSERT_EQ(fake_.requests.size(), 1u);
  const v1::GenerateRequest& request = fake_.requests[0];
  EXPECT_EQ(request.text(), "Say");
  EXPECT_EQ(request.max_tokens(), 4u);
  EXPECT_EQ(request.temperature(), 0.5f);
  EXPECT_EQ(request.seed(), -3);
  EXPECT_THAT(request.stop(), ElementsAre("x"));
  EXPECT_FALSE(request.has_top_p()) << "what was not given is the server's to decide";
}

TEST_F(CommandsTest, GenerateTakesPromptsFromStdinAndIds) {
  Run(RunGenerate, {"--server", address_, "-q"}, "from stdin\n");
  Run(RunGenerate, {"--server", address_, "--prompt-ids", "1,2"});
  Run(RunGenerate, {"--server", address_, "--chat", "--system", "Be brief", "-p", "Hi"});
  ASSERT_EQ(fake_.requests.size(), 3u);
  EXPECT_EQ(fake_.requests[0].text(), "from stdin");
  EXPECT_THAT(fake_.requests[1].token_ids().ids(), ElementsAre(1, 2));
  ASSERT_EQ(fake_.requests[2].messages().messages_size(), 2);
  EXPECT_EQ(fake_.requests[2].messages().messages(0).role(), "system");
  EXPECT_EQ(fake_.requests[2].messages().messages(1).content(), "Hi");
}

TEST_F(CommandsTest, GenerateJsonIsOneObject) {
  const Result result =
      Run(RunGenerate, {"--server", address_, "-p", "x", "--json", "--n", "2", "--logprobs", "0"});
  ASSERT_EQ(result.code, kExitOk) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["choices"].size(), 2u);
  EXPECT_EQ(json["choices"][1]["text"], "answer 1");
  EXPECT_EQ(json["choices"][0]["token_ids"], nlohmann::json({7}));
  EXPECT_EQ(json["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(json["usage"]["completion_tokens"], 2);
  EXPECT_TRUE(fake_.requests[0].return_token_ids());
  EXPECT_TRUE(fake_.requests[0].has_logprobs());
}

TEST_F(CommandsTest, GenerateJsonStreamIsOneObjectALine) {
  const Result result = Run(RunGenerate, {"--server", address_, "-p", "x", "--json", "--stream"});
  ASSERT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr(R"({"chunk":{"index":0,"text":"Hel","token_ids":[]}})"
                                    "\n"));
  EXPECT_THAT(result.out, HasSubstr(R"("finish_reason":"stop")"));
}

TEST_F(CommandsTest, UsageErrorsNameWhatToDo) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"-p", "x"}, "Give MODEL, or --server"},
      {{"m.gguf", "--server", "s", "-p", "x"}, "exclude each other"},
      {{"--server", "s", "-p", "x", "--prompt-ids", "1"}, "give one prompt"},
      {{"--server", "s", "--prompt-ids", "1,x"}, "\"x\" is no token id"},
      {{"--server", "s", "-p", "x", "--system", "y"}, "--system belongs to --chat"},
      {{"--server", "s", "-p", "x", "--logprobs", "1"}, "add --json"},
      {{"--server", "s", "-p", "x", "--temperature", "-1"}, "from 0 to 100"},
      {{"--server", "s", "-p", "x", "--bogus"}, "unknown flag --bogus"},
  };
  for (const auto& [words, expected] : cases) {
    const Result result = Run(RunGenerate, words);
    EXPECT_EQ(result.code, kExitUsage) << expected;
    EXPECT_THAT(result.err, HasSubstr(expected));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

TEST_F(CommandsTest, AServerThatIsNotThereHasItsOwnCode) {
  const Result result = Run(RunGenerate, {"--server", "unix:/nowhere/s", "-p", "x"});
  EXPECT_EQ(result.code, kExitUnreachable);
  EXPECT_THAT(result.err, HasSubstr("no server answers at unix:/nowhere/s"));
  EXPECT_THAT(result.err, HasSubstr("mili serve MODEL"));
}

TEST_F(CommandsTest, RefusalsAreShownAsTheServerSaysThem) {
  fake_.status = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "prompt: too long by 3 tokens");
  const Result bad = Run(RunGenerate, {"--server", address_, "-p", "x"});
  EXPECT_EQ(bad.code, kExitFailure);
  EXPECT_EQ(bad.err, "mili: prompt: too long by 3 tokens\n");
  fake_.status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "draining");
  EXPECT_EQ(Run(RunGenerate, {"--server", address_, "-p", "x"}).code, kExitUnreachable);
}

TEST_F(CommandsTest, ChatSendsTheWholeConversation) {
  const Result result = Run(RunChat, {"--server", address_, "--system", "S"}, "one\n\ntwo\n");
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(result.out, "Hello\nHello\n");
  EXPECT_THAT(result.err, HasSubstr("tokens/s"));
  EXPECT_THAT(result.err, Not(HasSubstr("> "))) << "no prompt where input is no terminal";
  ASSERT_EQ(fake_.requests.size(), 2u);
  std::vector<std::string> turns;
  for (const v1::Message& message : fake_.requests[1].messages().messages()) {
    turns.push_back(message.role() + ": " + message.content());
  }
  EXPECT_THAT(turns, ElementsAre("system: S", "user: one", "assistant: Hello", "user: two"));
}

TEST_F(CommandsTest, ChatCommandsSteerTheConversation) {
  const Result result = Run(RunChat, {"--server", address_},
                            "one\n/reset\ntwo\n/system New\nthree\n/nonsense\n/exit\nnever\n");
  EXPECT_EQ(result.code, kExitOk) << result.err;
  ASSERT_EQ(fake_.requests.size(), 3u);
  EXPECT_EQ(fake_.requests[1].messages().messages_size(), 1);
  EXPECT_EQ(fake_.requests[2].messages().messages(0).content(), "New");
  EXPECT_THAT(result.err, HasSubstr("no command /nonsense"));
}

TEST_F(CommandsTest, ChatAsksOnceWithPrompt) {
  const Result result =
      Run(RunChat, {"--server", address_, "-p", "Why?", "--thinking", "off", "-q"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_EQ(result.out, "Hello\n");
  EXPECT_EQ(result.err, "");
  EXPECT_TRUE(fake_.requests[0].messages().has_enable_thinking());
  EXPECT_FALSE(fake_.requests[0].messages().enable_thinking());
}

TEST_F(CommandsTest, ChatInAPipeEndsWithTheFirstFailure) {
  fake_.status = grpc::Status(grpc::StatusCode::NOT_FOUND, "no model x");
  const Result result = Run(RunChat, {"--server", address_}, "one\ntwo\n");
  EXPECT_EQ(result.code, kExitFailure);
  EXPECT_EQ(fake_.requests.size(), 1u);
}

TEST_F(CommandsTest, CtrlCStopsTheAnswer) {
  fake_.on_pieces_sent = [] { kill(getpid(), SIGINT); };
  const Result result = Run(RunGenerate, {"--server", address_, "-p", "x"});
  EXPECT_EQ(result.code, kExitInterrupted);
  EXPECT_THAT(result.err, HasSubstr("interrupted"));
}

TEST_F(CommandsTest, TokenizeConvertsLinesBothWays) {
  const Result ids = Run(RunTokenize, {"--server", address_, "--jsonl"}, "\"ab\"\n\"\"\n\"c\"");
  EXPECT_EQ(ids.code, kExitOk) << ids.err;
  EXPECT_EQ(ids.out, "[97, 98]\n[]\n[99]\n");
  const Result text = Run(RunTokenize, {"--server", address_, "--jsonl", "--decode"}, ids.out);
  EXPECT_EQ(text.out, "\"ab\"\n\"\"\n\"c\"\n");
  EXPECT_EQ(Run(RunTokenize, {"--server", address_, "a", "b"}).out, "[97, 32, 98]\n");
  EXPECT_EQ(Run(RunTokenize, {"--server", address_, "--decode", "97,98"}).out, "ab\n");
}

TEST_F(CommandsTest, TokenizeNamesTheBadLineAndKeepsTheGoodOnes) {
  const Result result = Run(RunTokenize, {"--server", address_, "--jsonl"}, "\"a\"\n{}\n\"b\"\n");
  EXPECT_EQ(result.code, kExitFailure);
  EXPECT_EQ(result.out, "[97]\n");
  EXPECT_EQ(result.err, "mili: line 2: column 1: expected a JSON string, found '{'\n");
}

TEST_F(CommandsTest, TokenizeReadsLongLinesInPieces) {
  const std::string word(1 << 20, 'a');
  const Result result =
      Run(RunTokenize, {"--server", address_, "--jsonl"}, "\"" + word + "\"\n\"b\"\n");
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out, testing::EndsWith("97]\n[98]\n"));
}

TEST_F(CommandsTest, AModelThatIsNotThereIsNamed) {
  for (auto* command : {RunServe, RunChat, RunTokenize, RunInspect}) {
    const Result result = Run(command, {"/nowhere/m.gguf"});
    EXPECT_EQ(result.code, kExitFailure);
    EXPECT_THAT(result.err, HasSubstr("no model at /nowhere/m.gguf"));
  }
}

TEST_F(CommandsTest, HelpIsOnStdoutAndNamesExitCodes) {
  for (auto* command : {RunServe, RunGenerate, RunChat, RunTokenize, RunInspect}) {
    const Result result = Run(command, {"--help"});
    EXPECT_EQ(result.code, kExitOk);
    EXPECT_THAT(result.out, HasSubstr("Exit codes: 0 "));
    EXPECT_EQ(result.err, "");
  }
}

}  // namespace
}  // namespace mili
