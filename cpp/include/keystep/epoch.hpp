// Interrupts are counted: work that began at one count ends, half done, as soon as the count moves on.
#pragma once

#include <atomic>
#include <cstdint>

namespace keystep {

struct Epoch {
  const std::atomic<std::uint64_t>& count;
  std::uint64_t at;
  bool over() const noexcept { return count.load() != at; }
};

}  // namespace keystep
