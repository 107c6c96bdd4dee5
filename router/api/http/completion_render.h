// CompletionRender: what a Call tells, as the JSON of /v1/completions. One per call, on one thread
// at a time; remembers what a stream's chunks have in common and how far each choice has come.
#pragma once

#include <string>
#include <vector>

#include "router/api/call.h"
#include "router/api/http/json_spec.h"

namespace mili::router {

class CompletionRender {
 public:
  struct Options {
    std::string id;       // "cmpl-..."
    int64_t created = 0;  // unix seconds
    bool include_usage = false;
    bool tokens_as_token_ids = false;
    bool want_prompt_logprobs = false;
  };
  // `call` has started and outlives the object.
  CompletionRender(Options options, const Call* call);

  // The whole reply; one delta a choice, each with its end.
  std::string Whole(const std::vector<ChoiceDelta>& deltas);
  // One chunk of a stream, without "data: ".
  std::string Chunk(const ChoiceDelta& delta);
  // The chunk with the totals, after all others.
  std::string UsageChunk() const;

 private:
  struct Piece;  // JSON of one choice

  void Count(const ChoiceDelta& delta);
  // A chunk of text and ids alone; `first`: of its choice. Never its last.
  std::string PlainChunk(size_t choice_idx, const ChoiceDelta& delta, bool first);

  const Options options_;
  const Call* const call_;
  std::vector<bool> begun_;                 // choices that had a chunk
  std::vector<uint32_t> echo_code_points_;  // by prompt: length of its text, if echoed
  std::vector<std::string> echo_texts_;
  std::string plain_begin_;  // of a chunk, up to its choice
  uint64_t num_completion_tokens_ = 0;
  uint64_t num_cached_tokens_ = 0;

  friend struct Piece;
};

}  // namespace mili::router
