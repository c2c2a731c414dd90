// Normalisation against the formulas written out, HWC bytes to CHW floats, and planner to controller.
#include "check.hpp"
#include "policy/normalizer.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

void vectors() {
  const std::vector<float> x = {3, -7, 1000, 3.5f, 2, 1001};  // two rows of three
  std::vector<float> y(6), back(6);
  const std::vector<double> low = {1, -8, 1000}, high = {5, 2, 1001};

  const VectorNormalizer min_max({"min_max", low, high}, 3);
  min_max.normalize(x, y.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    CHECK_NEAR(y[i], 2 * (x[i] - low[i % 3]) / (high[i % 3] - low[i % 3]) - 1, 1e-6);
  }
  min_max.unnormalize(y, back.data());
  for (std::size_t i = 0; i < x.size(); ++i) CHECK_NEAR(back[i], x[i], 1e-4);

  std::vector<float> z(6);  // quantile is the same line, and goes on beyond its ends
  VectorNormalizer({"quantile", low, high}, 3).normalize(x, z.data());
  CHECK(z == y && y[1] < -0.5f);
  VectorNormalizer({"quantile", {-1}, {1}}, 1).normalize(std::vector<float>{7}, z.data());
  CHECK_NEAR(z[0], 7, 1e-6);

  const VectorNormalizer mean_std({"mean_std", {1, 2, 3}, {0.5, 2, 4}}, 3);
  mean_std.normalize(x, y.data());
  CHECK_NEAR(y[0], 4, 1e-6);
  CHECK_NEAR(y[1], -4.5, 1e-6);
  CHECK_NEAR(y[3], 5, 1e-6);
  mean_std.unnormalize(y, back.data());
  for (std::size_t i = 0; i < x.size(); ++i) CHECK_NEAR(back[i], x[i], 1e-4);

  const VectorNormalizer identity({"identity", {}, {}}, 3);
  identity.normalize(x, y.data());
  CHECK(x == y);
}

/// A narrow range far from zero keeps its digits: the product is formed in double.
void large_offsets() {
  const VectorNormalizer normalizer({"min_max", {1e6}, {1e6 + 1}}, 1);
  const std::vector<float> x = {1000000.25f};
  float y = 0;
  normalizer.normalize(x, &y);
  CHECK_NEAR(y, -0.5, 1e-6);
}

void images() {
  std::vector<std::uint8_t> pixels;
  for (int i = 0; i < 2 * 4 * 3; ++i) pixels.push_back(static_cast<std::uint8_t>(i * 11));
  std::vector<float> chw(pixels.size());
  const std::vector<double> mean = {0.1, 0.2, 0.3}, deviation = {0.5, 0.6, 0.7};
  ImageNormalizer({"mean_std", mean, deviation}).normalize({pixels.data(), 2, 4}, chw.data());
  for (std::size_t c = 0; c < 3; ++c) {
    for (std::size_t p = 0; p < 8; ++p) {
      CHECK_NEAR(chw[c * 8 + p], (pixels[p * 3 + c] / 255.0 - mean[c]) / deviation[c], 1e-6);
    }
  }
}

/// A planner's subgoal in the controller's units is the detour over physical values.
void renormalizes() {
  const Normalization from{"min_max", {1, -8}, {5, 2}}, to{"mean_std", {2, 3}, {0.5, 4}};
  const std::vector<float> vectors = {-0.5f, 0.25f, 1, -1}, image = {0.5f, -1, 0.1f, 2};
  std::vector<float> physical(4), wanted(4), got(4);
  VectorNormalizer(from, 2).unnormalize(vectors, physical.data());
  VectorNormalizer(to, 2).normalize(physical, wanted.data());
  Renormalizer(from, to, 2).apply(vectors, got.data());
  for (std::size_t i = 0; i < 4; ++i) CHECK_NEAR(got[i], wanted[i], 1e-5);

  Renormalizer(from, to, 2, 2).apply(image, got.data());  // two planes of two pixels
  for (std::size_t i = 0; i < 4; ++i) {
    const std::vector<float> pair = {image[i], image[i]};
    VectorNormalizer(from, 2).unnormalize(pair, physical.data());
    VectorNormalizer(to, 2).normalize(std::span(physical).first(2), wanted.data());
    CHECK_NEAR(got[i], wanted[i / 2], 1e-5);
  }
}

}  // namespace

int main() {
  vectors();
  large_offsets();
  images();
  renormalizes();
  return result();
}
