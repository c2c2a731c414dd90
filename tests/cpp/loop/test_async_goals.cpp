// Goals in the asynchronous loop, without its threads: which goal a chunk is made for, and when it acts.
#include <algorithm>
#include <random>

#include "async_fixture.hpp"
#include "counting_planner.hpp"
#include "text_planner.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// Ticks, plans and chunks, each as long as it is told, in ticks.
struct Scheduled {
  Scheduled(int rows, int steps, const AsyncOptions& async)
      : policy(index_manifest(rows, rows), async, {}, [this, steps](const keystep::Policy&, Tensors&) {
          return std::make_unique<CountingPlanner>(log, steps);
        }) {}

  /// The goal of the action; 0: there was none of the policy.
  int tick(int plan_ticks, int chunk_ticks) {
    const std::int64_t wanted = policy.actions;
    const std::uint64_t before = std::exchange(interrupts, policy.runtime->latency().interrupts);
    const bool empty = policy.runtime->telemetry().left == 0 || interrupts != before;
    const bool acted = policy.tick();
    if (acted) CHECK(policy.action.values[0] == static_cast<float>(wanted));
    waited = acted ? 0 : waited + 1;
    CHECK(waited < 60);  // it always goes on
    const int goal = acted ? static_cast<int>(policy.action.values[1]) - 100 : 0;
    if (goal != 0 && goal != last_goal) check_switch(goal, wanted, empty);
    advance(policy.loop().plan_maker(), planning, plan_ticks);
    advance(policy.loop().chunk_maker(), sampling, chunk_ticks);
    return goal;
  }

  /// Its first action: that goal was active then, the newest of those whose time had come; or nothing of the
  /// old one was left.
  void check_switch(int goal, std::int64_t index, bool empty) {
    CHECK(goal > last_goal);
    const auto& from = log.from;
    CHECK(empty || from[static_cast<std::size_t>(goal)] <= index);
    for (std::size_t later = static_cast<std::size_t>(goal) + 1; later < from.size(); ++later) {
      CHECK(from[later] > index);
    }
    last_goal = goal;
  }

  template <class Maker>
  static void advance(Maker& maker, int& left, int ticks) {
    if (left < 0 && maker.begin()) left = ticks;
    if (left < 0 || left-- > 0) return;
    maker.finish();
  }

  CountingPlanner::Log log;
  Stepped policy;
  int planning = -1, sampling = -1, last_goal = 0, waited = 0;
  std::uint64_t interrupts = 0;
};

void a_chunk_s_goal_is_active_when_it_begins_to_act(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](int end) { return static_cast<int>(random() % static_cast<unsigned>(end)); };
  const int rows = 3 + below(12), steps = 2 + below(12), slow_plan = 1 + below(8), slow_chunk = 1 + below(5);
  Scheduled run(rows, steps, {.merge = "replace", .plan_ahead = below(4) == 0 ? below(6) : -1});
  int acted = 0;
  for (int i = 0; i < 400; ++i) {
    if (below(40) == 0) run.policy.runtime->interrupt();
    if (below(60) == 0) run.policy.loop().replan();
    acted += run.tick(below(slow_plan), below(slow_chunk)) != 0;
  }
  CHECK(acted > 40 && run.last_goal > 3);
  CHECK(run.policy.runtime->latency().plans == run.log.from.size() - 1);
}

/// With delays that stay the same no subgoal begins late, and no action is missing.
void subgoals_begin_in_time() {
  Scheduled run(12, 8, {.merge = "replace"});
  for (int i = 0; i < 100; ++i) run.tick(3, 2);
  const Telemetry before = run.policy.runtime->telemetry();
  for (int i = 0; i < 400; ++i) CHECK(run.tick(3, 2) != 0);
  const Telemetry after = run.policy.runtime->telemetry();
  CHECK(after.late_goals == before.late_goals && after.actions == before.actions + 400);
  const auto& from = run.log.from;
  for (std::size_t i = from.size() - 40; i < from.size(); ++i) CHECK(from[i] - from[i - 1] == 8);
  CHECK(after.chunks - before.chunks < 2 * 400 / 4 + 60);  // nothing is computed that is not needed
}

