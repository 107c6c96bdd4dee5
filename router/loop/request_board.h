// RequestBoard: the state of every request for whoever asks, and the group it lives at. Written by
// the loops once a step, read from any thread; ended requests stay for a minute. Bounded.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <absl/time/time.h>

#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/core/request.h"
#include "router/loop/engine.h"
#include "router/sched/sequence.h"

namespace mili::router {

class RequestBoard {
 public:
  explicit RequestBoard(size_t num_groups) : num_active_by_group_(num_groups, 0) {}

  // A request begins at a group.
  void Add(const Request& request, size_t group_idx);
  // It never began after all; as if Add had not been called.
  void Remove(RequestKey key);
  void SetGroup(RequestKey key, size_t group_idx);
  void Update(const std::vector<RequestProgress>& news);
  // Requests ended with these outcomes. Those that ended over a minute ago are forgotten.
  void Finish(const std::vector<std::pair<RequestKey, std::string>>& outcomes, absl::Time now);

  struct Entry {
    RequestKey key;
    size_t group_idx = 0;
    RequestStatus status;
  };
  // The newest request of that id.
  std::optional<Entry> Find(const std::string& request_id) const;
  // Keys of the unfinished requests of that id.
  std::vector<RequestKey> ActiveKeys(const std::string& request_id) const;
  // Where an unfinished request lives.
  std::optional<size_t> GroupOf(RequestKey key) const;
  uint32_t num_active() const;
  uint32_t num_active_at(size_t group_idx) const;

 private:
  struct Row {
    std::string request_id;
    size_t group_idx = 0;
    RequestStatus status;
  };
  void Forget(RequestKey key) MILI_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::unordered_map<RequestKey, Row> rows_ MILI_GUARDED_BY(mutex_);
  std::unordered_multimap<std::string, RequestKey> keys_ MILI_GUARDED_BY(mutex_);
  std::deque<std::pair<absl::Time, RequestKey>> finished_ MILI_GUARDED_BY(mutex_);
  std::vector<uint32_t> num_active_by_group_ MILI_GUARDED_BY(mutex_);
};

}  // namespace mili::router
