// Physical values to what the network was trained on, and back.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/observation.hpp"

namespace keystep {

/// One vector key (state, goal state or action). Computed in double: offsets may be large against the range.
class VectorNormalizer {
 public:
  VectorNormalizer(const Normalization& stats, std::size_t dim);
  /// Both take whole rows of `dim` values: input.size() == output.size(), a multiple of dim.
  void normalize(std::span<const float> input, float* output) const noexcept;
  void unnormalize(std::span<const float> input, float* output) const noexcept;

 private:
  std::vector<double> scale_, shift_;  // network = scale * physical + shift
};

/// One camera: HWC bytes to normalised CHW floats. A byte has 256 values, so a table holds the whole formula.
class ImageNormalizer {
 public:
  explicit ImageNormalizer(const Normalization& stats);
  void normalize(const ImageView& image, float* output) const noexcept;

 private:
  std::array<std::array<float, 256>, 3> table_;
};

}  // namespace keystep
