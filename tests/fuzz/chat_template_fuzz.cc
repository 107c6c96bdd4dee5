// A chat template from a stranger: it may be refused, it may fail, it may not crash, hang or grow.
// The first line of the input is what the user says, the rest the template.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/base/check.h"
#include "router/text/jinja/interpreter.h"
#include "router/text/jinja/parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mili::router::jinja;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t line = input.find('\n');
  const std::string content(input.substr(0, line));
  auto block = ParseTemplate(line == std::string_view::npos ? input : input.substr(line + 1));
  if (!block.ok()) return 0;

  // Small enough that a run stays quick under the sanitizers.
  Limits limits;
  limits.max_steps = 100'000;
  limits.max_bytes = 1 << 20;
  limits.max_range = 1'000;
  Interpreter interpreter(limits, absl::UnixEpoch());
  auto message =
      Value::MakeDict({{Value::Of(std::string("role")), Value::Of(Text("user", true))},
                       {Value::Of(std::string("content")), Value::Of(Text(content, true))}});
  interpreter.SetVariable("messages", *Value::MakeList({*message, *message}));
  interpreter.SetVariable("add_generation_prompt", Value::Of(true));
  auto text = interpreter.Run(*block);
  if (!text.ok()) return 0;
  size_t last = 0;
  for (const ByteSpan& span : text->user_spans()) {
    MILI_CHECK(span.begin < span.end && span.end <= text->size(), "a span within the text");
    MILI_CHECK(last == 0 || span.begin > last, "spans in order, apart");
    last = span.end;
  }
  return 0;
}
