// Interrupts are counted: work that began at one count ends, half done, as soon as the count moves on.
#pragma once

#include <atomic>
#include <cstdint>

#include "loop/attention.hpp"

namespace keystep {

struct Epoch {
  const std::atomic<std::uint64_t>& count;
  std::uint64_t at;
  Attention* attention = nullptr;  ///< likewise ends the work; none: nobody calls for it
  bool over() const noexcept {
    return count.load() != at || (attention != nullptr && attention->ends_call());
  }
};

}  // namespace keystep
