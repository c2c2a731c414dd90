// Planners, one-step controllers, and what they must agree about.
#include "subgoal_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

Bundle load(const std::string& manifest) {
  const TemporaryFolder folder;
  write_bundle(folder.path(), manifest);
  return load_bundle(folder.path());
}

void refused_in(const std::string& manifest, const std::string& from, const std::string& to,
                const std::string& message) {
  CHECK_THROWS(BundleError, message, load(replaced(manifest, from, to)));
}

void refused(const std::string& from, const std::string& to, const std::string& message) {
  refused_in(kSubgoalManifest, from, to, message);
}

void reads_every_field() {
  const Bundle bundle = load(kSubgoalManifest);
  CHECK(bundle.family == "subgoal" && bundle.goal == "text" && bundle.planner.has_value());
  const PlannerSpec& planner = *bundle.planner;
  CHECK(planner.subgoals == 3 && planner.steps_per_subgoal == 4 && planner.replan && planner.guided);
  CHECK(planner.plan_ahead == -1);  // not told
  const std::string told =
      replaced(kSubgoalManifest, "\"replan\": true", "\"replan\": true, \"plan_ahead\": 3");
  CHECK(load(told).planner->plan_ahead == 3);
  CHECK(planner.subgoal == "observation.state" && planner.normalization.mode == "min_max");
  CHECK(planner.sampler.prediction == "v_prediction" && planner.sampler.guidance == 2);
  CHECK(planner.text_encoder == "test" && planner.max_text_bytes == 64);
  CHECK(bundle.graphs.at("text").inputs[0].dtype == DType::string);
  CHECK((subgoal_shape(bundle) == std::vector<std::int64_t>{3}));
  CHECK(load(unguided(kSubgoalManifest)).planner->guided == false);
}

void reads_flat_policies() {
  CHECK(!load(kManifest).planner.has_value());
  refused_in(kManifest, "\"planner\": null,", "", "planner: expected a value, got no such key");
  const Bundle act = load(one_step(kManifest));
  CHECK(!act.sampler && &observing_graph(act) == &act.graphs.at("act"));
}

void reads_a_scorer() {
  const Bundle bundle = load(scored(kSubgoalManifest));
  CHECK(bundle.planner->scorer->plans == 100 && bundle.planner->scorer->auc == 0.75);
  CHECK(!load(kSubgoalManifest).planner->scorer.has_value());
  CHECK(load(unguided(scored(kSubgoalManifest))).planner->scorer.has_value());
}

void refuses_half_a_scorer() {
  const std::string manifest = scored(kSubgoalManifest);
  refused_in(manifest, R"(, "scorer": {"plans": 100, "auc": 0.75})", "",
             "graphs.score: expected no such key (there is no planner.scorer), got a graph");
  refused("\"max_bytes\": 64}", R"("max_bytes": 64}, "scorer": {"plans": 100, "auc": 0.75})",
          "graphs.score: expected a graph (there is a planner.scorer), got no such key");
  refused_in(manifest, "\"auc\": 0.75", "\"auc\": 1.5", "planner.scorer.auc: expected 0..1, got 1.5");
  refused_in(manifest, "\"plans\": 100", "\"plans\": -1", "planner.scorer.plans: expected an integer in 0..");
  refused_in(manifest, "\"plans\": 100", "\"kind\": 100", "planner.scorer.");
  const std::string sample = R"("shape": [1, 3, 3], "role": "sample")";
  refused_in(manifest, sample, R"("shape": [1, 4, 3], "role": "sample")",
             "graphs.score.inputs[2].shape: expected [1, 3, 3] (sample), got [1, 4, 3]");
  refused_in(manifest, R"("shape": [1], "role": "score")", R"("shape": [2], "role": "score")",
             "graphs.score.outputs[0].shape: expected [1] (score), got [2]");
  refused_in(manifest, R"("role": "score")", R"("role": "actions")",
             "graphs.score.outputs[0].role: expected one of score, got 'actions'");
  refused_in(manifest, R"({"name": "goal_text", "dtype": "float32", "shape": [2, 5], "role": "condition"},
                 {"name": "score.sample")",
             R"({"name": "plan_film", "dtype": "float32", "shape": [2, 4], "role": "condition"},
                 {"name": "score.sample")",
             "graphs.score.inputs[1].name: expected an output of text, got 'plan_film'");
  refused_in(
      unguided(manifest), "\"score.sample\"", "\"plan.sample\"",
      "graphs.score: expected a sample of another name than that of plan_denoise, got 'plan.sample' in both");
}

