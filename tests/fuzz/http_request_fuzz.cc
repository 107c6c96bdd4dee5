// Foreign bytes of an HTTP request: the target, then bodies of every route, then validation.
#include <cstdint>
#include <string_view>

#include "router/api/http/json_spec.h"
#include "router/api/validate.h"
#include "tests/support/fake_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mili::router;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t line = bytes.find('\n');
  const auto target = ParseTarget(bytes.substr(0, line));
  const std::string_view body = line == std::string_view::npos ? bytes : bytes.substr(line + 1);
  const bool strict = target.ok() && target->strict;
  ServedModel model;
  model.name = "m";
  model.facts.max_model_len = 64;
  model.facts.vocab_size = mili::FakeTokenizer::kVocabSize;
  model.tokenizer = std::make_shared<mili::FakeTokenizer>();
  for (const Endpoint endpoint : {Endpoint::kCompletions, Endpoint::kGenerate}) {
    auto parsed = ParseCompletion(body, endpoint, strict);
    if (!parsed.ok()) continue;
    const auto valid = Validate(std::move(parsed->spec), model, {}, 1, absl::UnixEpoch());
    if (!valid.ok()) continue;
    (void)ResolveMaxTokens(*valid, 8, model, {});
  }
  (void)ParseTokenize(body, strict);
  (void)ParseDetokenize(body, strict);
  return 0;
}
