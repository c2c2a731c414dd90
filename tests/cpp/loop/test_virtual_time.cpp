// Virtual time: a computation arrives when its declared time has passed, and all else is as with threads.
#include <array>
#include <atomic>
#include <map>
#include <thread>

#include "async_fixture.hpp"
#include "counting_planner.hpp"
#include "loop/virtual/durations.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr int kRows = 12;

RuntimeOptions taking(const VirtualTime& time, const std::string& mode = "async") {
  RuntimeOptions options;
  options.mode = mode;
  options.virtual_time = time;
  return options;
}

/// The runtime under the options; the observation says which action, or which tick, comes next.
struct Timed {
  explicit Timed(const RuntimeOptions& options, IndexEngine::Hook hook = {},
                 const PlannerFactory& planner = &make_planner) {
    write_bundle(folder.path(), index_manifest(kRows, kRows));
    runtime = RuntimeInternals::open(folder.path(), options, planner, [hook](const EngineOptions&) {
      return std::make_unique<IndexEngine>(hook);
    });
    action = runtime->make_action();
    runtime->reset({.task = "push", .seed = 7, .episode = 1});
  }
  /// The first value of the action.
  float tick(std::int64_t number) {
    const std::vector<float> state = {static_cast<float>(number), 0, 0};
    CHECK(runtime->tick(seen(state), action) == Status::ok);
    return action.values[0];
  }
  Telemetry telemetry() const { return runtime->telemetry(); }

  TemporaryFolder folder;
  std::unique_ptr<Runtime> runtime;
  Action action;
};

std::uint64_t count(const Telemetry& seen, Cause cause) {
  return seen.underruns[static_cast<std::size_t>(cause)];
}

/// What is begun in tick 0 and takes d is there at the first tick at or after d, and not in tick 0 itself.
void a_chunk_arrives_when_its_time_has_passed() {
  const std::map<double, std::uint64_t> first = {{0, 1}, {0.5, 1}, {1, 1}, {1.25, 2}, {2, 2}, {3.5, 4}};
  for (const auto& [periods, ticks] : first) {
    RuntimeOptions options = taking({.chunk = {periods}});
    options.async.merge = "replace";
    Timed policy(options);
    for (int i = 0; i < 60; ++i) {
      const std::int64_t next = policy.telemetry().consumed;
      const float value = policy.tick(next);
      // Whatever the delay, the row is the one that belongs to the index.
      if (policy.telemetry().consumed > next) CHECK(value == static_cast<float>(next));
    }
    const Telemetry seen = policy.telemetry();
    CHECK(count(seen, Cause::starting) == ticks && seen.actions == 60 - ticks);
    CHECK(seen.expected_delay == static_cast<std::int64_t>(ticks));
    CHECK(seen.delay == static_cast<std::int64_t>(ticks));
  }
}

void an_interrupt_begins_anew_and_what_was_begun_before_never_acts() {
  RuntimeOptions options = taking({.chunk = {3}});
  options.async.merge = "replace";
  Timed policy(options);
  int acted = 0;
  for (int i = 0; i < 200; ++i) {
    if (i % 10 == 9) policy.runtime->interrupt();  // in the midst of a chunk, too
    const bool after = i % 10 == 9 || (i >= 10 && i % 10 < 2);
    const std::uint64_t before = policy.telemetry().actions;
    policy.tick(i);
    const bool has_acted = policy.telemetry().actions != before;
    if (after) CHECK(!has_acted);  // three ticks from the one that sees it
    if (i >= 12 && i % 10 == 2) CHECK(has_acted);
    acted += has_acted;
  }
  CHECK(acted > 100);
  CHECK(count(policy.telemetry(), Cause::interrupted) == 3 * 20 - 2);
}

struct Moment {
  Telemetry seen;
  std::vector<float> action;
};

std::vector<Moment> in_virtual_time(int periods, int ticks) {
  Timed policy(taking({.chunk = {static_cast<double>(periods)}}));
  std::vector<Moment> all;
  for (int i = 0; i < ticks; ++i) {
    policy.tick(policy.telemetry().consumed);
    all.push_back({policy.telemetry(), policy.action.values});
  }
  return all;
}

/// The engine ends a run when it may, and the real threads do the rest: the same, tick by tick.
void it_is_what_threads_do(int periods) {
  constexpr int kTicks = 60;
  const std::vector<Moment> wanted = in_virtual_time(periods, kTicks);
  std::atomic<int> entered = 0, may_end = 0;
  RuntimeOptions options = taking({});
  options.virtual_time.reset();
  Timed policy(options, [&](int run) {
    entered = run;
    while (may_end < run) std::this_thread::yield();
    return Status::ok;
  });
  ChunkMaker& maker = RuntimeInternals::async(*policy.runtime).chunk_maker();
  int begun = 0;
  const auto comes_at = [&](int tick) {
    if (tick < 0 || tick >= kTicks) return false;
    const auto at = static_cast<std::size_t>(tick);
    return wanted[at].seen.chunks > (tick == 0 ? 0 : wanted[at - 1].seen.chunks);
  };
  for (int i = 0; i < kTicks; ++i) {
    if (comes_at(i)) {
      may_end = begun;
      while (maker.busy()) std::this_thread::yield();
    }
    policy.tick(policy.telemetry().consumed);
    const Moment& then = wanted[static_cast<std::size_t>(i)];
    const Telemetry now = policy.telemetry();
    CHECK(policy.action.values == then.action);
    CHECK(now.actions == then.seen.actions && now.chunks == then.seen.chunks);
    CHECK(now.delay == then.seen.delay && now.left == then.seen.left);
    CHECK(now.expected_delay == then.seen.expected_delay && now.underruns == then.seen.underruns);
    if (!comes_at(i + periods)) continue;
    ++begun;
    while (entered < begun) std::this_thread::yield();
  }
  CHECK(begun > 5);
  may_end = 1'000'000;
}

