// Whether a network's output may be used at all.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace keystep {

/// An exponent of all ones is NaN or Inf. Comparing bits vectorises and does not depend on compiler flags.
inline bool all_finite(std::span<const float> values) noexcept {
  constexpr std::uint32_t kExponent = 0x7f800000u;
  bool finite = true;
  for (const float value : values) finite &= (std::bit_cast<std::uint32_t>(value) & kExponent) != kExponent;
  return finite;
}

}  // namespace keystep
