// Where periods begin.
#pragma once

#include <cmath>
#include <cstdint>

namespace keystep {

/// Grid points start + k / rate, each rounded by itself: nothing adds up.
class Grid {
 public:
  Grid(std::int64_t start_ns, double rate_hz) noexcept : start_ns_(start_ns), period_ns_(1e9L / rate_hz) {}

  std::int64_t at(std::uint64_t k) const noexcept {
    return start_ns_ + std::llroundl(static_cast<long double>(k) * period_ns_);
  }

  /// The first grid point after `k` that is not past yet.
  std::uint64_t next(std::uint64_t k, std::int64_t now_ns) const noexcept {
    if (now_ns <= at(k + 1)) return k + 1;
    auto later = static_cast<std::uint64_t>(static_cast<long double>(now_ns - start_ns_) / period_ns_);
    while (at(later) < now_ns) ++later;
    return later;
  }

 private:
  std::int64_t start_ns_;
  long double period_ns_;
};

}  // namespace keystep