/// A plan that is asked for P actions beforehand is asked for at that index.
void a_plan_is_asked_for_beforehand() {
  for (const int ahead : {0, 2, 5}) {
    Scheduled run(12, 10, {.plan_ahead = ahead});
    std::size_t known = 1;
    for (int i = 0; i < 120; ++i) {
      run.tick(0, 0);
      if (run.log.from.size() == known) continue;
      known = run.log.from.size();
      const std::int64_t now = run.policy.runtime->telemetry().consumed - 1;  // the index it was seen for
      if (known > 2)
        CHECK(run.log.from.back() - now == ahead || (ahead == 0 && run.log.from.back() - now == 1));
    }
    CHECK(known > 8);
  }
}

/// A plan that fails is told once no action is left; until then the old goal goes on. Then it is made again.
void a_failed_plan_is_told() {
  Scheduled run(4, 6, {.underrun = "hold"});
  run.log.fails = 2;
  run.policy.tick();  // nothing is known of a failure yet
  run.planning = run.sampling = -1;
  run.advance(run.policy.loop().plan_maker(), run.planning, 0);
  run.policy.tick(Status::engine_failure);
  CHECK(run.policy.rests() && run.policy.runtime->last_error() == "the planner's own words");
  run.advance(run.policy.loop().plan_maker(), run.planning, 0);
  run.policy.tick(Status::engine_failure);
  for (int i = 0; i < 4; ++i) run.advance(run.policy.loop().plan_maker(), run.planning, 0);
  CHECK(run.policy.runtime->telemetry().plans_failed == 2 && run.policy.underruns(Cause::failed) == 2);
  CHECK(run.log.from.size() == 2);
  run.policy.tick();
  CHECK(run.policy.makes_chunk() && run.policy.tick() && run.policy.action.values[1] == 101);
}

/// A planner that writes, whose key-steps nobody foresees: no action of a chunk from before one is executed.
void a_key_step_ends_the_chunk(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](int end) { return static_cast<int>(random() % static_cast<unsigned>(end)); };
  TextPlanner::Log log;
  int key_steps = 0;
  std::vector<int> key_steps_of = {0};  // of the engine's runs, from 1
  Stepped policy(
      index_manifest(6, 4), {.merge = "replace"},
      [&](int) {
        key_steps_of.push_back(key_steps);
        return Status::ok;
      },
      [&](const keystep::Policy&, Tensors&) { return std::make_unique<TextPlanner>(log, "", seed); });
  int sampling = -1, acted = 0;
  for (int i = 0; i < 500; ++i) {
    if (below(50) == 0) policy.runtime->interrupt();
    if (below(50) == 0) policy.loop().replan();
    const std::int64_t wanted = policy.actions;
    if (policy.tick()) {
      ++acted;
      CHECK(policy.action.values[0] == static_cast<float>(wanted));
      CHECK(key_steps_of[static_cast<std::size_t>(policy.action.values[1])] == key_steps);
    }
    if (policy.loop().plan_maker().begin()) {
      policy.loop().plan_maker().finish();
      key_steps += log.answered_now && log.key_step_now;
    }
    Scheduled::advance(policy.loop().chunk_maker(), sampling, below(3));
  }
  CHECK(acted > 100 && key_steps > 20 && log.answered.size() > 60);
  CHECK(std::ranges::is_sorted(log.answered));
  for (const int number : log.aborted) CHECK(!std::ranges::binary_search(log.answered, number));
  CHECK(policy.runtime->latency().plans == log.answered.size());
}

}  // namespace

int main() {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) a_chunk_s_goal_is_active_when_it_begins_to_act(seed);
  subgoals_begin_in_time();
  a_plan_is_asked_for_beforehand();
  a_failed_plan_is_told();
  for (std::uint64_t seed = 1; seed <= 20; ++seed) a_key_step_ends_the_chunk(seed);
  return result();
}
