#include "policy/resizer.hpp"

#include <algorithm>
#include <cmath>

namespace keystep {
namespace {

constexpr int kChannels = 3;
/// Fraction bits of the weights: a sum of bytes times weights that add up to one stays below 2^30.
constexpr int kBits = 22;
constexpr std::int32_t kHalf = 1 << (kBits - 1);

std::uint8_t to_byte(std::int32_t sum) noexcept {
  return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255));
}

/// The sum over `count` pixels, `stride` bytes apart, of weight times channel.
void weigh(const std::uint8_t* pixel, std::size_t stride, const std::int32_t* weights, int count,
           std::uint8_t* result) noexcept {
  std::int32_t red = kHalf, green = kHalf, blue = kHalf;
  for (int k = 0; k < count; ++k, pixel += stride) {
    red += weights[k] * pixel[0];
    green += weights[k] * pixel[1];
    blue += weights[k] * pixel[2];
  }
  result[0] = to_byte(red);
  result[1] = to_byte(green);
  result[2] = to_byte(blue);
}

}  // namespace

void Resizer::Axis::fit(int source_size, int size) {
  if (source == source_size) return;
  source = 0;  // until all is there: a failed allocation is tried again
  const double step = static_cast<double>(source_size) / size;
  const double reach = std::max(step, 1.0);  // the triangle spans [-reach, reach] source pixels
  taps = 2 * static_cast<int>(std::ceil(reach)) + 1;
  ranges.assign(static_cast<std::size_t>(size), {});
  weights.assign(ranges.size() * static_cast<std::size_t>(taps), 0);
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const double center = (static_cast<double>(i) + 0.5) * step;
    const int first = std::max(0, static_cast<int>(center - reach + 0.5));
    const int count = std::min(source_size, static_cast<int>(center + reach + 0.5)) - first;
    const auto exact = [&](int k) {
      return std::max(0.0, 1 - std::abs((first + k - center + 0.5) * (1 / reach)));
    };
    double sum = 0;
    for (int k = 0; k < count; ++k) sum += exact(k);
    ranges[i] = {first, count};
    for (int k = 0; k < count; ++k) {
      weights[i * taps + k] = static_cast<std::int32_t>(exact(k) / sum * (1 << kBits) + 0.5);
    }
  }
  source = source_size;
}

ImageView Resizer::resize(const ImageView& image) {
  if (image.height == height_ && image.width == width_) return image;
  across_.fit(image.width, width_);
  down_.fit(image.height, height_);
  narrowed_.resize(static_cast<std::size_t>(image.height) * width_ * kChannels);
  result_.resize(static_cast<std::size_t>(height_) * width_ * kChannels);
  resize_rows(image);
  resize_columns();
  return {result_.data(), height_, width_};
}

void Resizer::resize_rows(const ImageView& image) {
  std::uint8_t* result = narrowed_.data();
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* row = image.data + static_cast<std::size_t>(y) * image.width * kChannels;
    for (std::size_t x = 0; x < across_.ranges.size(); ++x, result += kChannels) {
      const auto [first, count] = across_.ranges[x];
      weigh(row + first * kChannels, kChannels, &across_.weights[x * across_.taps], count, result);
    }
  }
}

void Resizer::resize_columns() {
  const std::size_t stride = static_cast<std::size_t>(width_) * kChannels;
  std::uint8_t* result = result_.data();
  for (std::size_t y = 0; y < down_.ranges.size(); ++y) {
    const auto [first, count] = down_.ranges[y];
    const std::uint8_t* column = narrowed_.data() + first * stride;
    for (int x = 0; x < width_; ++x, column += kChannels, result += kChannels) {
      weigh(column, stride, &down_.weights[y * down_.taps], count, result);
    }
  }
}

}  // namespace keystep