/// A plan takes its time; its next subgoals are known, and begin to the action.
void only_plans_take_time() {
  constexpr int kSteps = 4, kSubgoals = 3;
  RuntimeOptions options = taking({.chunk = {1}, .plan = {9}});
  options.async.merge = "replace";
  options.async.plan_ahead = 2;  // too late for a plan
  CountingPlanner::Log log;
  Timed policy(options, {}, [&](const keystep::Policy&, Tensors&) {
    return std::make_unique<CountingPlanner>(log, kSteps, 100, kSubgoals);
  });
  for (int i = 0; i < 120; ++i) policy.tick(policy.telemetry().consumed);
  CHECK(log.from.size() > 12);
  for (std::size_t goal = 2; goal + 1 < log.from.size(); ++goal) {
    const bool planned = goal % kSubgoals == 1;
    const std::int64_t held = log.from[goal] - log.from[goal - 1];
    CHECK(planned ? held > kSteps : held == kSteps);
  }
}

/// A synchronous loop stands still: the action that a tick's observation led to comes when it is computed.
void lockstep_stands_still() {
  Timed policy(taking({.chunk = {2.5}}, "lockstep"));
  for (int i = 0; i < 60; ++i) {
    const float value = policy.tick(i);
    const int phase = i % (3 + kRows);
    CHECK(value == (phase < 3 ? policy.runtime->bundle().action.hold[0] : static_cast<float>(i - 3)));
  }
  CHECK(policy.telemetry().actions == 4 * kRows && count(policy.telemetry(), Cause::late) == 9);
  Timed at_once(taking({}, "lockstep"));
  for (int i = 0; i < 60; ++i) CHECK(at_once.tick(i) == static_cast<float>(i));
}

/// After a tick that gave the hold, what is given goes on from the hold.
void decelerates_from_what_was_given() {
  RuntimeOptions options = taking({.chunk = {3}}, "lockstep");
  options.async.underrun = "decelerate";
  Timed policy(options);
  for (int i = 0; i < 3 + kRows; ++i) policy.tick(20 + i);  // far from the hold
  const std::vector<float> bad = {NAN, 0, 0};
  CHECK(policy.runtime->tick(seen(bad), policy.action) == Status::bad_observation);
  const std::vector<float> hold = policy.action.values;
  CHECK(hold == policy.runtime->bundle().action.hold);
  policy.tick(40);
  CHECK(policy.action.values == hold);
  CHECK(count(policy.telemetry(), Cause::refused) == 2);
}

void naive_switching_repeats_what_is_past() {
  RuntimeOptions options = taking({.chunk = {3}, .skips = false});
  options.async.merge = "replace";
  Timed policy(options);
  int repeated = 0;
  for (int i = 0; i < 60; ++i) {
    const std::int64_t next = policy.telemetry().consumed;
    const float value = policy.tick(next);
    if (policy.telemetry().consumed > next) repeated += value == static_cast<float>(next - 3);
  }
  CHECK(repeated > 30);
}

void durations_are_those_declared() {
  const VirtualTime time{.chunk = {1, 2, 2, 9}, .plan = {7}};
  const auto drawn = [&](std::uint64_t seed, std::uint32_t episode) {
    Durations durations(time);
    durations.reset({seed, episode, 0, 0});
    std::vector<double> all;
    for (int i = 0; i < 4000; ++i) all.push_back(durations.chunk());
    CHECK(durations.plan() == 7);
    return all;
  };
  const std::vector<double> one = drawn(1, 0);
  CHECK(one == drawn(1, 0) && one != drawn(2, 0) && one != drawn(1, 1));
  const std::map<double, double> shares = {{1, 0.25}, {2, 0.5}, {9, 0.25}};
  for (const auto& [periods, share] : shares) {
    CHECK_NEAR(static_cast<double>(std::ranges::count(one, periods)) / 4000, share, 0.04);  // 5 sigma
  }
}

void wrong_options_are_refused() {
  const auto refused = [](const char* message, const RuntimeOptions& options) {
    CHECK_THROWS(ArgumentError, message, Timed{options});
  };
  refused("virtual_time.chunk[1]: expected 0..1000000 control periods, got -", taking({.chunk = {1, -1}}));
  refused("virtual_time.plan[0]: expected 0..1000000", taking({.plan = {std::nan("")}}));
  refused("virtual_time.skips: expected true", taking({.skips = false}));
  refused("virtual_time.skips: expected true", taking({.skips = false}, "lockstep"));
  RuntimeOptions faults = taking({}, "lockstep");
  faults.async.underrun = "fault";
  refused("underrun: expected hold | decelerate | repeat (mode is lockstep)", faults);
}

}  // namespace

int main() {
  a_chunk_arrives_when_its_time_has_passed();
  an_interrupt_begins_anew_and_what_was_begun_before_never_acts();
  for (const int periods : {1, 2, 4}) it_is_what_threads_do(periods);
  only_plans_take_time();
  lockstep_stands_still();
  decelerates_from_what_was_given();
  naive_switching_repeats_what_is_past();
  durations_are_those_declared();
  wrong_options_are_refused();
  return result();
}
