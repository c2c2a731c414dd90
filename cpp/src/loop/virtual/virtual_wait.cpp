#include "loop/virtual/virtual_wait.hpp"

#include <algorithm>
#include <cmath>

#include "support/finite.hpp"

namespace keystep {

VirtualWait::VirtualWait(const VirtualTime& time, UnderrunPolicy policy, const Bundle& bundle)
    : durations_(time),
      underrun_(policy, bundle.action, bundle.chunk.execute),
      action_(bundle.action.names.size()) {}

void VirtualWait::reset(const NoiseKey& key) noexcept {
  durations_.reset(key);
  underrun_.reset();
  left_ = 0;
  cause_ = Cause::starting;
}

void VirtualWait::drop() noexcept {
  left_ = 0;
  if (cause_ != Cause::starting) cause_ = Cause::interrupted;
}

/// One after the other, of the same observation: all at once is rounded up to whole periods.
bool VirtualWait::arrives(std::span<const float> action, std::uint64_t plans, std::uint64_t chunks) noexcept {
  double periods = 0;
  for (; plans > 0; --plans) periods += durations_.plan();
  for (; chunks > 0; --chunks) {
    periods += durations_.chunk();
    ++counts_.chunks;
  }
  left_ = static_cast<std::int64_t>(std::ceil(periods));
  if (left_ == 0) {
    underrun_.given(action);
    cause_ = Cause::late;
    ++counts_.ticks;
    ++counts_.actions;
    telemetry_.store(counts_);
    return true;
  }
  std::ranges::copy(action, action_.begin());
  ++left_;  // the action comes after so many periods
  return false;
}

void VirtualWait::wait(std::span<float> action, SafetyGate& gate) noexcept {
  ++counts_.ticks;
  if (--left_ > 0) {
    ++counts_.underruns[static_cast<std::size_t>(cause_)];
    underrun_.act(cause_ == Cause::late, action);
    gate.held(action);
  } else {
    std::ranges::copy(action_, action.begin());
    gate.apply(action);  // once more: what came before it is another than was thought
    underrun_.given(action);
    cause_ = Cause::late;
    ++counts_.actions;
  }
  telemetry_.store(counts_);
}

void VirtualWait::failed(Status status, std::span<const float> action) noexcept {
  cause_ = status == Status::bad_observation     ? Cause::refused
           : status == Status::stale_observation ? Cause::stale
           : status == Status::interrupted       ? Cause::interrupted
                                                 : Cause::failed;
  if (all_finite(action)) underrun_.given(action);
  ++counts_.ticks;
  ++counts_.underruns[static_cast<std::size_t>(cause_)];
  telemetry_.store(counts_);
}

void VirtualWait::reset_counts() noexcept {
  counts_ = {};
  telemetry_.store(counts_);
}

}  // namespace keystep
