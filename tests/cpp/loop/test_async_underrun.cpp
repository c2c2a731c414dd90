// What the robot is given while there is no action of the policy, and what is told of it.
#include <atomic>
#include <thread>

#include "async_fixture.hpp"
#include "loop/async/underrun.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

std::vector<float> next(Underrun& underrun, bool repeatable = false) {
  std::vector<float> action(2);
  underrun.act(repeatable, action);
  return action;
}

ActionSpec spec_of(std::vector<float> rate_limit, const std::string& hold_mode = "values") {
  ActionSpec spec;
  spec.min = {-1, -1};
  spec.max = {1, 1};
  spec.rate_limit = std::move(rate_limit);
  spec.hold_mode = hold_mode;
  if (hold_mode == "values") spec.hold = {0, 0.5f};
  return spec;
}

void hold_gives_the_bundle_s_hold() {
  Underrun underrun(UnderrunPolicy::hold, spec_of({}), 3);
  CHECK((next(underrun) == std::vector<float>{0, 0.5f}));
  underrun.given(std::vector<float>{1, 1});
  CHECK((next(underrun, true) == std::vector<float>{0, 0.5f}));
  // Absolute actions: the last one given keeps the robot where it is; before it there is nothing.
  Underrun absolute(UnderrunPolicy::hold, spec_of({}, "last"), 3);
  CHECK(std::isnan(next(absolute)[0]));
  absolute.given(std::vector<float>{1, -1});
  for (const bool repeatable : {true, false}) {
    CHECK((next(absolute, repeatable) == std::vector<float>{1, -1}));
  }
}

void deceleration_stays_within_the_limits() {
  Underrun underrun(UnderrunPolicy::decelerate, spec_of({0.25f, 10}), 3);
  CHECK((next(underrun) == std::vector<float>{0, 0.5f}));  // at rest: nothing to slow down
  underrun.given(std::vector<float>{0.9f, -1});
  std::vector<float> last = {0.9f, -1};
  for (const float wanted : {0.65f, 0.4f, 0.15f, 0.0f, 0.0f}) {
    const std::vector<float> action = next(underrun);
    CHECK_NEAR(action[0], wanted, 1e-6);
    CHECK(std::abs(action[0] - last[0]) <= 0.25f + 1e-6f && action[1] == 0.5f);
    last = action;
  }
  // Without a rate limit the bounds say how fast: ten actions from one to the other.
  Underrun unlimited(UnderrunPolicy::decelerate, spec_of({}), 3);
  unlimited.given(std::vector<float>{-1, 0.5f});
  for (int i = 1; i <= 6; ++i) {
    CHECK_NEAR(next(unlimited, true)[0], std::min(-1 + 0.2 * i, 0.0), 1e-6);
  }
}

void repetition_ends() {
  Underrun underrun(UnderrunPolicy::repeat, spec_of({}), 3);
  underrun.given(std::vector<float>{1, 1});
  for (int i = 0; i < 3; ++i) CHECK((next(underrun, true) == std::vector<float>{1, 1}));
  for (int i = 0; i < 3; ++i) CHECK((next(underrun, true) == std::vector<float>{0, 0.5f}));
  underrun.given(std::vector<float>{1, 1});
  CHECK((next(underrun, true) == std::vector<float>{1, 1}));
  underrun.given(std::vector<float>{1, 1});
  CHECK((next(underrun) == std::vector<float>{0, 0.5f}));
}

/// What follows a hold is rate-limited from it.
void the_gate_knows_what_was_given() {
  const std::string slow =
      replaced(index_manifest(4, 4), "\"rate_limit\": null", "\"rate_limit\": [0.25, 0.25]");
  Stepped policy(slow, {});
  CHECK(!policy.tick() && policy.rests() && policy.makes_chunk() && policy.tick());
  CHECK(policy.action.values[0] == 0 && policy.action.values[1] == 0.75f);
}

void fault_is_told_and_still_rests() {
  Stepped policy(index_manifest(4, 4), {.underrun = "fault"});
  CHECK(!policy.tick(Status::underrun) && policy.rests());
  CHECK(policy.runtime->last_error() == describe(Status::underrun));
  CHECK(policy.makes_chunk());
  for (int i = 0; i < 4; ++i) CHECK(policy.tick());
  CHECK(!policy.tick(Status::underrun) && policy.rests() && policy.underruns(Cause::late) == 1);
}

void nothing_is_invented_where_nothing_can_be_held() {
  for (const char* declared : {"hold", "repeat"}) {
    Stepped policy(index_manifest(4, 4, kHoldsLast), {.underrun = declared});
    CHECK(!policy.tick(Status::underrun) && std::isnan(policy.action.values[0]));
    CHECK(policy.makes_chunk());
    for (int i = 0; i < 4; ++i) CHECK(policy.tick());
    const std::vector<float> last = policy.action.values;
    for (int i = 0; i < 6; ++i) CHECK(!policy.tick() && policy.action.values == last);
    CHECK(policy.underruns(Cause::starting) == 1 && policy.underruns(Cause::late) == 6);
  }
}

/// Nothing is made of it; what was decided before goes on, and then the robot is told.
void a_stale_observation_is_shown_to_nobody() {
  Stepped policy(index_manifest(4, 2), {}, {}, &make_planner, {.max_observation_age_us = 1000});
  CHECK(!policy.tick(Status::ok, now_us()) && policy.makes_chunk());
  const std::int64_t old = now_us() - 5000;
  for (int i = 0; i < 4; ++i) CHECK(policy.tick(Status::ok, old));
  CHECK(!policy.makes_chunk());
  for (int i = 0; i < 3; ++i) CHECK(!policy.tick(Status::stale_observation, old) && policy.rests());
  const Telemetry seen = policy.runtime->telemetry();
  CHECK(seen.gate.stale_observations == 7 && policy.underruns(Cause::stale) == 3 && seen.left == 0);
  CHECK(policy.runtime->last_error() == describe(Status::stale_observation));
  CHECK(!policy.tick() && policy.makes_chunk() && policy.tick());
}

