// What computations take in virtual time: drawn, not measured.
#pragma once

#include <cstdint>

#include "keystep/noise.hpp"
#include "keystep/virtual_time.hpp"

namespace keystep {

/// Depends on seed and episode, and on how many were drawn in the episode: on no process and no clock.
class Durations {
 public:
  explicit Durations(const VirtualTime& time) : time_(time) {}

  void reset(const NoiseKey& key) noexcept {  ///< an episode begins
    key_ = key;
    chunks_ = plans_ = 0;
  }
  // The next one's, in control periods.
  double chunk() noexcept { return draw(time_.chunk, 0, chunks_++); }
  double plan() noexcept { return draw(time_.plan, 1, plans_++); }

 private:
  /// No denoise step has this number, so that no noise is drawn from the same block.
  static constexpr std::uint32_t kStep = 0xffffffffu;

  double draw(const std::vector<double>& periods, std::uint32_t kind, std::uint32_t number) const noexcept {
    if (periods.empty()) return 0;
    const auto low = static_cast<std::uint32_t>(key_.seed);
    const auto high = static_cast<std::uint32_t>(key_.seed >> 32);
    const std::uint64_t word = philox4x32({number, kStep, kind, key_.episode}, {low, high})[0];
    return periods[static_cast<std::size_t>(word * periods.size() >> 32)];
  }

  const VirtualTime& time_;
  NoiseKey key_;
  std::uint32_t chunks_ = 0, plans_ = 0;
};

}  // namespace keystep
