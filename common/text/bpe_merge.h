// BPE by merging, as it is defined: the merge of lowest rank first, the leftmost on ties, as
// tokenizers' models/bpe. For any list of merges; time n log n in the length of the word.
// Pure functions, any thread.
#pragma once

#include <cstddef>

#include "common/base/ids.h"
#include "common/text/pair_ranks.h"

namespace mili::text {

// Merges the symbols of a word in place; returns how many tokens are left of them.
size_t MergeSymbols(const PairRanks& ranks, TokenId* symbols, size_t size);

}  // namespace mili::text