/// Whatever else there is to tell: what was given before an interrupt is not given after it.
void nothing_is_repeated_across_an_interrupt() {
  for (const bool stale : {false, true}) {
    Stepped policy(index_manifest(4, 2), {.underrun = "repeat"}, {}, &make_planner,
                   {.max_observation_age_us = 1'000'000});
    CHECK(!policy.tick(Status::ok, now_us()) && policy.makes_chunk() && policy.tick(Status::ok, now_us()));
    policy.runtime->interrupt();
    CHECK(!policy.tick(stale ? Status::stale_observation : Status::ok, now_us() - (stale ? 5'000'000 : 0)));
    CHECK(policy.rests());
  }
}

void a_bad_observation_costs_its_tick_alone() {
  Stepped policy(index_manifest(4, 2), {});
  CHECK(!policy.tick() && policy.makes_chunk() && policy.tick());
  const std::vector<float> two = {1, 2};
  CHECK(policy.runtime->tick(seen(two), policy.action) == Status::bad_observation && policy.rests());
  CHECK(policy.runtime->last_error() == "observation.state: expected 3 values, got 2");
  CHECK(policy.runtime->tick(seen(kState).at(-7), policy.action) == Status::bad_observation);
  CHECK(policy.runtime->last_error().starts_with("observation.timestamp_us: expected 0 or more"));
  CHECK(policy.tick() && policy.action.values[0] == 1 && policy.underruns(Cause::refused) == 2);
}

/// Failures are told once no action is left, each with its own words, and the loop goes on.
void failures_are_told_by_cause() {
  Stepped policy(index_manifest(4, 4), {.request_below = 4},
                 [](int run) { return run == 2 || run == 3 ? Status::engine_failure : Status::ok; });
  CHECK(!policy.tick() && policy.makes_chunk());
  CHECK(policy.tick() && policy.tick() && policy.makes_chunk());
  CHECK(policy.tick() && policy.tick());  // two actions are left when it fails
  CHECK(policy.runtime->telemetry().chunks_failed == 1);
  CHECK(!policy.tick(Status::engine_failure) && policy.rests());
  CHECK(policy.runtime->last_error() == "the engine's own words" && policy.makes_chunk());
  CHECK(!policy.tick(Status::engine_failure) && policy.makes_chunk() && policy.tick());
  CHECK(policy.runtime->telemetry().chunks_failed == 2 && policy.underruns(Cause::failed) == 2);
}

void a_chunk_that_is_not_finite_is_rejected() {
  RuntimeOptions options;
  options.mode = "async";
  test::Policy policy(kManifest, {{"stub.nan_at_run", "2"}}, options);
  policy.reset();
  AsyncLoop& loop = RuntimeInternals::async(*policy.runtime);
  loop.stop();
  loop.start({7, 1, 0, 0}, false);
  CHECK(policy.tick() == Status::ok && loop.chunk_maker().begin());
  loop.chunk_maker().finish();
  CHECK(policy.tick() == Status::rejected_chunk && holds(policy));
  CHECK(policy.runtime->latency().gate.rejected_chunks == 1 && loop.chunk_maker().begin());
  loop.chunk_maker().finish();
  CHECK(policy.tick() == Status::ok && !holds(policy));
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 1, 0}), 0);
}

/// The engine's call does not come back: a thousand ticks go on without it, and tell.
void a_hung_engine_is_told() {
  std::atomic<bool> hangs = true, inside = false;
  TemporaryFolder folder;
  write_bundle(folder.path(), index_manifest(4, 4));
  RuntimeOptions options;
  options.mode = "async";
  options.async.watchdog_us = 2000;
  const auto runtime =
      RuntimeInternals::open(folder.path(), options, &make_planner, [&](const EngineOptions&) {
        return std::make_unique<IndexEngine>([&](int) {
          inside = true;
          while (hangs) std::this_thread::sleep_for(std::chrono::microseconds(100));
          return Status::ok;
        });
      });
  runtime->reset({.task = "push"});
  Action action = runtime->make_action();
  const auto tick = [&] { return runtime->tick(seen(kState), action); };
  CHECK(tick() == Status::ok);
  while (!inside) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  for (int i = 0; i < 1000; ++i) CHECK(tick() == Status::engine_hung);
  Telemetry seen_then = runtime->telemetry();
  CHECK(seen_then.hung == 1 && seen_then.hangs == 1);
  CHECK(seen_then.underruns[static_cast<std::size_t>(Cause::hung)] == 1000);
  hangs = false;
  while (runtime->telemetry().actions < 3) {
    tick();
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  while (runtime->telemetry().hung != 0) tick();  // until a call is seen that comes back in time
}

}  // namespace

int main() {
  hold_gives_the_bundle_s_hold();
  deceleration_stays_within_the_limits();
  repetition_ends();
  the_gate_knows_what_was_given();
  fault_is_told_and_still_rests();
  nothing_is_invented_where_nothing_can_be_held();
  a_stale_observation_is_shown_to_nobody();
  nothing_is_repeated_across_an_interrupt();
  a_bad_observation_costs_its_tick_alone();
  failures_are_told_by_cause();
  a_chunk_that_is_not_finite_is_rejected();
  a_hung_engine_is_told();
  return result();
}
