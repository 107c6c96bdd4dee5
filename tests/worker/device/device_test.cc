#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/device/cpu_pool.h"
#include "worker/device/cpu_topology.h"
#include "worker/device/kv_arena.h"
#include "worker/device/memory.h"
#include "worker/device/stream.h"

namespace mili::worker {
namespace {

// Calls body(thread_idx) on every thread of the pool: the caller stays until all have come.
template <typename Body>
void OnEachThread(CpuPool& pool, Body body) {
  struct Context {
    Body& body;
    std::atomic<int> missing;
  } context = {body, pool.num_threads()};
  pool.Run(
      [](void* data, int thread_idx) {
        auto& c = *static_cast<Context*>(data);
        c.body(thread_idx);
        --c.missing;
        while (thread_idx == 0 && c.missing > 0) std::this_thread::yield();
      },
      &context);
}

void WasteTime(std::chrono::microseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

TEST(CpuPoolTest, CallsEachThreadOnceEveryTime) {
  for (const int num_threads : {1, 2, 3, 8}) {
    CpuPool pool(num_threads);
    ASSERT_EQ(pool.num_threads(), num_threads);
    std::vector<int> calls(num_threads);  // each written by its own thread only
    for (int run = 0; run < 500; ++run) {
      OnEachThread(pool, [&](int thread_idx) { ++calls[thread_idx]; });
    }
    for (const int count : calls) EXPECT_EQ(count, 500);
  }
}

TEST(CpuPoolTest, ShortLoopsAreDoneWhole) {
  CpuPool pool(4);
  std::vector<int> times_done(100);  // each item written by one thread a loop
  for (int run = 0; run < 20000; ++run) {
    kernels::ForPieces(pool, 100, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) ++times_done[i];
    });
    ASSERT_EQ(times_done, std::vector<int>(100, run + 1));
  }
}

TEST(CpuPoolTest, TheCallerIsThreadZeroAndSeesWhatTheOthersWrote) {
  CpuPool pool(4);
  const std::thread::id caller = std::this_thread::get_id();
  std::vector<std::thread::id> ids(4);
  OnEachThread(pool, [&](int i) { ids[i] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], caller);
  for (int i = 1; i < 4; ++i) EXPECT_NE(ids[i], caller);
}

TEST(CpuPoolTest, WakesHelpersThatWentToSleep) {
  CpuPool pool(3);
  std::atomic<int> calls{0};
  for (int run = 0; run < 5; ++run) {
    WasteTime(std::chrono::milliseconds(2));  // much longer than helpers spin
    OnEachThread(pool, [&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 15);
}

TEST(CpuPoolTest, WaitsForASlowHelper) {
  CpuPool pool(2);
  bool is_done = false;
  OnEachThread(pool, [&](int thread_idx) {
    if (thread_idx == 0) return;
    WasteTime(std::chrono::milliseconds(2));
    is_done = true;
  });
  EXPECT_TRUE(is_done);
}

std::atomic<bool> is_held{false};
std::atomic<bool> may_go_on{false};

// A signal stops a helper as another process on its core would. tsan puts signals off until the
// thread makes a call that tsan knows.
#ifndef __SANITIZE_THREAD__
TEST(CpuPoolTest, DoesNotWaitForAHelperThatHasLostItsCore) {
  CpuPool pool(2);
  pthread_t helper{};
  OnEachThread(pool, [&](int thread_idx) {
    if (thread_idx == 1) helper = pthread_self();
  });
  struct sigaction action = {};
  action.sa_handler = [](int) {
    is_held = true;
    while (!may_go_on) {
    }
  };
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  ASSERT_EQ(pthread_kill(helper, SIGUSR1), 0);
  while (!is_held) std::this_thread::yield();
  std::vector<int> threads(50, -1);
  kernels::ForPieces(pool, 50, 1, [&](int64_t begin, int64_t end, int thread_idx) {
    for (int64_t i = begin; i < end; ++i) threads[i] = thread_idx;
  });
  EXPECT_EQ(threads, std::vector<int>(50, 0));
  may_go_on = true;
  int calls = 0;
  OnEachThread(pool, [&](int thread_idx) { calls += thread_idx; });  // it is back
  EXPECT_EQ(calls, 1);
}
#endif

TEST(StreamTest, RunsInOrderBehindTheCallersBack) {
  std::vector<int> order;
  Event go;
  Stream stream;
  stream.Enqueue([&] { go.Wait(); });
  for (int i = 0; i < 100; ++i) stream.Enqueue([&order, i] { order.push_back(i); });
  go.Set();
  stream.Synchronize();
  std::vector<int> expected(100);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST(StreamTest, RunsWhatIsEnqueuedBeforeItEnds) {
  int runs = 0;
  {
    Stream stream;
    for (int i = 0; i < 10; ++i) stream.Enqueue([&] { ++runs; });
  }
  EXPECT_EQ(runs, 10);
}

// Pages of this range that the process has touched.
size_t ResidentPages(const std::byte* data, size_t size) {
  std::vector<unsigned char> pages((size + 4095) / 4096);
  mincore(const_cast<std::byte*>(data), size, pages.data());
  return static_cast<size_t>(
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; }));
}

TEST(DeviceMemoryTest, CostsOnlyWhatIsTouched) {
  absl::StatusOr<DeviceMemory> memory =
      DeviceMemory::Allocate(64 << 20, DeviceMemory::Pages::kSmall, "a test");
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(ResidentPages(memory->data(), memory->size_bytes()), 0u);
  memory->data()[5 << 20] = std::byte{1};
  EXPECT_EQ(ResidentPages(memory->data(), memory->size_bytes()), 1u);
}

TEST(DeviceMemoryTest, LargePagesAreAligned) {
  const absl::StatusOr<DeviceMemory> memory =
      DeviceMemory::Allocate(5 << 20, DeviceMemory::Pages::kHuge, "a test");
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->data()) % (2 << 20), 0u);
  EXPECT_GE(memory->size_bytes(), 5u << 20);
  std::memset(memory->data(), 1, 5 << 20);
}

