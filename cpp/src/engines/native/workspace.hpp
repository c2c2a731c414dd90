// Activations, and what one thread needs to compute them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

#include "engines/native/layers.hpp"

namespace keystep::native {

/// GroupNorm's gain and offset, padded as the channels are.
struct GroupNorm {
  std::vector<float> gain, offset;
};

/// fp32 [batch][length][padded channels]. All threads read it; each writes its segment.
class Activation {
 public:
  Activation(const Channels& channels, int length, int batch, int threads);

  int length() const noexcept { return length_; }
  const Channels& channels() const noexcept { return *channels_; }
  const float* row(int b, int t) const noexcept {
    return data_ + (static_cast<std::size_t>(b) * length_ + t) * row_;
  }
  float* row(int b, int t) noexcept { return const_cast<float*>(std::as_const(*this).row(b, t)); }
  /// From row `phase` on, each `step`-th, at the channel that lies at `offset`.
  Rows rows(int offset, int step = 1, int phase = 0) noexcept {
    return {row(0, phase) + offset, row_ * step, row_ * length_};
  }
  /// [batch]: bits of the greatest magnitude that `thread` has written.
  std::uint32_t* peaks(int thread) noexcept { return peaks_.data() + thread * peaks_row_; }
  /// The greatest of all threads.
  std::uint32_t peak(int b) const noexcept;

 private:
  const Channels* channels_;
  int length_;
  std::size_t row_;  // floats from one row to the next
  Arena memory_;
  float* data_;
  std::size_t peaks_row_;
  std::vector<std::uint32_t> peaks_;
};

/// What a block's FiLM is made of, per channel: scale = condition's + step's, and bias likewise.
struct FilmVectors {
  const float* condition;  ///< [batch, stride], from the block's first value on
  const float* step;       ///< likewise, one row
  int stride;
  bool scale;  ///< the scales of all channels come first; if false there are only biases
};

/// One thread's memory, and the network's operations on this thread's channels.
class Worker {
 public:
  Worker(const Layers& layers, int thread, int batch);

  /// Makes `inputs`, side by side, the operand of `layers`.
  void convert(std::initializer_list<const Activation*> inputs,
               std::initializer_list<const Layer*> layers) noexcept;
  /// The operand convolved; row t of the result is row t * step + phase of `out`.
  void convolve(const Layer& layer, Activation& out, int step = 1, int phase = 0) noexcept;
  /// `first` and `second` side by side, this thread's channels of `out`.
  void join(const Activation& first, const Activation& second, Activation& out) noexcept;
  /// GroupNorm and Mish, then FiLM or the residual (null: none), in place.
  void normalise(const GroupNorm& norm, int groups, Activation& x, const FilmVectors* film,
                 Activation* residual) noexcept;
  /// After convolutions that nothing else follows.
  void measure(Activation& x) noexcept;

 private:
  float quantisation(int b, float peak, float most) noexcept;
  void add_film(const FilmVectors& film, const Channels& channels) noexcept;

  const Kernels& kernels_;
  const int thread_, batch_;
  Operand operand_{};
  Arena operand_memory_, sums_;
  std::vector<float> operand_scale_, norm_, film_scale_, film_bias_;
};

}  // namespace keystep::native
