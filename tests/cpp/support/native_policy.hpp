// A policy whose denoiser is a U-Net with weights for the native engine; encode needs ONNX Runtime.
#pragma once

#include "policy_fixture.hpp"
#include "tiny_onnx.hpp"
#include "unet_fixture.hpp"

namespace keystep::test {

inline const UnetShape kUnetShape = {.actions = static_cast<int>(kDim),
                                     .horizon = static_cast<int>(kHorizon)};

/// A zero graph with the tensors of the U-Net's film.
inline std::string film_file() {
  const int width = film_width(kUnetShape);
  return TinyGraph()
      .input("condition", kOnnxFloat, {1, kUnetShape.condition})
      .constant("zeros", {kUnetShape.condition, width},
                std::vector<float>(static_cast<std::size_t>(kUnetShape.condition * width)))
      .node("MatMul", {"condition", "zeros"}, "film")
      .output("film", kOnnxFloat, {1, width})
      .file();
}

/// kManifest with this U-Net as its denoiser; encode runs on ONNX Runtime.
inline void write_native_policy(const fs::path& folder) {
  const std::string width = "[1, " + std::to_string(film_width(kUnetShape)) + "]";
  std::string manifest = with_unet(with_film(kManifest));
  for (int i = 0; i < 2; ++i) manifest = replaced(manifest, "[1, 6]", width);
  for (int i = 0; i < 2; ++i) manifest = replaced(manifest, "bf16", "fp32");
  const std::string encode = TinyGraph()
                                 .input("state", kOnnxFloat, {1, 3})
                                 .input("task", kOnnxInt64, {1})
                                 .constant("quarters", {3, 5}, std::vector<float>(15, 0.25f))
                                 .node("MatMul", {"state", "quarters"}, "condition")
                                 .output("condition", kOnnxFloat, {1, 5})
                                 .file();
  write_bundle(folder, manifest, encode, "denoise graph", film_file(),
               safetensors_file(file_tensors(random_weights(kUnetShape), "fp32")));
}

}  // namespace keystep::test
