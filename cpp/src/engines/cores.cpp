#include "engines/cores.hpp"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "keystep/status.hpp"

namespace keystep {
namespace {

namespace fs = std::filesystem;

/// Numbers of the CPUs in the affinity mask of the calling thread.
std::vector<int> allowed_cpus() {
  constexpr int kMostCpus = 1 << 16;
  const auto release = [](cpu_set_t* set) { CPU_FREE(set); };
  const std::unique_ptr<cpu_set_t, decltype(release)> mask(CPU_ALLOC(kMostCpus), release);
  const std::size_t bytes = CPU_ALLOC_SIZE(kMostCpus);
  std::vector<int> cpus;
  const bool known = mask != nullptr && sched_getaffinity(0, bytes, mask.get()) == 0;
  const int logical = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (int cpu = 0; cpu < (known ? kMostCpus : logical); ++cpu) {
    if (!known || CPU_ISSET_S(cpu, bytes, mask.get())) cpus.push_back(cpu);
  }
  return cpus;
}

int physical_cores(const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    std::ifstream in("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    std::string siblings;
    if (!std::getline(in, siblings)) return static_cast<int>(cpus.size());
    cores.insert(siblings);
  }
  return static_cast<int>(cores.size());
}

/// Of one group: v2 has "quota period" in cpu.max ("max": none), v1 a file each (-1: none), in microseconds.
std::optional<double> quota_of(const fs::path& group, bool v2) {
  double quota = 0, period = 0;
  if (v2) {
    std::ifstream in(group / "cpu.max");
    if (!(in >> quota >> period)) return {};  // no such file, or "max"
  } else {
    std::ifstream in_quota(group / "cpu.cfs_quota_us"), in_period(group / "cpu.cfs_period_us");
    if (!(in_quota >> quota) || !(in_period >> period)) return {};
  }
  if (quota <= 0 || period <= 0) return {};
  return quota / period;
}

/// The least quota of a group and its ancestors. In a container the group's path may be the host's, which is
/// not mounted: then the mount's root is the container's own group.
std::optional<double> least_quota(const fs::path& mount, fs::path group, bool v2) {
  std::optional<double> least;
  for (group = group.relative_path();; group = group.parent_path()) {
    const std::optional<double> quota = quota_of(mount / group, v2);
    if (quota && (!least || *quota < *least)) least = quota;
    if (group.empty()) return least;
  }
}

bool names_cpu(const std::string& controllers) {
  std::istringstream in(controllers);
  for (std::string name; std::getline(in, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

}  // namespace

std::optional<double> cpu_quota(const fs::path& root) {
  const fs::path mounts = root / "sys/fs/cgroup";
  std::optional<double> least;
  const auto take = [&](const fs::path& mount, const fs::path& group, bool v2) {
    const std::optional<double> quota = least_quota(mount, group, v2);
    if (quota && (!least || *quota < *least)) least = quota;
  };
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {  // hierarchy:controllers:group
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path group = line.substr(second + 1);
    if (controllers.empty()) {
      for (const fs::path& mount : {mounts, mounts / "unified"}) take(mount, group, true);
    } else if (names_cpu(controllers)) {
      for (const char* name : {"cpu", "cpu,cpuacct", "cpuacct,cpu"}) take(mounts / name, group, false);
    }
  }
  return least;
}

int usable_cores() {
  const int cores = physical_cores(allowed_cpus());
  const std::optional<double> quota = cpu_quota();
  return std::max(1, quota && *quota < cores ? static_cast<int>(*quota) : cores);
}

int resolved_threads(int threads) {
  const int cores = usable_cores();
  if (threads == 0) return cores;
  if (threads > 0 && threads <= cores) return threads;
  throw ArgumentError(expected("threads",
                               "0 (one per core) .. " + std::to_string(cores) +
                                   " (physical cores, affinity and CPU quota, whatever is least)",
                               std::to_string(threads)));
}

}  // namespace keystep
