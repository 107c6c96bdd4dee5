// Foreign bytes of a gRPC request: parsed as GenerateRequest, taken apart, validated.
#include <cstdint>

#include <google/protobuf/stubs/logging.h>

#include "router/api/pb_spec.h"
#include "router/api/validate.h"
#include "tests/support/fake_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mili::router;
  const google::protobuf::LogSilencer silencer;  // strings that are no UTF-8
  mili::v1::GenerateRequest request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) return 0;
  auto spec = SpecFromProto(std::move(request));
  if (!spec.ok()) return 0;
  ServedModel model;
  model.name = "m";
  model.facts.max_model_len = 64;
  model.facts.vocab_size = mili::FakeTokenizer::kVocabSize;
  model.tokenizer = std::make_shared<mili::FakeTokenizer>();
  model.encode_chat = [](const ChatPrompt&) { return std::vector<mili::TokenId>{1}; };
  const auto valid = Validate(*std::move(spec), model, {}, 1, absl::UnixEpoch());
  if (valid.ok()) (void)ResolveMaxTokens(*valid, 8, model, {});
  return 0;
}
