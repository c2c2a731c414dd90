// Virtual time: what an interrupt ends has drawn its noise, as with threads and in lockstep.
#include "loop/runtime_internals.hpp"
#include "subgoal_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

RuntimeOptions taking(const VirtualTime& time) {
  RuntimeOptions options;
  options.mode = "async";
  options.async.merge = "replace";
  options.virtual_time = time;
  return options;
}

/// Begins, is interrupted `times` times in the midst of it, and goes on until it acts.
void interrupted(test::Policy& policy, int times) {
  policy.reset();
  for (int i = 0; i < times; ++i) {
    policy.tick();
    policy.runtime->interrupt();
  }
  for (int i = 0; i < 40 && policy.runtime->telemetry().actions == 0; ++i) policy.tick();
  CHECK(policy.runtime->telemetry().actions == 1);
}

/// In lockstep, what comes after so many that were made.
void an_abandoned_chunk_has_drawn_its_noise() {
  std::vector<std::vector<float>> seen;
  for (const int times : {0, 1, 2}) {
    test::Policy lockstep;
    lockstep.reset();
    for (int i = 0; i < times; ++i) {
      CHECK(lockstep.tick() == Status::ok);
      lockstep.runtime->interrupt();
    }
    std::vector<float> chunk(kChunk);
    CHECK(lockstep.runtime->predict_chunk(test::seen(kState), {}, chunk) == Status::ok);
    test::Policy timed(kManifest, {}, taking({.chunk = {3}}));
    interrupted(timed, times);
    chunk.resize(timed.action.values.size());
    CHECK(timed.action.values == chunk);
    seen.push_back(chunk);
  }
  CHECK(seen[0] != seen[1] && seen[1] != seen[2]);
}

void an_abandoned_plan_has_drawn_its_noise() {
  std::vector<std::vector<float>> seen;
  for (const int times : {0, 1, 2}) {
    test::Policy lockstep(kSubgoalManifest);
    lockstep.reset();
    for (int i = 0; i < times; ++i) {
      CHECK(lockstep.tick() == Status::ok);
      lockstep.runtime->replan();
    }
    std::vector<float> wanted(kPlanSize), plan(kPlanSize);
    CHECK(lockstep.tick() == Status::ok && lockstep.runtime->plan(wanted));
    test::Policy timed(kSubgoalManifest, {}, taking({.chunk = {1}, .plan = {5}}));
    interrupted(timed, times);
    CHECK(timed.runtime->plan(plan) && plan == wanted);
    CHECK(timed.runtime->telemetry().plans == 1 && timed.runtime->telemetry().plans_failed == 0);
    seen.push_back(plan);
  }
  CHECK(seen[0] != seen[1] && seen[1] != seen[2]);
}

}  // namespace

int main() {
  an_abandoned_chunk_has_drawn_its_noise();
  an_abandoned_plan_has_drawn_its_noise();
  return result();
}