void refuses_half_a_family() {
  refused("\"family\": \"subgoal\"", "\"family\": \"flat\"",
          "goal: expected none or observation (family flat), got text");
  refused("\"goal\": \"text\"", "\"goal\": \"none\"", "goal: expected text (family subgoal), got none");
  refused("\"planner\": " + kPlanner, "\"planner\": null",
          "planner: expected an object (family subgoal), got null");
  refused_in(kManifest, "\"planner\": null", "\"planner\": " + kPlanner,
             "planner: expected null (family flat), got an object");
  refused_in(kManifest, "\"graphs\": {", "\"graphs\": {" + kPlannerGraphs,
             "graphs.text: expected no such key (family flat), got a graph");
  const auto text = kPlannerGraphs.find("\"text\""), encode = kPlannerGraphs.find("\"plan_encode\"");
  refused(kPlannerGraphs.substr(text, encode - text), "", "graphs.text: expected a graph (family subgoal)");
}

void refuses_wrong_planners() {
  refused("\"replan\": true", "\"replan\": 1", "planner.replan: expected true or false, got 1");
  refused("\"replan\": true", "\"replan\": true, \"plan_ahead\": 5",
          "planner.plan_ahead: expected an integer in 0..4, got 5");
  refused("\"replan\": true", "\"replan\": true, \"plan_ahead\": null",
          "planner.plan_ahead: expected an integer in 0..4, got null");
  refused("\"replan\": true,", "", "planner.replan: expected a value");
  refused("\"replan\": true", "\"replan\": true, \"horizon\": 3",
          "planner.horizon: expected one of the keys");
  refused("\"subgoals\": 3", "\"subgoals\": 0", "planner.subgoals: expected an integer in 1..65536, got 0");
  refused("\"steps_per_subgoal\": 4", "\"steps_per_subgoal\": 2",
          "planner.steps_per_subgoal: expected at least 3 (chunk.execute");
  refused("\"subgoal\": \"observation.state\"", "\"subgoal\": \"action\"",
          "planner.subgoal: expected the key of a vector or an RGB image of this bundle, got 'action'");
  refused("[3, 6, 9]", "[3, 6]", "planner.normalization.max: expected 3 values, got 2");
  refused("[3, 6, 9]", "[-1, 6, 9]", "planner.normalization.max[0]: expected more than the minimum");
  refused("hd_expit", "cubic", "planner.sampler.timestep_rule: expected");
  refused("\"encoder\": \"test\"", "\"encoder\": \"\"", "planner.text.encoder: expected a name");
  refused("\"max_bytes\": 64", "\"max_bytes\": 0", "planner.text.max_bytes: expected an integer in 1..");
  refused_in(unguided(kSubgoalManifest),
             "\"hd_expit\", \"steps_offset\": 0,\n                \"set_alpha_to_one\": true, \"eta\": 0.0, "
             "\"guidance\": 0.0",
             "\"hd_expit\", \"steps_offset\": 0, \"set_alpha_to_one\": true, \"eta\": 0.0, \"guidance\": 1.0",
             "planner.sampler.guidance: expected 0 (trained without dropout: guided is false), got 1");
}

