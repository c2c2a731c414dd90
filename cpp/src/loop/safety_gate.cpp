#include "keystep/safety_gate.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "keystep/status.hpp"
#include "support/finite.hpp"

namespace keystep {
namespace {

void check_length(const std::vector<float>& values, std::size_t wanted, const char* field) {
  if (values.size() == wanted) return;
  throw ArgumentError(expected(field, std::to_string(wanted) + " values", std::to_string(values.size())));
}

void check_limits(const ActionSpec& spec) {
  const std::size_t dim = spec.min.size();
  check_length(spec.max, dim, "action.max");
  if (!spec.rate_limit.empty()) check_length(spec.rate_limit, dim, "action.rate_limit");
  for (std::size_t i = 0; i < dim; ++i) {
    const std::string at = std::string("[").append(std::to_string(i)).append("]");
    if (!std::isfinite(spec.min[i])) {
      throw ArgumentError(expected("action.min" + at, "a finite value", std::to_string(spec.min[i])));
    }
    if (!std::isfinite(spec.max[i]) || spec.max[i] < spec.min[i]) {
      const std::string wanted = "a finite value >= " + std::to_string(spec.min[i]);
      throw ArgumentError(expected("action.max" + at, wanted, std::to_string(spec.max[i])));
    }
    if (!spec.rate_limit.empty() && !(std::isfinite(spec.rate_limit[i]) && spec.rate_limit[i] > 0)) {
      const std::string got = std::to_string(spec.rate_limit[i]);
      throw ArgumentError(expected("action.rate_limit" + at, "a finite positive value", got));
    }
  }
}

/// Clamps `value` and says whether that moved it.
bool limit(float& value, float low, float high) noexcept {
  const float before = value;
  value = std::clamp(value, low, high);
  return value != before;
}

}  // namespace

SafetyGate::SafetyGate(const ActionSpec& spec)
    : min_(spec.min), max_(spec.max), rate_limit_(spec.rate_limit), previous_(spec.min.size()) {
  check_limits(spec);
}

void SafetyGate::reset() noexcept { has_previous_ = false; }

bool SafetyGate::admit(std::span<const float> chunk) noexcept {
  const bool finite = all_finite(chunk);
  counts_.rejected_chunks += !finite;
  return finite;
}

bool SafetyGate::apply(std::span<float> action) noexcept {
  if (action.size() != min_.size()) return false;
  for (std::size_t i = 0; i < action.size(); ++i) {
    counts_.bounded_values += limit(action[i], min_[i], max_[i]);
  }
  if (has_previous_ && !rate_limit_.empty()) {
    // Between the previous and the bounded action, hence still within the bounds.
    for (std::size_t i = 0; i < action.size(); ++i) {
      const float low = previous_[i] - rate_limit_[i], high = previous_[i] + rate_limit_[i];
      counts_.rate_limited_values += limit(action[i], low, high);
    }
  }
  return held(action);
}

bool SafetyGate::held(std::span<const float> action) noexcept {
  if (action.size() != previous_.size() || !all_finite(action)) return false;
  std::copy(action.begin(), action.end(), previous_.begin());
  has_previous_ = true;
  return true;
}

}  // namespace keystep
