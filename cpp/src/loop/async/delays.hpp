// Delays, counted in actions consumed.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace keystep {

/// The greatest of the last eight is expected next: a slow call is forgotten, and a call while nothing was
/// consumed (a warm-up) counts as none.
class Delays {
 public:
  void add(std::int64_t actions) noexcept { recent_[next_++ % recent_.size()] = actions; }
  std::int64_t expected() const noexcept { return *std::ranges::max_element(recent_); }

 private:
  std::array<std::int64_t, 8> recent_{};
  std::size_t next_ = 0;
};

}  // namespace keystep
