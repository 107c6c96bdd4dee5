#include "router/api/text_pool.h"

#include <utility>

namespace mili::router {

TextPool::TextPool(size_t num_threads, size_t max_num_jobs) : jobs_(max_num_jobs) {
  for (size_t i = 0; i < num_threads; ++i) {
    threads_.emplace_back([this] {
      while (auto job = jobs_.Take()) (*job)();
    });
  }
}

TextPool::~TextPool() {
  jobs_.Close();
  for (std::thread& thread : threads_) thread.join();
}

bool TextPool::TryRun(std::function<void()> job) { return jobs_.TryPost(std::move(job)); }

}  // namespace mili::router
