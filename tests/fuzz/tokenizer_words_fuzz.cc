// Any bytes, cut into words by the scanners and by the patterns read literally: the same words.
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "common/text/pretokenizer.h"
#include "common/text/utf8.h"
#include "tests/common/text/plain_words.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using mili::text::SplitStep;
  std::string text;
  mili::text::AppendLossy({reinterpret_cast<const char*>(data), size}, text);
  constexpr SplitStep kSteps[] = {SplitStep::kGpt2, SplitStep::kQwen2, SplitStep::kLlama3};
  static const mili::text::PreTokenizer kPreTokenizers[] = {mili::text::PreTokenizer({kSteps[0]}),
                                                            mili::text::PreTokenizer({kSteps[1]}),
                                                            mili::text::PreTokenizer({kSteps[2]})};
  for (size_t i = 0; i < std::size(kSteps); ++i) {
    std::vector<std::string> words;
    kPreTokenizers[i].Split(text, [&](std::span<const std::string_view> batch, const char*) {
      words.insert(words.end(), batch.begin(), batch.end());
    });
    if (words != mili::text::PlainWords(kSteps[i], text)) std::abort();
  }
  return 0;
}
