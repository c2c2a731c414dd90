// How long others take.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace keystep {

/// What is to be expected is counted in ticks: what was consumed says nothing while no action was left. Of
/// the last eight, so that a slow call is forgotten; at least one.
class Delays {
 public:
  Delays() { recent_.fill(1); }
  void add(std::int64_t ticks) noexcept {
    recent_[next_++ % recent_.size()] = std::max<std::int64_t>(ticks, 1);
  }
  /// The most of them: to be asked for so early.
  std::int64_t expected() const noexcept { return *std::ranges::max_element(recent_); }
  /// The most but one: what a chunk repeats of the one before. A single slow call must not let the next eight
  /// chunks act on what was decided long before them.
  std::int64_t usual() const noexcept {
    if (next_ < 2) return expected();
    auto sorted = recent_;
    std::ranges::nth_element(sorted, sorted.end() - 2);
    return sorted[sorted.size() - 2];
  }

 private:
  std::array<std::int64_t, 8> recent_;
  std::size_t next_ = 0;
};

}  // namespace keystep
