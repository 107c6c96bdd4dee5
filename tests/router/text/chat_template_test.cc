#include "router/text/chat_template.h"

#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mili::router {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::json;

Json ReadGolden(const std::string& name) {
  std::ifstream file(std::string(MILI_TEST_DATA) + "/chat/" + name + ".json");
  return Json::parse(file);
}

std::vector<ChatMessage> ToMessages(const Json& json) {
  std::vector<ChatMessage> messages;
  for (const Json& each : json) {
    ChatMessage message{each["role"], each["content"], std::nullopt};
    if (each.contains("reasoning_content")) message.reasoning_content = each["reasoning_content"];
    messages.push_back(std::move(message));
  }
  return messages;
}

std::unique_ptr<ChatTemplate> Make(const std::string& source) {
  TokenizerBundle bundle;
  bundle.chat_template = source;
  bundle.bos_token = "<s>";
  bundle.eos_token = "</s>";
  auto made = ChatTemplate::Create(bundle);
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : nullptr;
}

absl::Status CreateStatus(const std::string& source) {
  TokenizerBundle bundle;
  bundle.chat_template = source;
  return ChatTemplate::Create(bundle).status();
}

// The bytes of `prompt` that users wrote, in order.
std::string UserText(const RenderedPrompt& prompt) {
  std::string text;
  for (const TextSpan& span : prompt.user_spans) {
    text += prompt.text.substr(span.begin, span.end - span.begin) + "|";
  }
  return text;
}

class GoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, RendersAsTransformersDoes) {
  const Json golden = ReadGolden(GetParam());
  TokenizerBundle bundle;
  bundle.chat_template = golden["chat_template"];
  bundle.bos_token = golden["bos_token"];
  bundle.eos_token = golden["eos_token"];
  auto chat_template = ChatTemplate::Create(bundle);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  ASSERT_GE(golden["cases"].size(), 40u);
  for (const Json& each : golden["cases"]) {
    RenderOptions options;
    options.add_generation_prompt = each["add_generation_prompt"];
    if (!each["enable_thinking"].is_null()) options.enable_thinking = each["enable_thinking"];
    auto prompt = (*chat_template)->Render(ToMessages(each["messages"]), options);
    ASSERT_TRUE(prompt.ok()) << prompt.status() << "\n" << each["messages"];
    EXPECT_EQ(prompt->text, each["rendered"].get<std::string>()) << each["messages"];
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, ::testing::Values("smollm2", "qwen3"));

TEST(SnippetTest, RendersOrRefusesAsJinjaDoes) {
  const Json golden = ReadGolden("snippets");
  const std::vector<ChatMessage> messages = ToMessages(golden["messages"]);
  for (const Json& each : golden["cases"]) {
    const std::string source = each["template"];
    TokenizerBundle bundle;
    bundle.chat_template = source;
    bundle.bos_token = "<s>";
    bundle.eos_token = "</s>";
    auto chat_template = ChatTemplate::Create(bundle);
    if (each.contains("error")) {
      const absl::Status status = chat_template.ok()
                                      ? (*chat_template)->Render(messages, {}).status()
                                      : chat_template.status();
      EXPECT_FALSE(status.ok()) << source;
      continue;
    }
    ASSERT_TRUE(chat_template.ok()) << chat_template.status() << "\n" << source;
    auto prompt = (*chat_template)->Render(messages, {});
    ASSERT_TRUE(prompt.ok()) << prompt.status() << "\n" << source;
    EXPECT_EQ(prompt->text, each["rendered"].get<std::string>()) << source;
  }
}

TEST(ChatTemplateTest, MarksWhatUsersWrote) {
  auto chat_template = Make(
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}");
  auto prompt = chat_template->Render({{"user", "hi <|im_end|>", {}}, {"assistant", "", {}}}, {});
  ASSERT_TRUE(prompt.ok());
  EXPECT_EQ(prompt->text,
            "<|im_start|>user\nhi <|im_end|><|im_end|>\n<|im_start|>assistant\n<|im_end|>\n");
  EXPECT_EQ(UserText(*prompt), "user|hi <|im_end|>|assistant|");
}

TEST(ChatTemplateTest, KeepsTheMarkThroughEveryOperation) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{{ 'A' + c + 'B' }}", "x,y z|"},
      {"{{ 'A' ~ c }}", "x,y z|"},
      {"{{ c|trim }}", "x,y z|"},
      {"{{ c.split(',')[1] }}", "y z|"},
      {"{{ c.split(',')|join('--') }}", "x|y z|"},
      {"{{ c|replace('y', 'NEW') }}", "x,| z|"},
      {"{{ 'a-b'|replace('-', c) }}", "x,y z|"},
      {"{{ c|upper }}", "X,Y Z|"},
      {"{{ c|title }}", "X,y Z|"},
      {"{{ c[::-1] }}", "z y,x|"},
      {"{{ c[1:3] }}", ",y|"},
      {"{{ c * 2 }}", "x,y zx,y z|"},
      {"{{ {'k': c}|tojson }}", "x,y z|"},
      {"{{ [c] }}", "x,y z|"},
      {"{% set t %}A{{ c }}B{% endset %}{{ t }}", "x,y z|"},
      {"{% macro m(t) %}A{{ t }}B{% endmacro %}{{ m(c) }}", "x,y z|"},
      {"{% filter upper %}a{{ c }}b{% endfilter %}", "X,Y Z|"},
      {"{{ c|indent(2, true) }}", "x,y z|"},
      {"{% set ns = namespace(s='') %}{% set ns.s = ns.s ~ '<' ~ c %}{{ ns.s ~ '>' }}", "x,y z|"},
      {"{{ c|first ~ '-' ~ c|last }}", "x|z|"},
      {"{{ c|length }}{{ 'constant' }}", ""},
  };
  for (const auto& [source, expected] : cases) {
    auto chat_template = Make("{% set c = messages[0].content %}" + source);
    ASSERT_NE(chat_template, nullptr) << source;
    auto prompt = chat_template->Render({{"user", "x,y z", {}}}, {});
    ASSERT_TRUE(prompt.ok()) << prompt.status() << "\n" << source;
    EXPECT_EQ(UserText(*prompt), expected) << source;
  }
}

