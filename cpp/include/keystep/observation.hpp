// The two nouns that cross the tick, both owned by the caller.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace keystep {

/// A borrowed, contiguous RGB image of height x width x 3 bytes.
struct ImageView {
  const std::uint8_t* data = nullptr;
  int height = 0;
  int width = 0;
};

/// Borrowed views, valid during the call only. Sizes are those of `ObservationSpec`.
struct Observation {
  std::span<const float> state{};       ///< physical units, as recorded in the data set
  std::span<const ImageView> images{};  ///< one per camera, in the bundle's order
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
