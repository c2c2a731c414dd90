// The two nouns that cross the tick, both owned by the caller.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <ranges>
#include <span>
#include <vector>

#include "keystep/dtype.hpp"

namespace keystep {

/// One borrowed, contiguous frame of a feature.
struct FeatureView {
  FeatureView() = default;  ///< none: where nothing reads this feature
  /// A vector: a std::vector<float>, an array, a span.
  template <std::ranges::contiguous_range Values>
    requires std::same_as<std::ranges::range_value_t<Values>, float>
  FeatureView(const Values& values) noexcept
      : data(std::ranges::data(values)),
        axes(1),
        shape{static_cast<std::int64_t>(std::ranges::size(values))} {}
  /// An RGB image of height x width x 3 bytes.
  FeatureView(const std::uint8_t* rgb, std::int64_t height, std::int64_t width) noexcept
      : data(rgb), dtype(DType::uint8), axes(3), shape{height, width, 3} {}
  /// A depth image of height x width metres.
  FeatureView(const float* depth, std::int64_t height, std::int64_t width) noexcept
      : data(depth), axes(2), shape{height, width} {}

  const void* data = nullptr;
  DType dtype = DType::float32;
  int axes = 0;                         ///< of `shape`
  std::array<std::int64_t, 3> shape{};  ///< that of `FeatureSpec`; an RGB image that is resized: its own
};

/// Borrowed views, valid during the call only.
struct Observation {
  std::span<const FeatureView> features{};  ///< one per entry of `Bundle::observation`, in its order
  /// When it was taken, by the clock of `RuntimeOptions::clock`; -1: not stamped, never stale.
  std::int64_t timestamp_us = -1;
  std::int64_t now_us = -1;  ///< with a stamp of an external clock: the time it shows now; else -1
};

/// Physical units of the action spec. Sized once by `Runtime::make_action`.
struct Action {
  std::vector<float> values;
};

/// A stamp may be so far ahead of its clock; further ahead it is of another clock, and refused.
inline constexpr std::int64_t kStampSlackUs = 10'000;

/// Microseconds of the steady clock, with which observation stamps are compared.
std::int64_t now_us() noexcept;

}  // namespace keystep
