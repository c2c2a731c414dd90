#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

#include "check.hpp"
#include "keystep/latency.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

static_assert(noexcept(std::declval<Histogram&>().record(0)));

constexpr double kQuantiles[] = {1e-9, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0};

/// The smallest recorded value that at least a share q of all values does not exceed.
double exact_quantile_us(const std::vector<std::int64_t>& sorted, double q) {
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(sorted.size())));
  return 1e-3 * static_cast<double>(sorted[std::max<std::size_t>(rank, 1) - 1]);
}

void quantiles_lie_within_a_bucket_of_the_exact_ones() {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    Histogram histogram;
    std::vector<std::int64_t> values;
    const std::size_t count = 1 + random() % 2000;
    const auto greatest_bits = static_cast<int>(random() % 41);
    std::uniform_real_distribution<double> bits(0, greatest_bits);
    double total = 0;
    for (std::size_t i = 0; i < count; ++i) {
      values.push_back(static_cast<std::int64_t>(std::exp2(bits(random))));
      histogram.record(values.back());
      total += 1e-3 * static_cast<double>(values.back());
    }
    std::sort(values.begin(), values.end());
    for (const double q : kQuantiles) {
      const double exact = exact_quantile_us(values, q), got = histogram.quantile_us(q);
      CHECK(got >= exact - 1e-9 && got <= exact * (1 + 1.0 / 32) + 1e-9);
      CHECK(got <= histogram.max_us());
    }
    CHECK(histogram.count() == count);
    CHECK_NEAR(histogram.max_us(), 1e-3 * static_cast<double>(values.back()), 1e-9 * histogram.max_us());
    CHECK_NEAR(histogram.total_us(), total, 1e-9 * total);
  }
}

void every_power_of_two_has_its_place() {
  for (int bit = 0; bit < 41; ++bit) {
    for (const std::int64_t offset : {-1, 0, 1}) {
      const std::int64_t value = (std::int64_t{1} << bit) + offset;
      Histogram histogram;
      histogram.record(value);
      histogram.record(std::int64_t{1} << 45);  // keeps the maximum from hiding the bucket's edge
      const double exact = 1e-3 * static_cast<double>(value);
      const double got = histogram.quantile_us(0.5);
      CHECK(got >= exact - 1e-9 && got <= exact * (1 + 1.0 / 32) + 1e-9);
    }
  }
}

void the_ends_of_the_range() {
  Histogram histogram;
  CHECK(histogram.count() == 0 && histogram.quantile_us(0.5) == 0 && histogram.max_us() == 0);
  histogram.record(-5);  // a clock that stands still or jumps back counts as 0
  CHECK(histogram.count() == 1 && histogram.total_us() == 0 && histogram.quantile_us(1) == 0);
  histogram.record(std::int64_t{1} << 50);
  CHECK_NEAR(histogram.quantile_us(1), 1e-3 * std::exp2(50), 1);
  histogram.reset();
  CHECK(histogram.count() == 0 && histogram.total_us() == 0 && histogram.quantile_us(1) == 0);
}

double steady_us() {
  return 1e6 * std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void a_timer_records_the_time_it_lived() {
  Histogram histogram;
  const double before = steady_us();
  double inner = 0;
  {
    const StageTimer timer(histogram);
    const double start = steady_us();
    while (inner < 100) inner = steady_us() - start;
  }
  const double outer = steady_us() - before;
  CHECK(histogram.count() == 1 && histogram.max_us() >= inner - 0.01 && histogram.max_us() <= outer + 0.01);
}

void stages_have_distinct_names() {
  std::vector<std::string> names;
  for (int stage = 0; stage < kStages; ++stage) names.emplace_back(name(static_cast<Stage>(stage)));
  CHECK(names == (std::vector<std::string>{"observe", "plan", "score", "encode", "denoise", "gate", "tick",
                                           "interrupt"}));
}

}  // namespace

int main() {
  quantiles_lie_within_a_bucket_of_the_exact_ones();
  every_power_of_two_has_its_place();
  the_ends_of_the_range();
  a_timer_records_the_time_it_lived();
  stages_have_distinct_names();
  return result();
}
