// What a span costs, recorded and where nothing is traced; and a tick of the stub engine with and without a
// trace.
//   trace_overhead BUNDLE TICKS FILE  ->  one JSON line
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <vector>

#include "keystep/keystep.hpp"

namespace {

using Clock = std::chrono::steady_clock;
constexpr keystep::TraceLabel kLabel = {"span", "number"};
constexpr int kBatch = 2000;  // spans, which the ring of a track takes at once

double quantile(std::vector<double>& values, double q) {
  const auto rank = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + rank, values.end());
  return values[static_cast<std::size_t>(rank)];
}

/// Nanoseconds of a span, the median over batches. The file is written between them.
double span_ns(keystep::Tracer& tracer, keystep::TraceTrack* track, int batches) {
  const keystep::TracedThread traced(track);
  std::vector<double> times;
  for (int batch = 0; batch < batches; ++batch) {
    const auto start = Clock::now();
    for (int i = 0; i < kBatch; ++i) {
      const keystep::Span span(kLabel, i);
      asm volatile("" ::: "memory");  // a span of nothing is not removed
    }
    const std::chrono::duration<double, std::nano> elapsed = Clock::now() - start;
    times.push_back(elapsed.count() / kBatch);
    tracer.flush();
  }
  return quantile(times, 0.5);
}

struct Ticking {
  Ticking(const char* bundle, std::shared_ptr<keystep::Tracer> tracer) {
    keystep::RuntimeOptions options;
    options.engine.engine = "stub";
    options.tracer = std::move(tracer);
    runtime = std::make_unique<keystep::Runtime>(bundle, options);
    keystep::EpisodeContext context;
    if (!runtime->bundle().tasks.empty()) context.task = runtime->bundle().tasks.front().name;
    runtime->reset(context);
    state.assign(static_cast<std::size_t>(runtime->bundle().observation.at(0).shape[0]), 0.1f);
    view = state;
    action = runtime->make_action();
  }
  void run(int ticks) {
    for (int i = 0; i < ticks; ++i) {
      const auto start = Clock::now();
      if (runtime->tick({.features = {&view, 1}}, action) != keystep::Status::ok) std::exit(1);
      const std::chrono::duration<double, std::micro> elapsed = Clock::now() - start;
      times.push_back(elapsed.count());
    }
  }

  std::unique_ptr<keystep::Runtime> runtime;
  std::vector<float> state;
  keystep::FeatureView view;
  keystep::Action action;
  std::vector<double> times;
};

int measure(const char* bundle, int ticks, const char* file) {
  const auto tracer = std::make_shared<keystep::Tracer>(file);
  const auto track = tracer->track("spans");
  const double off = span_ns(*tracer, nullptr, 200);
  const double on = span_ns(*tracer, track.get(), 200);
  Ticking untraced(bundle, nullptr), traced(bundle, tracer);
  for (int round = 0; round < ticks; round += kBatch / 10) {
    untraced.run(kBatch / 10);
    traced.run(kBatch / 10);
    tracer->flush();
  }
  const keystep::TraceReport report = tracer->report();
  std::printf(
      "{\"span_off_ns\": %.2f, \"span_on_ns\": %.2f, \"tick_us\": %.4f, \"traced_tick_us\": %.4f, "
      "\"tick_p99_us\": %.4f, \"traced_tick_p99_us\": %.4f, \"events\": %llu, \"bytes\": %llu, "
      "\"dropped\": %llu}\n",
      off, on, quantile(untraced.times, 0.5), quantile(traced.times, 0.5), quantile(untraced.times, 0.99),
      quantile(traced.times, 0.99), static_cast<unsigned long long>(report.events),
      static_cast<unsigned long long>(report.bytes), static_cast<unsigned long long>(report.dropped));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const int ticks = argc == 4 ? std::atoi(argv[2]) : 0;
  if (ticks < kBatch) {
    std::fprintf(stderr, "usage: trace_overhead BUNDLE TICKS FILE (at least %d)\n", kBatch);
    return 2;
  }
  try {
    return measure(argv[1], ticks, argv[3]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
