#include "bundle/bundle_read.hpp"

#include <algorithm>

#include "bundle/bundle_check.hpp"
#include "keystep/sampler_fields.hpp"
#include "policy/normalizer.hpp"

namespace keystep {
namespace {

constexpr std::int64_t kMaxCount = std::int64_t{1} << 31;

// Keys that came with versions 2 to 4.
using Keys = std::initializer_list<const char*>;
constexpr Keys kNone = {}, kPlanner = {"planner"}, kResize = {"resize"},
               kPlannerAndUnet = {"planner", "unet"}, kUnet = {"unet"}, kExternal = {"external"};

ObservationSpec read_observation(const ManifestNode& node, std::int64_t version) {
  node.check_keys({"state", "images"});
  ObservationSpec spec;
  if (const ManifestNode state = node["state"]; !state.is_null()) {
    state.check_keys({"names"});
    spec.state_names = state["names"].texts();
    if (spec.state_names.empty()) state["names"].refuse("at least one name (or state: null)");
  }
  for (const ManifestNode& image : node["images"].items()) {
    image.check_keys({"camera", "height", "width", "order"}, version == 1 ? kNone : kResize);
    image["order"].text_of({"rgb"});
    spec.images.push_back({image["camera"].text(),
                           static_cast<int>(image["height"].integer(1, kMaxImageExtent)),
                           static_cast<int>(image["width"].integer(1, kMaxImageExtent)),
                           version > 1 && image["resize"].boolean()});
  }
  return spec;
}

/// Up to version 3 a hold was always the list of its values.
void read_hold(const ManifestNode& node, std::int64_t version, ActionSpec& spec) {
  if (version < 4) {
    spec.hold = node.numbers<float>();
    return;
  }
  node.check_keys({"mode"}, {"values"});
  spec.hold_mode = node["mode"].text_of({"values", "last"});
  if (spec.hold_mode == "last") return node.check_keys({"mode"});
  node.check_keys({"mode", "values"});
  spec.hold = node["values"].numbers<float>();
}

ActionSpec read_action(const ManifestNode& node, std::int64_t version) {
  node.check_keys({"names", "units", "min", "max", "rate_limit", "hold"});
  ActionSpec spec;
  spec.names = node["names"].texts();
  spec.units = node["units"].texts();
  spec.min = node["min"].numbers<float>();
  spec.max = node["max"].numbers<float>();
  read_hold(node["hold"], version, spec);
  if (const ManifestNode limit = node["rate_limit"]; !limit.is_null()) {
    spec.rate_limit = limit.numbers<float>();
    if (spec.rate_limit.empty()) limit.refuse("null, or one value per action");
  }
  return spec;
}

Normalization read_normalization(const ManifestNode& node, std::int64_t version) {
  const std::string mode = version < 4
                               ? node["mode"].text_of({"min_max", "mean_std", "identity"})
                               : node["mode"].text_of({"min_max", "mean_std", "quantile", "identity"});
  if (mode == "identity") {
    node.check_keys({"mode"});
    return {mode, {}, {}};
  }
  const auto [low, high] = statistics_keys(mode);
  node.check_keys({"mode", low, high});
  return {mode, node[low].numbers<double>(), node[high].numbers<double>()};
}

void read_field(const ManifestNode& node, const Bounds&, std::string& value) { value = node.text(); }
void read_field(const ManifestNode& node, const Bounds&, bool& value) { value = node.boolean(); }
void read_field(const ManifestNode& node, const Bounds&, double& value) { value = node.number(); }
void read_field(const ManifestNode& node, const Bounds&, std::vector<double>& values) {
  values = node.numbers<double>();
}
void read_field(const ManifestNode& node, const Bounds& bounds, int& value) {
  const auto low = static_cast<std::int64_t>(bounds.low), high = static_cast<std::int64_t>(bounds.high);
  value = static_cast<int>(node.integer(low, high));
}

/// Keys and types; the rest is in `validate`.
SamplerSpec read_sampler(const ManifestNode& node) {
  std::vector<const char*> names;
  for_each_sampler_field([&](const auto& field) { names.push_back(field.name); });
  node.check_keys(names);
  SamplerSpec spec;
  for_each_sampler_field(
      [&](const auto& field) { read_field(node[field.name], field.bounds, spec.*field.member); });
  return spec;
}

PlannerSpec read_planner(const ManifestNode& node, std::int64_t version) {
  node.check_keys(
      {"subgoals", "steps_per_subgoal", "replan", "guided", "subgoal", "normalization", "sampler", "text"},
      version < 3 ? kNone : kUnet);
  PlannerSpec spec;
  spec.subgoals = static_cast<int>(node["subgoals"].integer(1, 65536));
  spec.steps_per_subgoal = static_cast<int>(node["steps_per_subgoal"].integer(1, 65536));
  spec.replan = node["replan"].boolean();
  spec.guided = node["guided"].boolean();
  spec.subgoal = node["subgoal"].text();
  spec.normalization = read_normalization(node["normalization"], version);
  spec.sampler = read_sampler(node["sampler"]);
  const ManifestNode text = node["text"];
  text.check_keys({"encoder", "max_bytes"});
  spec.text_encoder = text["encoder"].text();
  spec.max_text_bytes = static_cast<std::size_t>(text["max_bytes"].integer(1, 1 << 20));
  return spec;
}

TensorSpec read_tensor(const ManifestNode& node) {
  node.check_keys({"name", "dtype", "shape", "role"});
  TensorSpec spec;
  spec.name = node["name"].text();
  if (spec.name.empty()) node["name"].refuse("a name");
  const std::string dtype = node["dtype"].text_of({"float32", "int64", "uint8", "string"});
  for (const DType known : {DType::float32, DType::int64, DType::uint8, DType::string}) {
    if (dtype == keystep::name(known)) spec.dtype = known;
  }
  std::int64_t elements = 1;
  for (const ManifestNode& extent : node["shape"].items()) {
    spec.shape.push_back(extent.integer(1, kMaxCount / elements));
    elements *= spec.shape.back();
  }
  spec.role = node["role"].text();
  return spec;
}

/// Weights beside a graph. ONNX Runtime is given them by name: a plain one, which no path can dress up.
std::vector<FileSpec> read_external(const ManifestNode& node) {
  std::vector<FileSpec> files;
  for (const ManifestNode& entry : node.items()) {
    entry.check_keys({"file", "sha256"});
    const std::string name = entry["file"].text();
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
      entry["file"].refuse("the name of a file, without folders");
    }
    if (std::ranges::find(files, name, &FileSpec::file) != files.end()) {
      entry["file"].refuse("each file once");
    }
    files.push_back({name, entry["sha256"].text()});
  }
  if (files.empty()) node.refuse("at least one file (or no such key)");
  return files;
}

GraphSpec read_graph(const ManifestNode& node, std::int64_t version) {
  node.check_keys({"file", "sha256", "inputs", "outputs"}, version < 4 ? kNone : kExternal);
  GraphSpec spec{node["file"].text(), node["sha256"].text(), {}, {}};
  if (node.contains("external")) spec.external = read_external(node["external"]);
  for (const ManifestNode& tensor : node["inputs"].items()) spec.inputs.push_back(read_tensor(tensor));
  for (const ManifestNode& tensor : node["outputs"].items()) spec.outputs.push_back(read_tensor(tensor));
  return spec;
}

double read_error(const ManifestNode& node) {
  if (node.number() < 0) node.refuse("a finite number of 0 or more");
  return node.number();
}

UnetSpec read_unet(const ManifestNode& node) {
  constexpr int kMaxWidth = 65536;
  node.check_keys({"kind", "file", "sha256", "down_dims", "kernel_size", "groups", "film_scale", "horizon",
                   "condition", "precision", "errors"});
  UnetSpec spec;
  spec.kind = node["kind"].text();
  if (spec.kind.empty()) node["kind"].refuse("a name");
  spec.file = node["file"].text();
  spec.sha256 = node["sha256"].text();
  for (const ManifestNode& width : node["down_dims"].items()) {
    spec.down_dims.push_back(static_cast<int>(width.integer(1, kMaxWidth)));
  }
  if (spec.down_dims.empty() || spec.down_dims.size() > 8) node["down_dims"].refuse("1..8 widths");
  spec.kernel_size = static_cast<int>(node["kernel_size"].integer(1, kMaxWidth));
  spec.groups = static_cast<int>(node["groups"].integer(1, kMaxWidth));
  spec.film_scale = node["film_scale"].boolean();
  spec.horizon = static_cast<int>(node["horizon"].integer(1, kMaxWidth));
  spec.condition = static_cast<int>(node["condition"].integer(1, 1 << 24));
  spec.precision = node["precision"].text_of({"fp32", "bf16", "int8"});
  const ManifestNode errors = node["errors"];
  errors.check_keys({}, {"fp32", "bf16", "int8"});
  for (const auto& [precision, error] : errors.members()) {
    error.check_keys({"max", "rms"});
    spec.errors[precision] = {read_error(error["max"]), read_error(error["rms"])};
  }
  return spec;
}

/// The weights in `node` are those of the graphs `film` and `denoise`.
void attach_unet(const ManifestNode& node, const std::optional<SamplerSpec>& sampler, const std::string& film,
                 const std::string& denoise, Bundle& bundle) {
  if (node.is_null()) return;
  UnetSpec spec = read_unet(node);
  spec.train_steps = sampler ? sampler->train_steps : 0;
  const auto shared = std::make_shared<const UnetSpec>(std::move(spec));
  for (const std::string& key : {film, denoise}) {
    if (!bundle.graphs.contains(key)) node.refuse("null (there is no graph " + key + ")");
    bundle.graphs.at(key).unet = shared;
  }
}

/// Those of `version`.
void check_graph_names(const ManifestNode& graphs, std::int64_t version) {
  if (version == 1) return graphs.check_keys({"encode"}, {"denoise"});
  if (version == 2) {
    return graphs.check_keys({}, {"encode", "denoise", "act", "text", "plan_encode", "plan_denoise"});
  }
  graphs.check_keys({},
                    {"encode", "film", "denoise", "act", "text", "plan_encode", "plan_film", "plan_denoise"});
}

/// The version of a manifest that has the keys of its version and no other.
std::int64_t check_format(const ManifestNode& root) {
  if (root["format"].text() != "keystep-bundle") root["format"].refuse("\"keystep-bundle\"");
  const std::int64_t version = root["version"].integer(1, kMaxCount);
  if (version > kManifestVersion) {
    root["version"].refuse("at most " + std::to_string(kManifestVersion) +
                           " (a newer keystep wrote this bundle)");
  }
  root.check_keys({"format", "version", "name", "family", "control_rate_hz", "observation", "goal", "tasks",
                   "action", "normalization", "chunk", "sampler", "graphs", "golden", "provenance"},
                  version == 1   ? kNone
                  : version == 2 ? kPlanner
                                 : kPlannerAndUnet);
  check_graph_names(root["graphs"], version);
  root["golden"].check_keys({"file", "sha256"});
  root["provenance"].members();  // an object; its content is free
  return version;
}

}  // namespace

