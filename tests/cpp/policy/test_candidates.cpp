// Several plans for one observation over the stub engine: their noise, which one is followed, and why.
#include <algorithm>
#include <cmath>
#include <thread>

#include "device_engine.hpp"
#include "loop/runtime_internals.hpp"
#include "policy/planner.hpp"
#include "subgoal_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// What `candidates` writes, in memory of its own.
struct Tried {
  explicit Tried(const Runtime& runtime)
      : plans(runtime.plan_size() * static_cast<std::size_t>(runtime.options().planner_candidates)),
        scores(static_cast<std::size_t>(runtime.options().planner_candidates)),
        view{plans, scores} {}
  std::vector<float> plan(int index) const {
    const auto first =
        plans.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(index) * kPlanSize);
    return {first, first + kPlanSize};
  }
  std::vector<float> plans, scores;
  PlanCandidates view;
};

Tried followed(const Hierarchy& policy) {
  Tried tried(*policy.runtime);
  CHECK(policy.runtime->candidates(tried.view));
  return tried;
}

/// In the planner's network units.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = planner_value(a[i], i % kState3) - planner_value(b[i], i % kState3);
    sum += difference * difference;
  }
  return std::sqrt(sum);
}

double mean_distance(const Tried& tried, int index) {
  const int count = static_cast<int>(tried.scores.size());
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += distance(tried.plan(index), tried.plan(i));
  return sum / (count - 1);
}

/// Mean of the plan in network units, and what all candidates have in common.
double learned_score(const std::vector<float>& plan) {
  double mean = 0, seen = 0;
  for (std::size_t i = 0; i < kPlanSize; ++i) mean += planner_value(plan[i], i % kState3) / kPlanSize;
  for (std::size_t d = 0; d < kState3; ++d) seen += planner_value(kState[d], d) / 3;
  return mean + seen;
}

/// Every candidate has the noise of its number, and the first that of a plan alone; plan after plan.
void candidates_draw_noise_of_their_own(const std::string& manifest, double lambda, RuntimeOptions options) {
  Hierarchy alone(manifest, {}, options);
  options.planner_candidates = 5;
  Hierarchy policy(manifest, {}, options);
  SamplerSpec spec = policy.sampler();
  if (!options.planner_sampler.empty()) spec.kind = options.planner_sampler;
  if (options.planner_steps != 0) spec.inference_steps = options.planner_steps;
  alone.reset(lambda);
  policy.reset(lambda);
  for (std::uint32_t p = 0; p < 3; ++p) {
    alone.runtime->replan();
    policy.runtime->replan();
    CHECK(alone.tick() == Status::ok && policy.tick() == Status::ok);
    const Tried tried = followed(policy);
    for (std::uint32_t i = 0; i < 5; ++i) {
      check_plan(tried.plan(static_cast<int>(i)), imagined(spec, lambda, "Push it.", plan_key(p), i));
    }
    CHECK(tried.plan(0) == alone.plan());
    CHECK(tried.plan(tried.view.chosen) == policy.plan());
  }
  CHECK(policy.runtime->latency().stages[static_cast<int>(Stage::score)].count == 3);
  CHECK(policy.runtime->latency().stages[static_cast<int>(Stage::plan)].count == 3);
  CHECK(alone.runtime->latency().stages[static_cast<int>(Stage::score)].count == 0);
}

void the_medoid_is_followed() {
  for (const int count : {2, 3, 7, 16}) {
    Hierarchy policy(scored(kSubgoalManifest), {}, {.planner_candidates = count, .planner_score = "density"});
    policy.reset();
    CHECK(policy.tick() == Status::ok);
    const Tried tried = followed(policy);
    for (int i = 0; i < count; ++i) {
      CHECK_NEAR(tried.scores[static_cast<std::size_t>(i)], -mean_distance(tried, i), 1e-4);
    }
    const auto best = std::ranges::max_element(tried.scores);
    CHECK(tried.view.chosen == best - tried.scores.begin());
  }
}

