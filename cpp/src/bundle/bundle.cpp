#include "keystep/bundle.hpp"

#include <algorithm>
#include <set>
#include <string_view>
#include <system_error>

#include "bundle/bundle_check.hpp"
#include "bundle/bundle_files.hpp"
#include "bundle/bundle_read.hpp"
#include "bundle/json_text.hpp"
#include "keystep/status.hpp"
#include "policy/feature_kind.hpp"
#include "support/readable.hpp"

namespace keystep {

namespace fs = std::filesystem;

namespace {
constexpr const char* kManifest = "manifest.json";
constexpr std::uintmax_t kMaxManifestBytes = std::uintmax_t{16} << 20;

/// For messages: the end of a path says most.
std::string name_of(const fs::path& folder) {
  constexpr std::size_t kMostOfPath = 1000;
  return readable(folder.string(), kMostOfPath);
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
    case DType::string:
      return "string";
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
    case DType::string:
      return sizeof(std::string);
  }
  return 0;
}

std::size_t TensorSpec::elements() const noexcept {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  return count;
}

const GraphSpec& observing_graph(const Bundle& bundle) {
  return bundle.graphs.at(bundle.graphs.contains("act") ? "act" : "encode");
}

std::string FeatureSpec::name() const { return key.substr(std::string_view(kObservationPrefix).size()); }

std::size_t subgoal_index(const Bundle& bundle) {
  if (!bundle.planner) {
    throw ArgumentError(expected("subgoal", "a bundle with a planner", "family " + bundle.family));
  }
  const auto found = std::ranges::find(bundle.observation, bundle.planner->subgoal, &FeatureSpec::key);
  return static_cast<std::size_t>(found - bundle.observation.begin());
}

std::vector<std::int64_t> subgoal_shape(const Bundle& bundle) {
  return network_frame(bundle.observation[subgoal_index(bundle)]);
}

std::size_t subgoal_size(const Bundle& bundle) {
  std::size_t count = 1;
  for (const std::int64_t extent : subgoal_shape(bundle)) count *= static_cast<std::size_t>(extent);
  return count;
}

void check_manifest(const std::string& manifest) {
  if (manifest.size() > kMaxManifestBytes) {
    throw BundleError(expected("manifest.json", "at most " + std::to_string(kMaxManifestBytes) + " bytes",
                               std::to_string(manifest.size())));
  }
  const nlohmann::json parsed = parse_json(manifest, kManifest);
  check_consistency(read_bundle(ManifestNode(parsed, "")));
}

std::string manifest_text(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw BundleError(expected(name_of(folder), "a bundle folder", error ? error.message() : "a file"));
  }
  if (!fs::exists(folder / kManifest, error) && fs::exists(folder / "policy.json", error)) {
    throw BundleError(expected(name_of(folder), "a bundle folder",
                               "a checkpoint (policy.json), of which keystep export makes a bundle"));
  }
  return read_text(file_inside(folder, kManifest, kManifest, kMaxManifestBytes), kManifest);
}

Bundle open_bundle(const fs::path& folder) {
  std::string text = manifest_text(folder);
  const nlohmann::json manifest = parse_json(text, kManifest);
  Bundle bundle = read_bundle(ManifestNode(manifest, ""));
  check_consistency(bundle);
  std::error_code error;
  bundle.folder = fs::canonical(folder, error);
  if (error) throw BundleError(expected(name_of(folder), "a bundle folder", error.message()));
  bundle.manifest_json = std::move(text);
  return bundle;
}

Bundle load_bundle(const fs::path& folder) {
  Bundle bundle = open_bundle(folder);
  std::set<std::string> kept;
  for (const auto& [key, graph] : bundle.graphs) {
    kept.insert(graph.file);
    for (const FileSpec& external : graph.external) kept.insert(external.file);
    if (graph.unet) kept.insert(graph.unet->file);
  }
  kept.insert(bundle.golden.file);
  read_files(bundle, kept);
  return bundle;
}

Bundle check_bundle(const fs::path& folder) {
  Bundle bundle = open_bundle(folder);
  read_files(bundle, {});
  return bundle;
}

}  // namespace keystep
