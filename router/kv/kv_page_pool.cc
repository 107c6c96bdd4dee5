#include "router/kv/kv_page_pool.h"

#include "common/base/check.h"

namespace mili::router {

PageLease& PageLease::operator=(PageLease&& other) noexcept {
  if (this != &other) {
    Return();
    pool_ = std::exchange(other.pool_, nullptr);
    page_ = other.page_;
  }
  return *this;
}

void PageLease::Return() {
  if (pool_ != nullptr) std::exchange(pool_, nullptr)->Return(page_);
}

KvPagePool::KvPagePool(uint32_t num_pages) : num_total_(num_pages), is_leased_(num_pages, false) {
  free_.reserve(num_pages);
  for (uint32_t i = num_pages; i > 0; --i) free_.push_back(PageId(i - 1));
}

KvPagePool::~KvPagePool() { MILI_CHECK(num_leased_ == 0, "a page lease outlives its pool"); }

std::optional<PageLease> KvPagePool::TryLease() {
  if (free_.empty()) return std::nullopt;
  const PageId page = free_.back();
  free_.pop_back();
  is_leased_[page.value] = true;
  ++num_leased_;
  return PageLease(this, page);
}

bool KvPagePool::TryLease(uint32_t num, PageTable& table) {
  if (num > num_free()) return false;
  for (uint32_t i = 0; i < num; ++i) table.push_back(*TryLease());
  return true;
}

void KvPagePool::Return(PageId page) {
  MILI_CHECK(page.value < num_total_ && is_leased_[page.value], "a page came back twice");
  is_leased_[page.value] = false;
  --num_leased_;
  free_.push_back(page);
}

}  // namespace mili::router