Bundle read_bundle(const ManifestNode& root) {
  const std::int64_t version = check_format(root);
  Bundle bundle;
  bundle.version = static_cast<int>(version);
  bundle.name = root["name"].text();
  bundle.family =
      version == 1 ? root["family"].text_of({"flat"}) : root["family"].text_of({"flat", "subgoal"});
  bundle.control_rate_hz = root["control_rate_hz"].number();
  bundle.observation = read_observation(root["observation"], version);
  bundle.goal = version == 1 ? root["goal"].text_of({"none", "observation"})
                             : root["goal"].text_of({"none", "observation", "text"});
  for (const ManifestNode& task : root["tasks"].items()) {
    task.check_keys({"name", "instruction"});
    bundle.tasks.push_back({task["name"].text(), task["instruction"].text()});
  }
  bundle.action = read_action(root["action"], version);
  for (const auto& [key, node] : root["normalization"].members()) {
    bundle.normalization[key] = read_normalization(node, version);
  }
  const ManifestNode chunk = root["chunk"];
  chunk.check_keys({"horizon", "execute", "merge"});
  bundle.chunk.horizon = static_cast<int>(chunk["horizon"].integer(1, 65536));
  bundle.chunk.execute = static_cast<int>(chunk["execute"].integer(1, bundle.chunk.horizon));
  bundle.chunk.merge = chunk["merge"].text_of({"consumed_index"});
  if (version == 1 || !root["sampler"].is_null()) bundle.sampler = read_sampler(root["sampler"]);
  if (version > 1 && !root["planner"].is_null()) {
    bundle.planner = read_planner(root["planner"], version);
  }
  for (const auto& [key, node] : root["graphs"].members()) {
    bundle.graphs[key] = read_graph(node, version);
    const bool plans = bundle.planner && (key == "text" || key.starts_with("plan_"));
    bundle.graphs[key].rows = static_cast<int>(plans ? branches(*bundle.planner) : branches(bundle));
  }
  bundle.golden = {root["golden"]["file"].text(), root["golden"]["sha256"].text()};
  if (version > 2) {
    attach_unet(root["unet"], bundle.sampler, "film", "denoise", bundle);
    if (bundle.planner) {
      attach_unet(root["planner"]["unet"], bundle.planner->sampler, "plan_film", "plan_denoise", bundle);
    }
  }
  return bundle;
}

}  // namespace keystep
