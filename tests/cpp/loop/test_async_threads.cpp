// The asynchronous loop with its threads: everybody at once, and an end from every state.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <random>
#include <thread>
#include <utility>

#include "async_fixture.hpp"
#include "subgoal_fixture.hpp"
#include "text_planner.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

RuntimeOptions asynchronous(AsyncOptions async = {}) {
  RuntimeOptions options;
  options.mode = "async";
  options.async = std::move(async);
  return options;
}

void pause(int microseconds) { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); }

/// Ticks until this holds; false: it never did.
template <class Policy, class Condition>
bool ticks_until(Policy& policy, const Condition& condition) {
  for (int i = 0; i < 200'000 && !condition(); ++i) {
    policy.tick();
    pause(100);
  }
  return condition();
}

/// almond-bot/axol #191: while the engine is inside a call, as many ticks as anybody wants.
void the_tick_does_not_wait() {
  std::atomic<bool> blocked = true;
  Stepped policy(index_manifest(8, 4), {}, [&](int) {
    while (blocked) pause(100);
    return Status::ok;
  });
  policy.loop().start({7, 1, 0, 0});
  CHECK(!policy.tick());
  for (int i = 0; i < 5000; ++i) CHECK(!policy.tick());
  blocked = false;
  CHECK(ticks_until(policy, [&] { return policy.actions > 20; }));
}

/// Nobody calls for it, as after an interrupt: the same chunks as in lockstep, for the same observation.
void the_chunks_are_those_of_lockstep() {
  test::Policy policy(kManifest, {}, asynchronous({.merge = "replace"}));
  policy.reset();
  CHECK(ticks_until(policy, [&] { return policy.runtime->telemetry().actions == 1; }));
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 0, 0}), 0);
}

void ends_from_every_state() {
  const std::map<std::string, std::string> slow = {{"stub.sleep_us", "1000000000"}};  // unless it is ended
  const std::map<std::string, std::string> quick = {{"stub.sleep_us", "50"}};
  for (const auto& injected : {slow, quick}) {
    for (const bool plans : {false, true}) {
      for (int ticks = 0; ticks < 4; ++ticks) {
        test::Policy policy(plans ? kSubgoalManifest : kManifest, plans ? quick : injected, asynchronous());
        if (ticks > 0) policy.reset();
        for (int i = 1; i < ticks; ++i) {
          policy.tick();
          pause(500);
        }
        if (ticks == 3) policy.runtime->interrupt();
        if (ticks == 2) policy.reset();  // an episode ends, too
        policy.runtime->close();
        CHECK(policy.tick() == Status::closed);
        policy.runtime->interrupt();
        policy.runtime->close();
        CHECK(policy.runtime->telemetry().ticks + 1 >= static_cast<std::uint64_t>(ticks));
      }
    }
  }
  // A plan in the making: reset encodes the text in the caller's thread, so only then the engine is slow.
  test::Policy hung(kManifest, {{"stub.hang_at_run", "1"}, {"stub.hang_us", "50000"}}, asynchronous());
  hung.reset();
  hung.tick();
  pause(2000);
  hung.runtime.reset();  // waits for the one call that nobody can end
}

/// What others read is of one tick, and whole; the actions are those of the policy or the hold.
void everybody_at_once(const std::string& manifest, const std::string& merge) {
  test::Policy policy(manifest, {{"stub.jitter_us", "300"}}, asynchronous({.merge = merge}));
  policy.reset();
  Runtime& runtime = *policy.runtime;
  std::atomic<bool> done = false;
  std::atomic<int> wrong = 0;
  std::thread reader([&] {
    std::vector<float> plan(runtime.plan_size());
    std::uint64_t before = 0;
    while (!done) {
      const Telemetry seen = runtime.telemetry();
      const std::uint64_t underruns =
          std::accumulate(seen.underruns.begin(), seen.underruns.end(), std::uint64_t{0});
      wrong += seen.ticks != seen.actions + underruns || seen.ticks < before;
      before = seen.ticks;
      const LatencyReport report = runtime.latency();
      wrong += report.actions + 1 < seen.actions;
      Status status = Status::closed;
      runtime.plan(plan, &status);
      const std::int64_t acted = runtime.plan_progress().actions;
      wrong += status != Status::ok || std::cmp_greater(acted, runtime.telemetry().ticks);
    }
  });
  std::thread interrupter([&] {
    std::mt19937_64 random(3);
    std::uint64_t chunks = 0;
    while (!done) {
      pause(static_cast<int>(random() % 4000));
      // Two of three wait for a chunk or two, so that a slow machine comes to some.
      const std::uint64_t made = runtime.telemetry().chunks;
      if (made < chunks + random() % 3) continue;
      chunks = made;
      if (runtime.bundle().planner && random() % 3 == 0) {
        runtime.replan();
      } else {
        runtime.interrupt();
      }
    }
  });
  const auto enough = [&] {
    const Telemetry seen = runtime.telemetry();
    return seen.actions > 20 && seen.chunks > 10;
  };
  int ticks = 0;
  for (const int least = cases(3000, 600); ticks < least || !enough(); ++ticks) {
    wrong += policy.tick() != Status::ok;
    if (ticks % 1000 == 999) policy.reset();
    pause(100);
  }
  done = true;
  reader.join();
  interrupter.join();
  CHECK(wrong == 0);
  const Telemetry seen = runtime.telemetry();
  CHECK(seen.ticks == static_cast<std::uint64_t>(ticks));
  CHECK(runtime.reset_latency() == Status::ok && runtime.telemetry().ticks == 0);
  CHECK(runtime.latency().actions == 0 && runtime.latency().stages[0].count < 10);
}

