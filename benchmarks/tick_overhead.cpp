// Time and heap allocations of a tick whose action is taken from the chunk, stub engine.
//   tick_overhead BUNDLE TICKS  ->  one JSON line
//
// Replaces malloc and its kin for the whole program, so an allocation counts however it was asked for.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include "keystep/keystep.hpp"

namespace {
std::atomic<long> allocations{0};
}

extern "C" {  // glibc's own names of the functions replaced
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  ++allocations;
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  ++allocations;
  return __libc_memalign(alignment, size);
}
}

namespace {

using Clock = std::chrono::steady_clock;

double microseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

// Nearest rank; `values` is reordered.
double quantile(std::vector<double>& values, double q) {
  const auto rank = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + rank, values.end());
  return values[static_cast<std::size_t>(rank)];
}

double clock_us() {  // what the two clock readings around a tick cost by themselves
  std::vector<double> times(100'000);
  for (double& time : times) {
    const auto start = Clock::now();
    time = microseconds(Clock::now() - start);
  }
  return quantile(times, 0.5);
}

int measure(const char* bundle, std::size_t ticks) {
  keystep::RuntimeOptions options;
  options.engine.engine = "stub";
  keystep::Runtime runtime(bundle, options);
  const auto& spec = runtime.bundle();
  keystep::EpisodeContext context;
  if (!spec.tasks.empty()) context.task = spec.tasks.front().name;
  runtime.reset(context);

  if (spec.observation.size() != 1 || spec.observation[0].kind != "vector") {
    std::fprintf(stderr, "BUNDLE: expected one vector, got another observation\n");
    return 1;
  }
  const std::vector<float> state(static_cast<std::size_t>(spec.observation[0].shape[0]), 0.1f);
  const keystep::FeatureView view = state;
  const keystep::Observation observation{.features = {&view, 1}};
  keystep::Action action = runtime.make_action();
  std::vector<double> taken, renewed;
  taken.reserve(ticks);
  renewed.reserve(ticks);
  const auto execute = static_cast<std::size_t>(spec.chunk.execute);
  const auto held = spec.planner ? static_cast<std::size_t>(spec.planner->steps_per_subgoal) : ticks;
  long during_ticks = 0;
  for (std::size_t i = 0; i < ticks; ++i) {
    const long before = allocations.load(std::memory_order_relaxed);
    const auto start = Clock::now();
    const keystep::Status status = runtime.tick(observation, action);
    const auto elapsed = Clock::now() - start;
    during_ticks += allocations.load(std::memory_order_relaxed) - before;
    if (status != keystep::Status::ok) {
      std::fprintf(stderr, "tick %zu: %s\n", i, keystep::describe(status));
      return 1;
    }
    (i % held % execute == 0 ? renewed : taken).push_back(microseconds(elapsed));
  }
  std::printf(
      "{\"ticks\": %zu, \"allocations\": %ld, \"clock_us\": %.4f, \"median_us\": %.4f, \"p99_us\": %.4f, "
      "\"max_us\": %.4f, \"renewal_median_us\": %.4f}\n",
      ticks, during_ticks, clock_us(), quantile(taken, 0.5), quantile(taken, 0.99), quantile(taken, 1.0),
      quantile(renewed, 0.5));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const long ticks = argc == 3 ? std::atol(argv[2]) : 0;
  if (ticks < 100) {
    std::fprintf(stderr, "usage: tick_overhead BUNDLE TICKS (at least 100)\n");
    return 2;
  }
  try {
    return measure(argv[1], static_cast<std::size_t>(ticks));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
