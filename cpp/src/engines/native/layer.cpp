#include "engines/native/layer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "engines/native/arena.hpp"

namespace keystep::native {
namespace {

/// Rows of the output for which a tap meets the input; first > last: none.
Tap live_part(const LayerShape& shape, int offset) {
  Tap tap{offset, shape.out_length, -1};
  for (int t = 0; t < shape.out_length; ++t) {
    const int read = t * shape.stride + offset;
    if (read < 0 || read >= shape.in_length) continue;
    tap.first = std::min(tap.first, t);
    tap.last = t;
  }
  return tap;
}

constexpr int kMostLanes = 16;

std::uint16_t to_bf16(float value) noexcept {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);  // to nearest, ties to even
  constexpr std::uint32_t kInfinity = 0x7f800000;
  // What would round to infinity stays the greatest finite value.
  return static_cast<std::uint16_t>(((rounded & kInfinity) == kInfinity ? bits : rounded) >> 16);
}

}  // namespace

Layer::Layer(const LayerShape& shape, std::vector<float> bias, const Kernels& kernels)
    : shape_(shape), kernels_(&kernels) {
  for (const KernelTap& tap : shape.taps) {
    const Tap live = live_part(shape, tap.offset);
    if (live.first > live.last) continue;  // meets only padding at this length
    taps_.push_back(live);
    tap_index_.push_back(tap.index);
  }
  int before = 0;
  for (const Channels* channels : shape.inputs) {
    for (const Segment& segment : channels->segments()) {
      for (int i = 0; i < segment.padded; ++i) {
        input_at_.push_back(i < segment.count ? before + segment.first + i : -1);
      }
    }
    before += channels->count();
  }
  bias_.resize(static_cast<std::size_t>(outputs().padded()));
  scale_.resize(bias_.size());
  sum_.resize(bias_.size());
  for (const Segment& segment : outputs().segments()) {
    std::copy_n(bias.begin() + segment.first, segment.count, bias_.begin() + segment.offset);
    parts_.push_back({.weights = nullptr,
                      .bias = bias_.data() + segment.offset,
                      .scale = scale_.data() + segment.offset,
                      .vectors = segment.padded / kernels.lanes,
                      .inputs = padded_inputs(),
                      .length = shape.out_length,
                      .stride = shape.stride,
                      .taps = taps_.data(),
                      .tap_count = static_cast<int>(taps_.size())});
  }
}

std::size_t Layer::bytes(int thread) const noexcept {
  const auto outputs = static_cast<std::size_t>(part(thread).vectors) * kernels_->lanes;
  return aligned(outputs * taps_.size() * input_at_.size() * kernels_->weight_bytes);
}

void Layer::pack(int thread, const Weights& weights, std::byte* to) noexcept {
  Convolution& part = parts_[static_cast<std::size_t>(thread)];
  const Segment& segment = outputs().segments()[static_cast<std::size_t>(thread)];
  const int groups = padded_inputs() / kernels_->group;
  const std::size_t vector_bytes =
      static_cast<std::size_t>(kernels_->lanes) * kernels_->group * kernels_->weight_bytes;
  part.weights = to;
  if (!weights.scale().empty()) {
    std::copy_n(weights.scale().begin() + segment.first, segment.count, scale_.begin() + segment.offset);
  }
  const std::size_t bytes = vector_bytes * static_cast<std::size_t>(groups) * taps_.size();  // of all taps
  // Source rows are read one after the other, because its pages are small; the packed memory has huge ones.
  for (std::size_t tap = 0; tap < taps_.size(); ++tap) {
    for (int group = 0; group < groups; ++group) {
      const std::size_t before = tap * static_cast<std::size_t>(groups) + static_cast<std::size_t>(group);
      for (int v = 0, r = 0; v < part.vectors; v += r) {
        r = kernels_->chunk(part.length, part.vectors - v);
        std::byte* at =
            to + static_cast<std::size_t>(v) * bytes + before * static_cast<std::size_t>(r) * vector_bytes;
        for (int i = 0; i < r; ++i, at += vector_bytes)
          pack_vector(weights, tap_index_[tap], group, segment, v + i, at);
      }
    }
  }
}

/// One vector of weights: for each lane (an output channel) `group` input channels.
void Layer::pack_vector(const Weights& weights, int tap, int group, const Segment& segment, int vector,
                        std::byte* to) noexcept {
  const int lanes = kernels_->lanes, stride = kernels_->group, first = vector * lanes;
  const int real = std::min(lanes, segment.count - first);
  for (int g = 0; g < stride; ++g) {
    const int input = input_at_[static_cast<std::size_t>(group * stride + g)];
    float row[kMostLanes] = {};
    if (input >= 0 && real > 0) weights.read(tap, input, segment.first + first, real, row);
    if (kernels_->precision == Precision::fp32) {
      std::memcpy(to, row, static_cast<std::size_t>(lanes) * sizeof(float));  // groups of one
    } else if (kernels_->precision == Precision::bf16) {
      auto* halves = reinterpret_cast<std::uint16_t*>(to) + g;
      for (int lane = 0; lane < lanes; ++lane) halves[lane * stride] = to_bf16(row[lane]);
    } else {
      quantise(row, segment.offset + first, reinterpret_cast<std::int8_t*>(to) + g);
    }
  }
}

/// A row of weights, of the padded outputs from `first` on, as integers; each `group`-th of `to`.
void Layer::quantise(const float* row, int first, std::int8_t* to) noexcept {
  constexpr float kRound =
      12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer, ties to even
  const float* scale = scale_.data() + first;
  std::int64_t* sum = sum_.data() + first;
  std::int32_t integers[kMostLanes];
  for (int lane = 0; lane < kernels_->lanes; ++lane) {
    const float exact = std::clamp(row[lane] / (scale[lane] > 0 ? scale[lane] : 1.0f), -127.0f, 127.0f);
    integers[lane] = static_cast<std::int32_t>((exact + kRound) - kRound);
    sum[lane] += std::abs(integers[lane]);
  }
  for (int lane = 0; lane < kernels_->lanes; ++lane) {
    to[lane * kernels_->group] = static_cast<std::int8_t>(integers[lane]);
  }
}

void Layer::finish() noexcept {
  const std::int64_t sum = std::max<std::int64_t>(1, *std::max_element(sum_.begin(), sum_.end()));
  constexpr std::int64_t kMostSum = std::numeric_limits<std::int32_t>::max();
  constexpr std::int64_t kMostInteger = std::numeric_limits<std::int16_t>::max();
  greatest_integer_ = static_cast<float>(std::min(kMostInteger, kMostSum / sum));
}

}  // namespace keystep::native