/// Of equal scores the first: two plans are as far from each other as from themselves.
void equal_scores_take_the_first() {
  Hierarchy policy(kSubgoalManifest, {}, {.planner_candidates = 2});
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  const Tried tried = followed(policy);
  CHECK(tried.scores[0] == tried.scores[1] && tried.view.chosen == 0);
}

void the_learned_score_decides(const std::string& manifest) {
  Hierarchy policy(manifest, {}, {.planner_candidates = 8});  // learned unasked: there is a scorer
  CHECK(policy.runtime->options().planner_score == "learned");
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  const Tried tried = followed(policy);
  const double common = tried.scores[0] - learned_score(tried.plan(0));  // of the text
  CHECK(std::abs(common) > 1e-3);
  for (int i = 0; i < 8; ++i) {
    CHECK_NEAR(tried.scores[static_cast<std::size_t>(i)], learned_score(tried.plan(i)) + common, 1e-5);
  }
  CHECK(tried.view.chosen == std::ranges::max_element(tried.scores) - tried.scores.begin());
  CHECK(tried.view.chosen != 0);  // of this seed: that the first is followed proves nothing
}

/// Candidate 0 has a NaN in it.
void what_is_no_number_is_never_followed() {
  for (const char* score : {"density", "learned"}) {
    Hierarchy policy(scored(kSubgoalManifest), {{"stub.nan_at_run", "1"}},
                     {.planner_candidates = 4, .planner_score = score});
    policy.reset();
    CHECK(policy.tick() == Status::ok);
    const Tried tried = followed(policy);
    CHECK(std::isnan(tried.scores[0]) && tried.view.chosen > 0);
    for (int i = 1; i < 4; ++i) CHECK(std::isfinite(tried.scores[static_cast<std::size_t>(i)]));
  }
}

/// Of a single plan there is nothing to compare.
void a_single_plan_has_no_score() {
  Hierarchy policy(scored(kSubgoalManifest));
  Tried none(*policy.runtime);
  CHECK(!policy.runtime->candidates(none.view));
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  const Tried tried = followed(policy);
  CHECK(tried.plan(0) == policy.plan() && std::isnan(tried.scores[0]) && tried.view.chosen == 0);
}

/// What predict_candidates gives is what the next plan is chosen from; of the episode nothing changes.
void candidates_are_predicted() {
  Hierarchy policy(scored(kSubgoalManifest), {}, {.planner_candidates = 6});
  policy.reset();
  Tried predicted(*policy.runtime);
  std::string message;
  CHECK(policy.runtime->predict_candidates(seen(kState), {}, predicted.view, &message) == Status::ok);
  Tried none(*policy.runtime);
  CHECK(!policy.runtime->candidates(none.view));
  CHECK(policy.tick() == Status::ok);
  const Tried tried = followed(policy);
  for (std::size_t i = 0; i < tried.plans.size(); ++i) CHECK_NEAR(tried.plans[i], predicted.plans[i], 1e-5);
  CHECK(tried.scores == predicted.scores);
  CHECK(tried.view.chosen == predicted.view.chosen);
  // As noise handed in it gives the same once more.
  std::vector<float> noise(6 * kPlanSize), plan(kPlanSize);
  for (std::uint32_t i = 0; i < 6; ++i) {
    NoiseKey key = plan_key(0);
    key.step = step_of_candidate(i, 0);
    fill_normal(key, std::span(noise).subspan(i * kPlanSize, kPlanSize));
  }
  const auto drawn = predicted.plans;
  CHECK(policy.runtime->predict_candidates(seen(kState), noise, predicted.view) == Status::ok);
  CHECK(drawn == predicted.plans);
  CHECK(policy.runtime->predict_plan(seen(kState), noise, plan) == Status::ok);
  CHECK(plan == predicted.plan(predicted.view.chosen));
  noise.resize(kPlanSize);
  CHECK(policy.runtime->predict_plan(seen(kState), noise, plan, &message) == Status::bad_observation);
  CHECK(message == "noise: expected 54 values, got 9");
  predicted.view.scores = predicted.view.scores.first(5);
  CHECK(policy.runtime->predict_candidates(seen(kState), {}, predicted.view, &message) ==
        Status::bad_observation);
  CHECK(message == "scores: expected 6 values, got 5");
}

