// What goes wrong in a hierarchy: bad episodes, plans with NaN, interrupts. Each has its message, and the
// loop goes on.
#include <atomic>
#include <thread>

#include "subgoal_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

void refused_text(Hierarchy& policy, const std::string& text, const std::string& message) {
  CHECK_THROWS(ArgumentError, message, policy.tell(text));
}

void refuses_texts_no_encoder_takes() {
  Hierarchy policy;
  refused_text(policy, "", "task: expected a task or an instruction, got none");
  refused_text(policy, " \t\n", "instruction: expected a task or an instruction, got white space only");
  refused_text(policy, "\u3000\u00a0\u2003", "got white space only");
  refused_text(policy, std::string(10000, 'a'), "instruction: expected at most 64 bytes, got 10000");
  refused_text(policy, std::string("a\0b", 3), "instruction: expected text, got a NUL at 1");
  for (const char* bytes :
       {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80", "\xf8\x88"}) {
    refused_text(policy, std::string("abc") + bytes, "instruction: expected UTF-8, got the byte 0x");
    refused_text(policy, std::string("abc") + bytes, " at 3");
  }
  refused_text(policy, std::string("abc\xe2\x82") + "d", "got the byte 0xE2 at 3");
  policy.tell(std::string(64, 'a'));  // exactly as long as allowed
  policy.tell("\u20ac \U0001F916 \u00fc");
  CHECK(policy.tick() == Status::ok);
}

void refuses_wrong_guidance() {
  Hierarchy policy, plain(unguided(kSubgoalManifest));
  for (const double lambda : {-1.0, std::nan(""), 1e39, 1e300}) {
    CHECK_THROWS(ArgumentError, "guidance: expected a value in [0, 1000000], got ", policy.reset(lambda));
  }
  CHECK_THROWS(ArgumentError,
               "guidance: expected 0 (the planner was trained without dropout of its text), got 3",
               plain.reset(3));
  plain.reset(0);
  CHECK(plain.tick() == Status::ok);
  Policy flat;
  CHECK_THROWS(ArgumentError, "guidance: expected none (the bundle has no planner)",
               flat.runtime->reset({.task = "lift", .guidance = 0}));
}

void refuses_wrong_subgoals() {
  Hierarchy policy;
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  const std::vector<float> good = {1, 2, 3}, nan = {1, std::nanf(""), 3}, two = {1, 2};
  const auto reset_with = [](Policy& to, const std::vector<std::vector<float>>& goals) {
    EpisodeContext context{.task = "push", .seed = 99};
    const std::vector<FeatureView> views(goals.begin(), goals.end());
    for (const FeatureView& view : views) context.subgoals.push_back({{&view, 1}});
    to.runtime->reset(context);
  };
  CHECK_THROWS(ArgumentError, "subgoals: expected 3, got 2", reset_with(policy, {good, good}));
  CHECK_THROWS(ArgumentError, "subgoals: expected 3, got 4", reset_with(policy, {good, good, good, good}));
  CHECK_THROWS(ArgumentError, "subgoals[2].state[1] (y): expected a finite value, got nan",
               reset_with(policy, {good, good, nan}));
  CHECK_THROWS(ArgumentError, "subgoals[1].state: expected 3 values, got 2",
               reset_with(policy, {good, two, good}));
  CHECK_THROWS(ArgumentError, "goal: expected none (the policy takes no goal), got one",
               policy.runtime->reset({"push", Observation(seen(kState))}));
  CHECK(policy.tick() == Status::ok);  // the episode before goes on
  check_plan(policy.plan(), imagined(policy.sampler(), 2, "Push it.", plan_key(0)));
  CHECK(policy.runtime->plan_progress().actions == 2);
  Policy flat;
  CHECK_THROWS(ArgumentError, "subgoals: expected none (the bundle has no planner), got 3",
               reset_with(flat, {good, good, good}));
}

void refuses_wrong_options() {
  const auto with = [](RuntimeOptions options, const std::string& manifest = kSubgoalManifest) {
    return Hierarchy(manifest, {}, std::move(options));
  };
  CHECK_THROWS(ArgumentError, "planner_steps: expected 0 (the manifest's) or 1..10, got 11",
               with({.planner_steps = 11}));
  CHECK_THROWS(ArgumentError, "planner_steps: expected", with({.planner_steps = -1}));
  CHECK_THROWS(ArgumentError, "planner_sampler: expected ddpm | ddim, got 'euler'",
               with({.planner_sampler = "euler"}));
  CHECK_THROWS(ArgumentError, "sampler: expected ddpm | ddim, got 'euler'", with({.sampler = "euler"}));
  const std::string none = ": expected none (the bundle has no planner), got ";
  CHECK_THROWS(ArgumentError, "planner_steps" + none + "5", with({.planner_steps = 5}, kManifest));
  CHECK_THROWS(ArgumentError, "planner_sampler" + none, with({.planner_sampler = "ddim"}, kManifest));
  CHECK_THROWS(ArgumentError, "replan" + none + "true", with({.replan = true}, kManifest));
}

void flat_policies_have_no_plans() {
  Policy policy;
  policy.reset();
  CHECK_THROWS(ArgumentError, "replan: expected a bundle with a planner, got family flat",
               policy.runtime->replan());
  std::vector<float> plan;
  CHECK(policy.runtime->plan_size() == 0 && !policy.runtime->plan(plan));
  CHECK(policy.runtime->predict_plan(seen(kState), {}, plan) == Status::bad_observation);
  CHECK(policy.runtime->last_error() == "plan: expected a bundle with a planner, got family flat");
}

void samplers_of_chunks_are_an_option() {
  Policy policy(kManifest, {}, {.inference_steps = 10, .sampler = "ddpm"});
  policy.reset();
  SamplerSpec spec = *policy.runtime->bundle().sampler;
  spec.kind = "ddpm";
  spec.inference_steps = 10;
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(spec, kStateMean + 1, {7, 1, 0, 0}), 0);
}

