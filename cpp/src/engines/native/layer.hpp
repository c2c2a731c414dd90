// One convolution of the network, its weights packed for the kernels and shared among threads.
#pragma once

#include <cstdint>
#include <vector>

#include "engines/native/channels.hpp"
#include "engines/native/kernels.hpp"
#include "engines/native/weights.hpp"

namespace keystep::native {

/// The stored kernel's tap `index` reads the input at t * stride + offset.
struct KernelTap {
  int index, offset;
};

struct LayerShape {
  std::vector<const Channels*> inputs;  ///< concatenated
  const Channels* outputs = nullptr;
  int in_length = 0, out_length = 0, stride = 1;
  std::vector<KernelTap> taps;
};

class Layer {
 public:
  Layer(const LayerShape& shape, std::vector<float> bias, const Kernels& kernels);
  Layer(const Layer&) = delete;  // `parts_` points into it
  Layer& operator=(const Layer&) = delete;

  /// Bytes of `thread`'s weights, a multiple of a cache line.
  std::size_t bytes(int thread) const noexcept;
  /// Writes them to `to`, where they stay. Any thread, not two for the same part.
  void pack(int thread, const Weights& weights, std::byte* to) noexcept;
  /// Once all parts are packed.
  void finish() noexcept;

  const Convolution& part(int thread) const noexcept { return parts_[static_cast<std::size_t>(thread)]; }
  const std::vector<const Channels*>& inputs() const noexcept { return shape_.inputs; }
  const Channels& outputs() const noexcept { return *shape_.outputs; }
  int in_length() const noexcept { return shape_.in_length; }
  int out_length() const noexcept { return shape_.out_length; }
  int padded_inputs() const noexcept { return static_cast<int>(input_at_.size()); }
  /// int8: the greatest integers of activations for which no sum can leave int32 (and that int16 holds).
  float greatest_integer() const noexcept { return greatest_integer_; }

 private:
  void pack_vector(const Weights& weights, int tap, int group, const Segment& segment, int vector,
                   std::byte* to) noexcept;
  void quantise(const float* row, int first, std::int8_t* to) noexcept;

  LayerShape shape_;
  const Kernels* kernels_ = nullptr;
  std::vector<int> input_at_;        // the network's channel at each padded input, -1: padding
  std::vector<Tap> taps_;            // those that meet an input
  std::vector<int> tap_index_;       // of each, in the stored kernel
  std::vector<float> bias_, scale_;  // padded; scale_ int8 only
  std::vector<std::int64_t> sum_;    // int8: per padded output, of the weights' magnitudes
  std::vector<Convolution> parts_;   // by thread
  float greatest_integer_ = 0;
};

}  // namespace keystep::native
