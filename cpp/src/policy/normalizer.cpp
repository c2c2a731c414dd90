#include "policy/normalizer.hpp"

namespace keystep {

StatisticsKeys statistics_keys(const std::string& mode) {
  if (mode == "mean_std") return {"mean", "std"};
  return mode == "quantile" ? StatisticsKeys{"low", "high"} : StatisticsKeys{"min", "max"};
}

/// min_max, quantile: 2 (x - low) / (high - low) - 1;  mean_std: (x - mean) / std.
Affine affine(const Normalization& stats, std::size_t i) {
  if (stats.mode == "identity") return {};
  const double low = stats.low_or_mean[i], high = stats.high_or_std[i];
  if (stats.mode != "mean_std") return {2 / (high - low), -2 * low / (high - low) - 1};
  return {1 / high, -low / high};
}

Affine composed(const Affine& from, const Affine& to) {
  const double scale = to.scale / from.scale;
  return {scale, to.shift - scale * from.shift};
}

VectorNormalizer::VectorNormalizer(const Normalization& stats, std::size_t dim) {
  for (std::size_t i = 0; i < dim; ++i) {
    const Affine a = affine(stats, i);
    scale_.push_back(a.scale);
    shift_.push_back(a.shift);
  }
}

void VectorNormalizer::normalize(std::span<const float> input, float* output) const noexcept {
  if (const std::size_t dim = scale_.size(); dim == 1) {  // an image: no division per pixel
    for (std::size_t i = 0; i < input.size(); ++i) {
      output[i] = static_cast<float>(scale_[0] * input[i] + shift_[0]);
    }
  } else {
    for (std::size_t i = 0; i < input.size(); ++i) {
      output[i] = static_cast<float>(scale_[i % dim] * input[i] + shift_[i % dim]);
    }
  }
}

void VectorNormalizer::unnormalize(std::span<const float> input, float* output) const noexcept {
  for (std::size_t i = 0; i < input.size(); ++i) {
    const std::size_t d = i % scale_.size();
    output[i] = static_cast<float>((input[i] - shift_[d]) / scale_[d]);
  }
}

ImageNormalizer::ImageNormalizer(const Normalization& stats) {
  for (std::size_t channel = 0; channel < 3; ++channel) {
    const Affine a = affine(stats, channel);
    for (int byte = 0; byte < 256; ++byte) {
      table_[channel][byte] = static_cast<float>(a.scale * (byte / 255.0) + a.shift);
    }
  }
}

void ImageNormalizer::normalize(const ImageView& image, float* output) const noexcept {
  const std::size_t pixels = static_cast<std::size_t>(image.height) * image.width;
  float* const red = output;
  float* const green = output + pixels;
  float* const blue = output + 2 * pixels;
  for (std::size_t i = 0; i < pixels; ++i) {
    red[i] = table_[0][image.data[3 * i]];
    green[i] = table_[1][image.data[3 * i + 1]];
    blue[i] = table_[2][image.data[3 * i + 2]];
  }
}

Renormalizer::Renormalizer(const Normalization& from, const Normalization& to, std::size_t dim,
                           std::size_t plane)
    : plane_(plane) {
  for (std::size_t i = 0; i < dim; ++i) {
    const Affine map = composed(affine(from, i), affine(to, i));
    scale_.push_back(map.scale);
    shift_.push_back(map.shift);
  }
}

void Renormalizer::apply(std::span<const float> input, float* output) const noexcept {
  for (std::size_t start = 0; start < input.size(); start += plane_) {
    const std::size_t d = start / plane_ % scale_.size();
    for (std::size_t i = start; i < start + plane_; ++i) {
      output[i] = static_cast<float>(scale_[d] * input[i] + shift_[d]);
    }
  }
}

}  // namespace keystep
