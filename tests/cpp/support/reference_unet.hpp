// The 1-D conditional U-Net of python/keystep/models/unet1d.py as its equations have it: slow, in double, one
// sum at a time, over the tensors of the bundle's weights file (docs/bundle.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"

namespace keystep::test {

struct StoredTensor {
  std::vector<int> shape;  ///< of a convolution [tap, in, out]
  std::vector<double> values;
};
using Weights = std::map<std::string, StoredTensor>;
using Values = std::vector<double>;
using Sequence = std::vector<Values>;  ///< [time][channel]

inline double mish(double x) { return x * std::tanh(std::log1p(std::exp(x))); }

class ReferenceUnet {
 public:
  /// `operand` is applied to what every convolution reads: engines that round there can be imitated.
  ReferenceUnet(const UnetSpec& spec, const Weights& weights, std::function<void(Sequence&)> operand = {})
      : spec_(spec), weights_(weights), operand_(std::move(operand)) {}

  /// Graph `film`: a condition [C] -> the half of the FiLM vectors that does not depend on the step [F].
  Values film(const Values& condition) const {
    const StoredTensor &weight = weights_.at("film.weight"), &bias = weights_.at("film.bias");
    Values film = bias.values;
    for (std::size_t c = 0; c < condition.size(); ++c) {
      for (std::size_t f = 0; f < film.size(); ++f) {
        film[f] += mish(condition[c]) * weight.values[c * film.size() + f];
      }
    }
    return film;
  }

  /// Graph `denoise`: actions [H][A] and one row of `film` [F] -> the model's output [H][A].
  Sequence run(Sequence x, int timestep, Values film) const {
    const Values& steps = weights_.at("film.steps").values;
    for (std::size_t f = 0; f < film.size(); ++f) {
      film[f] += steps[static_cast<std::size_t>(timestep) * film.size() + f];
    }
    const double* vector = film.data();
    std::vector<Sequence> skips;
    const std::size_t levels = spec_.down_dims.size();
    for (std::size_t level = 0; level < levels; ++level) {
      x = two_blocks(x, "down." + std::to_string(level), vector);
      skips.push_back(x);
      if (level + 1 < levels) x = convolution(x, "shrink." + std::to_string(level), 2);
    }
    x = two_blocks(x, "middle", vector);
    for (std::size_t level = 0; level + 1 < levels; ++level) {
      x = two_blocks(concatenated(x, skips.back()), "up." + std::to_string(level), vector);
      skips.pop_back();
      x = grown(x, "grow." + std::to_string(level));
    }
    return convolution(conv_block(x, "final.0"), "final.1");
  }

 private:
  /// Consumes the two blocks' FiLM vectors.
  Sequence two_blocks(const Sequence& x, const std::string& name, const double*& film) const {
    return residual_block(residual_block(x, name + ".0", film), name + ".1", film);
  }

  Sequence residual_block(const Sequence& x, const std::string& name, const double*& film) const {
    Sequence h = conv_block(x, name + ".first");
    const std::size_t channels = h.front().size();
    const double* bias = film + (spec_.film_scale ? channels : 0);
    for (Values& at : h) {
      for (std::size_t c = 0; c < channels; ++c) at[c] = at[c] * (spec_.film_scale ? film[c] : 1) + bias[c];
    }
    film = bias + channels;
    h = conv_block(h, name + ".second");
    const bool projected = weights_.contains(name + ".shortcut.weight");
    const Sequence shortcut = projected ? convolution(x, name + ".shortcut") : x;
    for (std::size_t t = 0; t < h.size(); ++t) {
      for (std::size_t c = 0; c < channels; ++c) h[t][c] += shortcut[t][c];
    }
    return h;
  }

  /// Convolution, GroupNorm, Mish.
  Sequence conv_block(const Sequence& x, const std::string& name) const {
    Sequence h = convolution(x, name + ".0");
    normalize(h, name + ".1");
    for (Values& at : h) std::transform(at.begin(), at.end(), at.begin(), mish);
    return h;
  }

  /// Zeros around it; the middle tap of an output at time t reads time t * stride.
  Sequence convolution(Sequence x, const std::string& name, int stride = 1) const {
    if (operand_) operand_(x);
    const StoredTensor& weight = weights_.at(name + ".weight");
    const int taps = weight.shape[0], length = static_cast<int>(x.size());
    Sequence y(static_cast<std::size_t>((length + stride - 1) / stride), weights_.at(name + ".bias").values);
    for (int t = 0; t < static_cast<int>(y.size()); ++t) {
      for (int k = 0; k < taps; ++k) {
        const int from = t * stride + k - taps / 2;
        if (from >= 0 && from < length) accumulate(y[std::size_t(t)], x[std::size_t(from)], weight, k);
      }
    }
    return y;
  }

  /// The transposed convolution with 4 taps, stride 2, padding 1: twice as long.
  Sequence grown(Sequence x, const std::string& name) const {
    if (operand_) operand_(x);
    const StoredTensor& weight = weights_.at(name + ".weight");
    Sequence y(2 * x.size(), weights_.at(name + ".bias").values);
    for (int t = 0; t < static_cast<int>(x.size()); ++t) {
      for (int k = 0; k < 4; ++k) {
        const int to = 2 * t + k - 1;
        if (to >= 0 && to < static_cast<int>(y.size())) {
          accumulate(y[std::size_t(to)], x[std::size_t(t)], weight, k);
        }
      }
    }
    return y;
  }

  /// y += x W[tap].
  static void accumulate(Values& y, const Values& x, const StoredTensor& weight, int tap) {
    const double* w = weight.values.data() + std::size_t(tap) * x.size() * y.size();
    for (const double value : x) {
      for (double& sum : y) sum += value * *w++;
    }
  }

  void normalize(Sequence& x, const std::string& name) const {
    const Values &weight = weights_.at(name + ".weight").values, &bias = weights_.at(name + ".bias").values;
    const std::size_t width = weight.size() / static_cast<std::size_t>(spec_.groups);
    const double count = static_cast<double>(width * x.size());
    for (std::size_t first = 0; first < weight.size(); first += width) {
      double mean = 0, variance = 0;
      for (const Values& at : x) {
        for (std::size_t c = first; c < first + width; ++c) mean += at[c] / count;
      }
      for (const Values& at : x) {
        for (std::size_t c = first; c < first + width; ++c)
          variance += (at[c] - mean) * (at[c] - mean) / count;
      }
      for (Values& at : x) {
        for (std::size_t c = first; c < first + width; ++c) {
          at[c] = (at[c] - mean) / std::sqrt(variance + 1e-5) * weight[c] + bias[c];
        }
      }
    }
  }

  static Sequence concatenated(Sequence x, const Sequence& skip) {
    for (std::size_t t = 0; t < x.size(); ++t) x[t].insert(x[t].end(), skip[t].begin(), skip[t].end());
    return x;
  }

  const UnetSpec& spec_;
  const Weights& weights_;
  std::function<void(Sequence&)> operand_;
};

}  // namespace keystep::test