/// A planner that writes after random delays needs nothing new: each text arrives once, in order.
void a_planner_that_writes_runs_as_it_is(std::uint64_t seed) {
  Written policy(kSubgoalManifest, "state", seed, {{"stub.jitter_us", "200"}}, asynchronous());
  std::mt19937_64 random(seed);
  const auto enough = [&] {
    const Telemetry seen = policy.runtime->telemetry();
    return seen.actions > 50 && seen.plans > 40;
  };
  std::uint64_t actions = 0;  // before the last interrupt: a slow machine gets on, too
  for (int i = 0; i < cases(2000, 500) || !enough(); ++i) {
    if (random() % 25 == 0 && policy.runtime->telemetry().actions > actions) {
      actions = policy.runtime->telemetry().actions;
      random() % 2 == 0 ? policy.runtime->interrupt() : policy.runtime->replan();
    }
    CHECK(policy.tick() == Status::ok);
    pause(static_cast<int>(random() % 300));
  }
  RuntimeInternals::async(*policy.runtime).stop();
  const auto& log = policy.log;
  CHECK(log.answered.size() > 20 && std::ranges::is_sorted(log.answered));
  CHECK(std::ranges::adjacent_find(log.answered) == log.answered.end());
  for (const int number : log.aborted) CHECK(!std::ranges::binary_search(log.answered, number));
  CHECK(policy.runtime->latency().plans == log.answered.size());
  const auto known = [&](int number) { return policy.instruction() == TextPlanner::text_of(number); };
  CHECK(std::ranges::any_of(log.answered, known));
}

void sessions_have_threads_of_their_own() {
  test::Policy policy(kSubgoalManifest, {}, asynchronous());
  const auto other = policy.runtime->session();
  policy.reset();
  other->reset({.task = "push"});
  Action action = other->make_action();
  for (int i = 0; i < 300 || other->telemetry().actions <= 10; ++i) {
    CHECK(policy.tick() == Status::ok && other->tick(seen(kState), action) == Status::ok);
    pause(100);
  }
  policy.runtime->close();
  CHECK(other->tick(seen(kState), action) == Status::ok);
}

/// The episode goes on after a reset that was refused.
void a_refused_reset_changes_nothing() {
  const std::string manifest = replaced(kManifest, R"("goal": "none")", R"("goal": "observation")");
  const std::string goal =
      replaced(manifest, R"("role": "observation.state"},)", R"("role": "observation.state"},
      {"name": "goal_state", "dtype": "float32", "shape": [1, 3], "role": "goal.state"},)");
  test::Policy policy(goal, {}, asynchronous());
  policy.runtime->reset({"push", Observation(seen(kState)), 7, 1});
  CHECK(ticks_until(policy, [&] { return policy.runtime->telemetry().actions > 5; }));
  const std::vector<float> two = {1, 2};
  CHECK_THROWS(ArgumentError, "goal.state", policy.runtime->reset({"push", Observation(seen(two)), 7, 1}));
  CHECK_THROWS(ArgumentError, "task", policy.runtime->reset({"fly", Observation(seen(kState)), 7, 1}));
  CHECK(ticks_until(policy, [&] { return policy.runtime->telemetry().actions > 20; }));
}

void a_forked_child_is_told() {
  test::Policy policy(kManifest, {{"stub.sleep_us", "100"}}, asynchronous());
  policy.reset();
  CHECK(ticks_until(policy, [&] { return policy.runtime->telemetry().actions > 5; }));
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    const bool told = policy.tick() == Status::forked;
    policy.runtime->interrupt();
    policy.runtime.reset();
    _exit(told ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(policy.tick() == Status::ok);
}

}  // namespace

int main() {
  the_tick_does_not_wait();
  the_chunks_are_those_of_lockstep();
  ends_from_every_state();
  for (const char* merge : {"replace", "blend", "temporal_ensemble"}) everybody_at_once(kManifest, merge);
  everybody_at_once(kSubgoalManifest, "blend");
  everybody_at_once(with_history(kManifest), "blend");
  for (std::uint64_t seed = 1; seed <= 2; ++seed) a_planner_that_writes_runs_as_it_is(seed);
  sessions_have_threads_of_their_own();
  a_refused_reset_changes_nothing();
  a_forked_child_is_told();
  return result();
}
