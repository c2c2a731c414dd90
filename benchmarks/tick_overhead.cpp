// Time and heap allocations of a tick whose action is taken from the chunk, stub engine. In async mode: of
// any tick, each 100 us after the one before, while ENGINE makes chunks on other threads.
//   tick_overhead BUNDLE TICKS [async ENGINE]  ->  one JSON line
//
// Replaces malloc and its kin for the whole program, so an allocation counts however it was asked for; on the
// thread that ticks.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "keystep/keystep.hpp"

namespace {
thread_local long allocations = 0;
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

/// One tick after the other, of the same observation.
class Ticks {
 public:
  Ticks(const char* bundle, const keystep::RuntimeOptions& options) : runtime(bundle, options) {
    const keystep::Bundle& spec = runtime.bundle();
    if (spec.observation.size() != 1 || spec.observation[0].kind != "vector") {
      throw keystep::Error("BUNDLE: expected one vector, got another observation");
    }
    state_.assign(static_cast<std::size_t>(spec.observation[0].shape[0]), 0.1f);
    keystep::EpisodeContext context;
    if (!spec.tasks.empty()) context.task = spec.tasks.front().name;
    runtime.reset(context);
    action_ = runtime.make_action();
  }

  /// Its microseconds.
  double next() {
    const keystep::FeatureView view = state_;
    const keystep::Observation observation{.features = {&view, 1}};
    const long before = allocations;
    const auto start = Clock::now();
    const keystep::Status status = runtime.tick(observation, action_);
    const auto elapsed = Clock::now() - start;
    allocated += allocations - before;
    if (status != keystep::Status::ok) throw keystep::Error(keystep::describe(status));
    return microseconds(elapsed);
  }

  keystep::Runtime runtime;
  long allocated = 0;

 private:
  std::vector<float> state_;
  keystep::Action action_;
};

void measure_lockstep(const char* bundle, std::size_t ticks) {
  keystep::RuntimeOptions options;
  options.engine.engine = "stub";
  Ticks all(bundle, options);
  const keystep::Bundle& spec = all.runtime.bundle();
  std::vector<double> taken, renewed;
  taken.reserve(ticks);
  renewed.reserve(ticks);
  const auto execute = static_cast<std::size_t>(spec.chunk.execute);
  const auto held = spec.planner ? static_cast<std::size_t>(spec.planner->steps_per_subgoal) : ticks;
  for (std::size_t i = 0; i < ticks; ++i) {
    (i % held % execute == 0 ? renewed : taken).push_back(all.next());
  }
  std::printf(
      "{\"ticks\": %zu, \"allocations\": %ld, \"clock_us\": %.4f, \"median_us\": %.4f, \"p99_us\": %.4f, "
      "\"max_us\": %.4f, \"renewal_median_us\": %.4f}\n",
      ticks, all.allocated, clock_us(), quantile(taken, 0.5), quantile(taken, 0.99), quantile(taken, 1.0),
      quantile(renewed, 0.5));
}

/// Interrupts, each followed by ticks without a pause until there is a new action. What remains of the median
/// without that of the graphs is our own.
void interrupt_often(Ticks& all, int interrupts) {
  all.runtime.reset_latency();
  for (int i = 0; i < interrupts; ++i) {
    const auto before = all.runtime.telemetry().actions;
    all.runtime.interrupt();
    while (all.runtime.telemetry().actions == before) all.next();
  }
}

/// Of this thread so far: preemptions, which are what its longest ticks are made of.
long involuntary_switches() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

void measure_async(const char* bundle, std::size_t ticks, const char* engine) {
  keystep::RuntimeOptions options;
  options.engine.engine = engine;
  options.engine.threads = 1;
  options.mode = "async";
  Ticks all(bundle, options);
  while (all.runtime.telemetry().chunks < 3) {
    all.next();
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  all.runtime.reset_latency();
  all.allocated = 0;
  std::vector<double> times;
  times.reserve(ticks);
  const long switches = involuntary_switches();
  auto due = Clock::now();
  for (std::size_t i = 0; i < ticks; ++i) {
    std::this_thread::sleep_until(due += std::chrono::microseconds(100));
    times.push_back(all.next());
  }
  const keystep::Telemetry seen = all.runtime.telemetry();
  const long switched = involuntary_switches() - switches, allocated = all.allocated;
  all.allocated = 0;
  interrupt_often(all, 300);
  const keystep::LatencyReport after = all.runtime.latency();
  const keystep::StageLatency& waited = after.stages[static_cast<std::size_t>(keystep::Stage::interrupt)];
  const auto median = [&](keystep::Stage stage) {
    return after.stages[static_cast<std::size_t>(stage)].p50_us;
  };
  std::printf(
      "{\"ticks\": %zu, \"allocations\": %ld, \"clock_us\": %.4f, \"median_us\": %.4f, \"p99_us\": %.4f, "
      "\"max_us\": %.4f, \"chunks\": %llu, \"actions\": %llu, \"involuntary_switches\": %ld, "
      "\"interrupts\": %llu, \"interrupt_allocations\": %ld, \"interrupt_median_us\": %.2f, "
      "\"interrupt_p99_us\": %.2f, \"sample_median_us\": %.2f}\n",
      ticks, allocated, clock_us(), quantile(times, 0.5), quantile(times, 0.99), quantile(times, 1.0),
      static_cast<unsigned long long>(seen.chunks), static_cast<unsigned long long>(seen.actions), switched,
      static_cast<unsigned long long>(waited.count), all.allocated, waited.p50_us, waited.p99_us,
      median(keystep::Stage::encode) + median(keystep::Stage::denoise));
}

}  // namespace

int main(int argc, char** argv) {
  const long ticks = argc >= 3 ? std::atol(argv[2]) : 0;
  const bool async = argc == 5 && std::string(argv[3]) == "async";
  if (ticks < 100 || (argc != 3 && !async)) {
    std::fprintf(stderr, "usage: tick_overhead BUNDLE TICKS [async ENGINE] (at least 100 ticks)\n");
    return 2;
  }
  try {
    if (async) {
      measure_async(argv[1], static_cast<std::size_t>(ticks), argv[4]);
    } else {
      measure_lockstep(argv[1], static_cast<std::size_t>(ticks));
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
