#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "keystep/noise.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

static_assert(noexcept(fill_normal({}, {})));

using Words = std::array<std::uint32_t, 4>;

std::vector<float> normals(const NoiseKey& key, std::size_t count) {
  std::vector<float> out(count);
  fill_normal(key, out);
  return out;
}

/// Random123's kat_vectors for philox4x32, 10 rounds.
void known_answers() {
  const std::uint32_t ones = 0xffffffff;
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK(philox4x32({ones, ones, ones, ones}, {ones, ones}) ==
        (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

void the_counter_is_block_step_chunk_episode_and_the_key_the_seed() {
  const auto draw = normals({.seed = 0x0123456789abcdef, .episode = 4, .chunk = 3, .step = 2}, 8);
  const Words words = philox4x32({1, 2, 3, 4}, {0x89abcdef, 0x01234567});  // the second block
  const double radius = std::sqrt(-2 * std::log((words[2] + 1.0) / 4294967296.0));
  const double angle = 2 * std::acos(-1) * words[3] / 4294967296.0;
  CHECK_NEAR(draw[6], radius * std::cos(angle), 1e-6);
  CHECK_NEAR(draw[7], radius * std::sin(angle), 1e-6);
}

void moments_are_those_of_a_standard_normal() {
  const auto sample = normals({.seed = 42}, 1'000'000);
  double moments[5] = {}, neighbours = 0;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    double power = 1;
    for (double& moment : moments) moment += power, power *= sample[i];
    neighbours += sample[i] * sample[(i + 1) % sample.size()];
  }
  const double n = moments[0];  // tolerances: five standard errors
  CHECK_NEAR(moments[1] / n, 0, 5e-3);
  CHECK_NEAR(moments[2] / n, 1, 5e-3 * std::sqrt(2));
  CHECK_NEAR(moments[3] / n, 0, 5e-3 * std::sqrt(15));
  CHECK_NEAR(moments[4] / n, 3, 5e-3 * std::sqrt(96));
  CHECK_NEAR(neighbours / n, 0, 5e-3);
  const auto [low, high] = std::minmax_element(sample.begin(), sample.end());
  CHECK(*low < -4 && *low > -6.7 && *high > 4 && *high < 6.7);  // sqrt(2 ln 2^32) = 6.66
}

void a_longer_draw_begins_with_the_shorter() {
  const NoiseKey key = {.seed = 7, .episode = 1, .chunk = 2, .step = 3};
  const auto longest = normals(key, 103);
  for (std::size_t count = 0; count <= longest.size(); ++count) {
    const auto draw = normals(key, count);
    CHECK(std::equal(draw.begin(), draw.end(), longest.begin()));
  }
}

void every_part_of_the_key_matters() {
  std::vector<NoiseKey> keys = {{}};
  for (const std::uint32_t value : {1u, 2u, 0x80000000u, 0xffffffffu}) {
    keys.push_back({.seed = value});
    keys.push_back({.seed = std::uint64_t{value} << 32});
    keys.push_back({.episode = value});
    keys.push_back({.chunk = value});
    keys.push_back({.step = value});
  }
  std::vector<float> seen;
  for (const NoiseKey& key : keys) {
    const auto draw = normals(key, 64);
    CHECK(draw == normals(key, 64));
    seen.insert(seen.end(), draw.begin(), draw.end());
  }
  // Streams that overlapped, at whatever offset, would repeat most of their values.
  const auto count = static_cast<std::ptrdiff_t>(seen.size());
  std::sort(seen.begin(), seen.end());
  CHECK(std::unique(seen.begin(), seen.end()) - seen.begin() >= count - 3);
}

void chunks_and_plans_never_meet() {
  CHECK(after(0) == 1 && after(kPlanNoise) == (kPlanNoise | 1));
  const std::uint64_t last = 0x7fffffffu, later = std::uint64_t{1} << 32;
  CHECK(after(last) == later && after(kPlanNoise | last) == (later | kPlanNoise));
  CHECK(after(later | last) == 2 * later);
  std::set<std::vector<float>> seen;
  std::size_t count = 0;
  for (const std::uint64_t start : {std::uint64_t{0}, last - 2, (later | last) - 2}) {
    std::uint64_t chunk = start, plan = kPlanNoise | start;
    for (int i = 0; i < 6; ++i, chunk = after(chunk), plan = after(plan), count += 2) {
      seen.insert(normals({.seed = 7, .chunk = chunk}, 8));
      seen.insert(normals({.seed = 7, .chunk = plan}, 8));
    }
  }
  CHECK(seen.size() == count);
  // Beyond the first 2^31 of each the key is drawn under the seed; before, all is as it was.
  const auto words = philox4x32({1, 0, 0, 0}, {7, 0});
  const std::uint64_t seed = std::uint64_t{words[1]} << 32 | words[0];
  CHECK(normals({.seed = 7, .chunk = later | 5}, 8) == normals({.seed = seed, .chunk = 5}, 8));
}

}  // namespace

int main() {
  known_answers();
  the_counter_is_block_step_chunk_episode_and_the_key_the_seed();
  moments_are_those_of_a_standard_normal();
  a_longer_draw_begins_with_the_shorter();
  every_part_of_the_key_matters();
  chunks_and_plans_never_meet();
  return result();
}
