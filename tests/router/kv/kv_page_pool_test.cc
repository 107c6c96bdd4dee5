#include "router/kv/kv_page_pool.h"

#include <random>
#include <set>
#include <type_traits>

#include <gtest/gtest.h>

namespace mili::router {
namespace {

static_assert(!std::is_copy_constructible_v<PageLease>);
static_assert(std::is_nothrow_move_constructible_v<PageLease>);

TEST(KvPagePoolTest, GivesEachPageOnceAndThenNone) {
  KvPagePool pool(3);
  PageTable table;
  std::set<uint32_t> pages;
  while (auto lease = pool.TryLease()) {
    pages.insert(lease->page().value);
    table.push_back(*std::move(lease));
  }
  EXPECT_EQ(pages, (std::set<uint32_t>{0, 1, 2}));
  EXPECT_EQ(pool.num_free(), 0u);
  EXPECT_EQ(pool.num_leased(), 3u);
  EXPECT_TRUE(pool.adds_up());
}

TEST(KvPagePoolTest, TakesAPageBackWhenItsLeaseEnds) {
  KvPagePool pool(1);
  { auto lease = pool.TryLease(); }
  EXPECT_EQ(pool.num_free(), 1u);
  EXPECT_TRUE(pool.TryLease().has_value());
}

TEST(KvPagePoolTest, CountsAMovedLeaseOnce) {
  KvPagePool pool(2);
  auto a = pool.TryLease();
  auto b = pool.TryLease();
  const PageId page = b->page();
  *a = *std::move(b);
  EXPECT_EQ(a->page(), page);
  EXPECT_EQ(pool.num_leased(), 1u);
  b.reset();
  EXPECT_EQ(pool.num_leased(), 1u);
  a.reset();
  EXPECT_EQ(pool.num_free(), 2u);
}

TEST(KvPagePoolTest, LeasesAllPagesAskedForOrNone) {
  KvPagePool pool(3);
  PageTable table;
  EXPECT_FALSE(pool.TryLease(4, table));
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(pool.num_free(), 3u);
  EXPECT_TRUE(pool.TryLease(3, table));
  EXPECT_EQ(table.size(), 3u);
  EXPECT_TRUE(pool.TryLease(0, table));
}

TEST(KvPagePoolTest, AddsUpAfterAnyOrderOfLeasesAndReturns) {
  std::mt19937 random(7);
  KvPagePool pool(64);
  PageTable table;
  for (int i = 0; i < 20000; ++i) {
    if (random() % 2 == 0) {
      (void)pool.TryLease(random() % 5, table);
    } else if (!table.empty()) {
      std::swap(table[random() % table.size()], table.back());
      table.pop_back();
    }
    ASSERT_TRUE(pool.adds_up());
    ASSERT_EQ(pool.num_leased(), table.size());
  }
  std::set<uint32_t> pages;
  for (const PageLease& lease : table) pages.insert(lease.page().value);
  EXPECT_EQ(pages.size(), table.size());
}

TEST(KvPagePoolDeathTest, DiesIfALeaseOutlivesIt) {
  EXPECT_DEATH(
      {
        auto pool = std::make_unique<KvPagePool>(1);
        auto lease = pool->TryLease();
        pool.reset();
      },
      "outlives its pool");
}

}  // namespace
}  // namespace mili::router
