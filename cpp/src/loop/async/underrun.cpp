#include "loop/async/underrun.hpp"

#include <algorithm>
#include <limits>

namespace keystep {
namespace {

/// Without a rate limit: a tenth of what the bounds leave, which is at rest after ten actions at most.
std::vector<float> steps_of(const ActionSpec& spec) {
  if (!spec.rate_limit.empty()) return spec.rate_limit;
  std::vector<float> steps(spec.min.size());
  for (std::size_t i = 0; i < steps.size(); ++i) steps[i] = spec.max[i] / 10 - spec.min[i] / 10;
  return steps;
}

}  // namespace

Underrun::Underrun(UnderrunPolicy policy, const ActionSpec& spec, int repeats)
    : policy_(policy), rest_(spec.hold), step_(steps_of(spec)), last_(spec.min.size()), repeats_(repeats) {}

void Underrun::reset() noexcept {
  has_last_ = false;
  repeated_ = 0;
}

void Underrun::given(std::span<const float> action) noexcept {
  std::ranges::copy(action, last_.begin());
  has_last_ = true;
  repeated_ = 0;
}

void Underrun::act(bool repeatable, std::span<float> action) noexcept {
  if (policy_ == UnderrunPolicy::repeat && has_last_ && repeatable && repeated_ < repeats_) {
    std::ranges::copy(last_, action.begin());
    ++repeated_;
    return;
  }
  if (policy_ == UnderrunPolicy::decelerate && has_last_) {
    decelerate(action);
  } else {
    hold(action);
  }
  // What was given now is what the robot does.
  if (!rest_.empty()) std::ranges::copy(action, last_.begin());
  has_last_ = has_last_ || !rest_.empty();
}

void Underrun::hold(std::span<float> action) const noexcept {
  if (!rest_.empty()) {
    std::ranges::copy(rest_, action.begin());
  } else if (has_last_) {
    std::ranges::copy(last_, action.begin());
  } else {
    std::ranges::fill(action, std::numeric_limits<float>::quiet_NaN());
  }
}

void Underrun::decelerate(std::span<float> action) const noexcept {
  for (std::size_t i = 0; i < action.size(); ++i) {
    action[i] = std::clamp(rest_[i], last_[i] - step_[i], last_[i] + step_[i]);
  }
}

}  // namespace keystep
