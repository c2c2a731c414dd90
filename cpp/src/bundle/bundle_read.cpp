#include "bundle/bundle_read.hpp"

#include <algorithm>
#include <cmath>

#include "bundle/bundle_check.hpp"
#include "bundle/code_read.hpp"
#include "keystep/sampler_fields.hpp"
#include "policy/feature_kind.hpp"
#include "policy/normalizer.hpp"

namespace keystep {
namespace {

constexpr std::int64_t kMaxCount = std::int64_t{1} << 31, kMaxHistory = 1024;

const FeatureKind& read_kind(const ManifestNode& node) {
  if (const FeatureKind* kind = find_kind(node.text())) return *kind;
  std::string wanted;
  for (const FeatureKind& kind : feature_kinds())
    wanted += (wanted.empty() ? "" : " | ") + std::string(kind.name);
  node.refuse(wanted);
}

std::vector<std::int64_t> read_frame(const ManifestNode& node, const FeatureKind& kind) {
  std::vector<std::int64_t> shape;
  const bool image = kind.channels != 0;
  for (const ManifestNode& extent : node.items()) {
    shape.push_back(extent.integer(1, image ? kMaxImageExtent : kMaxCount));
  }
  const bool fits = std::ssize(shape) == kind.axes && (kind.axes < 3 || shape[2] == kind.channels);
  if (!fits) node.refuse(kind.shape);
  return shape;
}

FeatureSpec read_feature(const ManifestNode& node) {
  const FeatureKind& kind = read_kind(node["kind"]);
  if (kind.key == nullptr) {
    node.check_keys({"key", "kind", "dtype", "shape", "history", "normalization"});
  } else {
    node.check_keys({"key", "kind", "dtype", "shape", "history", "normalization", kind.key});
  }
  FeatureSpec spec;
  spec.key = node["key"].text();
  if (!spec.key.starts_with(kObservationPrefix) || spec.key == kObservationPrefix) {
    node["key"].refuse("observation.<name>");
  }
  spec.kind = kind.name;
  node["dtype"].text_of({keystep::name(kind.dtype)});
  spec.dtype = kind.dtype;
  spec.shape = read_frame(node["shape"], kind);
  spec.history = static_cast<int>(node["history"].integer(1, kMaxHistory));
  if (node.contains("names")) spec.names = node["names"].texts();
  if (node.contains("resize")) spec.resize = node["resize"].boolean();
  spec.normalization = read_normalization(node["normalization"]);
  return spec;
}

void read_hold(const ManifestNode& node, ActionSpec& spec) {
  node.check_keys({"mode"}, {"values"});
  spec.hold_mode = node["mode"].text_of({"values", "last"});
  if (spec.hold_mode == "last") return node.check_keys({"mode"});
  node.check_keys({"mode", "values"});
  spec.hold = node["values"].numbers<float>();
}

RelativeSpec read_relative(const ManifestNode& node) {
  node.check_keys({"feature", "values"});
  RelativeSpec spec{node["feature"].text(), {}};
  for (const ManifestNode& place : node["values"].items()) {
    spec.values.push_back(place.is_null() ? -1 : static_cast<int>(place.integer(0, kMaxCount - 1)));
  }
  if (std::ranges::all_of(spec.values, [](int place) { return place < 0; })) {
    node["values"].refuse("at least one that is not null (or no such key)");
  }
  return spec;
}

ActionSpec read_action(const ManifestNode& node) {
  node.check_keys({"names", "units", "min", "max", "rate_limit", "hold", "normalization"}, {"relative"});
  ActionSpec spec;
  spec.names = node["names"].texts();
  spec.units = node["units"].texts();
  spec.min = node["min"].numbers<float>();
  spec.max = node["max"].numbers<float>();
  read_hold(node["hold"], spec);
  spec.normalization = read_normalization(node["normalization"]);
  if (node.contains("relative")) spec.relative = read_relative(node["relative"]);
  if (const ManifestNode limit = node["rate_limit"]; !limit.is_null()) {
    spec.rate_limit = limit.numbers<float>();
    if (spec.rate_limit.empty()) limit.refuse("null, or one value per action");
  }
  return spec;
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

ScorerSpec read_scorer(const ManifestNode& node) {
  node.check_keys({"plans", "auc"});
  ScorerSpec spec{node["plans"].integer(0, kMaxCount), node["auc"].number()};
  if (!(spec.auc >= 0 && spec.auc <= 1)) node["auc"].refuse("0..1");
  return spec;
}

PlannerSpec read_planner(const ManifestNode& node) {
  node.check_keys({"subgoals", "steps_per_subgoal", "replan", "guided", "subgoal", "normalization", "sampler",
                   "text", "unet"},
                  {"scorer", "plan_ahead"});
  PlannerSpec spec;
  spec.subgoals = static_cast<int>(node["subgoals"].integer(1, 65536));
  spec.steps_per_subgoal = static_cast<int>(node["steps_per_subgoal"].integer(1, 65536));
  if (node.contains("plan_ahead")) {
    spec.plan_ahead = static_cast<int>(node["plan_ahead"].integer(0, spec.steps_per_subgoal));
  }
  spec.replan = node["replan"].boolean();
  spec.guided = node["guided"].boolean();
  spec.subgoal = node["subgoal"].text();
  spec.normalization = read_normalization(node["normalization"]);
  spec.sampler = read_sampler(node["sampler"]);
  if (node.contains("scorer")) spec.scorer = read_scorer(node["scorer"]);
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

GraphSpec read_graph(const ManifestNode& node) {
  node.check_keys({"file", "sha256", "inputs", "outputs"}, {"external"});
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

/// This version, or what to do about another one.
void check_version(const ManifestNode& node) {
  const std::int64_t version = node.integer(1, kMaxCount);
  if (version == kManifestVersion) return;
  const char* remedy = version > kManifestVersion ? "a newer keystep wrote this bundle"
                       : version < 3              ? "too old to upgrade: export it again"
                                                  : "run `keystep upgrade BUNDLE`";
  throw BundleError(
      expected(node.path(), std::to_string(kManifestVersion), std::to_string(version) + " (" + remedy + ")"));
}

void check_format(const ManifestNode& root) {
  if (root["format"].text() != "keystep-bundle") root["format"].refuse("\"keystep-bundle\"");
  check_version(root["version"]);
  root.check_keys({"format", "version", "name", "family", "control_rate_hz", "observation", "goal", "tasks",
                   "action", "chunk", "planner", "sampler", "unet", "graphs", "golden", "provenance"});
  root["graphs"].check_keys({}, {"encode", "film", "denoise", "act", "text", "plan_encode", "plan_film",
                                 "plan_denoise", "score", "vision", "embed", "decode"});
  root["golden"].check_keys({"file", "sha256"});
  root["provenance"].members();  // an object; its content is free
}

void read_ensemble(const ManifestNode& node, ChunkSpec& spec) {
  if (spec.merge != "temporal_ensemble") {
    if (node.contains("ensemble_decay")) node["ensemble_decay"].refuse("none (merge is " + spec.merge + ")");
    return;
  }
  if (spec.execute != 1) node["execute"].refuse("1 (merge is temporal_ensemble)");
  spec.ensemble_decay = node["ensemble_decay"].number();
  const int most = most_ensemble_decay(spec);
  if (std::abs(spec.ensemble_decay) > most) {
    node["ensemble_decay"].refuse("-" + std::to_string(most) + ".." + std::to_string(most));
  }
}

ChunkSpec read_chunk(const ManifestNode& node) {
  node.check_keys({"horizon", "execute", "start", "merge"}, {"max_delay", "ensemble_decay"});
  ChunkSpec spec{.horizon = static_cast<int>(node["horizon"].integer(1, 65536))};
  spec.execute = static_cast<int>(node["execute"].integer(1, spec.horizon));
  spec.start = static_cast<int>(node["start"].integer(0, spec.horizon - spec.execute));
  spec.merge = node["merge"].text_of({"consumed_index", "temporal_ensemble"});
  read_ensemble(node, spec);
  if (!node.contains("max_delay")) return spec;
  spec.max_delay = static_cast<int>(node["max_delay"].integer(1, spec.horizon - spec.start - 1));
  return spec;
}

/// What a planner that writes has no use for.
void check_no_controller(const ManifestNode& root) {
  for (const char* key : {"action", "chunk", "sampler", "unet"}) {
    if (!root[key].is_null()) root[key].refuse("null (family code: no controller)");
  }
}

GraphSpec read_graph(const std::string& key, const ManifestNode& node, const Bundle& bundle) {
  GraphSpec graph = read_graph(node);
  const bool plans = bundle.planner && (key == "text" || key.starts_with("plan_"));
  graph.any_rows = key == "plan_denoise" || key == "score";
  if (key != "score") graph.rows = static_cast<int>(plans ? branches(*bundle.planner) : branches(bundle));
  return graph;
}

void read_controller(const ManifestNode& root, Bundle& bundle) {
  bundle.action = read_action(root["action"]);
  bundle.chunk = read_chunk(root["chunk"]);
  if (!root["sampler"].is_null()) bundle.sampler = read_sampler(root["sampler"]);
  if (!root["planner"].is_null()) bundle.planner = read_planner(root["planner"]);
}

}  // namespace

Normalization read_normalization(const ManifestNode& node) {
  const std::string mode = node["mode"].text_of({"min_max", "mean_std", "quantile", "identity"});
  if (mode == "identity") {
    node.check_keys({"mode"});
    return {mode, {}, {}};
  }
  const auto [low, high] = statistics_keys(mode);
  node.check_keys({"mode", low, high});
  return {mode, node[low].numbers<double>(), node[high].numbers<double>()};
}

Bundle read_bundle(const ManifestNode& root) {
  check_format(root);
  Bundle bundle;
  bundle.name = root["name"].text();
  bundle.family = root["family"].text_of({"flat", "subgoal", "code"});
  bundle.control_rate_hz = root["control_rate_hz"].number();
  for (const ManifestNode& feature : root["observation"].items()) {
    bundle.observation.push_back(read_feature(feature));
  }
  bundle.goal = root["goal"].text_of({"none", "observation", "text"});
  for (const ManifestNode& task : root["tasks"].items()) {
    task.check_keys({"name", "instruction"});
    bundle.tasks.push_back({task["name"].text(), task["instruction"].text()});
  }
  if (bundle.family == "code") {
    check_no_controller(root);
    bundle.code = read_code_planner(root["planner"]);
  } else {
    read_controller(root, bundle);
  }
  for (const auto& [key, node] : root["graphs"].members()) bundle.graphs[key] = read_graph(key, node, bundle);
  bundle.golden = {root["golden"]["file"].text(), root["golden"]["sha256"].text()};
  attach_unet(root["unet"], bundle.sampler, "film", "denoise", bundle);
  if (bundle.planner) {
    attach_unet(root["planner"]["unet"], bundle.planner->sampler, "plan_film", "plan_denoise", bundle);
  }
  return bundle;
}

}  // namespace keystep
