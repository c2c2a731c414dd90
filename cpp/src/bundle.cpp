#include "keystep/bundle.hpp"

#include <array>
#include <fstream>
#include <set>
#include <system_error>

#include "bundle_check.hpp"
#include "bundle_read.hpp"
#include "keystep/status.hpp"
#include "manifest_node.hpp"

namespace keystep {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uintmax_t kMaxManifestBytes = std::uintmax_t{16} << 20;
constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{2} << 30;  // the limit of an ONNX protobuf
constexpr int kMaxDepth = 32;

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

/// The weights of the controller's U-Net, or of the planner's.
void check_unet_file(const fs::path& folder, const ManifestNode& owner) {
  if (owner.contains("unet") && !owner["unet"].is_null()) check_file(folder, owner["unet"]);
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

std::vector<std::int64_t> subgoal_shape(const Bundle& bundle) {
  if (!bundle.planner) {
    throw ArgumentError(expected("subgoal", "a bundle with a planner", "family " + bundle.family));
  }
  for (const ImageSpec& image : bundle.observation.images) {
    if (bundle.planner->subgoal == "observation.images." + image.camera)
      return {3, image.height, image.width};
  }
  return {static_cast<std::int64_t>(bundle.observation.state_names.size())};
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
  const json parsed = parse_json(manifest);
  check_consistency(read_bundle(ManifestNode(parsed, "")));
}

Bundle load_bundle(const fs::path& folder) {
  std::string text = read_manifest(folder);
  const json manifest = parse_json(text);
  const ManifestNode root(manifest, "");
  Bundle bundle = read_bundle(root);
  check_consistency(bundle);
  for (const auto& [key, graph] : root["graphs"].members()) check_file(folder, graph);
  check_unet_file(folder, root);
  if (bundle.planner) check_unet_file(folder, root["planner"]);
  check_file(folder, root["golden"]);
  bundle.folder = fs::canonical(folder);
  bundle.manifest_json = std::move(text);
  return bundle;
}

}  // namespace keystep
