// The family subgoal over the stub engine: every plan and every action is predicted by hand.
#include "subgoal_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// 4 actions towards each of 3 subgoals, in chunks of 3 (so the fourth is of a chunk cut short), then a new
/// plan.
void follows_plans(const std::string& manifest, RuntimeOptions options = {}) {
  Hierarchy policy(manifest, {}, options);
  policy.reset();
  SamplerSpec spec = policy.sampler();
  if (!options.planner_sampler.empty()) spec.kind = options.planner_sampler;
  if (options.planner_steps != 0) spec.inference_steps = options.planner_steps;
  CHECK(policy.plan().empty());
  std::uint32_t chunk = 0;
  for (std::uint32_t p = 0; p < 2; ++p) {
    const auto plan = imagined(spec, spec.guidance, "Push it.", plan_key(p));
    for (std::size_t m = 0; m < kSubgoals; ++m) {
      const auto first = chunk_towards(policy, plan, m, chunk++);
      const auto second = chunk_towards(policy, plan, m, chunk++);
      for (std::size_t k = 0; k < kSteps; ++k) {
        CHECK(policy.tick() == Status::ok);
        check_action(policy.action, k < 3 ? first : second, k % 3);
        const PlanProgress progress = policy.runtime->plan_progress();
        CHECK(progress.plans == p + 1 && progress.subgoal == static_cast<int>(m));
        CHECK(progress.actions == static_cast<std::int64_t>(k + 1));
      }
      check_plan(policy.plan(), plan);
    }
  }
  const LatencyReport report = policy.runtime->latency();
  CHECK(report.actions == 24 && report.plans == 2 && report.chunks == 12 && report.interrupts == 0);
  CHECK(report.stages[static_cast<int>(Stage::plan)].count == 2);
  const double planning = report.stages[static_cast<int>(Stage::plan)].mean_us * 2;
  CHECK(report.time_per_action_us * 24 >= planning);
}

void guidance_belongs_to_the_episode() {
  Hierarchy policy;
  for (const double lambda : {0.0, 5.0, 0.0, 0.5}) {
    policy.reset(lambda);
    CHECK(policy.tick() == Status::ok);
    check_plan(policy.plan(), imagined(policy.sampler(), lambda, "Push it.", plan_key(0)));
  }
  policy.reset();  // back to the manifest's
  CHECK(policy.tick() == Status::ok);
  check_plan(policy.plan(), imagined(policy.sampler(), 2, "Push it.", plan_key(0)));
}

void an_episode_says_what_it_is_about() {
  Hierarchy policy;
  Runtime& runtime = *policy.runtime;
  CHECK(runtime.about().empty() && needs_task(runtime.bundle()));
  for (const EpisodeContext& lift :
       {EpisodeContext{.task = "lift"}, {.task = "Lift it."}, {.instruction = "Lift it."}}) {
    runtime.reset(lift);
    CHECK(runtime.about() == "lift" && runtime.is_about("lift") && runtime.is_about("Lift it."));
    CHECK(!runtime.is_about("push") && !runtime.is_about("lift it.") && !runtime.is_about(""));
  }
  CHECK_THROWS(ArgumentError, "task: expected one of", runtime.reset({.task = "fly"}));
  CHECK(runtime.about() == "lift");  // the episode before goes on
  runtime.reset({.instruction = "Lift something."});
  CHECK(runtime.is_about("Lift something.") && !runtime.is_about("lift"));
  CHECK(runtime.session()->about().empty());
}

void a_task_is_known_and_an_instruction_is_any_sentence() {
  Hierarchy policy;
  const auto planned = [&](const EpisodeContext& about) {
    EpisodeContext context = about;
    context.seed = 7;
    context.episode = 1;
    policy.runtime->reset(context);
    CHECK(policy.tick() == Status::ok);
    return policy.plan();
  };
  CHECK(planned({.task = "lift"}) == planned({.task = "Lift it."}));
  CHECK(planned({.task = "lift"}) == planned({.instruction = "Lift it."}));
  CHECK(planned({.task = "lift"}) != planned({.task = "push"}));
  const std::string text = "H\u00f6her, \u4e0a\u3078!";
  check_plan(planned({.instruction = text}), imagined(policy.sampler(), 2, text, plan_key(0)));
  const auto before = policy.plan();
  CHECK_THROWS(
      ArgumentError,
      "task: expected one of lift, push (a sentence is given as instruction), got 'Lfit' (nearest: 'lift')",
      policy.reset({}, "Lfit"));
  CHECK_THROWS(ArgumentError,
               "task: expected one of lift, push (a sentence is given as instruction), got 'Lift it!",
               policy.reset({}, "Lift it!"));
  CHECK_THROWS(ArgumentError, "instruction: expected none beside a task, got 'Lift it.'",
               policy.runtime->reset({.task = "lift", .instruction = "Lift it."}));
  CHECK_THROWS(ArgumentError, "task: expected a task or an instruction, got none", policy.runtime->reset({}));
  CHECK(policy.plan() == before);  // the episode before goes on
}

