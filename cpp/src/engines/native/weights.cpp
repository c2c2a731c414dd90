#include "engines/native/weights.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bundle/bundle_check.hpp"
#include "support/finite.hpp"

namespace keystep::native {
namespace {

/// What may be run in a precision: files of this one or a higher one.
std::vector<std::string> dtypes_for(Precision precision) {
  if (precision == Precision::fp32) return {"F32"};
  if (precision == Precision::bf16) return {"F32", "BF16"};
  return {"F32", "BF16", "I8"};
}

Precision stored_in(const Tensor& tensor) noexcept {
  return tensor.dtype == "F32" ? Precision::fp32 : tensor.dtype == "BF16" ? Precision::bf16 : Precision::int8;
}

float from_bf16(std::uint16_t half) noexcept {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

bool is_finite(const Tensor& tensor, const Kernels& kernels) {
  constexpr std::uint32_t kInfinity = 0x7f800000;
  if (tensor.dtype == "F32") {
    return kernels.peak(reinterpret_cast<const float*>(tensor.data), tensor.elements()) < kInfinity;
  }
  if (tensor.dtype != "BF16") return true;
  const auto* halves = reinterpret_cast<const std::uint16_t*>(tensor.data);
  return std::all_of(halves, halves + tensor.elements(),
                     [](std::uint16_t half) { return (half & 0x7f80) != 0x7f80; });
}

}  // namespace

std::vector<float> read_floats(const Safetensors& file, const std::string& name,
                               const std::vector<std::int64_t>& shape) {
  const Tensor& tensor = file.tensor(name, {"F32"}, shape);
  const auto* values = reinterpret_cast<const float*>(tensor.data);
  std::vector<float> copy(values, values + tensor.elements());
  if (!all_finite(copy)) refuse(name, "finite values", "NaN or Inf");
  return copy;
}

Weights::Weights(const Safetensors& file, const std::string& name, std::vector<std::int64_t> shape,
                 const Kernels& kernels)
    : tensor_(file.tensor(name, dtypes_for(kernels.precision), shape)),
      stored_(stored_in(tensor_)),
      taps_(static_cast<int>(shape[0])),
      inputs_(static_cast<int>(shape[1])),
      outputs_(static_cast<int>(shape[2])) {
  if (!is_finite(tensor_, kernels)) refuse(name, "finite weights", "NaN or Inf");
  if (stored_ == Precision::int8) {
    scale_ = read_floats(file, name + ".scale", {shape[2]});
    const bool usable =
        std::ranges::all_of(scale_, [](float scale) { return scale >= 0 && std::isfinite(127 * scale); });
    if (!usable) refuse(name + ".scale", "values of 0 or more whose 127-fold is finite", "others");
  }
  if (scale_.empty() && kernels.precision == Precision::int8) scale_ = scale_of_greatest();
}

void Weights::read(int tap, int input, int first, int count, float* to) const noexcept {
  const std::size_t at =
      (static_cast<std::size_t>(tap) * inputs_ + static_cast<std::size_t>(input)) * outputs_ + first;
  if (stored_ == Precision::fp32) {
    std::copy_n(reinterpret_cast<const float*>(tensor_.data) + at, count, to);
  } else if (stored_ == Precision::bf16) {
    const auto* halves = reinterpret_cast<const std::uint16_t*>(tensor_.data) + at;
    std::transform(halves, halves + count, to, from_bf16);
  } else {
    const auto* integers = reinterpret_cast<const std::int8_t*>(tensor_.data) + at;
    for (int o = 0; o < count; ++o) to[o] = static_cast<float>(integers[o]) * scale_[first + o];
  }
}

std::vector<float> Weights::scale_of_greatest() const {
  std::vector<float> greatest(outputs_), row(outputs_);
  for (int tap = 0; tap < taps_; ++tap) {
    for (int input = 0; input < inputs_; ++input) {
      read(tap, input, 0, outputs_, row.data());
      for (int o = 0; o < outputs_; ++o) greatest[o] = std::max(greatest[o], std::abs(row[o]));
    }
  }
  for (float& value : greatest) value /= 127;
  return greatest;
}

}  // namespace keystep::native
