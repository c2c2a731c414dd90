// Bundles written by the tests: a policy of 3 state values, 2 actions, horizon 4, DDIM with 3 of 10 steps.
#pragma once

#include <stdlib.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engines/engines.hpp"
#include "keystep/bundle.hpp"
#include "keystep/engine.hpp"
#include "keystep/observation.hpp"

namespace keystep::test {

namespace fs = std::filesystem;

/// A folder of its own, removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "keystep-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = pattern;
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

inline void write_file(const fs::path& file, const std::string& content) {
  std::ofstream(file, std::ios::binary) << content;
}

inline FileContent content_with(const std::string& bytes) {
  FileContent content(bytes.size());
  std::memcpy(content.data(), bytes.data(), bytes.size());
  return content;
}

/// The content of every file of a folder.
inline Files files_in(const fs::path& folder) {
  Files files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(in), {});
    files[entry.path().filename().string()] = std::make_shared<FileContent>(content_with(bytes));
  }
  return files;
}

/// A graph of the engine, or of what has the same `load`, on the tensors of a session. `rows`: by default the
/// graph's alone.
template <class AnyEngine>
std::unique_ptr<Graph> bound(AnyEngine& engine, const Files& files, const GraphSpec& spec, Tensors& tensors,
                             std::vector<int> rows = {}) {
  const auto model = engine.load(files, spec, rows.empty() ? std::vector<int>{spec.rows} : rows);
  tensors.add(spec);
  return model->bind(tensors);
}

inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("the test's manifest has no " + from);
  return text.replace(at, from.size(), to);
}

/// An observation with its views.
template <std::size_t N>
struct Seen {
  std::array<FeatureView, N> features;
  std::int64_t timestamp_us = -1, now_us = -1;
  operator Observation() const { return {features, timestamp_us, now_us}; }
  Seen at(std::int64_t stamp, std::int64_t now = -1) const { return {features, stamp, now}; }
};
template <class... Views>
Seen<sizeof...(Views)> seen(const Views&... views) {
  return {{FeatureView(views)...}};
}

inline const std::string kManifest = R"({
  "format": "keystep-bundle", "version": 5, "name": "test", "family": "flat", "control_rate_hz": 50.0,
  "observation": [
    {"key": "observation.state", "kind": "vector", "dtype": "float32", "shape": [3], "history": 1,
     "names": ["x", "y", "z"], "normalization": {"mode": "mean_std", "mean": [1, 2, 3], "std": [1, 2, 4]}}],
  "goal": "none",
  "tasks": [{"name": "lift", "instruction": "Lift it."}, {"name": "push", "instruction": "Push it."}],
  "action": {"names": ["dx", "dy"], "units": ["m", "m"], "min": [-100, -100], "max": [100, 100],
             "rate_limit": null, "hold": {"mode": "values", "values": [0, 0.5]},
             "normalization": {"mode": "min_max", "min": [-2, 0], "max": [2, 10]}},
  "chunk": {"horizon": 4, "execute": 3, "start": 0, "merge": "consumed_index"},
  "planner": null,
  "sampler": {"kind": "ddim", "train_steps": 10, "inference_steps": 3, "beta_schedule": "squaredcos_cap_v2",
              "beta_start": 0.0001, "beta_end": 0.02, "betas": [], "prediction": "epsilon", "clip_sample": true,
              "clip_range": 1.0, "timestep_rule": "leading", "steps_offset": 0, "set_alpha_to_one": true,
              "eta": 0.0, "guidance": 0.0, "noise": "philox4x32-10"},
  "unet": null,
  "graphs": {
    "encode": {"file": "encode.onnx", "sha256": "ENCODE_HASH",
      "inputs": [{"name": "state", "dtype": "float32", "shape": [1, 3], "role": "observation.state"},
                 {"name": "task", "dtype": "int64", "shape": [1], "role": "task"}],
      "outputs": [{"name": "film", "dtype": "float32", "shape": [1, 6], "role": "condition"}]},
    "denoise": {"file": "denoise.onnx", "sha256": "DENOISE_HASH",
      "inputs": [{"name": "noisy", "dtype": "float32", "shape": [1, 4, 2], "role": "sample"},
                 {"name": "t", "dtype": "int64", "shape": [1], "role": "timestep"},
                 {"name": "film", "dtype": "float32", "shape": [1, 6], "role": "condition"}],
      "outputs": [{"name": "eps", "dtype": "float32", "shape": [1, 4, 2], "role": "model_output"}]}
  },
  "golden": {"file": "golden.npz", "sha256": "GOLDEN_HASH"},
  "provenance": {"anything": {"goes": [1, 2, null]}}
})";