void without_a_planner_an_instruction_is_that_of_a_task() {
  Policy flat;
  const auto first = [&](const EpisodeContext& context) {
    flat.runtime->reset(context);
    CHECK(flat.tick() == Status::ok);
    return flat.action.values;
  };
  CHECK(first({.task = "push"}) == first({.instruction = "Push it."}));
  CHECK(first({.task = "push"}) != first({.instruction = "Lift it."}));
  CHECK_THROWS(
      ArgumentError,
      "instruction: expected that of a task, word for word (the policy has no planner), got 'Push it' "
      "(nearest: 'Push it.')",
      flat.runtime->reset({.instruction = "Push it"}));
  CHECK_THROWS(ArgumentError, "task: expected one of lift, push, got 'pusj' (nearest: 'push')",
               flat.runtime->reset({.task = "pusj"}));
}

void subgoals_need_no_task() {
  Hierarchy policy;
  const std::vector<float> goal = {1, 2, 3};
  EpisodeContext context;
  const FeatureView view = goal;
  context.subgoals.assign(3, {{&view, 1}});
  policy.runtime->reset(context);
  CHECK(policy.tick() == Status::ok);
  std::vector<float> plan(policy.runtime->plan_size());
  CHECK(policy.runtime->predict_plan(seen(kState), {}, plan) == Status::not_reset);
  CHECK(policy.runtime->last_error() ==
        "task: expected a task or an instruction given to reset, got subgoals alone");
}

void without_replanning_the_last_subgoal_stays() {
  Hierarchy policy(kSubgoalManifest, {}, {.replan = false});
  policy.reset();
  for (int i = 0; i < 12; ++i) CHECK(policy.tick() == Status::ok);
  const auto plan = imagined(policy.sampler(), 2, "Push it.", plan_key(0));
  // The last subgoal's second chunk goes on: nothing has changed.
  const auto going = chunk_towards(policy, plan, 2, 5), next = chunk_towards(policy, plan, 2, 6);
  for (std::size_t k = 1; k < 6; ++k) {
    CHECK(policy.tick() == Status::ok);
    check_action(policy.action, k < 3 ? going : next, k % 3);
  }
  CHECK(policy.runtime->plan_progress().subgoal == 2 && policy.runtime->latency().plans == 1);
  policy.runtime->replan();  // asked for, a plan is made all the same
  CHECK(policy.tick() == Status::ok);
  check_plan(policy.plan(), imagined(policy.sampler(), 2, "Push it.", plan_key(1)));
}

void replan_makes_a_new_plan_at_once() {
  Hierarchy policy;
  policy.reset();
  for (int i = 0; i < 2; ++i) CHECK(policy.tick() == Status::ok);
  policy.runtime->replan();
  CHECK(policy.tick() == Status::ok);
  const auto plan = imagined(policy.sampler(), 2, "Push it.", plan_key(1));
  check_plan(policy.plan(), plan);
  check_action(policy.action, chunk_towards(policy, plan, 0, 1), 0);
  const PlanProgress progress = policy.runtime->plan_progress();
  CHECK(progress.plans == 2 && progress.subgoal == 0 && progress.actions == 1);
  policy.runtime->replan();
  policy.reset();  // an episode starts with nothing asked
  CHECK(policy.tick() == Status::ok && policy.tick() == Status::ok);
  CHECK(policy.runtime->plan_progress().plans == 1);
}

