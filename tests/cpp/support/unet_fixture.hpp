// U-Nets of random weights for the tests of the native engine: their file and their graphs.
#pragma once

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bundle_fixture.hpp"
#include "safetensors_writer.hpp"

namespace keystep::test {

struct UnetShape {
  std::vector<int> dims = {8, 16};
  int actions = 3, horizon = 8, condition = 5, rows = 1, kernel = 5, groups = 4, train_steps = 10;
  bool film_scale = true;

  std::string text() const {
    std::string text = "dims";
    for (const int dim : dims) text += " " + std::to_string(dim);
    for (const auto& [name, value] :
         std::initializer_list<std::pair<const char*, int>>{{"actions", actions},
                                                            {"horizon", horizon},
                                                            {"condition", condition},
                                                            {"rows", rows},
                                                            {"kernel", kernel},
                                                            {"groups", groups},
                                                            {"film_scale", film_scale}}) {
      text += std::string(", ") + name + " " + std::to_string(value);
    }
    return text;
  }
};

struct BlockShape {
  std::string name;
  int inputs, outputs;
};

/// Residual blocks in the order of their FiLM vectors.
inline std::vector<BlockShape> blocks_of(const UnetShape& shape) {
  std::vector<BlockShape> blocks;
  const auto two = [&](const std::string& name, int inputs, int outputs) {
    blocks.push_back({name + ".0", inputs, outputs});
    blocks.push_back({name + ".1", outputs, outputs});
  };
  const auto& dims = shape.dims;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    two("down." + std::to_string(i), i ? dims[i - 1] : shape.actions, dims[i]);
  }
  two("middle", dims.back(), dims.back());
  for (std::size_t i = 0; i + 1 < dims.size(); ++i) {
    const std::size_t level = dims.size() - 1 - i;
    two("up." + std::to_string(i), 2 * dims[level], dims[level - 1]);
  }
  return blocks;
}

inline int film_width(const UnetShape& shape) {
  int width = 0;
  for (const BlockShape& block : blocks_of(shape)) width += block.outputs * (shape.film_scale ? 2 : 1);
  return width;
}

/// Draws weights of the size that training starts from; the values are those of float32.
class WeightMaker {
 public:
  WeightMaker(const UnetShape& shape, unsigned seed) : random_(seed) {
    const auto& dims = shape.dims;
    for (const BlockShape& block : blocks_of(shape)) {
      conv_block(block.name + ".first", shape.kernel, block.inputs, block.outputs);
      conv_block(block.name + ".second", shape.kernel, block.outputs, block.outputs);
      if (block.inputs != block.outputs)
        convolution(block.name + ".shortcut", 1, block.inputs, block.outputs);
    }
    for (std::size_t i = 0; i + 1 < dims.size(); ++i) {
      convolution("shrink." + std::to_string(i), 3, dims[i], dims[i]);
      const int below = dims[dims.size() - 2 - i];
      convolution("grow." + std::to_string(i), 4, below, below);
    }
    conv_block("final.0", shape.kernel, dims[0], dims[0]);
    convolution("final.1", 1, dims[0], shape.actions);
    film(shape);
  }
  Weights weights;

 private:
  void convolution(const std::string& name, int taps, int inputs, int outputs) {
    tensor(name + ".weight", {taps, inputs, outputs}, 0, 1 / std::sqrt(double(taps) * inputs));
    tensor(name + ".bias", {outputs}, 0, 0.1);
  }
  void conv_block(const std::string& name, int taps, int inputs, int outputs) {
    convolution(name + ".0", taps, inputs, outputs);
    tensor(name + ".1.weight", {outputs}, 1, 0.2);
    tensor(name + ".1.bias", {outputs}, 0, 0.2);
  }
  void film(const UnetShape& shape) {
    const int width = film_width(shape);
    tensor("film.weight", {1, shape.condition, width}, 0, 0.3 / std::sqrt(double(shape.condition)));
    tensor("film.bias", {width}, 0, 0.1);
    StoredTensor& steps = tensor("film.steps", {shape.train_steps, width}, 0, 0.3);
    if (!shape.film_scale) return;
    std::vector<double> ones;  // the 1 of 1 + scale
    for (const BlockShape& block : blocks_of(shape)) {
      ones.insert(ones.end(), static_cast<std::size_t>(block.outputs), 1);
      ones.insert(ones.end(), static_cast<std::size_t>(block.outputs), 0);
    }
    for (std::size_t i = 0; i < steps.values.size(); ++i) {
      steps.values[i] = static_cast<float>(steps.values[i] + ones[i % ones.size()]);
    }
  }
  StoredTensor& tensor(const std::string& name, const std::vector<int>& extents, double mean, double spread) {
    std::size_t count = 1;
    for (const int extent : extents) count *= static_cast<std::size_t>(extent);
    std::normal_distribution<float> normal(static_cast<float>(mean), static_cast<float>(spread));
    StoredTensor made = {extents, Values(count)};
    for (double& value : made.values) value = normal(random_);
    return weights[name] = std::move(made);
  }
  std::mt19937 random_;
};

inline Weights random_weights(const UnetShape& shape, unsigned seed = 1) {
  return WeightMaker(shape, seed).weights;
}

/// A file that holds `precision`.
inline UnetSpec unet_spec(const UnetShape& shape, const std::string& precision = "fp32") {
  UnetSpec spec;
  spec.kind = "conditional_unet1d";
  spec.file = "unet.safetensors";
  spec.down_dims = shape.dims;
  spec.kernel_size = shape.kernel;
  spec.groups = shape.groups;
  spec.film_scale = shape.film_scale;
  spec.condition = shape.condition;
  spec.precision = precision;
  spec.train_steps = shape.train_steps;
  return spec;
}

using SharedUnet = std::shared_ptr<const UnetSpec>;

inline GraphSpec film_graph(const UnetShape& shape, SharedUnet unet) {
  const TensorSpec condition = {"condition", DType::float32, {shape.rows, shape.condition}, "condition"};
  const TensorSpec film = {"film", DType::float32, {shape.rows, film_width(shape)}, "condition"};
  return {"film.onnx", "", {condition}, {film}, std::move(unet), {}, shape.rows};
}

inline GraphSpec step_graph(const UnetShape& shape, SharedUnet unet) {
  const std::vector<std::int64_t> extents = {shape.rows, shape.horizon, shape.actions};
  const TensorSpec sample = {"sample", DType::float32, extents, "sample"};
  const TensorSpec timestep = {"timestep", DType::int64, {1}, "timestep"};
  const TensorSpec film = {"film", DType::float32, {shape.rows, film_width(shape)}, "condition"};
  const TensorSpec output = {"model_output", DType::float32, extents, "model_output"};
  return {"denoise.onnx", "", {sample, timestep, film}, {output}, std::move(unet), {}, shape.rows};
}

/// A folder with a U-Net's file; `weights` are what the file holds before `precision` rounds them.
struct UnetFolder {
  UnetFolder(const UnetShape& shape_, const Weights& weights_, const std::string& precision = "fp32")
      : shape(shape_), weights(weights_), spec(std::make_shared<UnetSpec>(unet_spec(shape_, precision))) {
    write_file(path() / spec->file, safetensors_file(file_tensors(weights, precision)));
  }
  const fs::path& path() const { return folder.path(); }

  UnetShape shape;
  Weights weights;
  TemporaryFolder folder;
  SharedUnet spec;
};

}  // namespace keystep::test
