#include "keystep/bundle.hpp"

#include <array>
#include <fstream>
#include <set>
#include <system_error>

#include "bundle_check.hpp"
#include "keystep/status.hpp"
#include "manifest_node.hpp"

namespace keystep {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uintmax_t kMaxManifestBytes = std::uintmax_t{16} << 20;
constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{2} << 30;  // the limit of an ONNX protobuf
constexpr int kMaxDepth = 32;
constexpr std::int64_t kMaxCount = std::int64_t{1} << 31;

// ---- files

/// A regular file inside the folder, with links resolved: what a manifest names can never lead out of it.
fs::path file_inside(const fs::path& folder, const std::string& name, const std::string& field,
                     std::uintmax_t max_bytes) {
  const auto refuse = [&](const std::string& got) -> fs::path {
    throw BundleError(expected(field, "a file inside the bundle", "'" + name + "', which " + got));
  };
  // A NUL would cut both the path the system sees and the message.
  if (name.find('\0') != std::string::npos) {
    throw BundleError(expected(field, "a file inside the bundle", "a name that holds a NUL"));
  }
  const fs::path relative(name);
  if (name.empty()) return refuse("is empty");
  if (relative.is_absolute() || relative.has_root_path()) return refuse("is absolute");
  for (const fs::path& part : relative) {
    if (part == "..") return refuse("leaves the bundle");
  }
  std::error_code error;
  const fs::path root = fs::canonical(folder, error);
  if (error) return refuse("lies in an unreadable folder: " + error.message());
  const fs::path file = fs::canonical(root / relative, error);
  if (error) return refuse("cannot be opened: " + error.message());
  const fs::path inside = file.lexically_relative(root);
  if (inside.empty() || *inside.begin() == "..") return refuse("is a link out of the bundle");
  if (!fs::is_regular_file(file, error)) return refuse("is not a regular file");
  const std::uintmax_t bytes = fs::file_size(file, error);
  if (error) return refuse("cannot be read: " + error.message());
  if (bytes == 0) return refuse("is empty");
  if (bytes > max_bytes) return refuse("has " + std::to_string(bytes) + " bytes");
  return file;
}

void check_file(const fs::path& folder, const ManifestNode& node) {
  const ManifestNode file = node["file"], hash = node["sha256"];
  const std::string wanted = hash.text();
  if (wanted.size() != 64 || wanted.find_first_not_of("0123456789abcdef") != std::string::npos) {
    hash.refuse("64 lower-case hexadecimal digits");
  }
  const std::string got = sha256_file(file_inside(folder, file.text(), file.path(), kMaxFileBytes));
  if (got == wanted) return;
  throw BundleError(expected(hash.path(), wanted, got + " (" + file.text() + " is damaged or was changed)"));
}

std::string read_manifest(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw BundleError(expected(folder.string(), "a bundle folder", error ? error.message() : "a file"));
  }
  std::ifstream in(file_inside(folder, "manifest.json", "manifest.json", kMaxManifestBytes),
                   std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(in), {});
  if (!in.good() && !in.eof())
    throw BundleError(expected("manifest.json", "a readable file", "a read error"));
  return text;
}

/// Depth is bounded and duplicate keys, which JSON readers resolve differently, are refused.
json parse_json(const std::string& text) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&keys](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxDepth) {
      throw BundleError(
          expected("manifest.json", "at most " + std::to_string(kMaxDepth) + " levels", "more"));
    }
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      throw BundleError(
          expected("manifest.json", "each key once", "'" + value.get<std::string>() + "' twice"));
    }
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::exception& error) {
    throw BundleError(expected("manifest.json", "valid JSON", error.what()));
  }
}

// ---- objects

ObservationSpec read_observation(const ManifestNode& node) {
  node.check_keys({"state", "images"});
  ObservationSpec spec;
  if (const ManifestNode state = node["state"]; !state.is_null()) {
    state.check_keys({"names"});
    spec.state_names = state["names"].texts();
    if (spec.state_names.empty()) state["names"].refuse("at least one name (or state: null)");
  }
  for (const ManifestNode& image : node["images"].items()) {
    image.check_keys({"camera", "height", "width", "order"});
    image["order"].text_of({"rgb"});
    spec.images.push_back({image["camera"].text(), static_cast<int>(image["height"].integer(1, 16384)),
                           static_cast<int>(image["width"].integer(1, 16384))});
  }
  return spec;
}

ActionSpec read_action(const ManifestNode& node) {
  node.check_keys({"names", "units", "min", "max", "rate_limit", "hold"});
  ActionSpec spec;
  spec.names = node["names"].texts();
  spec.units = node["units"].texts();
  spec.min = node["min"].numbers<float>();
  spec.max = node["max"].numbers<float>();
  spec.hold = node["hold"].numbers<float>();
  if (const ManifestNode limit = node["rate_limit"]; !limit.is_null()) {
    spec.rate_limit = limit.numbers<float>();
    if (spec.rate_limit.empty()) limit.refuse("null, or one value per action");
  }
  return spec;
}

Normalization read_normalization(const ManifestNode& node) {
  const std::string mode = node["mode"].text_of({"min_max", "mean_std", "identity"});
  if (mode == "identity") {
    node.check_keys({"mode"});
    return {mode, {}, {}};
  }
  const char* low = mode == "min_max" ? "min" : "mean";
  const char* high = mode == "min_max" ? "max" : "std";
  node.check_keys({"mode", low, high});
  return {mode, node[low].numbers<double>(), node[high].numbers<double>()};
}

