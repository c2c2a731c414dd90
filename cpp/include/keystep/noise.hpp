// Counter-based noise: Philox 4x32-10 (Salmon et al., SC 2011) and Box-Muller. Randomness is an argument:
// the same (seed, episode, chunk, step) gives the same noise on every machine and from Python.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace keystep {

struct NoiseKey {
  std::uint64_t seed = 0;
  std::uint32_t episode = 0;
  std::uint64_t chunk = 0;  ///< renewals since reset, counted by `after`
  std::uint32_t step = 0;   ///< 0: the initial sample; k+1: the noise of denoise step k
};

inline constexpr int kMaxCandidates = 256;  ///< plans tried at once

/// `step` of a plan's candidate: it stands above the steps, of which there are fewer than 2^24. That of
/// candidate 0 is the step itself, so its noise is that of a plan without others.
constexpr std::uint32_t step_of_candidate(std::uint32_t candidate, std::uint32_t step) noexcept {
  return candidate << 24 | step;
}

/// Plans of an episode have this bit in `chunk`, chunks of actions do not.
inline constexpr std::uint64_t kPlanNoise = 0x80000000u;

/// The `chunk` that follows: counts past bit 31, so that plans and chunks never meet.
constexpr std::uint64_t after(std::uint64_t chunk) noexcept {
  return (((chunk | kPlanNoise) + 1) & ~kPlanNoise) | (chunk & kPlanNoise);
}

/// One Philox 4x32-10 block: counter and key to four random words.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) noexcept;

/// Fills `out` with independent standard normals. Counter (block, step, chunk's low word, episode); key =
/// seed or, where chunk's high word is not 0, the first words of the block (high, 0, 0, 0) under the seed.
void fill_normal(const NoiseKey& key, std::span<float> out) noexcept;

}  // namespace keystep
