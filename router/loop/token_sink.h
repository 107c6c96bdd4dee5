// TokenSink: where the scheduler loop delivers news of requests. The api implements it.
#pragma once

#include <vector>

#include "common/core/request.h"

namespace mili::router {

// Called in a scheduler loop's round; must not block and must not call back into the loop, but for
// what only posts an event.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // Events of one step, in order. Events of one request always come to the same sink, in order, and
  // end with one finish for each choice.
  virtual void OnTokens(std::vector<TokenEvent> events) = 0;
};

}  // namespace mili::router