SamplerSpec read_sampler(const ManifestNode& node) {
  node.check_keys({"kind", "train_steps", "inference_steps", "beta_schedule", "beta_start", "beta_end",
                   "betas", "prediction", "clip_sample", "clip_range", "timestep_rule", "steps_offset",
                   "set_alpha_to_one", "eta", "guidance", "noise"});
  SamplerSpec spec;
  spec.kind = node["kind"].text();
  spec.train_steps = static_cast<int>(node["train_steps"].integer(1, 1'000'000));
  spec.inference_steps = static_cast<int>(node["inference_steps"].integer(1, spec.train_steps));
  spec.beta_schedule = node["beta_schedule"].text();
  spec.beta_start = node["beta_start"].number();
  spec.beta_end = node["beta_end"].number();
  spec.betas = node["betas"].numbers<double>();
  spec.prediction = node["prediction"].text();
  spec.clip_sample = node["clip_sample"].boolean();
  spec.clip_range = node["clip_range"].number();
  spec.timestep_rule = node["timestep_rule"].text();
  spec.steps_offset = static_cast<int>(node["steps_offset"].integer(0, spec.train_steps));
  spec.set_alpha_to_one = node["set_alpha_to_one"].boolean();
  spec.eta = node["eta"].number();
  spec.guidance = node["guidance"].number();
  spec.noise = node["noise"].text();
  return spec;
}

TensorSpec read_tensor(const ManifestNode& node) {
  node.check_keys({"name", "dtype", "shape", "role"});
  TensorSpec spec;
  spec.name = node["name"].text();
  if (spec.name.empty()) node["name"].refuse("a name");
  const std::string dtype = node["dtype"].text_of({"float32", "int64", "uint8"});
  spec.dtype = dtype == "float32" ? DType::float32 : dtype == "int64" ? DType::int64 : DType::uint8;
  std::int64_t elements = 1;
  for (const ManifestNode& extent : node["shape"].items()) {
    spec.shape.push_back(extent.integer(1, kMaxCount / elements));
    elements *= spec.shape.back();
  }
  spec.role = node["role"].text();
  return spec;
}

GraphSpec read_graph(const ManifestNode& node) {
  node.check_keys({"file", "sha256", "inputs", "outputs"});
  GraphSpec spec{node["file"].text(), node["sha256"].text(), {}, {}};
  for (const ManifestNode& tensor : node["inputs"].items()) spec.inputs.push_back(read_tensor(tensor));
  for (const ManifestNode& tensor : node["outputs"].items()) spec.outputs.push_back(read_tensor(tensor));
  return spec;
}

void check_format(const ManifestNode& root) {
  if (root["format"].text() != "keystep-bundle") root["format"].refuse("\"keystep-bundle\"");
  const std::int64_t version = root["version"].integer(1, kMaxCount);
  if (version > kManifestVersion) {
    root["version"].refuse("at most " + std::to_string(kManifestVersion) +
                           " (a newer keystep wrote this bundle)");
  }
  root.check_keys({"format", "version", "name", "family", "control_rate_hz", "observation", "goal", "tasks",
                   "action", "normalization", "chunk", "sampler", "graphs", "golden", "provenance"});
  root["golden"].check_keys({"file", "sha256"});
  root["graphs"].check_keys({"encode"}, {"denoise", "sample"});
  root["provenance"].members();  // an object; its content is free
}

Bundle read_bundle(const ManifestNode& root) {
  check_format(root);
  Bundle bundle;
  bundle.name = root["name"].text();
  bundle.family = root["family"].text_of({"flat"});
  bundle.control_rate_hz = root["control_rate_hz"].number();
  bundle.observation = read_observation(root["observation"]);
  bundle.goal = root["goal"].text_of({"none", "observation"});
  for (const ManifestNode& task : root["tasks"].items()) {
    task.check_keys({"name", "instruction"});
    bundle.tasks.push_back({task["name"].text(), task["instruction"].text()});
  }
  bundle.action = read_action(root["action"]);
  for (const auto& [key, node] : root["normalization"].members()) {
    bundle.normalization[key] = read_normalization(node);
  }
  const ManifestNode chunk = root["chunk"];
  chunk.check_keys({"horizon", "execute", "merge"});
  bundle.chunk.horizon = static_cast<int>(chunk["horizon"].integer(1, 65536));
  bundle.chunk.execute = static_cast<int>(chunk["execute"].integer(1, bundle.chunk.horizon));
  bundle.chunk.merge = chunk["merge"].text_of({"consumed_index"});
  bundle.sampler = read_sampler(root["sampler"]);
  for (const auto& [key, node] : root["graphs"].members()) bundle.graphs[key] = read_graph(node);
  return bundle;
}

}  // namespace

const char* name(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::int64:
      return "int64";
    case DType::uint8:
      return "uint8";
  }
  return "unknown";
}

std::size_t size_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32:
      return 4;
    case DType::int64:
      return 8;
    case DType::uint8:
      return 1;
  }
  return 0;
}

std::size_t TensorSpec::elements() const noexcept {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  return count;
}

Bundle load_bundle(const fs::path& folder) {
  std::string text = read_manifest(folder);
  const json manifest = parse_json(text);
  const ManifestNode root(manifest, "");
  Bundle bundle = read_bundle(root);
  check_consistency(bundle);
  for (const auto& [key, graph] : root["graphs"].members()) check_file(folder, graph);
  check_file(folder, root["golden"]);
  bundle.folder = fs::canonical(folder);
  bundle.manifest_json = std::move(text);
  return bundle;
}

}  // namespace keystep
