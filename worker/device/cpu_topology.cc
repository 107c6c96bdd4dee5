#include "worker/device/cpu_topology.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>

namespace mili::worker {
namespace {

std::optional<std::string> ReadText(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The first number of a file; nothing for "max" or what is not there.
std::optional<double> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  double value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// The folders of a cgroup controller from our own group up to the root. With cgroup namespaces (in
// containers) the path in /proc/self/cgroup may not exist under the mount: then the mount itself.
std::vector<std::string> CgroupFolders(const std::string& mount, std::string group) {
  std::vector<std::string> folders;
  while (!group.empty() && group != "/") {
    folders.push_back(mount + group);
    group.resize(group.find_last_of('/'));
  }
  folders.push_back(mount);
  return folders;
}

struct CgroupPaths {
  std::vector<std::string> unified;  // cgroup v2
  std::vector<std::string> cpu;      // cgroup v1
  std::vector<std::string> memory;   // cgroup v1
};

CgroupPaths ReadCgroupPaths(const std::string& root) {
  CgroupPaths paths;
  const std::string mount = root + "/sys/fs/cgroup";
  std::string unified_group;
  std::string cpu_group;
  std::string memory_group;
  std::istringstream lines(ReadText(root + "/proc/self/cgroup").value_or(""));
  for (std::string line; std::getline(lines, line);) {  // hierarchy:controllers:path
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string group = line.substr(second + 1);
    if (controllers == ",,") unified_group = group;
    if (controllers.find(",cpu,") != std::string::npos) cpu_group = group;
    if (controllers.find(",memory,") != std::string::npos) memory_group = group;
  }
  paths.unified = CgroupFolders(mount, unified_group);
  paths.cpu = CgroupFolders(mount + "/cpu", cpu_group);
  paths.memory = CgroupFolders(mount + "/memory", memory_group);
  return paths;
}

double ReadQuota(const CgroupPaths& paths) {
  double quota = 0;
  const auto tighten = [&quota](double cpus) {
    if (cpus > 0 && (quota == 0 || cpus < quota)) quota = cpus;
  };
  for (const std::string& folder : paths.unified) {
    std::ifstream file(folder + "/cpu.max");  // "max 100000" or "150000 100000"
    double quota_us = 0;
    double period_us = 0;
    if (file >> quota_us >> period_us && period_us > 0) tighten(quota_us / period_us);
  }
  for (const std::string& folder : paths.cpu) {
    const std::optional<double> quota_us = ReadNumber(folder + "/cpu.cfs_quota_us");
    const std::optional<double> period_us = ReadNumber(folder + "/cpu.cfs_period_us");
    if (quota_us && period_us && *quota_us > 0 && *period_us > 0) tighten(*quota_us / *period_us);
  }
  return quota;
}

}  // namespace

int CpuLimits::num_threads() const {
  return std::max(1, std::min(num_cores, std::min(num_cpus, max_threads())));
}

int CpuLimits::max_threads() const {
  if (quota_cpus <= 0) return std::max(1, num_cpus);
  return std::clamp(static_cast<int>(std::floor(quota_cpus)), 1, std::max(1, num_cpus));
}

std::vector<int> CpuLimits::CpusFor(int num_threads) const {
  const bool takes_all = quota_cpus == 0 && static_cast<size_t>(num_threads) == core_cpus.size();
  return takes_all ? core_cpus : std::vector<int>();
}

CpuLimits ReadCpuLimits(const std::string& root, const std::vector<int>& cpus) {
  CpuLimits limits;
  limits.num_cpus = std::max<int>(1, static_cast<int>(cpus.size()));
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    const std::string folder =
        root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    // The CPUs that share a core name the same list.
    const bool is_new =
        cores.insert(ReadText(folder + "thread_siblings_list").value_or(std::to_string(cpu)))
            .second;
    if (is_new) limits.core_cpus.push_back(cpu);
  }
  limits.num_cores = std::max<int>(1, static_cast<int>(cores.size()));
  limits.quota_cpus = ReadQuota(ReadCgroupPaths(root));
  return limits;
}

CpuLimits ReadCpuLimits() {
  std::vector<int> cpus;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
    }
  }
  return ReadCpuLimits("", cpus);
}

void KeepOff(int cpu) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return;
  CPU_CLR(cpu, &mask);
  if (CPU_COUNT(&mask) > 0) (void)sched_setaffinity(0, sizeof(mask), &mask);
}

uint64_t ReadAvailableMemoryBytes(const std::string& root) {
  double available = -1;
  const auto tighten = [&available](double bytes) {
    bytes = std::max(bytes, 0.0);
    if (available < 0 || bytes < available) available = bytes;
  };
  std::ifstream meminfo(root + "/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    std::istringstream fields(line);
    std::string name;
    double kibibytes = 0;
    if (fields >> name >> kibibytes && name == "MemAvailable:") tighten(kibibytes * 1024);
  }
  // The page cache that a group is charged for can be dropped, so it does not count as used.
  const auto left = [](const std::string& folder, const char* limit_name, const char* usage_name,
                       const std::string& cache_key) -> std::optional<double> {
    const std::optional<double> limit = ReadNumber(folder + limit_name);
    const std::optional<double> usage = ReadNumber(folder + usage_name);
    if (!limit || !usage || *limit >= 9e18) return std::nullopt;
    double cache = 0;
    std::ifstream stat(folder + "/memory.stat");
    double bytes = 0;
    for (std::string key; stat >> key >> bytes;) {
      if (key == cache_key) cache = bytes;
    }
    return *limit - (*usage - std::min(cache, *usage));
  };
  const CgroupPaths paths = ReadCgroupPaths(root);
  for (const std::string& folder : paths.unified) {
    if (const auto bytes = left(folder, "/memory.max", "/memory.current", "file")) tighten(*bytes);
  }
  for (const std::string& folder : paths.memory) {
    if (const auto bytes =
            left(folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_cache")) {
      tighten(*bytes);
    }
  }
  return available < 0 ? 0 : static_cast<uint64_t>(available);
}

}  // namespace mili::worker