void subgoals_from_outside() {
  Hierarchy policy;
  const std::vector<std::vector<float>> goals = {{1, 2, 3}, {0, 0, 0}, {5, 4, 3}};
  EpisodeContext context{.task = "push", .seed = 7, .episode = 1};
  const std::vector<FeatureView> views(goals.begin(), goals.end());
  for (const FeatureView& view : views) context.subgoals.push_back({{&view, 1}});
  policy.runtime->reset(context);
  const std::vector<double> plan = {1, 2, 3, 0, 0, 0, 5, 4, 3};
  check_plan(policy.plan(), plan);
  std::vector<float> chunk(kChunk);  // the first is the controller's goal before any tick
  CHECK(policy.runtime->predict_chunk(seen(kState), {}, chunk) == Status::ok);
  const auto wanted = chunk_towards(policy, plan, 0, 0);
  for (std::size_t i = 0; i < kChunk; ++i) CHECK_NEAR(chunk[i], wanted[i], 1e-5);
  for (std::uint32_t m = 0; m < 3; ++m) {
    const auto first = chunk_towards(policy, plan, m, 2 * m);
    for (std::size_t k = 0; k < kSteps; ++k) {
      CHECK(policy.tick() == Status::ok);
      if (k < 3) check_action(policy.action, first, k);
    }
  }
  policy.runtime->replan();  // nobody to ask
  for (int i = 0; i < 5; ++i) CHECK(policy.tick() == Status::ok);
  CHECK(policy.runtime->plan_progress().subgoal == 2 && policy.runtime->latency().plans == 0);
  policy.reset();  // and the next episode plans again
  CHECK(policy.tick() == Status::ok && policy.runtime->latency().plans == 1);
}

void predict_plan_changes_nothing() {
  Hierarchy policy, other;
  policy.reset();
  other.reset();
  std::vector<float> plan(kPlanSize), noise(kPlanSize);
  fill_normal({99, 0, 0, 0}, noise);
  CHECK(policy.runtime->plan_size() == kPlanSize);
  for (int i = 0; i < 20; ++i) {
    CHECK(policy.runtime->predict_plan(seen(kState), noise, plan) == Status::ok);
    check_plan(plan, imagined(policy.sampler(), 2, "Push it.", {99, 0, 0, 0}));
    CHECK(policy.tick() == Status::ok && other.tick() == Status::ok);
    CHECK(policy.action.values == other.action.values && policy.plan() == other.plan());
  }
  policy.reset();
  CHECK(policy.runtime->predict_plan(seen(kState), {}, plan) == Status::ok);
  CHECK(policy.tick() == Status::ok);
  for (std::size_t i = 0; i < kPlanSize; ++i) CHECK_NEAR(plan[i], policy.plan()[i], 1e-5);
  CHECK(policy.runtime->latency().plans == 3);
}

void episodes_are_reproducible() {
  const auto rollout = [](Hierarchy& policy, std::uint64_t seed, std::uint32_t episode) {
    policy.runtime->reset({.seed = seed, .episode = episode, .instruction = "any words"});
    std::vector<float> all;
    for (int i = 0; i < 30; ++i) {
      const std::vector<float> state = {static_cast<float>(i), 1, 2};
      CHECK(policy.runtime->tick(seen(state), policy.action) == Status::ok);
      all.insert(all.end(), policy.action.values.begin(), policy.action.values.end());
    }
    return all;
  };
  Hierarchy first, second;
  const auto actions = rollout(first, 3, 4);
  CHECK(actions == rollout(first, 3, 4) && actions == rollout(second, 3, 4));
  CHECK(actions != rollout(first, 3, 5) && actions != rollout(first, 4, 4));
}