void refuses_graphs_that_disagree() {
  refused("\"subgoals\": 3", "\"subgoals\": 4",
          "graphs.plan_denoise.inputs[0].shape: expected [2, 4, 3] (sample), got [2, 3, 3]");
  refused("\"guided\": true", "\"guided\": false", "planner.sampler.guidance: expected 0");
  std::string narrow = kSubgoalManifest;
  while (narrow.find("[2, 5]") != std::string::npos) narrow = replaced(narrow, "[2, 5]", "[1, 5]");
  CHECK_THROWS(BundleError, "graphs.plan_denoise.inputs[2].shape: expected [2, ..] (condition), got [1, 5]",
               load(narrow));
  refused("[2, 5]", "[2, 6]",
          "graphs.plan_denoise.inputs[2].shape: expected [2, 6] (as text or plan_encode writes it)");
  refused("\"string\"", "\"uint8\"", "graphs.text.inputs[0].dtype: expected string, got uint8");
  refused(R"("shape": [1, 3], "role": "goal.state")", R"("shape": [1, 4], "role": "goal.state")",
          "graphs.encode.inputs[1].shape: expected [1, 3] (goal.state), got [1, 4]");
  refused(R"(,
                 {"name": "goal_state", "dtype": "float32", "shape": [1, 3], "role": "goal.state"})",
          "", "graphs.encode.inputs: expected a tensor with the role goal.state, got none");
  refused(R"({"name": "goal_state", "dtype": "float32", "shape": [1, 3], "role": "goal.state"})",
          R"({"name": "task", "dtype": "int64", "shape": [1], "role": "task"})",
          "graphs.encode.inputs[1].role: expected one of goal.state, observation.state, got 'task'");
  refused(
      R"({"name": "plan.state", "dtype": "float32", "shape": [1, 3], "role": "observation.state"},)", "",
      "graphs.plan_denoise.inputs: expected a tensor with the role observation.state here or in plan_encode");
  refused(R"({"name": "plan_film", "dtype": "float32", "shape": [2, 4], "role": "condition"}],
      "outputs")",
          R"({"name": "plan_film", "dtype": "float32", "shape": [2, 4], "role": "condition"},
       {"name": "seen", "dtype": "float32", "shape": [1, 3], "role": "observation.state"}],
      "outputs")",
          "a tensor with the role observation.state here or in plan_encode, got one in both");
  refused("\"plan.state\"", "\"state\"",
          "expected tensors of other names in planner and controller, got 'state' in both");
  refused(R"("name": "plan_film", "dtype": "float32", "shape": [2, 4], "role": "condition"}],
      "outputs")",
          R"("name": "film", "dtype": "float32", "shape": [2, 4], "role": "condition"}],
      "outputs")",
          "graphs.plan_denoise.inputs[3].name: expected an output of text or plan_encode, got 'film'");
}

void refuses_texts_that_no_one_reads() {
  std::string manifest = kSubgoalManifest;
  const std::string text =
      R"({"name": "goal_text", "dtype": "float32", "shape": [2, 5], "role": "condition"})";
  const std::string encode = R"("role": "observation.state"},
                 )" + text,
                    denoise = text + R"(,
                 {"name": "plan_film")";
  manifest = replaced(manifest, encode, "\"role\": \"observation.state\"}");
  CHECK(load(manifest).planner.has_value());  // plan_denoise reads it
  CHECK_THROWS(BundleError,
               "graphs.plan_denoise.inputs: expected a condition that text writes, here or in plan_encode",
               load(replaced(manifest, denoise, "{\"name\": \"plan_film\"")));
  refused("\"Push it.\"", "\" \"",
          "tasks[1].instruction: expected a task or an instruction, got white space");
  refused("\"Lift it.\"", "\"" + std::string(65, 'a') + "\"",
          "tasks[0].instruction: expected at most 64 bytes, got 65");
}

void refuses_wrong_one_step_controllers() {
  const std::string act = one_step(kManifest), steps = kManifest;
  const std::string sampler = kManifest.substr(kManifest.find("\"sampler\": {"),
                                               kManifest.find("\"unet\"") - kManifest.find("\"sampler\": {"));
  refused_in(act, "\"sampler\": null,\n  ", sampler,
             "sampler: expected null (the controller is the graph act), got an object");
  refused_in(steps, sampler, "\"sampler\": null,\n  ",
             "sampler: expected an object (null: the controller is the graph act), got null");
  refused_in(act, "[1, 4, 2], \"role\": \"actions\"", "[1, 5, 2], \"role\": \"actions\"",
             "graphs.act.outputs[0].shape: expected [1, 4, 2] (actions), got [1, 5, 2]");
  refused_in(steps, "\"encode\": {\"file\": \"encode.onnx\", \"sha256\": \"ENCODE_HASH\"",
             "\"act\": {\"file\": \"act.onnx\", \"sha256\": \"HASH_OF_ACT\"",
             "graphs.denoise: expected no such key (the controller is the graph act), got a graph");
  const auto denoise = steps.find(",\n    \"denoise\"");
  CHECK_THROWS(BundleError, "graphs.denoise: expected a graph, got no such key",
               load(std::string(steps).erase(denoise, steps.find("\n  },", denoise) - denoise)));
}

}  // namespace

int main() {
  reads_every_field();
  reads_flat_policies();
  reads_a_scorer();
  refuses_half_a_scorer();
  refuses_half_a_family();
  refuses_wrong_planners();
  refuses_graphs_that_disagree();
  refuses_texts_that_no_one_reads();
  refuses_wrong_one_step_controllers();
  return result();
}
