// Physical values to what the network was trained on, and back.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"
#include "policy/resizer.hpp"

namespace keystep {

/// The manifest's names of `Normalization::low_or_mean` and `high_or_std`; of any mode but identity.
struct StatisticsKeys {
  const char* low;
  const char* high;
};
StatisticsKeys statistics_keys(const std::string& mode);

/// network = scale * physical + shift
struct Affine {
  double scale = 1, shift = 0;
};
/// Of dimension (or channel) `i`.
Affine affine(const Normalization& stats, std::size_t i);
/// From values that `from` made to those that `to` makes: both are affine, and so is their composition.
Affine composed(const Affine& from, const Affine& to);

/// One vector key (state, goal state or action). Computed in double: offsets may be large against the range.
class VectorNormalizer {
 public:
  VectorNormalizer(const Normalization& stats, std::size_t dim);
  /// Both take whole rows of `dim` values: input.size() == output.size(), a multiple of dim.
  void normalize(std::span<const float> input, float* output) const noexcept;
  void unnormalize(std::span<const float> input, float* output) const noexcept;

 private:
  std::vector<double> scale_, shift_;
};

/// One camera: HWC bytes to normalised CHW floats. A byte has 256 values, so a table holds the whole formula.
class ImageNormalizer {
 public:
  explicit ImageNormalizer(const Normalization& stats);
  void normalize(const ImageView& image, float* output) const noexcept;

 private:
  std::array<std::array<float, 256>, 3> table_;
};

/// From one network's normalised values to another's, for a subgoal that a planner hands to a controller.
class Renormalizer {
 public:
  /// Vectors have `dim` entries and `plane` = 1; CHW images have 3 channels and planes of height x width.
  Renormalizer(const Normalization& from, const Normalization& to, std::size_t dim, std::size_t plane = 1);
  /// Whole vectors or images: input.size() is a multiple of dim x plane. May be done in place.
  void apply(std::span<const float> input, float* output) const noexcept;

 private:
  std::vector<double> scale_, shift_;
  std::size_t plane_;
};

}  // namespace keystep
