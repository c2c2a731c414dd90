// Bundles written by the tests: a policy of 3 state values, 2 actions, horizon 4, DDIM with 3 of 10 steps.
#pragma once

#include <stdlib.h>

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

inline const std::string kManifest = R"({
  "format": "keystep-bundle", "version": 1, "name": "test", "family": "flat", "control_rate_hz": 50.0,
  "observation": {"state": {"names": ["x", "y", "z"]}, "images": []},
  "goal": "none",
  "tasks": [{"name": "lift", "instruction": "Lift it."}, {"name": "push", "instruction": "Push it."}],
  "action": {"names": ["dx", "dy"], "units": ["m", "m"], "min": [-100, -100], "max": [100, 100],
             "rate_limit": null, "hold": [0, 0.5]},
  "normalization": {"observation.state": {"mode": "mean_std", "mean": [1, 2, 3], "std": [1, 2, 4]},
                    "action": {"mode": "min_max", "min": [-2, 0], "max": [2, 10]}},
  "chunk": {"horizon": 4, "execute": 3, "merge": "consumed_index"},
  "sampler": {"kind": "ddim", "train_steps": 10, "inference_steps": 3, "beta_schedule": "squaredcos_cap_v2",
              "beta_start": 0.0001, "beta_end": 0.02, "betas": [], "prediction": "epsilon", "clip_sample": true,
              "clip_range": 1.0, "timestep_rule": "leading", "steps_offset": 0, "set_alpha_to_one": true,
              "eta": 0.0, "guidance": 0.0, "noise": "philox4x32-10"},
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

/// The same policy in version 2 of the manifest.
inline std::string version_2(std::string manifest) {
  manifest = replaced(manifest, R"("version": 1)", R"("version": 2, "planner": null)");
  const std::string order = R"("order": "rgb"})";
  if (manifest.find(order) != std::string::npos) {
    manifest = replaced(manifest, order, R"("order": "rgb", "resize": false})");
  }
  return manifest;
}

/// The whole policy as one graph, without a sampler.
inline std::string one_step(std::string manifest) {
  manifest = version_2(std::move(manifest));
  const auto sampler = manifest.find(R"("sampler": {)"), graphs = manifest.find(R"("graphs": {)");
  manifest.replace(sampler, graphs - sampler, "\"sampler\": null,\n  ");
  const auto denoise = manifest.find(R"("denoise": {)"), end = manifest.find("\n  },", denoise);
  manifest.erase(denoise, end - denoise);
  manifest = replaced(manifest, R"("encode": {"file": "encode.onnx", "sha256": "ENCODE_HASH")",
                      R"("act": {"file": "act.onnx", "sha256": "HASH_OF_ACT")");
  return replaced(manifest,
                  R"({"name": "film", "dtype": "float32", "shape": [1, 6], "role": "condition"}]},)",
                  R"({"name": "whole", "dtype": "float32", "shape": [1, 4, 2], "role": "actions"}]})");
}

/// A manifest of version 2 in version 3: the FiLM projection is a graph of its own, after encode.
inline std::string version_3(std::string manifest) {
  manifest = replaced(std::move(manifest), R"("version": 2)", R"("version": 3, "unet": null)");
  const std::string film = R"({"name": "film", "dtype": "float32", "shape": [1, 6], "role": "condition"}]})";
  const std::string condition =
      R"({"name": "condition", "dtype": "float32", "shape": [1, 5], "role": "condition"}])";
  return replaced(manifest, film, condition + R"(},
    "film": {"file": "film.onnx", "sha256": "HASH_OF_FILM",
      "inputs": [)" + condition + R"(,
      "outputs": [)" + film);
}

inline const std::string kHoldsLast = R"({"mode": "last"})";

/// A manifest of version 3 in version 4: the hold has a mode.
inline std::string version_4(std::string manifest,
                             const std::string& hold = R"({"mode": "values", "values": [0, 0.5]})") {
  manifest = replaced(std::move(manifest), R"("version": 3)", R"("version": 4)");
  return replaced(manifest, R"("hold": [0, 0.5])", R"("hold": )" + hold);
}

/// The policy of kManifest in version 4.
inline std::string holding(const std::string& hold) {
  return version_4(version_3(version_2(kManifest)), hold);
}

inline const std::string kUnet = R"({"kind": "conditional_unet1d", "file": "unet.safetensors",
    "sha256": "HASH_OF_UNET", "down_dims": [8, 16], "kernel_size": 5, "groups": 4, "film_scale": true,
    "horizon": 4, "condition": 5, "precision": "bf16",
    "errors": {"bf16": {"max": 0.004, "rms": 0.001}, "int8": {"max": 0.02, "rms": 0.005}}})";

inline std::string with_unet(const std::string& manifest, const std::string& unet = kUnet) {
  return replaced(manifest, R"("unet": null)", R"("unet": )" + unet);
}

/// One 2 x 3 camera beside the state, and the same as a goal.
inline std::string with_camera_and_goal(std::string manifest) {
  manifest = replaced(manifest, R"("images": [])",
                      R"("images": [{"camera": "static", "height": 2, "width": 3, "order": "rgb"}])");
  manifest = replaced(manifest, R"("goal": "none")", R"("goal": "observation")");
  manifest = replaced(manifest, R"("action": {"mode")", R"("observation.images.static": {"mode": "mean_std",
      "mean": [0.5, 0, 0], "std": [0.5, 1, 1]}, "action": {"mode")");
  return replaced(manifest, R"("role": "observation.state"},)", R"("role": "observation.state"},
      {"name": "goal_state", "dtype": "float32", "shape": [1, 3], "role": "goal.state"},
      {"name": "image", "dtype": "float32", "shape": [1, 3, 2, 3], "role": "observation.images.static"},
      {"name": "goal_image", "dtype": "float32", "shape": [1, 3, 2, 3], "role": "goal.images.static"},)");
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
