// The last thing before the robot: refuses non-finite chunks, bounds and rate-limits every action.
#pragma once

#include <span>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/latency.hpp"

namespace keystep {

class SafetyGate {
 public:
  /// Throws ArgumentError when lengths differ, a bound is not finite or a rate limit not positive.
  explicit SafetyGate(const ActionSpec& spec);

  void reset() noexcept;  ///< forgets the previous action, keeps the counters
  /// False, and counted, if any value is NaN or Inf.
  bool admit(std::span<const float> chunk) noexcept;
  /// Bounds `action` (admitted, one value per bound) in place, then limits its change against the action
  /// before (none after reset). The result is within the bounds. False, and nothing changes, if the sizes
  /// differ.
  bool apply(std::span<float> action) noexcept;

  /// The robot was given `action` by someone else (a failed tick holds): the next change starts from it.
  /// False, and nothing changes, if the sizes differ or it is not finite, which no robot takes.
  bool held(std::span<const float> action) noexcept;

  GateCounts& counts() noexcept { return counts_; }
  const GateCounts& counts() const noexcept { return counts_; }

 private:
  std::vector<float> min_, max_, rate_limit_, previous_;
  bool has_previous_ = false;
  GateCounts counts_;
};

}  // namespace keystep
