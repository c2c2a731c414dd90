// Calls to plan anew that are answered later, and plans that were asked for early and come to nothing: the
// goal that stands is neither lost nor followed for longer than it may be.
#include <algorithm>
#include <random>

#include "async_fixture.hpp"
#include "late_planner.hpp"
#include "subgoal_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// Its next goal would be due after 50 actions, so that nobody but the call has a reason to ask.
struct Late {
  Late()
      : policy(index_manifest(8, 4), {.merge = "replace"}, {},
               [this](const keystep::Policy&, Tensors&) { return std::make_unique<LatePlanner>(log, 50); }) {
    for (int i = 0; i < 10; ++i) tick();
    CHECK(goal == 1);
  }

  /// True: it was an action of the policy, for `goal`.
  bool tick() {
    const bool acted = policy.tick();
    if (acted) goal = static_cast<int>(policy.action.values[1]) - 100;
    for (int i = 0; i < 2; ++i) {
      if (policy.loop().plan_maker().begin()) policy.loop().plan_maker().finish();
      policy.makes_chunk();
    }
    return acted;
  }

  CountingPlanner::Log log;
  Stepped policy;
  int goal = 0;
};

/// Without the tick's asking again the reply would never come; meanwhile nothing acts for the old goal.
void a_replan_that_is_answered_later(bool interrupted) {
  Late run;
  run.policy.loop().replan();
  int waited = 0;
  for (; waited < 20 && !run.tick(); ++waited) {
    if (interrupted && waited == 1) run.policy.runtime->interrupt();  // what was in the making is given up
  }
  CHECK(run.goal == 2 && run.log.from.size() == 3);
  CHECK(waited >= LatePlanner::kAsks && waited < 10);
  for (int i = 0; i < 30; ++i) CHECK(run.tick() && run.goal == 2);
  CHECK(run.log.from.size() == 3);  // and it is answered once
}

/// In the midst of others; a new goal acts after each, and the loop always goes on.
void replans_at_random(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Late run;
  int goal = run.goal, acted = 0, replans = 0;
  bool owed = false;
  std::size_t answers = 0;
  for (int i = 0; i < 600; ++i) {
    if (random() % 30 == 0) run.policy.runtime->interrupt();
    if (random() % 30 == 0) {
      run.policy.loop().replan();
      ++replans;
      owed = true;
      answers = run.log.from.size();
      goal = run.goal;
    }
    const bool answered = run.log.from.size() > answers;
    if (!run.tick()) continue;
    ++acted;
    CHECK(!owed || (answered && run.goal > goal));
    owed = false;
  }
  CHECK(acted > 200 && replans > 8);
}

/// Subgoals handed in cannot be planned anew: nobody waits for an answer.
void subgoals_handed_in_stay() {
  RuntimeOptions options;
  options.mode = "async";
  options.virtual_time = VirtualTime{.chunk = {1}, .plan = {1}};
  test::Policy policy(kSubgoalManifest, {}, options);
  const std::vector<float> values = {1, 2, 3};
  const auto given = seen(values);
  policy.runtime->reset({.task = "push", .subgoals = {given, given, given}});
  for (int i = 0; i < 40; ++i) {
    if (i % 10 == 5) policy.runtime->replan();
    CHECK(policy.tick() == Status::ok);
  }
  CHECK(policy.runtime->telemetry().actions > 25);
}

/// Plans fail now and then. Asked for early, that costs nothing: the last subgoal has its whole time, and the
/// new plan begins after it, without an interrupt.
void a_plan_that_fails_early_takes_nothing_away() {
  RuntimeOptions options;
  options.mode = "async";
  options.async.plan_ahead = 4;
  options.virtual_time = VirtualTime{.chunk = {1.5}, .plan = {0.5}};
  test::Policy policy(kSubgoalManifest,
                      {{"stub.fail_ppm", "1000000"},
                       {"stub.fault_stages", "2"},
                       {"stub.fault_period", "5"},
                       {"stub.fault_length", "1"}},
                      options);
  policy.reset();
  for (int i = 0; i < 20 && policy.runtime->telemetry().actions == 0; ++i) policy.tick();
  const Telemetry before = policy.runtime->telemetry();
  // When a plan begins, the three subgoals of the one before have had their four actions.
  std::int64_t begun = -1;
  std::uint64_t plans = 0;
  for (int i = 0; i < 300; ++i) {
    CHECK(policy.tick() == Status::ok);
    const PlanProgress now = policy.runtime->plan_progress();
    // Seen with its first subgoal or, where the next one is known by then, with a later one.
    const std::int64_t since = policy.runtime->telemetry().consumed - now.actions - 4 * now.subgoal;
    if (now.plans == plans || now.actions == 0) continue;
    CHECK(begun < 0 || since - begun >= 3 * 4);
    begun = since;
    plans = now.plans;
  }
  const Telemetry after = policy.runtime->telemetry();
  CHECK(after.plans_failed - before.plans_failed > 10 && after.plans - before.plans > 10);
  const auto interrupted = static_cast<std::size_t>(Cause::interrupted);
  CHECK(after.underruns[interrupted] == before.underruns[interrupted]);
}

}  // namespace

int main() {
  a_replan_that_is_answered_later(false);
  a_replan_that_is_answered_later(true);
  for (std::uint64_t seed = 1; seed <= 20; ++seed) replans_at_random(seed);
  subgoals_handed_in_stay();
  a_plan_that_fails_early_takes_nothing_away();
  return result();
}
