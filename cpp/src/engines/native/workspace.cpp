#include "engines/native/workspace.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace keystep::native {
namespace {

constexpr std::size_t kLine = Arena::kAlignment / sizeof(float);

/// Rows a power of two apart would fall into the same sets of the first-level cache; a line more parts them.
std::size_t spread(std::size_t floats) { return floats + kLine; }

}  // namespace

// ---- activations

Activation::Activation(const Channels& channels, int length, int batch, int threads)
    : channels_(&channels),
      length_(length),
      row_(spread(static_cast<std::size_t>(channels.padded()))),
      memory_(static_cast<std::size_t>(batch) * length * row_ * sizeof(float)),
      data_(reinterpret_cast<float*>(memory_.data())),
      peaks_row_((static_cast<std::size_t>(batch) + kLine - 1) / kLine * kLine),
      peaks_(static_cast<std::size_t>(threads) * peaks_row_) {}

std::uint32_t Activation::peak(int b) const noexcept {
  std::uint32_t most = 0;
  for (std::size_t i = static_cast<std::size_t>(b); i < peaks_.size(); i += peaks_row_)
    most = std::max(most, peaks_[i]);
  return most;
}

// ---- one thread

Worker::Worker(const Layers& layers, int thread, int batch)
    : kernels_(layers.kernels()), thread_(thread), batch_(batch) {
  std::size_t operand = 0, sums = 0, channels = 0;
  for (const Layer& layer : layers.all()) {
    operand = std::max(operand, spread(layer.padded_inputs()) * layer.in_length());
    sums = std::max(sums, static_cast<std::size_t>(layer.out_length()) * kMostVectors * kernels_.lanes);
    channels = std::max(channels, static_cast<std::size_t>(layer.part(thread).vectors) * kernels_.lanes);
  }
  operand_memory_ = Arena(batch * operand * sizeof(float));
  sums_ = Arena(batch * sums * sizeof(float));
  operand_.data = operand_memory_.data();
  operand_scale_.resize(batch);
  operand_.scale = operand_scale_.data();
  norm_.resize(2 * channels);
  film_scale_.resize(batch * channels);
  film_bias_.resize(batch * channels);
}

void Worker::convert(std::initializer_list<const Activation*> inputs,
                     std::initializer_list<const Layer*> layers) noexcept {
  float most = std::numeric_limits<float>::infinity();
  for (const Layer* layer : layers) most = std::min(most, layer->greatest_integer());
  const Layer& layer = **layers.begin();
  operand_.row = spread(static_cast<std::size_t>(layer.padded_inputs()) / kernels_.group) * sizeof(float);
  operand_.batch = operand_.row * layer.in_length();
  for (int b = 0; b < batch_; ++b) {
    std::uint32_t peak = 0;
    for (const Activation* input : inputs) peak = std::max(peak, input->peak(b));
    const float factor = quantisation(b, std::bit_cast<float>(peak), most);
    for (int t = 0; t < layer.in_length(); ++t) {
      std::byte* to = operand_.data + b * operand_.batch + t * operand_.row;
      for (const Activation* input : inputs) {
        const auto channels = static_cast<std::size_t>(input->channels().padded());
        kernels_.convert(input->row(b, t), channels, factor, to);
        to += channels * sizeof(float) / kernels_.group;
      }
    }
  }
}

/// int8: by what a batch row whose greatest magnitude is `peak` is multiplied to become integers up to
/// `most`.
float Worker::quantisation(int b, float peak, float most) noexcept {
  constexpr float kNothing = 1e-30f;  // below, most / peak could be infinite
  if (kernels_.precision != Precision::int8) return 1;
  const bool finite = std::isfinite(peak);
  // NaN and infinities must not come out as numbers: zeros with a scale of NaN do not.
  operand_scale_[b] = finite ? peak / most : std::numeric_limits<float>::quiet_NaN();
  return finite && peak > kNothing ? most / peak : 0.0f;
}

void Worker::convolve(const Layer& layer, Activation& out, int step, int phase) noexcept {
  const int offset = layer.outputs().segments()[thread_].offset;
  kernels_.convolve(layer.part(thread_), operand_, batch_, reinterpret_cast<float*>(sums_.data()),
                    out.rows(offset, step, phase));
}

void Worker::join(const Activation& first, const Activation& second, Activation& out) noexcept {
  const Segment& mine = out.channels().segments()[thread_];
  for (int c = 0; c < mine.count; ++c) {
    const int channel = mine.first + c, rest = channel - first.channels().count();
    const Activation& from = rest < 0 ? first : second;
    const int place = from.channels().place(rest < 0 ? channel : rest);
    for (int b = 0; b < batch_; ++b) {
      for (int t = 0; t < out.length(); ++t) out.row(b, t)[mine.offset + c] = from.row(b, t)[place];
    }
  }
}

void Worker::add_film(const FilmVectors& film, const Channels& channels) noexcept {
  const Segment& mine = channels.segments()[thread_];
  const auto add = [&](int begin, std::vector<float>& sum) {
    for (int b = 0; b < batch_; ++b) {
      const float* of_condition = film.condition + b * film.stride + begin;
      float* to = sum.data() + b * mine.padded;
      for (int c = 0; c < mine.count; ++c) to[c] = of_condition[c] + film.step[begin + c];
      std::fill(to + mine.count, to + mine.padded, 0.0f);
    }
  };
  if (film.scale) add(mine.first, film_scale_);
  add(mine.first + (film.scale ? channels.count() : 0), film_bias_);
}

void Worker::normalise(const GroupNorm& norm, int groups, Activation& x, const FilmVectors* film,
                       Activation* residual) noexcept {
  if (film != nullptr) add_film(*film, x.channels());
  const Segment& mine = x.channels().segments()[thread_];
  const int width = x.channels().count() / groups;
  const Normalization part{.gain = norm.gain.data() + mine.offset,
                           .offset = norm.offset.data() + mine.offset,
                           .vectors = mine.padded / kernels_.lanes,
                           .length = x.length(),
                           .groups = mine.count / width,
                           .width = width,
                           .film_scale = film != nullptr && film->scale ? film_scale_.data() : nullptr,
                           .film_bias = film != nullptr ? film_bias_.data() : nullptr,
                           .residual = residual != nullptr ? residual->rows(mine.offset) : Rows{},
                           .scratch = norm_.data()};
  kernels_.normalise(part, batch_, x.rows(mine.offset), x.peaks(thread_));
}

void Worker::measure(Activation& x) noexcept {
  if (kernels_.precision != Precision::int8) return;
  const Segment& mine = x.channels().segments()[thread_];
  for (int b = 0; b < batch_; ++b) {
    std::uint32_t most = 0;
    for (int t = 0; t < x.length(); ++t)
      most = std::max(most, kernels_.peak(x.row(b, t) + mine.offset, mine.padded));
    x.peaks(thread_)[b] = most;
  }
}

}  // namespace keystep::native
