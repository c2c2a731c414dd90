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
  std::uint32_t chunk = 0;  ///< counts renewals since reset
  std::uint32_t step = 0;   ///< 0: the initial sample; k+1: the noise of denoise step k
};

/// One Philox 4x32-10 block: counter and key to four random words.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) noexcept;

/// Fills `out` with independent standard normals. Counter (block, step, chunk, episode), key = seed.
void fill_normal(const NoiseKey& key, std::span<float> out) noexcept;

}  // namespace keystep
