// FiLM as a graph of its own, and the weights of U-Nets beside their graphs.
#include "subgoal_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

const std::string kFlat = with_film(kManifest);
const std::string kHierarchy = with_both_films(kSubgoalManifest);

/// The weights of the planner's U-Net, whose graph takes nothing but what plan_film writes.
std::string with_plan_unet(const std::string& manifest) {
  const std::string text = R"({"name": "goal_text", "dtype": "float32", "shape": [2, 5], "role": "condition"},
                 )";
  const std::string step = R"("role": "timestep"},
                 )";
  std::string unet = replaced(kUnet, "unet.safetensors", "plan_unet.safetensors");
  unet = replaced(unet, "\"horizon\": 4", "\"horizon\": 3");  // subgoals
  unet =
      replaced(replaced(unet, "HASH_OF_UNET", "HASH_OF_PLAN_UNET"), "\"condition\": 5", "\"condition\": 3");
  const auto owner = manifest.find("\"unet\": null", manifest.find("\"subgoals\""));
  return replaced(std::string(manifest).replace(owner, 12, "\"unet\": " + unet), step + text, step);
}

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
  const bool inside = kUnet.find(from) != std::string::npos;
  refused_in(with_unet(kFlat), inside ? kUnet : from, inside ? replaced(kUnet, from, to) : to, message);
}

void reads_every_field() {
  const Bundle bundle = load(with_unet(kFlat));
  const auto& unet = bundle.graphs.at("film").unet;
  CHECK(unet && unet == bundle.graphs.at("denoise").unet && !bundle.graphs.at("encode").unet);
  CHECK(unet->kind == "conditional_unet1d" && unet->file == "unet.safetensors");
  CHECK(unet->sha256.size() == 64 && (unet->down_dims == std::vector<int>{8, 16}));
  CHECK(unet->kernel_size == 5 && unet->groups == 4 && unet->film_scale && unet->condition == 5);
  CHECK(unet->precision == "bf16" && unet->train_steps == 10 && unet->errors.size() == 2);
  CHECK(unet->errors.at("int8").max == 0.02 && unet->errors.at("int8").rms == 0.005);
  CHECK(bundle.graphs.at("film").inputs[0].name == "condition");
}

void reads_every_form() {
  CHECK(!load(kFlat).graphs.at("film").unet);
  CHECK(!load(kManifest).graphs.contains("film"));  // encode may write what denoise takes
  CHECK(load(replaced(with_unet(kFlat), "conditional_unet1d", "transformer")).graphs.at("film").unet->kind ==
        "transformer");  // no business of the loader
  const Bundle bare =
      load(replaced(replaced(with_unet(kFlat), R"({"bf16": {"max": 0.004, "rms": 0.001}, )", "{"),
                    R"("int8": {"max": 0.02, "rms": 0.005})", ""));
  CHECK(bare.graphs.at("film").unet->errors.empty());
}

void reads_planners() {
  const Bundle bundle = load(with_plan_unet(with_unet(kHierarchy)));
  const auto& unet = bundle.graphs.at("plan_film").unet;
  CHECK(unet && unet == bundle.graphs.at("plan_denoise").unet && unet != bundle.graphs.at("film").unet);
  CHECK(unet->file == "plan_unet.safetensors" && unet->condition == 3 && unet->train_steps == 10);
  CHECK(!load(kHierarchy).graphs.at("plan_film").unet);
  refused_in(kHierarchy, R"(}, "unet": null})", "}}", "planner.unet: expected a value, got no such key");
  refused_in(with_plan_unet(kHierarchy), "\"condition\": 3", "\"condition\": 4",
             "graphs.plan_film.inputs[0].shape: expected [2, 4] (planner.unet.condition), got [2, 3]");
  refused_in(with_plan_unet(kHierarchy), "\"groups\": 4", "\"groups\": 0", "planner.unet.groups: expected");
  refused_in(with_plan_unet(kHierarchy), "HASH_OF_PLAN_UNET", std::string(64, '0'),
             "planner.unet.sha256: expected 000");
}

void refuses_manifests_without() {
  refused_in(kFlat, "\"unet\": null,", "", "unet: expected a value, got no such key");
}

void refuses_wrong_fields() {
  for (const auto& [key, value] : std::map<std::string, std::string>{{"kind", "\"conditional_unet1d\""},
                                                                     {"precision", "\"bf16\""},
                                                                     {"kernel_size", "5"},
                                                                     {"groups", "4"},
                                                                     {"film_scale", "true"},
                                                                     {"horizon", "4"},
                                                                     {"condition", "5"}}) {
    const std::string entry = "\"" + key + "\": " + value + ",";
    refused(entry, "", "unet." + key + ": expected a value, got no such key");
    refused(entry, "\"" + key + "\": null,", "unet." + key + ": expected ");
  }
  refused("\"kind\": \"conditional_unet1d\"", "\"kind\": \"\"", "unet.kind: expected a name");
  refused("\"groups\": 4", "\"groups\": 4, \"heads\": 4", "unet.heads: expected one of the keys kind, file");
  refused("[8, 16]", "[]", "unet.down_dims: expected 1..8 widths, got an array of 0");
  refused("[8, 16]", "[1, 2, 3, 4, 5, 6, 7, 8, 9]", "unet.down_dims: expected 1..8 widths");
  refused("[8, 16]", "[8, 0]", "unet.down_dims[1]: expected an integer in 1..65536, got 0");
  refused("[8, 16]", "[65537]", "unet.down_dims[0]: expected an integer in 1..65536, got 65537");
  refused("\"kernel_size\": 5", "\"kernel_size\": 0", "unet.kernel_size: expected an integer in 1..");
  refused("\"groups\": 4", "\"groups\": 0", "unet.groups: expected an integer in 1..");
  refused("\"horizon\": 4", "\"horizon\": 0", "unet.horizon: expected an integer in 1..");
  refused("\"horizon\": 4", "\"horizon\": 8", "unet.horizon: expected 4 (graphs.denoise), got 8");
  refused("\"condition\": 5", "\"condition\": 0", "unet.condition: expected an integer in 1..");
  refused("\"film_scale\": true", "\"film_scale\": 1", "unet.film_scale: expected true or false, got 1");
  refused("\"precision\": \"bf16\"", "\"precision\": \"fp16\"",
          "unet.precision: expected fp32 | bf16 | int8, got \"fp16\"");
  refused(kUnet, "[]", "unet: expected an object");
}

