// How many threads this process may keep busy: what the scheduler's affinity mask, the cgroup's
// quota and the cores under the CPUs allow. Read once at start; pure functions of a root folder, so
// that tests lay out their own /sys and /proc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mili::worker {

struct CpuLimits {
  int num_cpus = 1;            // in the affinity mask
  int num_cores = 1;           // physical cores under them
  double quota_cpus = 0;       // of the tightest cgroup above us; 0: none
  std::vector<int> core_cpus;  // [num_cores], one CPU of each core
  // min(num_cores, quota), at least 1: more threads would only share.
  int num_threads() const;
  // min(num_cpus, quota), at least 1: what may be asked for at most.
  int max_threads() const;
  // Where `num_threads` threads should stay: one on each core if they take all of them and no quota
  // moves them about. Empty: nowhere in particular, so that processes which share a machine in
  // parts do not crowd on the same cores.
  std::vector<int> CpusFor(int num_threads) const;
};

// `root` is "" outside tests; `cpus` are the CPUs of the affinity mask.
CpuLimits ReadCpuLimits(const std::string& root, const std::vector<int>& cpus);
// Of this process, now.
CpuLimits ReadCpuLimits();

// The calling thread stays off `cpu` from now on, unless it may run nowhere else.
void KeepOff(int cpu);

// Memory that can still be had, in bytes: the least of MemAvailable and what is left under every
// cgroup limit above us. 0 if it cannot be told.
uint64_t ReadAvailableMemoryBytes(const std::string& root);

}  // namespace mili::worker