/// The first action is relative to the state's last value.
inline const std::string kRelativeManifest =
    replaced(kManifest, R"("rate_limit": null)",
             R"("rate_limit": null, "relative": {"feature": "observation.state", "values": [2, null]})");

/// Gives each of these tensors, once per mention, the two rows of guidance.
inline std::string two_rows(std::string manifest, const std::vector<std::string>& tensors) {
  for (const std::string& tensor : tensors) {
    const std::string shape = "\"" + tensor + "\", \"dtype\": \"float32\", \"shape\": [";
    manifest = replaced(manifest, shape + "1", shape + "2");
  }
  return manifest;
}

/// With guidance: two branches in one batch.
inline std::string guided(const std::string& manifest, double lambda) {
  return two_rows(replaced(manifest, R"("guidance": 0.0)", R"("guidance": )" + std::to_string(lambda)),
                  {"film", "noisy", "film", "eps"});
}

/// The whole policy as one graph, without a sampler.
inline std::string one_step(std::string manifest) {
  const auto sampler = manifest.find(R"("sampler": {)"), unet = manifest.find(R"("unet": null)");
  manifest.replace(sampler, unet - sampler, "\"sampler\": null,\n  ");
  const auto denoise = manifest.find(R"("denoise": {)"), end = manifest.find("\n  },", denoise);
  manifest.erase(denoise, end - denoise);
  manifest = replaced(manifest, R"("encode": {"file": "encode.onnx", "sha256": "ENCODE_HASH")",
                      R"("act": {"file": "act.onnx", "sha256": "HASH_OF_ACT")");
  return replaced(manifest,
                  R"({"name": "film", "dtype": "float32", "shape": [1, 6], "role": "condition"}]},)",
                  R"({"name": "whole", "dtype": "float32", "shape": [1, 4, 2], "role": "actions"}]})");
}

/// The FiLM projection as a graph of its own, after encode.
inline std::string with_film(std::string manifest) {
  const std::string film = R"({"name": "film", "dtype": "float32", "shape": [1, 6], "role": "condition"}]})";
  const std::string condition =
      R"({"name": "condition", "dtype": "float32", "shape": [1, 5], "role": "condition"}])";
  return replaced(std::move(manifest), film, condition + R"(},
    "film": {"file": "film.onnx", "sha256": "HASH_OF_FILM",
      "inputs": [)" + condition + R"(,
      "outputs": [)" + film);
}

inline const std::string kHoldsLast = R"({"mode": "last"})";

/// The policy of kManifest with another hold.
inline std::string holding(const std::string& hold) {
  return replaced(kManifest, R"({"mode": "values", "values": [0, 0.5]})", hold);
}

inline const std::string kUnet = R"({"kind": "conditional_unet1d", "file": "unet.safetensors",
    "sha256": "HASH_OF_UNET", "down_dims": [8, 16], "kernel_size": 5, "groups": 4, "film_scale": true,
    "horizon": 4, "condition": 5, "precision": "bf16",
    "errors": {"bf16": {"max": 0.004, "rms": 0.001}, "int8": {"max": 0.02, "rms": 0.005}}})";

inline std::string with_unet(const std::string& manifest, const std::string& unet = kUnet) {
  return replaced(manifest, "\n  \"unet\": null", "\n  \"unet\": " + unet);
}

inline const std::string kCamera = R"({"key": "observation.images.static", "kind": "rgb", "dtype": "uint8",
     "shape": [2, 3, 3], "history": 1, "resize": false,
     "normalization": {"mode": "mean_std", "mean": [0.5, 0, 0], "std": [0.5, 1, 1]}})";
inline const std::string kDepth = R"({"key": "observation.depth.wrist", "kind": "depth", "dtype": "float32",
     "shape": [2, 4], "history": 1, "normalization": {"mode": "min_max", "min": [0], "max": [2]}})";

