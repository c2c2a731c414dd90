#include "engines/cores.hpp"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>

namespace keystep {

int physical_cores() {
  std::set<std::string> cores;
  const int logical = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (int cpu = 0; cpu < logical; ++cpu) {
    std::ifstream in("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    std::string siblings;
    if (!std::getline(in, siblings)) return logical;
    cores.insert(siblings);
  }
  return static_cast<int>(cores.size());
}

int available_cores() {
  constexpr int kMostCpus = 1 << 16;
  const auto release = [](cpu_set_t* set) { CPU_FREE(set); };
  const std::unique_ptr<cpu_set_t, decltype(release)> mask(CPU_ALLOC(kMostCpus), release);
  const std::size_t bytes = CPU_ALLOC_SIZE(kMostCpus);
  if (mask == nullptr || sched_getaffinity(0, bytes, mask.get()) != 0) {
    return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  }
  return CPU_COUNT_S(bytes, mask.get());
}

}  // namespace keystep
