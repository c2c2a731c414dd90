// A policy of the family subgoal: plans of 3 subgoals, 4 actions on each, DDIM with 2 of 10 steps, guidance.
#pragma once

#include "policy_fixture.hpp"

namespace keystep::test {

constexpr std::size_t kSubgoals = 3, kSteps = 4, kState3 = 3, kPlanSize = kSubgoals * kState3;

inline const std::string kPlanner = R"({
    "subgoals": 3, "steps_per_subgoal": 4, "replan": true, "guided": true, "subgoal": "observation.state",
    "normalization": {"mode": "min_max", "min": [-1, -2, -3], "max": [3, 6, 9]},
    "sampler": {"kind": "ddim", "train_steps": 10, "inference_steps": 2, "beta_schedule": "squaredcos_cap_v2",
                "beta_start": 0.0001, "beta_end": 0.02, "betas": [], "prediction": "v_prediction",
                "clip_sample": false, "clip_range": 1.0, "timestep_rule": "hd_expit", "steps_offset": 0,
                "set_alpha_to_one": true, "eta": 0.0, "guidance": 2.0, "noise": "philox4x32-10"},
    "text": {"encoder": "test", "max_bytes": 64}, "unet": null})";

inline const std::string kPlannerGraphs = R"(
    "text": {"file": "text.onnx", "sha256": "HASH_OF_TEXT",
      "inputs": [{"name": "text", "dtype": "string", "shape": [1], "role": "text"}],
      "outputs": [{"name": "goal_text", "dtype": "float32", "shape": [2, 5], "role": "condition"}]},
    "plan_encode": {"file": "plan_encode.onnx", "sha256": "HASH_OF_PLAN_FILM",
      "inputs": [{"name": "plan.state", "dtype": "float32", "shape": [1, 3], "role": "observation.state"},
                 {"name": "goal_text", "dtype": "float32", "shape": [2, 5], "role": "condition"}],
      "outputs": [{"name": "plan_film", "dtype": "float32", "shape": [2, 4], "role": "condition"}]},
    "plan_denoise": {"file": "plan_denoise.onnx", "sha256": "HASH_OF_PLAN_STEP",
      "inputs": [{"name": "plan.sample", "dtype": "float32", "shape": [2, 3, 3], "role": "sample"},
                 {"name": "plan.t", "dtype": "int64", "shape": [1], "role": "timestep"},
                 {"name": "goal_text", "dtype": "float32", "shape": [2, 5], "role": "condition"},
                 {"name": "plan_film", "dtype": "float32", "shape": [2, 4], "role": "condition"}],
      "outputs": [{"name": "plan.out", "dtype": "float32", "shape": [2, 3, 3], "role": "model_output"}]},)";

/// Family, goal, planner and its graphs; the controller loses its task and takes `goal`.
inline std::string with_planner(std::string manifest, const std::string& planner, const std::string& graphs,
                                const std::string& goal) {
  manifest = replaced(manifest, "\"planner\": null", "\"planner\": " + planner);
  manifest = replaced(manifest, "\"family\": \"flat\"", "\"family\": \"subgoal\"");
  manifest = replaced(manifest, "\"goal\": \"none\"", "\"goal\": \"text\"");
  manifest = replaced(manifest, R"({"name": "task", "dtype": "int64", "shape": [1], "role": "task"})", goal);
  return replaced(manifest, "\"graphs\": {", "\"graphs\": {" + graphs);
}

inline const std::string kSubgoalManifest =
    with_planner(kManifest, kPlanner, kPlannerGraphs,
                 R"({"name": "goal_state", "dtype": "float32", "shape": [1, 3], "role": "goal.state"})");

