#include "engines/native/network.hpp"

#include <algorithm>
#include <numeric>

namespace keystep::native {

/// Walks through the network once, as ConditionalUnet1d.run does, and makes its layers.
class Network::Builder {
 public:
  Builder(Network& network, const Safetensors& file) : net_(network), shape_(network.shape_), file_(file) {}

  void build() {
    down();
    const Channels &deepest = dims(shape_.down_dims.back()), &first = dims(shape_.down_dims.front());
    for (const char* name : {"middle.0", "middle.1"}) {
      net_.middle.push_back(block(name, {&deepest}, deepest, shape_.levels() - 1));
    }
    up();
    net_.last = conv_block("final.0", {&first}, first, 0);
    net_.project = layer("final.1", same_length({&first}, alone(shape_.actions), 0, 1), 1);
    net_.film_steps_ = read_floats(file_, "film.steps", {shape_.train_steps, net_.film_width_});
  }

 private:
  /// Threads share channels by whole groups of GroupNorm, and never part a pair that bf16 kernels add at
  /// once: so the bits of a result do not depend on the number of threads.
  const Channels& dims(int count) {
    const int width = count / shape_.groups;
    return net_.layers_.channels(count, width % 2 == 0 ? width : 2 * width);
  }
  /// One thread has them all, unless a residual adds them to channels that are shared.
  const Channels& alone(int count) {
    const bool added = count == shape_.down_dims.front();
    return added ? dims(count) : net_.layers_.channels(count, count);
  }

  void down() {
    const Channels* inputs = &alone(shape_.inputs);
    for (int level = 0; level < shape_.levels(); ++level) {
      const Channels& outputs = dims(shape_.down_dims[level]);
      const std::string name = "down." + std::to_string(level) + ".";
      net_.down.push_back(block(name + "0", {inputs}, outputs, level));
      net_.down.push_back(block(name + "1", {&outputs}, outputs, level));
      inputs = &outputs;
      if (level + 1 == shape_.levels()) continue;
      const LayerShape half{
          {&outputs}, &outputs, shape_.length(level), shape_.length(level + 1), 2, {{0, -1}, {1, 0}, {2, 1}}};
      net_.shrink.push_back(layer("shrink." + std::to_string(level), half, 3));
    }
  }

  void up() {
    for (int level = shape_.levels() - 1, i = 0; level > 0; --level, ++i) {
      const Channels &below = dims(shape_.down_dims[level]), &outputs = dims(shape_.down_dims[level - 1]);
      const std::string name = "up." + std::to_string(i) + ".";
      net_.up.push_back(block(name + "0", {&below, &below}, outputs, level));
      net_.up.push_back(block(name + "1", {&outputs}, outputs, level));
      grow("grow." + std::to_string(i), outputs, shape_.length(level));
    }
  }

  /// A transposed convolution of kernel 4, stride 2, padding 1: row 2 j is x_j W_1 + x_{j-1} W_3, row 2 j + 1
  /// is x_{j+1} W_0 + x_j W_2.
  void grow(const std::string& name, const Channels& kept, int length) {
    const Layer* even = layer(name, {{&kept}, &kept, length, length, 1, {{1, 0}, {3, -1}}}, 4);
    const Layer* odd = layer(name, {{&kept}, &kept, length, length, 1, {{0, 1}, {2, 0}}}, 4);
    net_.grow.push_back({even, odd});
  }

  ResidualBlock block(const std::string& name, const std::vector<const Channels*>& inputs,
                      const Channels& outputs, int level) {
    ResidualBlock block{conv_block(name + ".first", inputs, outputs, level), {}, nullptr, net_.film_width_};
    if (inputs.size() * static_cast<std::size_t>(inputs[0]->count()) !=
        static_cast<std::size_t>(outputs.count())) {
      block.shortcut = layer(name + ".shortcut", same_length(inputs, outputs, level, 1), 1);
    }
    block.second = conv_block(name + ".second", {&outputs}, outputs, level);
    net_.film_width_ += outputs.count() * (shape_.film_scale ? 2 : 1);
    return block;
  }

  ConvBlock conv_block(const std::string& name, const std::vector<const Channels*>& inputs,
                       const Channels& outputs, int level) {
    const int size = shape_.kernel_size;
    const Layer* conv = layer(name + ".0", same_length(inputs, outputs, level, size), size);
    return {conv, {padded(name + ".1.weight", outputs), padded(name + ".1.bias", outputs)}};
  }

  LayerShape same_length(const std::vector<const Channels*>& inputs, const Channels& outputs, int level,
                         int size) {
    LayerShape shape{inputs, &outputs, shape_.length(level), shape_.length(level), 1, {}};
    for (int k = 0; k < size; ++k) shape.taps.push_back({k, k - size / 2});
    return shape;
  }

  const Layer* layer(const std::string& name, const LayerShape& shape, int kernel_size) {
    return &net_.layers_.add(name, shape, kernel_size);
  }

  std::vector<float> padded(const std::string& name, const Channels& channels) {
    const std::vector<float> values = read_floats(file_, name, {channels.count()});
    std::vector<float> result(static_cast<std::size_t>(channels.padded()));
    for (const Segment& segment : channels.segments()) {
      std::copy_n(values.begin() + segment.first, segment.count, result.begin() + segment.offset);
    }
    return result;
  }

  Network& net_;
  const NetworkShape& shape_;
  const Safetensors& file_;
};

Network::Network(const Safetensors& file, const NetworkShape& shape, const Kernels& kernels, Team& team)
    : shape_(shape), layers_(file, kernels, team.size()) {
  Builder(*this, file).build();
  layers_.pack(team);
}

int film_width(const std::vector<int>& down_dims, bool film_scale) noexcept {
  // Two blocks at each level on the way down, two in the middle, two at each level on the way up.
  const int channels = 4 * std::accumulate(down_dims.begin(), down_dims.end(), 0);
  return channels * (film_scale ? 2 : 1);
}

FilmNetwork::FilmNetwork(const Safetensors& file, int condition, int width, const Kernels& kernels,
                         Team& team)
    : layers_(file, kernels, team.size()) {
  constexpr int kUnit = 16;  // outputs of no group
  const LayerShape row{
      {&layers_.channels(condition, condition)}, &layers_.channels(width, kUnit), 1, 1, 1, {{0, 0}}};
  layers_.add("film", row, 1);
  layers_.pack(team);
}

}  // namespace keystep::native
