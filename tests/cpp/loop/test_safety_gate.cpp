#include <algorithm>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "keystep/safety_gate.hpp"
#include "keystep/status.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

static_assert(noexcept(std::declval<SafetyGate&>().admit({})));
static_assert(noexcept(std::declval<SafetyGate&>().apply({})));

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

ActionSpec random_spec(std::mt19937& random, std::size_t dim) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  ActionSpec spec;
  for (std::size_t i = 0; i < dim; ++i) {
    const float a = uniform(random), b = uniform(random);
    spec.min.push_back(std::min(a, b));
    spec.max.push_back(std::max(a, b));
    spec.rate_limit.push_back(0.01f + 0.5f * std::abs(uniform(random)));
  }
  if (random() % 3 == 0) spec.rate_limit.clear();
  return spec;
}

/// One value through the gate, and what the gate should count.
float naive(const ActionSpec& spec, std::size_t i, float value, const std::vector<float>& previous,
            GateCounts& counts) {
  float bounded = value;
  if (value < spec.min[i]) bounded = spec.min[i];
  if (value > spec.max[i]) bounded = spec.max[i];
  counts.bounded_values += bounded != value;
  if (spec.rate_limit.empty() || previous.empty()) return bounded;
  float limited = bounded;
  if (bounded > previous[i] + spec.rate_limit[i]) limited = previous[i] + spec.rate_limit[i];
  if (bounded < previous[i] - spec.rate_limit[i]) limited = previous[i] - spec.rate_limit[i];
  counts.rate_limited_values += limited != bounded;
  return limited;
}

void random_actions_agree_with_the_naive_gate() {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-2, 2);
  for (int trial = 0; trial < 200; ++trial) {
    const std::size_t dim = 1 + random() % 8;
    const ActionSpec spec = random_spec(random, dim);
    SafetyGate gate(spec);
    std::vector<float> previous;
    GateCounts counts;
    for (int tick = 0; tick < 100; ++tick) {
      if (random() % 20 == 0) {
        gate.reset();
        previous.clear();
      }
      std::vector<float> action, wanted;
      for (std::size_t i = 0; i < dim; ++i) {
        action.push_back(random() % 10 == 0 ? 1e30f * uniform(random) : uniform(random));
        wanted.push_back(naive(spec, i, action[i], previous, counts));
      }
      CHECK(gate.admit(action));
      gate.apply(action);
      CHECK(action == wanted);
      for (std::size_t i = 0; i < dim; ++i) {
        CHECK(action[i] >= spec.min[i] && action[i] <= spec.max[i]);
        if (previous.empty() || spec.rate_limit.empty()) continue;
        CHECK(std::abs(double{action[i]} - previous[i]) <= spec.rate_limit[i] + 1e-6);
      }
      previous = action;
    }
    CHECK(gate.counts().bounded_values == counts.bounded_values);
    CHECK(gate.counts().rate_limited_values == counts.rate_limited_values);
    CHECK(gate.counts().rejected_chunks == 0);
  }
}

void one_bad_value_anywhere_rejects_the_chunk() {
  SafetyGate gate({.names = {}, .units = {}, .min = {-1}, .max = {1}, .rate_limit = {}, .hold = {}});
  std::uint64_t rejected = 0;
  for (std::size_t size = 1; size <= 65; ++size) {
    std::vector<float> chunk(size, std::numeric_limits<float>::max());
    chunk[0] = -std::numeric_limits<float>::denorm_min();
    CHECK(gate.admit(chunk));
    for (std::size_t at = 0; at < size; ++at) {
      for (const float bad : {kNan, -kNan, kInf, -kInf, std::numeric_limits<float>::signaling_NaN()}) {
        const float good = chunk[at];
        chunk[at] = bad;
        CHECK(!gate.admit(chunk));
        chunk[at] = good;
        CHECK(gate.counts().rejected_chunks == ++rejected);
      }
    }
  }
  CHECK(gate.admit({}));
  gate.counts() = {};
  CHECK(gate.counts().rejected_chunks == 0);
}

void the_rate_is_limited_against_the_executed_action() {
  SafetyGate gate({.names = {}, .units = {}, .min = {-1}, .max = {1}, .rate_limit = {0.25f}, .hold = {}});
  const auto through = [&gate](float value) {
    gate.apply({&value, 1});
    return value;
  };
  CHECK(through(5) == 1.0f);  // after reset any action within the bounds is allowed
  CHECK(through(-1) == 0.75f);
  CHECK(through(-1) == 0.5f);  // not against the -1 that was asked for
  CHECK(through(0.5f) == 0.5f);
  CHECK(gate.counts().bounded_values == 1 && gate.counts().rate_limited_values == 2);
  gate.reset();
  CHECK(through(-1) == -1.0f && gate.counts().rate_limited_values == 2);
  const float hold = 0;
  gate.held({&hold, 1});
  CHECK(through(-1) == -0.25f && gate.counts().rate_limited_values == 3);
}

void other_sizes_are_refused() {
  SafetyGate gate({.names = {}, .units = {}, .min = {-1, -1}, .max = {1, 1}, .rate_limit = {}, .hold = {}});
  for (const std::size_t size : {0u, 1u, 3u, 1000u}) {
    std::vector<float> action(size, 5);
    CHECK(!gate.apply(action) && !gate.held(action));
    CHECK(action == std::vector<float>(size, 5));
  }
  std::vector<float> right = {5, -5};
  CHECK(gate.apply(right) && right == std::vector<float>({1, -1}) && gate.counts().bounded_values == 2);
}

void bad_limits_are_refused() {
  const auto make = [](std::vector<float> min, std::vector<float> max, std::vector<float> rate) {
    SafetyGate({.names = {}, .units = {}, .min = min, .max = max, .rate_limit = rate, .hold = {}});
  };
  CHECK_THROWS(ArgumentError, "action.max: expected 2 values, got 1", make({0, 0}, {1}, {}));
  CHECK_THROWS(ArgumentError, "action.rate_limit: expected 1 values, got 2", make({0}, {1}, {1, 1}));
  CHECK_THROWS(ArgumentError, "action.min[1]", make({0, kNan}, {1, 1}, {}));
  CHECK_THROWS(ArgumentError, "action.max[0]", make({0}, {kInf}, {}));
  CHECK_THROWS(ArgumentError, "action.max[0]", make({0}, {-1}, {}));
  CHECK_THROWS(ArgumentError, "action.rate_limit[0]", make({0}, {1}, {0}));
}

}  // namespace

int main() {
  random_actions_agree_with_the_naive_gate();
  one_bad_value_anywhere_rejects_the_chunk();
  the_rate_is_limited_against_the_executed_action();
  other_sizes_are_refused();
  bad_limits_are_refused();
  return result();
}