/// The FiLM projections, of plans and of chunks, as graphs of their own.
inline std::string with_both_films(const std::string& manifest) {
  const std::string film =
      R"({"name": "plan_film", "dtype": "float32", "shape": [2, 4], "role": "condition"}]})";
  const std::string condition =
      R"({"name": "plan_condition", "dtype": "float32", "shape": [2, 3], "role": "condition"}])";
  return replaced(with_film(manifest), film, condition + R"(},
    "plan_film": {"file": "plan_film.onnx", "sha256": "HASH_OF_LAST_OF_PLAN",
      "inputs": [)" + condition + R"(,
      "outputs": [)" + film);
}

/// With a graph that says which plan is best.
inline std::string scored(const std::string& manifest) {
  const std::string graphs = replaced(manifest, "\"graphs\": {", R"("graphs": {
    "score": {"file": "score.onnx", "sha256": "HASH_OF_SCORE",
      "inputs": [{"name": "plan.state", "dtype": "float32", "shape": [1, 3], "role": "observation.state"},
                 {"name": "goal_text", "dtype": "float32", "shape": [2, 5], "role": "condition"},
                 {"name": "score.sample", "dtype": "float32", "shape": [1, 3, 3], "role": "sample"}],
      "outputs": [{"name": "score.score", "dtype": "float32", "shape": [1], "role": "score"}]},)");
  return replaced(graphs, "\"max_bytes\": 64}", R"("max_bytes": 64}, "scorer": {"plans": 100, "auc": 0.75})");
}

/// Without the rows of the null condition.
inline std::string unguided(std::string manifest) {
  manifest = replaced(manifest, "\"guided\": true", "\"guided\": false");
  manifest = replaced(manifest, "\"guidance\": 2.0", "\"guidance\": 0.0");
  for (const char* shape : {"[2, 5]", "[2, 4]", "[2, 3, 3]"}) {
    while (manifest.find(shape) != std::string::npos) {
      manifest = replaced(manifest, shape, std::string("[1") + (shape + 2));
    }
  }
  return manifest;
}

inline double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

/// min_max of the planner: [-1, 3], [-2, 6], [-3, 9]; and back.
inline double planner_value(double x, std::size_t d) {
  const double scale = static_cast<double>(d + 1);
  return (x / scale + 1) / 2 - 1;
}
inline double physical_value(double y, std::size_t d) {
  return ((y + 1) * 2 - 1) * static_cast<double>(d + 1);
}

inline double text_mean(const std::string& text) {
  double sum = 0;
  for (const char c : text) sum += static_cast<unsigned char>(c);
  return sum / static_cast<double>(text.size()) / 256;
}

/// The plan the stub's closed forms give for kState, by the public sampler and noise: physical units.
/// `candidate`: which of several.
inline std::vector<double> imagined(SamplerSpec spec, double lambda, const std::string& text, NoiseKey key,
                                    std::uint32_t candidate = 0) {
  key.step = step_of_candidate(candidate, 0);
  spec.guidance = lambda;
  Sampler sampler(spec);
  double seen = 0;
  for (std::size_t d = 0; d < kState3; ++d) seen += planner_value(kState[d], d) / 3;
  // goal_text and plan_film of the conditional row; all zero in the null row.
  const double bias = text_mean(text) + (text_mean(text) + seen);
  std::vector<float> x(kPlanSize), out(kPlanSize), null_out(kPlanSize), noise(kPlanSize);
  fill_normal(key, x);
  for (std::size_t k = 0; k < sampler.timesteps().size(); ++k) {
    for (std::size_t i = 0; i < kPlanSize; ++i) {
      const double common = 0.1 * x[i] + 0.001 * sampler.timesteps()[k];
      out[i] = static_cast<float>(common + bias);
      null_out[i] = static_cast<float>(common);
    }
    if (lambda != 0) sampler.guide(out, null_out);
    key.step = step_of_candidate(candidate, static_cast<std::uint32_t>(k + 1));
    fill_normal(key, noise);
    sampler.step(static_cast<int>(k), out, noise, x);
  }
  std::vector<double> plan(kPlanSize);
  for (std::size_t i = 0; i < kPlanSize; ++i) plan[i] = physical_value(x[i], i % kState3);
  return plan;
}

inline NoiseKey plan_key(std::uint32_t plan) { return {7, 1, 0x80000000u | plan, 0}; }

/// The controller's condition for a subgoal in physical units: (x - mean) / std with 1, 2, 3 and 1, 2, 4.
inline double goal_bias(std::span<const double> goal) {
  return kStateMean + ((goal[0] - 1) + (goal[1] - 2) / 2 + (goal[2] - 3) / 4) / 3;
}

/// A chunk of the controller for subgoal `index` of `plan`.
inline std::vector<double> chunk_towards(const Policy& policy, const std::vector<double>& plan,
                                         std::size_t index, std::uint32_t chunk) {
  const std::span<const double> goal = std::span(plan).subspan(index * kState3, kState3);
  return predicted(*policy.runtime->bundle().sampler, goal_bias(goal), {7, 1, chunk, 0});
}

struct Hierarchy : Policy {
  explicit Hierarchy(const std::string& manifest = kSubgoalManifest,
                     std::map<std::string, std::string> injected = {}, RuntimeOptions options = {})
      : Policy(manifest, std::move(injected), std::move(options)) {}
  void reset(std::optional<double> guidance = {}, const std::string& task = "push") {
    runtime->reset({.task = task, .seed = 7, .episode = 1, .guidance = guidance});
  }
  void tell(const std::string& instruction) {
    runtime->reset({.seed = 7, .episode = 1, .instruction = instruction});
  }
  const SamplerSpec& sampler() const { return runtime->bundle().planner->sampler; }
  std::vector<float> plan() const {
    std::vector<float> plan(runtime->plan_size());
    return runtime->plan(plan) ? plan : std::vector<float>();
  }
};

inline void check_plan(const std::vector<float>& got, const std::vector<double>& wanted,
                       double tolerance = 1e-5) {
  CHECK(got.size() == wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK_NEAR(got[i], wanted[i], tolerance);
}

}  // namespace keystep::test