void refuses_wrong_errors() {
  refused("{\"bf16\": {", "{\"fp16\": {", "unet.errors.fp16: expected one of the keys fp32, bf16, int8");
  refused("\"max\": 0.004, ", "", "unet.errors.bf16.max: expected a value");
  refused("\"max\": 0.004", "\"max\": -0.004",
          "unet.errors.bf16.max: expected a finite number of 0 or more, got -0.004");
  refused("\"rms\": 0.005", "\"rms\": null", "unet.errors.int8.rms: expected a finite number");
  refused("\"rms\": 0.005", "\"rms\": 0.005, \"mean\": 0", "unet.errors.int8.mean: expected one of the keys");
}

void refuses_wrong_files() {
  refused("HASH_OF_UNET", std::string(64, 'f'), "(unet.safetensors is damaged or was changed)");
  refused("\"unet.safetensors\"", "\"../unet.safetensors\"", "unet.file: expected a file inside the bundle");
  refused("\"unet.safetensors\"", "\"none.safetensors\"", "unet.file: expected a file inside the bundle");
}

void refuses_unets_without_their_graphs() {
  CHECK_THROWS(BundleError, "unet: expected null (there is no graph film), got an object",
               load(with_unet(kManifest)));
  const std::string act = one_step(kManifest);
  CHECK(load(act).graphs.contains("act"));
  const auto film = kFlat.find("\"film\": {"), end = kFlat.find("\"denoise\": {");
  refused_in(act, "\"graphs\": {", "\"graphs\": {" + kFlat.substr(film, end - film),
             "graphs.film: expected no such key (the controller is the graph act), got a graph");
  const auto plan = kHierarchy.find("\"plan_film\": {"), plan_end = kHierarchy.find("\"plan_denoise\": {");
  refused_in(kFlat, "\"graphs\": {", "\"graphs\": {" + kHierarchy.substr(plan, plan_end - plan),
             "graphs.plan_film: expected no such key (family flat), got a graph");
}

void refuses_graphs_that_disagree() {
  const std::string condition = R"("name": "condition", "dtype": "float32", "shape": [1, 5])";
  const std::string narrow = R"("name": "condition", "dtype": "float32", "shape": [1, 4])";
  refused("\"condition\": 5", "\"condition\": 6",
          "graphs.film.inputs[0].shape: expected [1, 6] (unet.condition), got [1, 5]");
  refused_in(kFlat, condition, narrow,
             "graphs.film.inputs[0].shape: expected [1, 4] (as encode writes it), got [1, 5]");
  CHECK_THROWS(BundleError, "graphs.film.inputs[0].shape: expected [1, 5] (unet.condition), got [1, 4]",
               load(replaced(replaced(with_unet(kFlat), condition, narrow), condition, narrow)));
  refused_in(replaced(with_unet(kFlat), "[1, 6]", "[1, 6, 1]"), "[1, 6]", "[1, 6, 1]",
             "graphs.film.outputs[0].shape: expected [1, ..] (unet), got [1, 6, 1]");
  refused_in(kFlat, R"("outputs": [{"name": "film")", R"("outputs": [{"name": "other")",
             "graphs.denoise.inputs[2].name: expected an output of film, got 'film'");
  const std::string other = R"({"name": "other", "dtype": "float32", "shape": [1, 2], "role": "condition"})";
  const std::string film_out = R"("outputs": [{"name": "film")";
  refused(film_out, R"("outputs": [)" + other + R"(, {"name": "film")",
          "graphs.film.outputs: expected one tensor (unet), got 2");
  refused(R"({"name": "film", "dtype": "float32", "shape": [1, 6], "role": "condition"}],
      "outputs": [{"name": "eps")",
          R"({"name": "film", "dtype": "float32", "shape": [1, 6], "role": "condition"},
      {"name": "condition", "dtype": "float32", "shape": [1, 5], "role": "condition"}],
      "outputs": [{"name": "eps")",
          "graphs.denoise.inputs[3].name: expected an output of film, got 'condition'");
  refused(R"(,
                 {"name": "film", "dtype": "float32", "shape": [1, 6], "role": "condition"}],
      "outputs": [{"name": "eps")",
          R"(],
      "outputs": [{"name": "eps")",
          "graphs.denoise.inputs: expected sample, timestep and what film writes (unet), got 2 tensors");
}

}  // namespace

int main() {
  reads_every_field();
  reads_every_form();
  reads_planners();
  refuses_manifests_without();
  refuses_wrong_fields();
  refuses_wrong_errors();
  refuses_wrong_files();
  refuses_unets_without_their_graphs();
  refuses_graphs_that_disagree();
  return result();
}