TEST(ChatTemplateTest, TellsThatAModelHasNone) {
  const absl::Status status = CreateStatus("");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no chat template"));
}

TEST(ChatTemplateTest, GivesTheWordsOfRaiseExceptionAlone) {
  auto chat_template = Make("\n\n{{ raise_exception('Roles must alternate') }}");
  const absl::Status status = chat_template->Render({}, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()), "Roles must alternate");
}

TEST(ChatTemplateTest, NamesTheLineOfAnError) {
  auto chat_template = Make("a\nb\n{{ messages[0].content.nothing.more }}");
  const absl::Status status = chat_template->Render({{"user", "x", {}}}, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), StartsWith("chat template line 3: "));
  EXPECT_THAT(std::string(CreateStatus("a\n{% if x %}\n\n").message()),
              StartsWith("chat template line 3: expected {% endif %}"));
}

TEST(ChatTemplateTest, NamesAConstructThatItLacksAndItsLine) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\n{% include 'x' %}", "chat template line 2: the tag {% include %} is not supported"},
      {"{{ x|groupby('y') }}", "chat template line 1: the filter groupby is not supported"},
      {"{{ x is escaped }}", "chat template line 1: the test escaped is not supported"},
      {"{{ f(*x) }}", "chat template line 1: unpacking arguments with * is not supported"},
      {"{% for x in y recursive %}{% endfor %}",
       "chat template line 1: a recursive loop is not supported"},
  };
  for (const auto& [source, message] : cases) {
    const absl::Status status = CreateStatus(source);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << source;
    EXPECT_EQ(std::string(status.message()), message);
  }
  const absl::Status status = Make("a\n{{ 'x'.zfill(3) }}")->Render({}, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(std::string(status.message()),
            "chat template line 2: the method zfill of str is not supported");
}

TEST(ChatTemplateTest, ShowsTheGivenTime) {
  auto chat_template = Make("{{ strftime_now('%Y-%m-%d') }}");
  RenderOptions options;
  options.now = absl::FromCivil(absl::CivilDay(2024, 7, 26), absl::LocalTimeZone());
  auto prompt = chat_template->Render({}, options);
  ASSERT_TRUE(prompt.ok());
  EXPECT_EQ(prompt->text, "2024-07-26");
}

}  // namespace
}  // namespace mili::router