/// Runs of both denoise graphs are counted together: 2 a plan, 3 a chunk.
void survives_nan_and_failure() {
  Hierarchy policy(kSubgoalManifest, {{"stub.nan_at_run", "2"}, {"stub.fail_at_run", "3"}});
  policy.reset();
  CHECK(policy.tick() == Status::rejected_plan && holds(policy));
  CHECK(policy.runtime->last_error() == describe(Status::rejected_plan) && policy.plan().empty());
  CHECK(policy.runtime->latency().gate.rejected_plans == 1 && policy.runtime->latency().plans == 0);
  const PlanProgress none = policy.runtime->plan_progress();
  CHECK(none.plans == 0 && none.subgoal == 0 && none.actions == 0);
  CHECK(policy.tick() == Status::engine_failure && holds(policy));
  CHECK(policy.runtime->last_error() == "stub.fail_at_run 3");
  CHECK(policy.tick() == Status::ok);
  check_plan(policy.plan(), imagined(policy.sampler(), 2, "Push it.", plan_key(2)));
  CHECK(policy.runtime->plan_progress().plans == 1);
}

/// The plan may be why: whatever the controller makes of it, the loop is not stuck with it.
void a_rejected_chunk_drops_the_plan() {
  Hierarchy policy(kSubgoalManifest, {{"stub.nan_at_run", "4"}});
  policy.reset();
  CHECK(policy.tick() == Status::rejected_chunk);
  CHECK(policy.tick() == Status::ok);
  const auto plan = imagined(policy.sampler(), 2, "Push it.", plan_key(1));
  check_plan(policy.plan(), plan);
  check_action(policy.action, chunk_towards(policy, plan, 0, 1), 0);
}

/// The planner's units are so wide that what is finite in them is not in the controller's.
void refuses_infinite_subgoals() {
  std::string manifest = replaced(kSubgoalManifest, "\"std\": [1, 2, 4]", "\"std\": [0.1, 2, 4]");
  manifest = replaced(manifest, R"("min_max", "min": [-1, -2, -3], "max": [3, 6, 9])",
                      R"("mean_std", "mean": [0, 0, 0], "std": [1e19, 1e19, 1e19])");
  Hierarchy policy(manifest);
  policy.reset();
  const std::vector<float> far = {1e38f, 1e38f, 1e38f}, near = {1, 2, 3};
  CHECK(policy.runtime->tick(seen(far), policy.action) == Status::rejected_plan && holds(policy));
  CHECK(policy.plan().empty());
  CHECK(policy.tick() == Status::ok && policy.plan().size() == kPlanSize);

  EpisodeContext context{.task = "push"};
  const std::vector<float> farther(kState3, 3e38f);
  const FeatureView goals[] = {near, farther, near};
  for (const FeatureView& goal : goals) context.subgoals.push_back({{&goal, 1}});
  CHECK_THROWS(ArgumentError, "subgoals[1]: expected values that are finite once normalised, got Inf",
               policy.runtime->reset(context));
  CHECK(policy.tick() == Status::ok);
  CHECK_THROWS(BundleError,
               "planner.normalization: expected widths that the normalization of observation.state can",
               Hierarchy(replaced(manifest, "[1e19, 1e19, 1e19]", "[1e38, 1, 1]")));
}

