// KvPagePool: which KV pages of a worker nobody holds. It owns ids and counts, never memory; one
// scheduler thread is its only writer. A page leaves as a PageLease and comes back when the lease
// dies, so it cannot be lost or given twice.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/ids.h"

namespace mili::router {

class KvPagePool;

// The right to one page. Move-only; its end gives the page back. Must not outlive its pool.
class PageLease {
 public:
  PageLease(PageLease&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), page_(other.page_) {}
  PageLease& operator=(PageLease&& other) noexcept;
  PageLease(const PageLease&) = delete;
  PageLease& operator=(const PageLease&) = delete;
  ~PageLease() { Return(); }

  PageId page() const { return page_; }

 private:
  friend class KvPagePool;
  PageLease(KvPagePool* pool, PageId page) : pool_(pool), page_(page) {}
  void Return();

  KvPagePool* pool_;  // null once moved from
  PageId page_;
};

// The pages of one sequence, in order of position.
using PageTable = std::vector<PageLease>;

class KvPagePool {
 public:
  // Pages 0 .. num_pages - 1, all free.
  explicit KvPagePool(uint32_t num_pages);
  // Every lease must have ended.
  ~KvPagePool();
  KvPagePool(const KvPagePool&) = delete;
  KvPagePool& operator=(const KvPagePool&) = delete;

  // A free page, the one returned last first (its memory is the likeliest to be cached); nothing if
  // none is free.
  std::optional<PageLease> TryLease();
  // `num` pages at the end of `table`; false, and nothing changes, if fewer are free.
  [[nodiscard]] bool TryLease(uint32_t num, PageTable& table);

  uint32_t num_total() const { return num_total_; }
  uint32_t num_free() const { return static_cast<uint32_t>(free_.size()); }
  uint32_t num_leased() const { return num_leased_; }
  // Held by the prefix index alone; always 0 until there is one.
  uint32_t num_cached() const { return 0; }
  // free + leased + cached == total.
  bool adds_up() const { return num_free() + num_leased_ + num_cached() == num_total_; }

 private:
  friend class PageLease;
  void Return(PageId page);

  const uint32_t num_total_;
  uint32_t num_leased_ = 0;
  std::vector<PageId> free_;     // a stack
  std::vector<bool> is_leased_;  // [num_total]; checks that no page comes back twice
};

}  // namespace mili::router
