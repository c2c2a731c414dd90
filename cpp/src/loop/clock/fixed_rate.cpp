#include "keystep/fixed_rate.hpp"

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "loop/clock/grid.hpp"
#include "loop/clock/period_clock.hpp"
#include "loop/clock/thread_setup.hpp"
#include "loop/runtime_internals.hpp"
#include "support/clock.hpp"
#include "support/finite.hpp"

namespace keystep {
namespace {

/// CLOCK_MONOTONIC, which is also std::chrono's steady clock.
class MonotonicClock final : public PeriodClock {
 public:
  std::int64_t now_ns() noexcept override { return keystep::now_ns(); }
  void sleep_until(std::int64_t ns) noexcept override {
    constexpr std::int64_t kSecond = 1'000'000'000;
    const timespec until{static_cast<time_t>(ns / kSecond), static_cast<long>(ns % kSecond)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
  }
};

/// A histogram that also knows its least value.
class SpreadRecorder {
 public:
  void record(std::int64_t ns) noexcept {
    const auto value = static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 0));
    if (histogram_.count() == 0 || value < min_ns_.get()) min_ns_ = value;
    histogram_.record(ns);
  }
  Spread spread() const noexcept {
    const std::uint64_t count = histogram_.count();
    if (count == 0) return {};
    return {count, 1e-3 * static_cast<double>(min_ns_.get()),
            histogram_.total_us() / static_cast<double>(count), histogram_.quantile_us(0.99),
            histogram_.max_us()};
  }

 private:
  Histogram histogram_;
  Count min_ns_;
};

/// What one run counts.
struct RunCounts {
  Count periods, overruns, skipped, withheld;
  std::array<Count, kStatuses> statuses{};
  SpreadRecorder latency, interval, work;
  Count minor_faults, major_faults, voluntary, involuntary;
};

std::array<double, 3> load() noexcept {
  std::array<double, 3> averages{};
  if (getloadavg(averages.data(), 3) != 3) averages.fill(std::nan(""));
  return averages;
}

rusage usage() noexcept {
  rusage now{};
  getrusage(RUSAGE_THREAD, &now);
  return now;
}

std::uint64_t grown(long from, long to) noexcept { return static_cast<std::uint64_t>(to - from); }

bool is_final(Status status) noexcept {
  return status == Status::not_reset || status == Status::closed || status == Status::forked;
}

void require(Status status, const char* who) {
  if (status != Status::ok) throw PolicyError(status, std::string(who) + ": " + describe(status));
}

}  // namespace

struct FixedRate::Impl {
  Impl(Runtime& of, double rate, RunOptions with, std::unique_ptr<PeriodClock> by)
      : runtime(of), rate_hz(rate), options(std::move(with)), clock(std::move(by)) {}

  void run(const Source& source, const Sink& sink);
  void loop(const Source& source, const Sink& sink);
  void sleep_until(std::int64_t ns) noexcept;
  bool step(const Source& source, const Sink& sink);
  void check_busy(Status status);
  void send(const Sink& sink, std::span<const float> values, Status status);
  void hold(const Sink& sink);
  void note_usage(const rusage& from) noexcept;
  RunReport report() const;

  Runtime& runtime;
  const double rate_hz;
  const RunOptions options;
  const std::unique_ptr<PeriodClock> clock;

  // Of the thread that runs.
  Action action;
  std::string message;
  bool sink_failed = false;
  std::int64_t busy_since = 0;  // 0: the last tick was not

  // Shared.
  std::atomic<bool> stopping = false, ticking = false;
  RunCounts counts;
  mutable std::mutex mutex;  // of the two below, which change before the first period and after the last one
  ThreadReport thread;
  std::array<double, 3> load_before{}, load_after{};
};

void FixedRate::Impl::run(const Source& source, const Sink& sink) {
  counts = {};
  sink_failed = false;
  busy_since = 0;
  action = runtime.make_action();
  message.reserve(256);  // of every status
  const ThreadSetup setup(options.thread);
  {
    const std::lock_guard lock(mutex);
    thread = setup.report();
    load_before = load_after = load();
  }
  // What is left of the chunk of an earlier run was decided in another moment.
  if (RuntimeInternals::was_clocked(runtime)) runtime.interrupt();
  std::exception_ptr failure;
  try {
    loop(source, sink);
  } catch (...) {
    failure = std::current_exception();
  }
  try {
    hold(sink);
  } catch (...) {
    if (!failure) failure = std::current_exception();
  }
  const std::lock_guard lock(mutex);
  load_after = load();
  if (failure) std::rethrow_exception(failure);
}

void FixedRate::Impl::loop(const Source& source, const Sink& sink) {
  const rusage before = usage();
  const Grid grid(clock->now_ns(), rate_hz);
  std::int64_t last_begin = 0;
  for (std::uint64_t point = 1; options.periods == 0 || counts.periods.get() < options.periods;) {
    sleep_until(grid.at(point));
    if (stopping) return;
    const std::int64_t begin = clock->now_ns();
    counts.latency.record(begin - grid.at(point));
    if (counts.periods.get() > 0) counts.interval.record(begin - last_begin);
    last_begin = begin;
    if (!step(source, sink)) return;
    counts.periods.add();
    const std::int64_t end = clock->now_ns();
    counts.work.record(end - begin);
    const std::uint64_t next = grid.next(point, end);
    counts.overruns.add(end > grid.at(point + 1));
    counts.skipped.add(next - point - 1);
    point = next;
    note_usage(before);
  }
}

