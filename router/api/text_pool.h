// TextPool: the threads that tokenise. Bounded: a full pool refuses, it never blocks its callers.
#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "common/base/mailbox.h"

namespace mili::router {

class TextPool {
 public:
  TextPool(size_t num_threads, size_t max_num_jobs);
  // Runs what was accepted, then joins.
  ~TextPool();

  // False: full or closed, and the job is gone.
  [[nodiscard]] bool TryRun(std::function<void()> job);

 private:
  Mailbox<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
};

}  // namespace mili::router
