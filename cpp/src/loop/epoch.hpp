// Interrupts are counted: work that began at one count ends, half done, as soon as the count moves on.
#pragma once

#include <atomic>
#include <cstdint>

#include "loop/attention.hpp"
#include "support/clock.hpp"

namespace keystep {

struct Epoch {
  const std::atomic<std::uint64_t>& count;
  std::uint64_t at;
  Attention* attention = nullptr;              ///< likewise ends the work; none: nobody calls for it
  std::atomic<std::int64_t>* alive = nullptr;  ///< the time of each look: a watchdog's; none: nobody watches
  bool over() const noexcept {
    if (alive != nullptr) *alive = now_ns();
    return count.load() != at || (attention != nullptr && attention->ends_call());
  }
};

}  // namespace keystep
