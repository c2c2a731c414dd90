// What this machine offers to threads: one rule for all engines.
#pragma once

#include <filesystem>
#include <optional>

namespace keystep {

/// The least of: physical cores among the CPUs that the calling thread may run on (its affinity mask), and
/// the CPU quota of its cgroups, rounded down; at least 1. Hyper-threads share the units that matrix products
/// need, and a thread beyond the quota stops all of them for the rest of the quota's period.
int usable_cores();

/// `threads`, or as many as there are usable cores for 0. Throws ArgumentError: fewer than 0, or more.
int resolved_threads(int threads);

/// CPUs worth of time that the cgroups of this process leave it (v1 and v2, whichever is stricter, with all
/// their ancestors); none: no limit. `root`: where /proc and /sys are.
std::optional<double> cpu_quota(const std::filesystem::path& root = "/");

}  // namespace keystep