/// Image subgoals: planner and controller normalise their bytes differently, and each channel its own way.
void image_plans_reach_the_controller() {
  std::string camera = replaced(kCamera, "images.static", "images.top");
  camera = replaced(camera, "[2, 3, 3]", "[2, 2, 3]");
  camera = replaced(camera, "\"resize\": false", "\"resize\": true");
  camera = replaced(replaced(camera, "[0.5, 0, 0]", "[0.5, 0.4, 0.3]"), "[0.5, 1, 1]", "[0.5, 1, 2]");
  const std::string manifest = with_feature(
      kManifest, camera,
      R"({"name": "image", "dtype": "float32", "shape": [1, 3, 2, 2], "role": "observation.images.top"})");
  std::string planner = replaced(kPlanner, "observation.state", "observation.images.top");
  planner = replaced(planner, "[-1, -2, -3]", "[0, 0, 0]");
  planner = replaced(planner, "[3, 6, 9]", "[1, 1, 2]");
  std::string graphs = kPlannerGraphs;
  graphs = replaced(graphs, R"("shape": [1, 3], "role": "observation.state")",
                    R"("shape": [1, 3, 2, 2], "role": "observation.images.top")");
  for (int i = 0; i < 2; ++i) graphs = replaced(graphs, "[2, 3, 3]", "[2, 3, 3, 2, 2]");
  Hierarchy policy(with_planner(
      manifest, planner, graphs,
      R"({"name": "goal_image", "dtype": "float32", "shape": [1, 3, 2, 2], "role": "goal.images.top"})"));
  policy.reset();
  const std::vector<std::uint8_t> grey(4 * 4 * 3, 51);  // 0.2; of another size, but all one colour
  const FeatureView image(grey.data(), 4, 4);
  CHECK(policy.runtime->tick(seen(kState, image), policy.action) == Status::ok);
  const auto plan = policy.plan();
  CHECK(plan.size() == 3 * 3 * 4);
  double bias = kStateMean;  // the stub adds the mean of every input
  const std::vector<double> mean = {0.5, 0.4, 0.3}, deviation = {0.5, 1, 2};
  for (std::size_t c = 0; c < 3; ++c) {
    bias += (0.2 - mean[c]) / deviation[c] / 3;
    for (std::size_t i = 0; i < 4; ++i) bias += (plan[c * 4 + i] - mean[c]) / deviation[c] / 12;
  }
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, bias, {7, 1, 0, 0}), 0);

  EpisodeContext context{.task = "push"};
  const FeatureView colour[] = {{}, image};  // of a subgoal only its own feature is read
  context.subgoals.assign(3, {colour});
  policy.runtime->reset(context);
  for (const float value : policy.plan()) CHECK_NEAR(value, 0.2, 1e-6);
  const FeatureView huge(grey.data(), 20000, 4);
  CHECK(policy.runtime->tick(seen(kState, huge), policy.action) == Status::bad_observation);
  CHECK(policy.runtime->last_error().find(
            "observation.images.top: expected height x width x 3 of 1..16384 pixels a side") == 0);
}

void one_step_controllers() {
  Policy policy(one_step(kManifest));
  policy.reset();
  for (std::size_t k = 0; k < 6; ++k) {
    CHECK(policy.tick() == Status::ok);
    const double whole = kStateMean + 1 + 0.01 * static_cast<double>(k % 3);  // task 1, row k % 3
    CHECK_NEAR(policy.action.values[0], (whole + 1) / 2 * 4 - 2, 1e-5);
  }
  const LatencyReport report = policy.runtime->latency();
  CHECK(report.chunks == 2 && report.stages[static_cast<int>(Stage::encode)].count == 2);
  CHECK(report.stages[static_cast<int>(Stage::denoise)].count == 0);
  std::vector<float> chunk(kChunk), noise(kChunk);
  CHECK(policy.runtime->predict_chunk(seen(kState), noise, chunk) == Status::bad_observation);
  CHECK(policy.runtime->last_error() ==
        "noise: expected none (the controller is one graph, act), got 8 values");
  CHECK_THROWS(ArgumentError, "inference_steps: expected 0 (the controller is one graph, act), got 5",
               Policy(one_step(kManifest), {}, {.inference_steps = 5}));
  CHECK_THROWS(ArgumentError, "sampler: expected none (the controller is one graph, act), got 'ddpm'",
               Policy(one_step(kManifest), {}, {.sampler = "ddpm"}));
}

}  // namespace

int main() {
  follows_plans(kSubgoalManifest);
  follows_plans(unguided(kSubgoalManifest));
  follows_plans(with_both_films(kSubgoalManifest));
  follows_plans(kSubgoalManifest, {.planner_steps = 10, .planner_sampler = "ddpm"});
  follows_plans(kSubgoalManifest, {.planner_steps = 7});
  guidance_belongs_to_the_episode();
  an_episode_says_what_it_is_about();
  a_task_is_known_and_an_instruction_is_any_sentence();
  without_a_planner_an_instruction_is_that_of_a_task();
  subgoals_need_no_task();
  without_replanning_the_last_subgoal_stays();
  replan_makes_a_new_plan_at_once();
  subgoals_from_outside();
  predict_plan_changes_nothing();
  episodes_are_reproducible();
  image_plans_reach_the_controller();
  one_step_controllers();
  return result();
}
