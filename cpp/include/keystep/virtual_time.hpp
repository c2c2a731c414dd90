// Virtual time: a tick is a control period, and what a computation takes is declared, not measured. For
// simulation, in which the world goes on while the policy thinks. docs/latency.md explains it.
#pragma once

#include <vector>

namespace keystep {

/// What is computed is what it always is; only when it arrives is decided here, from the seed and the episode
/// alone. No threads, no watchdog.
struct VirtualTime {
  /// What a chunk and a plan take, in control periods: for each one of these, all equally likely, is drawn.
  /// 0 or more; empty: nothing.
  std::vector<double> chunk{}, plan{};
  /// False: a chunk begins with its first action however late it is (naive switching, to compare with). Only
  /// in async mode with merge replace.
  bool skips = true;
};

}  // namespace keystep
