// Our own clock for a runtime: one tick a period, by absolute times. A robot that has a clock of its own
// calls `Runtime::tick` instead. docs/real_time.md explains both.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "keystep/runtime.hpp"

namespace keystep {

/// What the clock's thread is to be given, each only where asked. What the system does not permit is told in
/// `ThreadReport`, and is no error.
struct ThreadOptions {
  int fifo_priority = 0;           ///< SCHED_FIFO with this priority, 1..99; 0: as the thread is
  std::vector<int> cores{};        ///< that it may run on; empty: as the thread is
  bool lock_memory = false;        ///< mlockall: of the whole process, which it outlives the run in
  std::size_t prefault_stack = 0;  ///< bytes of its stack that are touched before the first period
};

struct RunOptions {
  std::uint64_t periods = 0;  ///< after so many it ends; 0: when it is stopped
  ThreadOptions thread{};
};

/// What was obtained. A refusal is why something asked for is not there; empty: it is, or was not asked for.
struct ThreadReport {
  std::string policy;      ///< SCHED_OTHER, SCHED_FIFO, ..
  int priority = 0;        ///< of SCHED_FIFO and SCHED_RR
  std::vector<int> cores;  ///< that the thread may run on
  bool memory_locked = false;
  std::size_t prefaulted = 0;  ///< bytes of stack
  std::string fifo_refusal, cores_refusal, memory_refusal, stack_refusal;
};

/// Microseconds, over all periods.
struct Spread {
  std::uint64_t count = 0;
  double min_us = 0, avg_us = 0, p99_us = 0, max_us = 0;
};

inline constexpr int kStatuses = 13;  ///< values of `Status`

struct RunReport {
  double rate_hz = 0;
  std::uint64_t periods = 0;                        ///< ticks
  std::uint64_t overruns = 0;                       ///< of them, those that ended after the next grid point
  std::uint64_t skipped = 0;                        ///< grid points without a tick, because of overruns
  std::uint64_t withheld = 0;                       ///< actions that were not finite: the sink was not called
  std::array<std::uint64_t, kStatuses> statuses{};  ///< of the ticks, by `Status`
  Spread latency;   ///< from a grid point to the thread's being awake, as cyclictest measures it
  Spread interval;  ///< from one period's begin to the next one's
  Spread work;      ///< of source, tick and sink
  std::uint64_t minor_faults = 0, major_faults = 0;  ///< page faults of the thread, getrusage(RUSAGE_THREAD)
  std::uint64_t voluntary_switches = 0, involuntary_switches = 0;  ///< likewise; a sleep is a voluntary one
  std::array<double, 3> load_before{}, load_after{};               ///< of the machine: over 1, 5, 15 minutes
  ThreadReport thread;
};

/// Fills in what the robot sees; the views stay valid until the period ends. Called at a period's begin.
/// Status closed: there is no more, and the run ends as by `stop`. While it waits for something, so does
/// `stop`.
using Source = std::function<Status(Observation&)>;
/// Is given the action, which is always finite, and the tick's status: what is not ok is a hold.
using Sink = std::function<Status(std::span<const float> action, Status tick)>;

/// Ticks a runtime, lockstep or async, at grid points start + k / rate. The grid never moves, so nothing
/// drifts. A period that takes longer than its time is counted, the grid points that it ran over are skipped,
/// and the next tick is at the next grid point: late ones are never made up for.
class FixedRate {
 public:
  /// `rate_hz`: 0: the bundle's control rate. Throws ArgumentError. The runtime must outlive this.
  FixedRate(Runtime& runtime, double rate_hz, RunOptions options = {});
  ~FixedRate();
  FixedRate(const FixedRate&) = delete;
  FixedRate& operator=(const FixedRate&) = delete;

  /// On the calling thread, whose scheduling and cores are put back at the end. Between two periods it
  /// allocates nothing. It ends after `RunOptions::periods`; by `stop`; with what source or sink throw; with
  /// PolicyError where one of them is not ok, or where a tick can never become ok (not_reset, closed, forked;
  /// busy for a second). Any other tick that is not ok is counted, its hold goes to the sink: so another
  /// thread may `reset` meanwhile. What is left of the chunk of a run before is not executed. Throws
  /// PolicyError (busy) if another thread runs a clock of this runtime.
  void run(const Source& source, const Sink& sink);
  /// `run` ends before its next period, within 50 ms, and the sink is given no further action but the hold;
  /// in lockstep a plan or chunk in flight is broken off, for which this waits up to 0.1 s. If there is none,
  /// the next `run` ends before its first. Any thread.
  void stop() noexcept;
  /// Of the last run, or of the one in progress. Any thread.
  RunReport report() const;

 private:
  friend struct FixedRateInternals;  // another clock
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keystep
