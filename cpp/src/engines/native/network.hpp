// A 1-D conditional U-Net (keystep.models.unet1d.ConditionalUnet1d), its weights packed for one CPU.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "engines/native/workspace.hpp"

namespace keystep::native {

/// What a U-Net is besides its weights. `inputs`: channels of a row, its actions and perhaps the mask of
/// given rows.
struct NetworkShape {
  int inputs = 0, actions = 0, horizon = 0, kernel_size = 0, groups = 0, train_steps = 0;
  std::vector<int> down_dims;
  bool film_scale = true;

  int levels() const noexcept { return static_cast<int>(down_dims.size()); }
  int length(int level) const noexcept { return horizon >> level; }
};

/// F: of the vectors of all residual blocks.
int film_width(const std::vector<int>& down_dims, bool film_scale) noexcept;

/// Convolution, GroupNorm, Mish.
struct ConvBlock {
  const Layer* layer = nullptr;
  GroupNorm norm;
};

struct ResidualBlock {
  ConvBlock first, second;
  const Layer* shortcut;  ///< null: the input itself is added
  int film;               ///< where its vector begins among all
};

/// Twice the length: output rows 2 j and 2 j + 1 are convolutions of their own.
using Grow = std::array<const Layer*, 2>;

class Network {
 public:
  /// Reads and packs the weights, on all of the team's threads. Throws BundleError.
  Network(const Safetensors& file, const NetworkShape& shape, const Kernels& kernels, Team& team);

  const NetworkShape& shape() const noexcept { return shape_; }
  const Layers& layers() const noexcept { return layers_; }
  /// [F] of a training time-step, the 1 of `1 + scale` included.
  const float* film_step(std::int64_t step) const noexcept {
    return film_steps_.data() + static_cast<std::size_t>(step) * static_cast<std::size_t>(film_width_);
  }
  int film_width() const noexcept { return film_width_; }

  // In the order in which they run; two blocks per level.
  std::vector<ResidualBlock> down, middle, up;
  std::vector<const Layer*> shrink;  ///< after each level but the last
  std::vector<Grow> grow;            ///< after each level upwards
  ConvBlock last;
  const Layer* project = nullptr;  ///< to actions

 private:
  class Builder;

  const NetworkShape shape_;
  Layers layers_;
  int film_width_ = 0;
  std::vector<float> film_steps_;
};

/// The FiLM projection of a condition, Linear after Mish, as a convolution over one row.
class FilmNetwork {
 public:
  /// `condition`: C; `width`: F. Throws BundleError.
  FilmNetwork(const Safetensors& file, int condition, int width, const Kernels& kernels, Team& team);

  const Layers& layers() const noexcept { return layers_; }
  const Layer& layer() const noexcept { return layers_.all().front(); }

 private:
  Layers layers_;
};

}  // namespace keystep::native