/// One more feature after the state, and the tensor of encode that takes it.
inline std::string with_feature(std::string manifest, const std::string& feature, const std::string& tensor) {
  manifest = replaced(manifest, R"("std": [1, 2, 4]}})", R"("std": [1, 2, 4]}},
    )" + feature);
  return replaced(manifest, R"("role": "observation.state"},)", R"("role": "observation.state"},
      )" + tensor + ",");
}

/// One 2 x 3 camera beside the state, and the same as a goal.
inline std::string with_camera_and_goal(std::string manifest) {
  manifest = replaced(manifest, R"("goal": "none")", R"("goal": "observation")");
  return with_feature(manifest, kCamera,
                      R"({"name": "goal_state", "dtype": "float32", "shape": [1, 3], "role": "goal.state"},
      {"name": "image", "dtype": "float32", "shape": [1, 3, 2, 3], "role": "observation.images.static"},
      {"name": "goal_image", "dtype": "float32", "shape": [1, 3, 2, 3], "role": "goal.images.static"})");
}

/// A 2 x 4 depth camera beside the state.
inline std::string with_depth(const std::string& manifest) {
  return with_feature(
      manifest, kDepth,
      R"({"name": "depth", "dtype": "float32", "shape": [1, 1, 2, 4], "role": "observation.depth.wrist"})");
}

/// A controller that was trained to continue up to so many rows.
inline std::string masked(std::string manifest, int max_delay) {
  const std::string t = R"({"name": "t", "dtype": "int64", "shape": [1], "role": "timestep"},)";
  manifest = replaced(manifest, R"("merge": "consumed_index")",
                      R"("merge": "consumed_index", "max_delay": )" + std::to_string(max_delay));
  return replaced(manifest, t, t + R"(
                 {"name": "mask", "dtype": "float32", "shape": [1, 4, 1], "role": "prefix_mask"},)");
}

/// ACT's temporal ensembling, with m = 0.3.
inline std::string ensembled(const std::string& manifest) {
  return replaced(manifest, R"("execute": 3, "start": 0, "merge": "consumed_index")",
                  R"("execute": 1, "start": 0, "merge": "temporal_ensemble", "ensemble_decay": 0.3)");
}

/// Two frames of the state.
inline std::string with_history(std::string manifest) {
  manifest = replaced(manifest, R"("shape": [3], "history": 1)", R"("shape": [3], "history": 2)");
  return replaced(manifest, R"("shape": [1, 3], "role": "observation.state")",
                  R"("shape": [1, 2, 3], "role": "observation.state")");
}

/// Writes the graphs, golden data and the manifest with their hashes filled in. Graphs are any bytes unless a
/// real engine loads them.
inline void write_bundle(const fs::path& folder, std::string manifest = kManifest,
                         const std::string& encode = "encode graph",
                         const std::string& denoise = "denoise graph", const std::string& film = "film graph",
                         const std::string& unet = "weights") {
  fs::create_directories(folder);
  const std::vector<std::pair<std::string, std::pair<std::string, std::string>>> files = {
      {"ENCODE_HASH", {"encode.onnx", encode}},
      {"DENOISE_HASH", {"denoise.onnx", denoise}},
      {"HASH_OF_ACT", {"act.onnx", "whole policy"}},
      {"HASH_OF_FILM", {"film.onnx", film}},
      {"HASH_OF_UNET", {"unet.safetensors", unet}},
      {"HASH_OF_PLAN_UNET", {"plan_unet.safetensors", "weights of plans"}},
      {"HASH_OF_LAST_OF_PLAN", {"plan_film.onnx", "FiLM of plans"}},
      {"HASH_OF_TEXT", {"text.onnx", "text encoder"}},
      {"HASH_OF_PLAN_FILM", {"plan_encode.onnx", "once per plan"}},
      {"HASH_OF_PLAN_STEP", {"plan_denoise.onnx", "once per step"}},
      {"HASH_OF_SCORE", {"score.onnx", "which plan is best"}},
      {"GOLDEN_HASH", {"golden.npz", "golden"}}};
  for (const auto& [mark, file] : files) {
    write_file(folder / file.first, file.second);
    if (manifest.find(mark) != std::string::npos) {
      manifest = replaced(manifest, mark, sha256_file(folder / file.first));
    }
  }
  write_file(folder / "manifest.json", manifest);
}

}  // namespace keystep::test