void closes_while_the_plan_is_read() {
  for (int i = 0; i < 20; ++i) {
    Hierarchy policy;
    policy.reset();
    CHECK(policy.tick() == Status::ok);
    std::thread reader([&] {
      while (!policy.runtime->closed()) {
        policy.plan();
        policy.runtime->plan_progress();
        policy.runtime->plan_size();
      }
    });
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    policy.runtime->close();
    reader.join();
    CHECK(policy.plan().empty() && policy.runtime->plan_size() == kPlanSize);
    CHECK(policy.runtime->plan_progress().plans == 0);
    CHECK_THROWS(PolicyError, "the runtime is closed", policy.runtime->replan());
  }
}

void refuses_calls_that_come_too_early() {
  Hierarchy policy;
  std::vector<float> chunk(kChunk), plan(kPlanSize), few(2);
  CHECK(policy.runtime->predict_plan(seen(kState), {}, plan) == Status::not_reset);
  policy.reset();
  CHECK(policy.runtime->predict_chunk(seen(kState), {}, chunk) == Status::not_reset);
  CHECK(policy.runtime->last_error().find("subgoal: expected a plan") == 0);
  CHECK(policy.runtime->predict_plan(seen(few), {}, plan) == Status::bad_observation);
  CHECK(policy.runtime->last_error() == "observation.state: expected 3 values, got 2");
  CHECK(policy.runtime->predict_plan(seen(kState), few, plan) == Status::bad_observation);
  CHECK(policy.runtime->last_error() == "noise: expected 9 values, got 2");
  CHECK(policy.runtime->predict_plan(seen(kState), {}, few) == Status::bad_observation);
  CHECK(policy.runtime->last_error() == "plan: expected 9 values, got 2");
  CHECK(policy.tick() == Status::ok);
  policy.runtime->close();
  CHECK(policy.runtime->predict_plan(seen(kState), {}, plan) == Status::closed);
  CHECK(policy.plan().empty() && policy.runtime->plan_progress().plans == 0);
}

// ---- interrupts

void interrupt_keeps_the_plan() {
  Hierarchy policy;
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  const auto before = policy.plan();
  policy.runtime->interrupt();
  CHECK(policy.tick() == Status::ok);
  CHECK(policy.plan() == before && policy.runtime->latency().plans == 1);
  const auto plan = imagined(policy.sampler(), 2, "Push it.", plan_key(0));
  check_action(policy.action, chunk_towards(policy, plan, 0, 1), 0);
}

/// Interrupted while planning, the next tick plans anew, with new noise.
void interrupt_aborts_a_plan_in_flight() {
  Hierarchy policy(kSubgoalManifest, {{"stub.sleep_us", "50000"}});
  policy.reset();
  std::atomic<Status> first = Status::closed;
  std::thread loop([&] { first = policy.tick(); });
  while (first == Status::closed) {
    policy.runtime->interrupt();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  loop.join();
  CHECK(first == Status::interrupted && holds(policy) && policy.plan().empty());
  CHECK(policy.runtime->latency().plans == 0 && policy.runtime->latency().interrupts > 0);
  CHECK(policy.tick() == Status::ok);
  check_plan(policy.plan(), imagined(policy.sampler(), 2, "Push it.", plan_key(1)));
}

void replan_from_another_thread() {
  Hierarchy policy;
  policy.reset();
  std::atomic<bool> done = false;
  std::thread other([&] {
    while (!done) policy.runtime->replan();
  });
  // Used up, plans last 12 actions; some more are made as soon as the other thread runs.
  std::uint64_t ticks = 0;
  while (policy.runtime->latency().plans < ticks / 12 + 10) {
    CHECK(policy.tick() == Status::ok);
    ++ticks;
    std::this_thread::yield();
  }
  done = true;
  other.join();
  CHECK(policy.tick() == Status::ok);
}

}  // namespace

int main() {
  refuses_texts_no_encoder_takes();
  refuses_wrong_guidance();
  refuses_wrong_subgoals();
  refuses_wrong_options();
  flat_policies_have_no_plans();
  samplers_of_chunks_are_an_option();
  survives_nan_and_failure();
  a_rejected_chunk_drops_the_plan();
  refuses_infinite_subgoals();
  closes_while_the_plan_is_read();
  refuses_calls_that_come_too_early();
  interrupt_keeps_the_plan();
  interrupt_aborts_a_plan_in_flight();
  replan_from_another_thread();
  return result();
}
