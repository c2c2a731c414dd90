#include "normalizer.hpp"

#include <algorithm>

namespace keystep {
namespace {

struct Affine {
  double scale = 1, shift = 0;
};

/// min_max: 2 (x - min) / (max - min) - 1;  mean_std: (x - mean) / std.
Affine affine(const Normalization& stats, std::size_t i) {
  if (stats.mode == "identity") return {};
  const double low = stats.low_or_mean[i], high = stats.high_or_std[i];
  if (stats.mode == "min_max") return {2 / (high - low), -2 * low / (high - low) - 1};
  return {1 / high, -low / high};
}

}  // namespace

VectorNormalizer::VectorNormalizer(const Normalization& stats, std::size_t dim) {
  for (std::size_t i = 0; i < dim; ++i) {
    const Affine a = affine(stats, i);
    scale_.push_back(a.scale);
    shift_.push_back(a.shift);
  }
}

void VectorNormalizer::normalize(std::span<const float> input, float* output) const noexcept {
  for (std::size_t i = 0; i < input.size(); ++i) {
    const std::size_t d = i % scale_.size();
    output[i] = static_cast<float>(scale_[d] * input[i] + shift_[d]);
  }
}

void VectorNormalizer::unnormalize(std::span<const float> input, float* output) const noexcept {
  for (std::size_t i = 0; i < input.size(); ++i) {
    const std::size_t d = i % scale_.size();
    output[i] = static_cast<float>((input[i] - shift_[d]) / scale_[d]);
  }
}

ImageNormalizer::ImageNormalizer(const Normalization& stats) : channels_(stats, 3) {
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

void ImageNormalizer::unnormalize(const float* input, std::size_t pixels,
                                  std::uint8_t* output) const noexcept {
  for (std::size_t i = 0; i < pixels; ++i) {
    const float planes[3] = {input[i], input[pixels + i], input[2 * pixels + i]};
    float rgb[3];
    channels_.unnormalize(planes, rgb);
    for (std::size_t c = 0; c < 3; ++c) {
      // Written so that NaN gives 0: casting it would be undefined.
      output[3 * i + c] = rgb[c] > 0 ? static_cast<std::uint8_t>(std::min(rgb[c], 1.0f) * 255 + 0.5f) : 0;
    }
  }
}

Renormalizer::Renormalizer(const Normalization& from, const Normalization& to, std::size_t dim,
                           std::size_t plane)
    : plane_(plane) {
  for (std::size_t i = 0; i < dim; ++i) {
    const Affine a = affine(from, i), b = affine(to, i);
    scale_.push_back(b.scale / a.scale);
    shift_.push_back(b.shift - b.scale / a.scale * a.shift);
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
