// Interrupts, from any thread: how many there were, and when the first came that nobody has answered.
#pragma once

#include <atomic>
#include <cstdint>

namespace keystep {

struct Interrupts {
  std::atomic<std::uint64_t> epoch = 0;    ///< one more with each, also those of our own
  std::atomic<std::uint64_t> counted = 0;  ///< those that somebody asked for, since `reset_latency`
  std::atomic<std::int64_t> since_ns = 0;  ///< when the first came that no tick has seen; 0: none

  /// The time first, so that whoever sees the new epoch sees it. The epoch before.
  std::uint64_t add(std::int64_t now) noexcept {
    std::int64_t none = 0;
    since_ns.compare_exchange_strong(none, now);
    return epoch.fetch_add(1);
  }
};

}  // namespace keystep
