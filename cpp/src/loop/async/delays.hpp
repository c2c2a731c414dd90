// How long others take.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace keystep {

/// What is to be expected is counted in ticks: what was consumed says nothing while no action was left. At
/// least one, and the most of the last eight, so that a slow call is forgotten.
class Delays {
 public:
  Delays() { recent_.fill(1); }
  void add(std::int64_t ticks) noexcept {
    recent_[next_++ % recent_.size()] = std::max<std::int64_t>(ticks, 1);
  }
  std::int64_t expected() const noexcept { return *std::ranges::max_element(recent_); }

 private:
  std::array<std::int64_t, 8> recent_;
  std::size_t next_ = 0;
};

}  // namespace keystep
