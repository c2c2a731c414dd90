// Latency of every stage in fixed-size histograms: recording is two integer additions, no allocation.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "keystep/trace.hpp"

namespace keystep {

/// `score` is a part of `plan`; `interrupt`: from an interrupt to the first new action.
enum class Stage { observe, plan, score, encode, denoise, gate, tick, interrupt };
inline constexpr int kStages = 8;
const char* name(Stage stage) noexcept;

/// A number that one thread changes and others may read.
class Count {
 public:
  Count(std::uint64_t value = 0) noexcept : value_(value) {}
  Count(const Count& other) noexcept : value_(other.get()) {}
  Count& operator=(const Count& other) noexcept {
    value_.store(other.get(), std::memory_order_relaxed);
    return *this;
  }
  void add(std::uint64_t more = 1) noexcept { value_.fetch_add(more, std::memory_order_relaxed); }
  std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_;
};

/// Log-linear buckets: 32 per power of two, so a percentile is at most 3.2 % too high. 1 ns .. 2^40 ns.
class Histogram {
 public:
  void record(std::int64_t nanoseconds) noexcept;
  void reset() noexcept;
  std::uint64_t count() const noexcept { return count_.get(); }
  double total_us() const noexcept;
  double max_us() const noexcept;
  /// Upper edge of the bucket that holds the q-quantile (0 < q <= 1), capped at the maximum; 0 when empty.
  double quantile_us(double q) const noexcept;

 private:
  static constexpr int kBuckets = 32 * 37;
  std::int64_t max_ns() const noexcept { return static_cast<std::int64_t>(max_ns_.get()); }

  std::array<Count, kBuckets> counts_{};
  Count count_, total_ns_, max_ns_;
};

struct StageLatency {
  std::uint64_t count = 0;
  double mean_us = 0, p50_us = 0, p90_us = 0, p99_us = 0, p999_us = 0, max_us = 0;
};

/// What the safety gate did since reset of the counters.
struct GateCounts {
  std::uint64_t rejected_chunks = 0;      ///< NaN or Inf
  std::uint64_t rejected_plans = 0;       ///< likewise
  std::uint64_t bounded_values = 0;       ///< moved to the action bounds
  std::uint64_t rate_limited_values = 0;  ///< change per action cut to the rate limit
  std::uint64_t stale_observations = 0;
};

struct LatencyReport {
  std::array<StageLatency, kStages> stages;
  std::uint64_t actions = 0;  ///< actions taken
  std::uint64_t plans = 0;    ///< plans made
  std::uint64_t chunks = 0;   ///< chunks sampled
  std::uint64_t interrupts = 0;
  std::uint64_t deadline_misses = 0;  ///< ticks longer than the deadline
  double deadline_us = 0;             ///< the control period unless set in the options
  double time_per_action_us = 0;      ///< planning and control over actions executed (HD-ExpIt, App. F.6)
  GateCounts gate;
};

/// Adds the time from construction to destruction to a histogram. With a label it is also a span, on the
/// track of this thread if there is one.
class StageTimer {
 public:
  explicit StageTimer(Histogram& histogram, const TraceLabel* label = nullptr, std::int64_t argument = 0,
                      std::uint64_t flow = 0) noexcept;
  ~StageTimer();
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  Histogram& histogram_;
  std::int64_t start_ns_;
  TraceTrack* track_ = nullptr;
};

}  // namespace keystep