void subgoals_handed_in_have_no_candidates() {
  Hierarchy policy(kSubgoalManifest, {}, {.planner_candidates = 3});
  const std::vector<FeatureView> view = {FeatureView(kState)};
  policy.runtime->reset({.subgoals = {{.features = view}, {.features = view}, {.features = view}}});
  CHECK(policy.tick() == Status::ok);
  Tried none(*policy.runtime);
  CHECK(!policy.runtime->candidates(none.view) && !policy.plan().empty());
}

/// Guidance may change from episode to episode: what all rows see is made anew.
void episodes_of_other_guidance_and_text() {
  Hierarchy policy(kSubgoalManifest, {}, {.planner_candidates = 3});
  for (const double lambda : {2.0, 0.0, 5.0, 0.0, 0.0, 1.0}) {
    for (const char* task : {"push", "lift"}) {
      policy.reset(lambda, task);
      for (std::uint32_t p = 0; p < 2; ++p) {
        policy.runtime->replan();
        CHECK(policy.tick() == Status::ok);
        const Tried tried = followed(policy);
        const char* told = *task == 'p' ? "Push it." : "Lift it.";
        for (std::uint32_t i = 0; i < 3; ++i) {
          check_plan(tried.plan(static_cast<int>(i)),
                     imagined(policy.sampler(), lambda, told, plan_key(p), i));
        }
      }
    }
  }
}

/// On a device all is carried over that its graphs read.
void candidates_on_a_device() {
  Traffic traffic;
  const TemporaryFolder folder;
  write_bundle(folder.path(), scored(kSubgoalManifest));
  const auto on_device = [&](const EngineOptions& options) {
    return std::make_unique<DeviceEngine>(options, traffic);
  };
  RuntimeOptions options{.planner_candidates = 4};
  options.engine.engine = "stub";
  const auto runtime = RuntimeInternals::open(folder.path(), options, &make_planner, on_device);
  Hierarchy host(scored(kSubgoalManifest), {}, {.planner_candidates = 4});
  host.reset();
  runtime->reset({.task = "push", .seed = 7, .episode = 1});
  Action action = runtime->make_action();
  Tried there(*runtime);
  for (int p = 0; p < 2; ++p) {
    host.runtime->replan();
    runtime->replan();
    CHECK(host.tick() == Status::ok && runtime->tick(seen(kState), action) == Status::ok);
    const Tried here = followed(host);
    CHECK(runtime->candidates(there.view));
    CHECK(here.plans == there.plans && here.scores == there.scores);
  }
  traffic.fails = true;
  runtime->replan();
  CHECK(runtime->tick(seen(kState), action) == Status::engine_failure);
}

