// What a fixed-rate thread goes by; tests have one of their own.
#pragma once

#include <memory>

#include "keystep/fixed_rate.hpp"

namespace keystep {

class PeriodClock {
 public:
  virtual ~PeriodClock() = default;
  virtual std::int64_t now_ns() noexcept = 0;
  virtual void sleep_until(std::int64_t ns) noexcept = 0;
};

struct FixedRateInternals {
  static std::unique_ptr<FixedRate> open(Runtime& runtime, double rate_hz, const RunOptions& options,
                                         std::unique_ptr<PeriodClock> clock);
};

}  // namespace keystep
