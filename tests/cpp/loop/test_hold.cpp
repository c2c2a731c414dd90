// What a tick that fails gives: the hold's values, or the last action given in the episode.
#include <algorithm>
#include <cmath>

#include "policy_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

ActionSpec read(const std::string& manifest) {
  const TemporaryFolder folder;
  write_bundle(folder.path(), manifest);
  return load_bundle(folder.path()).action;
}

bool is_nothing(const Action& action) {
  return action.values.size() == kDim &&
         std::ranges::all_of(action.values, [](float value) { return std::isnan(value); });
}

/// A tick whose observation is refused.
Status failed_tick(Policy& policy) { return policy.runtime->tick({}, policy.action); }

void both_modes_are_read() {
  const ActionSpec spec = read(kManifest);
  CHECK(spec.hold_mode == "values" && (spec.hold == std::vector<float>{0, 0.5f}));
  const ActionSpec last = read(holding(kHoldsLast));
  CHECK(last.hold_mode == "last" && last.hold.empty());
}

void what_is_no_hold_is_refused() {
  const auto refused = [](const std::string& hold, const std::string& message) {
    CHECK_THROWS(BundleError, message, read(holding(hold)));
    CHECK_THROWS(BundleError, message, check_manifest(holding(hold)));
  };
  refused("[0, 0.5]", "action.hold: expected an object");
  refused("null", "action.hold: expected an object");
  refused("\"last\"", "action.hold: expected an object");
  refused("{}", "action.hold.mode: expected a value, got no such key");
  refused(R"({"mode": "zero"})", "action.hold.mode: expected");
  refused(R"({"mode": 0})", "action.hold.mode: expected");
  refused(R"({"mode": "values"})", "action.hold.values: expected a value, got no such key");
  refused(R"({"mode": "last", "values": [0, 0]})", "action.hold.values: expected one of the keys mode");
  refused(R"({"mode": "last", "after": 1})", "action.hold.after: expected one of the keys");
  refused(R"({"mode": "values", "values": [0]})", "action.hold.values: expected 2 values, got 1");
  refused(R"({"mode": "values", "values": []})", "action.hold.values: expected 2 values, got 0");
  refused(R"({"mode": "values", "values": [0, 101]})", "action.hold.values[1]: expected a value in");
  refused(R"({"mode": "values", "values": [1e39, 0]})", "action.hold.values[0]: expected a finite number");
}

void values_are_given_by_every_failed_tick() {
  Policy policy(holding(R"({"mode": "values", "values": [1, -0.5]})"));
  CHECK((policy.action.values == std::vector<float>{1, -0.5f}));
  CHECK(policy.tick() == Status::not_reset && holds(policy));
  policy.reset();
  CHECK(failed_tick(policy) == Status::bad_observation && holds(policy));
  CHECK(policy.tick() == Status::ok && !holds(policy));
  CHECK(failed_tick(policy) == Status::bad_observation && holds(policy));
}

void the_last_action_of_the_episode_is_given_again() {
  Policy policy(holding(kHoldsLast));
  CHECK(is_nothing(policy.action));
  CHECK(policy.tick() == Status::not_reset && is_nothing(policy.action));
  policy.reset();
  CHECK(failed_tick(policy) == Status::bad_observation && is_nothing(policy.action));
  for (int i = 0; i < 5; ++i) {
    CHECK(policy.tick() == Status::ok);
    const std::vector<float> given = policy.action.values;
    for (int repeat = 0; repeat < 3; ++repeat) {
      policy.action.values.assign(kDim, 7);  // the caller's own: not what is held
      CHECK(failed_tick(policy) == Status::bad_observation && policy.action.values == given);
    }
  }
  const std::vector<float> given = policy.action.values;
  CHECK_THROWS(ArgumentError, "task", policy.runtime->reset({"fly", {}, 0, 0}));  // the episode goes on
  CHECK(failed_tick(policy) == Status::bad_observation && policy.action.values == given);
  policy.reset();
  CHECK(failed_tick(policy) == Status::bad_observation && is_nothing(policy.action));
  CHECK(is_nothing(policy.runtime->make_action()));
}

void nothing_is_given_while_every_tick_fails() {
  Policy policy(holding(kHoldsLast), {{"stub.nan_at_run", "2"}, {"stub.fail_at_run", "5"}});
  policy.reset();
  CHECK(policy.tick() == Status::rejected_chunk && is_nothing(policy.action));
  CHECK(policy.tick() == Status::engine_failure && is_nothing(policy.action));
  CHECK(policy.tick() == Status::ok && !is_nothing(policy.action));
  policy.runtime->close();
  CHECK(policy.tick() == Status::closed);
}

void the_rate_is_limited_from_the_last_action_given() {
  const std::string slow =
      replaced(holding(kHoldsLast), "\"rate_limit\": null", "\"rate_limit\": [0.001, 0.001]");
  Policy limited(slow), free(holding(kHoldsLast));
  for (Policy* policy : {&limited, &free}) {
    policy->reset();
    CHECK(failed_tick(*policy) == Status::bad_observation);
    CHECK(policy->tick() == Status::ok);
  }
  CHECK(limited.action.values == free.action.values);  // nothing was held before: nothing limits the first
  const std::vector<float> given = limited.action.values;
  CHECK(failed_tick(limited) == Status::bad_observation && limited.tick() == Status::ok);
  for (std::size_t d = 0; d < kDim; ++d) CHECK_NEAR(limited.action.values[d], given[d], 0.0011);
}

void what_is_not_finite_was_not_given() {
  SafetyGate gate({.names = {}, .units = {}, .min = {-1}, .max = {1}, .rate_limit = {0.25f}, .hold = {}});
  const float nothing = std::nanf("");
  gate.held({&nothing, 1});
  float action = 1;
  gate.apply({&action, 1});
  CHECK(action == 1);
  gate.held({&nothing, 1});
  action = -1;
  gate.apply({&action, 1});
  CHECK(action == 0.75f);
}

void a_manifest_is_checked_without_its_files() {
  check_manifest(replaced(replaced(kManifest, "ENCODE_HASH", std::string(64, '0')), "DENOISE_HASH", "any"));
  CHECK_THROWS(BundleError, "valid JSON", check_manifest("{"));
  CHECK_THROWS(BundleError, "action.names[1]: expected unique names",
               check_manifest(replaced(kManifest, R"(["dx", "dy"])", R"(["dx", "dx"])")));
}

}  // namespace

int main() {
  both_modes_are_read();
  what_is_no_hold_is_refused();
  values_are_given_by_every_failed_tick();
  the_last_action_of_the_episode_is_given_again();
  nothing_is_given_while_every_tick_fails();
  the_rate_is_limited_from_the_last_action_given();
  what_is_not_finite_was_not_given();
  a_manifest_is_checked_without_its_files();
  return result();
}