/// Interrupted in mid-plan there is no plan and are no candidates; the next tick tries with other noise.
void an_interrupt_ends_candidates() {
  Hierarchy policy(scored(kSubgoalManifest), {{"stub.sleep_us", "30000"}}, {.planner_candidates = 4});
  policy.reset();
  std::atomic<Status> first = Status::closed;
  std::thread loop([&] { first = policy.tick(); });
  while (first == Status::closed) {
    policy.runtime->interrupt();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  loop.join();
  Tried none(*policy.runtime);
  CHECK(first == Status::interrupted && !policy.runtime->candidates(none.view));
  CHECK(policy.tick() == Status::ok);
  check_plan(followed(policy).plan(3), imagined(policy.sampler(), 2, "Push it.", plan_key(1), 3));
}

/// Asked at every opportunity, and gives up at the one told.
struct Impatient final : Attendant {
  void begin() noexcept override {}
  void end() noexcept override {}
  bool gives_up() noexcept override {
    runtime->call_attention(false);
    return ++asked == at;
  }
  Runtime* runtime = nullptr;
  int asked = 0, at = 0;
};

/// Whatever a plan is at, it ends when it is told to, and leaves nothing half done; scoring included.
void every_step_can_be_interrupted(const char* score) {
  const auto impatient = std::make_shared<Impatient>();
  Hierarchy policy(scored(kSubgoalManifest), {},
                   {.planner_candidates = 4, .planner_score = score, .attendant = impatient});
  impatient->runtime = policy.runtime.get();
  policy.reset();
  Tried tried(*policy.runtime), none(*policy.runtime);
  const auto attempt = [&](int at) {
    impatient->asked = 0;
    impatient->at = at;
    policy.runtime->call_attention(false);
    policy.runtime->reset_latency();
    return policy.tick();
  };
  CHECK(attempt(0) == Status::ok);
  const int chances = impatient->asked;
  int scoring = 0;
  for (int at = 1; at <= chances; ++at) {
    policy.runtime->replan();
    CHECK(attempt(at) == Status::interrupted);
    const bool has_plan = policy.runtime->candidates(none.view);  // then the controller was at work
    scoring += !has_plan && policy.runtime->latency().stages[static_cast<int>(Stage::score)].count == 1;
  }
  CHECK(scoring >= (*score == 'd' ? 4 : 1));
  policy.runtime->replan();
  CHECK(attempt(0) == Status::ok);
  CHECK(policy.runtime->candidates(tried.view) && tried.plan(tried.view.chosen) == policy.plan());
}

void refusals() {
  const auto refused = [](const std::string& manifest, const RuntimeOptions& options, const char* message) {
    CHECK_THROWS(ArgumentError, message, Hierarchy(manifest, {}, options));
  };
  refused(kSubgoalManifest, {.planner_candidates = 0}, "planner_candidates: expected 1..256, got 0");
  refused(kSubgoalManifest, {.planner_candidates = 257}, "planner_candidates: expected 1..256, got 257");
  refused(kManifest, {.planner_candidates = 2},
          "planner_candidates: expected none (the bundle has no planner), got 2");
  refused(kManifest, {.planner_score = "density"},
          "planner_score: expected none (the bundle has no planner), got 'density'");
  refused(kSubgoalManifest, {.planner_candidates = 2, .planner_score = "learned"},
          "planner_score: expected density (the bundle has no scorer), got 'learned'");
  refused(kSubgoalManifest, {.planner_score = "density"},
          "planner_score: expected none (planner_candidates is 1), got 'density'");
  refused(scored(kSubgoalManifest), {.planner_candidates = 2, .planner_score = "best"},
          "planner_score: expected learned | density, got 'best'");
}

}  // namespace

int main() {
  for (const double lambda : {2.0, 0.0}) {
    candidates_draw_noise_of_their_own(kSubgoalManifest, lambda, {});
    candidates_draw_noise_of_their_own(with_both_films(kSubgoalManifest), lambda, {});
    candidates_draw_noise_of_their_own(kSubgoalManifest, lambda,
                                       {.planner_steps = 10, .planner_sampler = "ddpm"});
  }
  candidates_draw_noise_of_their_own(unguided(kSubgoalManifest), 0, {});
  the_medoid_is_followed();
  equal_scores_take_the_first();
  the_learned_score_decides(scored(kSubgoalManifest));
  the_learned_score_decides(unguided(scored(kSubgoalManifest)));
  what_is_no_number_is_never_followed();
  a_single_plan_has_no_score();
  candidates_are_predicted();
  subgoals_handed_in_have_no_candidates();
  episodes_of_other_guidance_and_text();
  candidates_on_a_device();
  an_interrupt_ends_candidates();
  for (const char* score : {"density", "learned"}) every_step_can_be_interrupted(score);
  refusals();
  return result();
}
