// The weights of a convolution as a bundle stores them (docs/bundle.md), in any precision.
#pragma once

#include <string>
#include <vector>

#include "engines/native/kernels.hpp"
#include "engines/native/safetensors.hpp"

namespace keystep::native {

/// A tensor [taps, inputs, outputs] that is read as fp32.
class Weights {
 public:
  /// Reads what `kernels` of its precision need. Throws BundleError: missing, of another shape, not finite,
  /// or stored in a lower precision.
  Weights(const Safetensors& file, const std::string& name, std::vector<std::int64_t> shape,
          const Kernels& kernels);

  /// `count` weights of one tap and input, of consecutive outputs from `first` on.
  void read(int tap, int input, int first, int count, float* to) const noexcept;
  /// int8: per output, what one of the integers -127 .. 127 is worth; else empty.
  const std::vector<float>& scale() const noexcept { return scale_; }

 private:
  std::vector<float> scale_of_greatest() const;

  const Tensor& tensor_;
  Precision stored_;
  int taps_, inputs_, outputs_;
  std::vector<float> scale_;
};

/// fp32 values of the file. Throws BundleError as above.
std::vector<float> read_floats(const Safetensors& file, const std::string& name,
                               const std::vector<std::int64_t>& shape);

}  // namespace keystep::native
