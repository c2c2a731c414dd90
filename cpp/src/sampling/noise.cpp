#include "keystep/noise.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace keystep {
namespace {

struct WidePart {
  std::uint32_t high, low;
};

WidePart multiply(std::uint32_t a, std::uint32_t b) noexcept {
  const std::uint64_t product = std::uint64_t{a} * b;
  return {static_cast<std::uint32_t>(product >> 32), static_cast<std::uint32_t>(product)};
}

/// Two independent standard normals (Box-Muller). In double, so that the floats agree between machines up to
/// the last bit of their mathematical libraries.
std::array<float, 2> box_muller(std::uint32_t a, std::uint32_t b) noexcept {
  const double u1 = (a + 1.0) * 0x1p-32;  // in (0, 1]: the logarithm is finite
  const double u2 = b * 0x1p-32;
  const double radius = std::sqrt(-2.0 * std::log(u1));
  const double angle = 2.0 * std::numbers::pi * u2;
  return {static_cast<float>(radius * std::cos(angle)), static_cast<float>(radius * std::sin(angle))};
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) noexcept {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const WidePart first = multiply(0xD2511F53u, counter[0]);
    const WidePart second = multiply(0xCD9E8D57u, counter[2]);
    counter = {second.high ^ counter[1] ^ key[0], second.low, first.high ^ counter[3] ^ key[1], first.low};
    key[0] += 0x9E3779B9u;  // golden ratio
    key[1] += 0xBB67AE85u;  // sqrt(3) - 1
  }
  return counter;
}

void fill_normal(const NoiseKey& key, std::span<float> out) noexcept {
  std::array<std::uint32_t, 2> seed = {static_cast<std::uint32_t>(key.seed),
                                       static_cast<std::uint32_t>(key.seed >> 32)};
  const auto chunk = static_cast<std::uint32_t>(key.chunk);
  if (const auto high = static_cast<std::uint32_t>(key.chunk >> 32); high != 0) {
    const auto words = philox4x32({high, 0, 0, 0}, seed);
    seed = {words[0], words[1]};
  }
  std::uint32_t block = 0;
  while (!out.empty()) {
    const auto words = philox4x32({block++, key.step, chunk, key.episode}, seed);
    const auto first = box_muller(words[0], words[1]);
    const auto second = box_muller(words[2], words[3]);
    const std::array<float, 4> normals = {first[0], first[1], second[0], second[1]};
    const std::size_t count = std::min(out.size(), normals.size());
    std::copy_n(normals.begin(), count, out.begin());
    out = out.subspan(count);
  }
}

}  // namespace keystep