TEST(DeviceMemoryTest, SaysWhatCouldNotBeHad) {
  const absl::Status status =
      DeviceMemory::Allocate(uint64_t{1} << 62, DeviceMemory::Pages::kSmall, "the KV cache")
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("the KV cache"));
}

TEST(KvArenaTest, LaysPagesOutByLayerPageHalfHeadTokenDim) {
  const KvSpec spec = {3, 2, 8, 4, DType::kBF16};
  const absl::StatusOr<KvArena> arena = KvArena::Allocate(spec, 5);
  ASSERT_TRUE(arena.ok());
  EXPECT_EQ(arena->size_bytes(), 3u * 5 * 2 * 2 * 4 * 8 * 2);
  const kernels::KvLayer first = arena->Layer(0);
  EXPECT_EQ(first.head_stride, 4 * 8);
  EXPECT_EQ(first.page_stride, 2 * 2 * 4 * 8);
  EXPECT_EQ(first.v - first.k, 2 * 4 * 8 * 2);
  const kernels::KvLayer last = arena->Layer(2);
  EXPECT_EQ(last.k - first.k, 2 * 5 * first.page_stride * 2);
}

class CpuTopologyTest : public ::testing::Test {
 protected:
  CpuTopologyTest() {
    char path[] = "/tmp/mili_topology_XXXXXX";
    root_ = mkdtemp(path);
  }
  ~CpuTopologyTest() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void WriteCore(int cpu, const std::string& siblings) {
    Write("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
          siblings + "\n");
  }
  std::string root_;
};

TEST_F(CpuTopologyTest, CountsACoreOnceHoweverManyThreadsItHas) {
  for (int cpu = 0; cpu < 4; ++cpu) WriteCore(cpu, cpu % 2 == 0 ? "0,2" : "1,3");
  const CpuLimits limits = ReadCpuLimits(root_, {0, 1, 2, 3});
  EXPECT_EQ(limits.num_cpus, 4);
  EXPECT_EQ(limits.num_cores, 2);
  EXPECT_EQ(limits.num_threads(), 2);
  EXPECT_EQ(limits.max_threads(), 4);
  EXPECT_EQ(limits.CpusFor(2), limits.core_cpus);
  EXPECT_EQ(limits.core_cpus.size(), 2u);
  EXPECT_TRUE(limits.CpusFor(1).empty());  // others may share the machine
  EXPECT_TRUE(limits.CpusFor(4).empty());
}

