// Lockstep in virtual time: what a synchronous loop does on a robot. It stands still while the world goes on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "keystep/safety_gate.hpp"
#include "keystep/status.hpp"
#include "loop/async/seqlock.hpp"
#include "loop/async/underrun.hpp"
#include "loop/virtual/durations.hpp"

namespace keystep {

class VirtualWait {
 public:
  VirtualWait(const VirtualTime& time, UnderrunPolicy policy, const Bundle& bundle);

  void reset(const NoiseKey& key) noexcept;  ///< an episode begins
  void drop() noexcept;                      ///< an interrupt: nothing is waited for any more

  bool waits() const noexcept { return left_ > 0; }
  /// `action` was computed in this tick, with so many plans and chunks. True: it is there at once; else
  /// `wait` is to be given.
  bool arrives(std::span<const float> action, std::uint64_t plans, std::uint64_t chunks) noexcept;
  /// One period of waiting: writes what the robot is given, NaN if there is nothing to hold. After the last
  /// it is the action that was waited for.
  void wait(std::span<float> action, SafetyGate& gate) noexcept;

  /// A tick that was not ok gave this in place of an action.
  void failed(Status status, std::span<const float> action) noexcept;
  /// The robot was given this by someone else: what comes next goes on from it.
  void given(std::span<const float> action) noexcept { underrun_.given(action); }

  Telemetry telemetry() const noexcept { return telemetry_.load(); }  ///< any thread
  void reset_counts() noexcept;

 private:
  Durations durations_;
  Underrun underrun_;
  std::vector<float> action_;  // that is waited for
  std::int64_t left_ = 0;      // periods until it is given
  Cause cause_ = Cause::starting;
  Telemetry counts_;
  Seqlock<Telemetry> telemetry_;
};

}  // namespace keystep
