// The two walls of a machine: bytes read per second and fp32 operations per second.
//   machine_floors BYTES THREADS PASSES  ->  one JSON line
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

using Vector = float __attribute__((vector_size(64)));
using Clock = std::chrono::steady_clock;

// Sixteen independent sums hide the latency of the addition; only the loads are left to wait for.
float read_all(const Vector* data, std::size_t count) {
  constexpr std::size_t kSums = 16;
  Vector sums[kSums] = {};
  for (std::size_t i = 0; i + kSums <= count; i += kSums) {
#pragma GCC unroll 16
    for (std::size_t j = 0; j < kSums; ++j) sums[j] += data[i + j];
  }
  Vector total = {};
  for (const Vector& sum : sums) total += sum;
  return total[0];
}

// 24 accumulators and two factors fit the 32 vector registers; 2 operations per lane and iteration.
float multiply_add(std::size_t iterations) {
  constexpr std::size_t kSums = 24;
  Vector sums[kSums];
  for (std::size_t j = 0; j < kSums; ++j) sums[j] = Vector{} + static_cast<float>(j);
  Vector factor = Vector{} + 0.999f, term = Vector{} + 1e-3f;
  for (std::size_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+v"(factor), "+v"(term));
#pragma GCC unroll 24
    for (std::size_t j = 0; j < kSums; ++j) sums[j] = sums[j] * factor + term;
  }
  Vector total = {};
  for (const Vector& sum : sums) total += sum;
  return total[0];
}
constexpr double kOperations = 24.0 * 16.0 * 2.0;  // of one iteration of multiply_add

volatile float sink;

// Seconds of each pass, during which every thread does work(thread) once.
template <class Work>
std::vector<double> time_passes(int threads, int passes, const Work& work) {
  std::vector<double> seconds;
  Clock::time_point start;
  std::barrier begin(threads), end(threads);
  auto body = [&](int thread) {
    for (int pass = 0; pass < passes; ++pass) {
      begin.arrive_and_wait();
      if (thread == 0) start = Clock::now();
      sink = work(thread);
      end.arrive_and_wait();
      if (thread == 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  };
  std::vector<std::jthread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(body, thread);
  body(0);
  return seconds;
}

double best(const std::vector<double>& seconds) { return *std::min_element(seconds.begin(), seconds.end()); }

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: machine_floors BYTES THREADS PASSES\n");
    return 2;
  }
  const std::size_t vectors = std::strtoull(argv[1], nullptr, 10) / sizeof(Vector);
  const int threads = std::atoi(argv[2]), passes = std::atoi(argv[3]);
  if (vectors < 64 || threads < 1 || passes < 1) {
    std::fprintf(stderr, "expected BYTES >= 4096, THREADS >= 1, PASSES >= 1\n");
    return 2;
  }
  std::vector<Vector> data(vectors, Vector{} + 1.0f);
  const std::size_t share = vectors / static_cast<std::size_t>(threads);
  const auto reading = time_passes(threads, passes, [&](int thread) {
    return read_all(data.data() + share * static_cast<std::size_t>(thread), share);
  });
  constexpr std::size_t kIterations = 2'000'000;
  const auto computing = time_passes(threads, passes, [](int) { return multiply_add(kIterations); });
  const double bytes = static_cast<double>(share * sizeof(Vector)) * threads;
  std::printf("{\"bytes_per_second\": %.6g, \"flops\": %.6g}\n", bytes / best(reading),
              kOperations * kIterations * threads / best(computing));
}