/// In pieces, so that a stop is not kept waiting by a slow rate.
void FixedRate::Impl::sleep_until(std::int64_t ns) noexcept {
  constexpr std::int64_t kPiece = 50'000'000;
  for (std::int64_t now = clock->now_ns(); now < ns && !stopping; now = clock->now_ns()) {
    clock->sleep_until(std::min(ns, now + kPiece));
  }
}

/// One period. False: it was stopped in it, and the sink was given nothing.
bool FixedRate::Impl::step(const Source& source, const Sink& sink) {
  Observation observation;
  const Status seen = source(observation);
  if (seen == Status::closed) return false;
  require(seen, "source");
  ticking = true;  // before it looks: who stops in between sees the one, or is seen
  const Status status = stopping ? Status::interrupted : runtime.tick(observation, action, &message);
  ticking = false;
  if (stopping) return false;
  counts.statuses[static_cast<std::size_t>(status)].add();
  if (is_final(status)) throw PolicyError(status);
  check_busy(status);
  if (!all_finite(action.values)) return counts.withheld.add(), true;
  send(sink, action.values, status);
  return true;
}

/// Another thread that is inside for a moment, such as in `reset`, costs a hold; one that stays is a mistake.
void FixedRate::Impl::check_busy(Status status) {
  constexpr std::int64_t kPatience = 1'000'000'000;
  const std::int64_t now = clock->now_ns();
  if (status != Status::busy) {
    busy_since = 0;
  } else if (busy_since == 0) {
    busy_since = now;
  } else if (now - busy_since > kPatience) {
    throw PolicyError(status);
  }
}

void FixedRate::Impl::send(const Sink& sink, std::span<const float> values, Status status) {
  sink_failed = true;  // unless it comes back
  require(sink(values, status), "sink");
  sink_failed = false;
}

/// The end, whatever it is, leaves no velocity behind. Absolute actions stand by themselves.
void FixedRate::Impl::hold(const Sink& sink) {
  const ActionSpec& spec = runtime.bundle().action;
  if (sink_failed || spec.hold_mode != "values") return;
  send(sink, spec.hold, Status::interrupted);
  RuntimeInternals::given(runtime, spec.hold);
}

void FixedRate::Impl::note_usage(const rusage& from) noexcept {
  const rusage now = usage();
  counts.minor_faults = grown(from.ru_minflt, now.ru_minflt);
  counts.major_faults = grown(from.ru_majflt, now.ru_majflt);
  counts.voluntary = grown(from.ru_nvcsw, now.ru_nvcsw);
  counts.involuntary = grown(from.ru_nivcsw, now.ru_nivcsw);
}

RunReport FixedRate::Impl::report() const {
  RunReport report;
  report.rate_hz = rate_hz;
  report.periods = counts.periods.get();
  report.overruns = counts.overruns.get();
  report.skipped = counts.skipped.get();
  report.withheld = counts.withheld.get();
  for (std::size_t i = 0; i < counts.statuses.size(); ++i) report.statuses[i] = counts.statuses[i].get();
  report.latency = counts.latency.spread();
  report.interval = counts.interval.spread();
  report.work = counts.work.spread();
  report.minor_faults = counts.minor_faults.get();
  report.major_faults = counts.major_faults.get();
  report.voluntary_switches = counts.voluntary.get();
  report.involuntary_switches = counts.involuntary.get();
  const std::lock_guard lock(mutex);
  report.load_before = load_before;
  report.load_after = load_after;
  report.thread = thread;
  return report;
}

std::unique_ptr<FixedRate> FixedRateInternals::open(Runtime& runtime, double rate_hz,
                                                    const RunOptions& options,
                                                    std::unique_ptr<PeriodClock> clock) {
  auto opened = std::make_unique<FixedRate>(runtime, rate_hz, options);
  opened->impl_ =
      std::make_unique<FixedRate::Impl>(runtime, opened->impl_->rate_hz, options, std::move(clock));
  return opened;
}

FixedRate::FixedRate(Runtime& runtime, double rate_hz, RunOptions options) {
  constexpr double kLeast = 1e-3, kMost = 1e5;
  if (rate_hz != 0 && !(rate_hz >= kLeast && rate_hz <= kMost)) {
    throw ArgumentError(expected("rate_hz", "0.001..100000, or 0 (the bundle's)", std::to_string(rate_hz)));
  }
  check(options.thread);
  const double rate = rate_hz == 0 ? runtime.bundle().control_rate_hz : rate_hz;
  impl_ = std::make_unique<Impl>(runtime, rate, std::move(options), std::make_unique<MonotonicClock>());
}

FixedRate::~FixedRate() = default;

void FixedRate::run(const Source& source, const Sink& sink) {
  Impl& self = *impl_;
  if (!RuntimeInternals::take_clock(self.runtime)) {
    throw PolicyError(Status::busy, "run: another one is in progress on another thread");
  }
  struct End {
    Impl& of;
    ~End() {
      of.stopping = false;
      RuntimeInternals::leave_clock(of.runtime);
    }
  } const end{self};
  self.run(source, sink);
}

void FixedRate::stop() noexcept {
  Impl& self = *impl_;
  self.stopping = true;
  if (self.runtime.options().mode != "lockstep") return;
  // A tick that has just begun may take an interrupt for an old one: repeat.
  for (int i = 0; i < 100 && self.ticking; ++i) {
    self.runtime.interrupt();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

RunReport FixedRate::report() const { return impl_->report(); }

}  // namespace keystep
