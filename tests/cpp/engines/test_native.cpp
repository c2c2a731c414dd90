// The native engine against the slow reference: random U-Nets, every instruction set of this CPU, every
// precision.
#include "check.hpp"
#include "native_agreement.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

int between(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

/// Fewer than 8 values in a group make a norm that magnifies rounding: those have a case of their own.
UnetShape random_shape(std::mt19937& random) {
  UnetShape shape;
  const int levels = between(random, 1, 4), halvings = 1 << (levels - 1);
  shape.horizon = halvings * between(random, (4 + halvings - 1) / halvings, 32 / halvings);
  shape.groups = 1 << between(random, 0, 3);
  const int least = (8 * halvings + shape.horizon - 1) / shape.horizon;
  shape.dims.clear();
  for (int level = 0; level < levels; ++level) {
    shape.dims.push_back(shape.groups * between(random, least, std::max(least, 48 / shape.groups)));
  }
  shape.actions = between(random, 1, 40);
  shape.condition = 2 * between(random, 1, 30) + 1;
  shape.kernel = 2 * between(random, 1, 3) + 1;
  shape.rows = between(random, 1, 2);
  shape.film_scale = between(random, 0, 1) == 1;
  return shape;
}

/// Files hold `precision` or a higher one, in turn.
void agrees_everywhere(const UnetShape& shape, const Weights& weights, unsigned seed) {
  for (std::size_t p = 0; p < kPrecisions.size(); ++p) {
    const UnetFolder folder(shape, weights, kPrecisions[p - (seed % (p + 1))]);
    for (const std::string& isa : isas_here()) {
      agrees(folder, kPrecisions[p], isa, std::min(cores_here(), 1 + static_cast<int>(seed / 2 % 2)), seed);
    }
  }
}

void random_unets() {
  std::mt19937 random(5);
  for (unsigned seed = 0; seed < static_cast<unsigned>(cases(16, 4)); ++seed) {
    const UnetShape shape = random_shape(random);
    agrees_everywhere(shape, random_weights(shape, seed), seed);
  }
}

void unusual_unets() {
  unsigned seed = 100;
  for (const UnetShape& shape : std::vector<UnetShape>{
           {.dims = {1}, .actions = 1, .horizon = 64, .condition = 1, .groups = 1},
           {.dims = {24, 12}, .horizon = 16, .groups = 4},            // up.0.0 has no shortcut: 2 x 12 = 24
           {.dims = {16, 16, 16}, .actions = 16, .horizon = 16},      // down.0.0 has none, either
           {.dims = {40}, .actions = 33, .horizon = 1, .groups = 1},  // taps that meet nothing but padding
           {.dims = {17, 34}, .horizon = 32, .rows = 2, .kernel = 7, .groups = 1},
           {.dims = {130, 70}, .horizon = 4, .rows = 2, .kernel = 3, .groups = 2},
           {.dims = {12}, .horizon = 63, .kernel = 9, .groups = 3},
           {.dims = {16}, .horizon = 7, .kernel = 1},
       }) {
    agrees_everywhere(shape, random_weights(shape, seed), seed);
    ++seed;
  }
}

/// A norm over one value is its bias; those over two and four magnify what int8 does to weights, so these are
/// drawn from what int8 can hold.
void norms_over_few_values() {
  const UnetShape shape = {.dims = {8, 8, 8}, .horizon = 4, .groups = 8};
  for (unsigned seed = 0; seed < 3; ++seed) {
    agrees_everywhere(shape, rounded(random_weights(shape, seed), "int8"), 2 * 3 * seed);
  }
}

/// The first rows alone, however many: the same numbers, and the memory of the others is left alone.
void fewer_rows() {
  const UnetShape shape = {.dims = {24, 40}, .horizon = 8, .rows = 4};
  for (const std::string& precision : kPrecisions) {
    const UnetFolder folder(shape, random_weights(shape));
    for (const std::string& isa : isas_here()) {
      native::NativeEngine engine(native_options(isa, precision));
      LoadedUnet unet(engine, folder);
      unet.draw(3);
      const std::vector<float> all = unet.ran();
      const std::vector<float> film(unet.film_values().begin(), unet.film_values().end());
      for (const int rows : {1, 3, 2, 4}) {
        for (const auto& values : {unet.output(), unet.film_values()}) std::ranges::fill(values, 7.0f);
        CHECK(unet.film->run(rows) == Status::ok && unet.step->run(rows) == Status::ok);
        for (const auto& [got, whole] : {std::pair(unet.film_values(), &film), {unet.output(), &all}}) {
          const auto size = std::ptrdiff_t(whole->size()) / shape.rows * rows;
          CHECK(std::equal(whole->begin(), whole->begin() + size, got.begin()));
          CHECK(std::all_of(got.begin() + size, got.end(), [](float value) { return value == 7; }));
        }
      }
      for (const int rows : {0, 5, -1}) CHECK(unet.step->run(rows) == Status::engine_failure);
      CHECK(unet.step->error().find("rows: expected") == 0);
    }
  }
}

/// One result, however many threads, pinned or not, and however often.
void same_bits_of(const UnetShape& shape) {
  for (const std::string& precision : kPrecisions) {
    const UnetFolder folder(shape, random_weights(shape));
    for (const std::string& isa : isas_here()) {
      std::vector<std::vector<float>> results;
      for (int threads = 1; threads <= std::min(2, cores_here()); ++threads) {
        for (const bool pinned : {false, true}) {
          native::NativeEngine engine(native_options(isa, precision, threads, pinned));
          LoadedUnet unet(engine, folder);
          for (int i = 0; i < 3; ++i) {
            unet.draw(8);  // equal inputs each time, others in between
            results.push_back(unet.ran());
            unet.draw(9 + static_cast<unsigned>(i));
            CHECK(unet.ran() != results.back());
          }
        }
      }
      for (const auto& result : results) {
        if (result == results.front()) continue;
        fail(__FILE__, __LINE__,
             isa + " " + precision + ", " + shape.text() + ": bits depend on the threads");
        break;
      }
    }
  }
}

/// Threads share the groups, so where a thread's channels end depends on how many there are: after an odd
/// number of them for some of these.
void same_bits() {
  for (const UnetShape& shape : std::vector<UnetShape>{
           {.dims = {24, 56, 40}, .actions = 7, .horizon = 16, .rows = 2},
           {.dims = {50, 60}, .actions = 7, .horizon = 6, .kernel = 3, .groups = 2},
           {.dims = {52, 60}, .actions = 7, .horizon = 6, .kernel = 3, .groups = 2},
           {.dims = {35, 49}, .horizon = 8, .condition = 9, .groups = 7},
           {.dims = {33}, .actions = 17, .horizon = 8, .groups = 1},
       }) {
    same_bits_of(shape);
  }
}

}  // namespace

int main() {
  if (cores_here() < 2) std::printf("one core: nothing runs on two threads\n");
  random_unets();
  unusual_unets();
  norms_over_few_values();
  fewer_rows();
  same_bits();
  return result();
}
