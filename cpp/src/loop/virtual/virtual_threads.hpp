// The asynchronous loop in virtual time: its planner and controller begin and end when a schedule says so, on
// the thread of the tick.
#pragma once

#include <cstdint>

#include "loop/async/async_loop.hpp"
#include "loop/interrupts.hpp"
#include "loop/virtual/durations.hpp"

namespace keystep {

/// Time is counted in control periods from the first tick, which is at 0. What was begun at time t and takes
/// d is there at the first tick at or after t + d, and not at the tick in which it was begun. An interrupt is
/// one of the moment just before the tick that sees it. A plan and a chunk that end at once: the plan first.
class VirtualThreads {
 public:
  VirtualThreads(const VirtualTime& time, AsyncLoop& loop, const Interrupts& interrupts)
      : loop_(loop), interrupts_(interrupts), durations_(time) {}

  void reset(const NoiseKey& key) noexcept;  ///< after the loop has started an episode without threads
  void before_tick() noexcept;               ///< a period is over: what has ended in it is handed over
  void after_tick() noexcept { begin(now_); }

 private:
  struct Work {
    bool busy = false;
    double ends = 0;
  };

  void begin(double now) noexcept;
  void follow_interrupts(double now) noexcept;
  void finish(Work& work) noexcept;

  AsyncLoop& loop_;
  const Interrupts& interrupts_;
  Durations durations_;
  Work plan_, chunk_;
  double now_ = 0;
  std::uint64_t epoch_ = 0;
};

}  // namespace keystep