TEST(CpuPoolTest, ThreadsStayOnTheirCpus) {
  cpu_set_t mask;
  ASSERT_EQ(sched_getaffinity(0, sizeof(mask), &mask), 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE && cpus.size() < 2; ++cpu) {
    if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
  }
  if (cpus.size() < 2) GTEST_SKIP() << "this machine has one CPU";
  std::thread([&] {  // which the pool binds, and not the test's own
    CpuPool pool(2, cpus);
    int seen[2] = {-1, -1};
    OnEachThread(pool, [&](int thread_idx) { seen[thread_idx] = sched_getcpu(); });
    EXPECT_EQ(seen[0], cpus[0]);
    EXPECT_EQ(seen[1], cpus[1]);
  })
      .join();
}

TEST_F(CpuTopologyTest, HeedsTheTightestQuotaOfCgroupV2) {
  for (int cpu = 0; cpu < 8; ++cpu) WriteCore(cpu, std::to_string(cpu));
  Write("/proc/self/cgroup", "0::/pod/worker\n");
  Write("/sys/fs/cgroup/pod/worker/cpu.max", "max 100000\n");
  Write("/sys/fs/cgroup/pod/cpu.max", "350000 100000\n");
  const CpuLimits limits = ReadCpuLimits(root_, {0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_EQ(limits.quota_cpus, 3.5);
  EXPECT_EQ(limits.num_threads(), 3);
  EXPECT_EQ(limits.max_threads(), 3);
}

TEST_F(CpuTopologyTest, HeedsTheQuotaOfCgroupV1) {
  Write("/proc/self/cgroup", "4:cpu,cpuacct:/job\n2:memory:/job\n");
  Write("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "50000\n");
  Write("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  const CpuLimits limits = ReadCpuLimits(root_, {0, 1});
  EXPECT_EQ(limits.quota_cpus, 0.5);
  EXPECT_EQ(limits.num_threads(), 1);  // never none
}

TEST_F(CpuTopologyTest, WithoutAnyFileEveryCpuCounts) {
  const CpuLimits limits = ReadCpuLimits(root_, {3, 5, 7});
  EXPECT_EQ(limits.num_threads(), 3);
}

TEST_F(CpuTopologyTest, FreeMemoryIsWhatTheSystemAndTheCgroupLeave) {
  Write("/proc/meminfo", "MemTotal: 1000 kB\nMemAvailable:  800 kB\n");
  EXPECT_EQ(ReadAvailableMemoryBytes(root_), 800u * 1024);
  Write("/proc/self/cgroup", "0::/pod\n");
  Write("/sys/fs/cgroup/pod/memory.max", "500000\n");
  Write("/sys/fs/cgroup/pod/memory.current", "400000\n");
  Write("/sys/fs/cgroup/pod/memory.stat", "anon 250000\nfile 150000\n");
  EXPECT_EQ(ReadAvailableMemoryBytes(root_), 250000u);
  Write("/sys/fs/cgroup/pod/memory.max", "max\n");
  EXPECT_EQ(ReadAvailableMemoryBytes(root_), 800u * 1024);
}

TEST_F(CpuTopologyTest, UnknownMemoryIsZero) { EXPECT_EQ(ReadAvailableMemoryBytes(root_), 0u); }

std::vector<int> CpusOfThisThread() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  EXPECT_EQ(sched_getaffinity(0, sizeof(mask), &mask), 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
  }
  return cpus;
}

TEST(KeepOff, LeavesACpuToOthersUnlessItIsTheLast) {
  std::thread([] {
    std::vector<int> left = CpusOfThisThread();
    while (left.size() > 1) {
      KeepOff(left.front());
      left.erase(left.begin());
      EXPECT_EQ(CpusOfThisThread(), left);
    }
    KeepOff(left.front());
    EXPECT_EQ(CpusOfThisThread(), left);
  }).join();
}

}  // namespace
}  // namespace mili::worker
