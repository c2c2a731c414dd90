// The fixed-rate thread: its grid by a clock of the test's own, its ends, and what it reports.
#include <sys/resource.h>

#include <random>
#include <stdexcept>
#include <thread>

#include "async_fixture.hpp"
#include "loop/clock/grid.hpp"
#include "loop/clock/period_clock.hpp"
#include "loop/clock/thread_setup.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr std::int64_t kMs = 1'000'000;
const auto kSeen = seen(kState);  // an Observation only points at it

/// Time passes when somebody sleeps, wakes too late, or is told to work.
struct Time {
  std::int64_t now = 123'456'789, late = 0;
  std::vector<std::int64_t> wakes{};  // grid points
};

class FakeClock final : public PeriodClock {
 public:
  explicit FakeClock(Time& time) : time_(time) {}
  std::int64_t now_ns() noexcept override { return time_.now; }
  void sleep_until(std::int64_t ns) noexcept override {
    time_.wakes.push_back(ns);
    time_.now = std::max(time_.now, ns) + time_.late;
  }

 private:
  Time& time_;
};

/// A policy, a robot that always sees the same and keeps what it is given.
struct Robot {
  explicit Robot(RuntimeOptions options = {}, std::map<std::string, std::string> injected = {})
      : policy(kManifest, std::move(injected), std::move(options)) {
    policy.reset();
  }
  std::unique_ptr<FixedRate> clock(double rate_hz, const RunOptions& options) {
    return FixedRateInternals::open(*policy.runtime, rate_hz, options, std::make_unique<FakeClock>(time));
  }
  Source source() {
    return [this](Observation& observation) {
      observation = kSeen;
      return Status::ok;
    };
  }
  Sink sink() {
    return [this](std::span<const float> action, Status status) {
      actions.emplace_back(action.begin(), action.end());
      statuses.push_back(status);
      return Status::ok;
    };
  }

  test::Policy policy;
  Time time;
  std::vector<std::vector<float>> actions;
  std::vector<Status> statuses;
};

void points_do_not_drift() {
  const Grid grid(5, 30);  // periods of 33,333,333.3 ns
  CHECK(grid.at(30) == 5 + 1'000'000'000);
  CHECK(grid.at(30LL * 86'400 * 100) == 5 + 86'400LL * 100 * 1'000'000'000);
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const double rate = std::uniform_real_distribution(0.01, 2000.0)(random);
    const Grid some(static_cast<std::int64_t>(random() % (1ULL << 60)), rate);
    const std::uint64_t k = random() % 1'000'000;
    const std::int64_t now = some.at(k) + static_cast<std::int64_t>(random() % 5'000'000'000);
    const std::uint64_t next = some.next(k, now);
    CHECK(next > k && some.at(next) >= now);          // never one that is past
    CHECK(next == k + 1 || some.at(next - 1) < now);  // and none was left out
  }
}

/// The same actions as those that a caller's own loop takes, one per period, whatever the wake-ups are.
void it_ticks_once_a_period() {
  Robot robot, other;
  robot.time.late = kMs / 10;
  const auto clock = robot.clock(100, {.periods = 20});
  clock->run(robot.source(), robot.sink());
  CHECK(robot.actions.size() == 21);
  for (std::size_t i = 0; i < 20; ++i) {
    CHECK(other.policy.tick() == Status::ok);
    CHECK(robot.actions[i] == other.policy.action.values && robot.statuses[i] == Status::ok);
    CHECK(robot.time.wakes[i] == 123'456'789 + static_cast<std::int64_t>(i + 1) * 10 * kMs);
  }
  CHECK(robot.actions[20] == robot.policy.runtime->bundle().action.hold);  // no velocity is left behind
  CHECK(robot.statuses[20] == Status::interrupted);
  const RunReport report = clock->report();
  CHECK(report.periods == 20 && report.statuses[0] == 20 && report.overruns == 0 && report.skipped == 0);
  CHECK(report.latency.count == 20 && report.interval.count == 19 && report.work.max_us == 0);
  CHECK_NEAR(report.latency.min_us, 100, 1e-9);
  CHECK_NEAR(report.latency.max_us, 100, 1e-9);
  CHECK_NEAR(report.interval.avg_us, 10'000, 1e-6);
}

/// Period 3 takes 25 ms of 10: points 4 and 5 are left out, the others stay where they are.
void an_overrun_skips_to_the_next_point() {
  Robot robot;
  const auto clock = robot.clock(100, {.periods = 5});
  const Source slow = [&, count = 0](Observation& observation) mutable {
    observation = kSeen;
    robot.time.now += ++count == 3 ? 25 * kMs : kMs;
    return Status::ok;
  };
  clock->run(slow, robot.sink());
  std::vector<std::int64_t> points;
  for (const std::int64_t ns : robot.time.wakes) points.push_back((ns - 123'456'789) / (10 * kMs));
  CHECK((points == std::vector<std::int64_t>{1, 2, 3, 6, 7}));
  const RunReport report = clock->report();
  CHECK(report.overruns == 1 && report.skipped == 2 && report.periods == 5);
  CHECK_NEAR(report.work.max_us, 25'000, 1e-9);
  CHECK_NEAR(report.interval.max_us, 30'000, 1e-9);
}

/// Without `hold` for the one who failed.
void source_and_sink_end_it() {
  Robot robot;
  const auto clock = robot.clock(100, {});
  const Source broken = [&, count = 0](Observation& observation) mutable {
    if (++count == 3) throw std::runtime_error("the camera is gone");
    observation = kSeen;
    return Status::ok;
  };
  CHECK_THROWS(std::runtime_error, "the camera is gone", clock->run(broken, robot.sink()));
  CHECK(robot.actions.size() == 3 && robot.statuses[2] == Status::interrupted);
  CHECK(clock->report().periods == 2);
  const Source stale = [](Observation&) { return Status::stale_observation; };
  CHECK_THROWS(PolicyError, "source: the observation is older", clock->run(stale, robot.sink()));
  int calls = 0;
  const Sink refuses = [&](std::span<const float>, Status) { return ++calls, Status::bad_observation; };
  CHECK_THROWS(PolicyError, "sink: the observation has", clock->run(robot.source(), refuses));
  CHECK(calls == 1);
  robot.policy.runtime->close();
  CHECK_THROWS(PolicyError, "closed", clock->run(robot.source(), robot.sink()));
}

/// A tick that fails is a hold and goes on; what is not finite goes nowhere.
void failed_ticks_go_on() {
  Robot robot;
  const auto clock = robot.clock(100, {.periods = 4});
  const std::vector<float> bad = {1, NAN, 3};
  const auto unusable = seen(bad);
  const Source source = [&, count = 0](Observation& observation) mutable {
    observation = ++count % 2 == 0 ? unusable : kSeen;
    return Status::ok;
  };
  clock->run(source, robot.sink());
  const RunReport report = clock->report();
  CHECK(report.statuses[static_cast<std::size_t>(Status::bad_observation)] == 2 && report.statuses[0] == 2);
  CHECK(robot.actions.size() == 5 && robot.actions[1] == robot.policy.runtime->bundle().action.hold);

  test::Policy absolute(holding(R"({"mode": "last"})"));
  absolute.reset();
  FixedRate other(*absolute.runtime, 1000, {.periods = 3});
  const Source nothing = [&](Observation& observation) { return observation = unusable, Status::ok; };
  other.run(nothing,
            [](std::span<const float>, Status) -> Status { throw std::logic_error("NaN was sent"); });
  CHECK(other.report().withheld == 3);
}

void stops_from_any_thread(const std::string& mode) {
  RuntimeOptions options;
  options.mode = mode;
  Robot robot(options, {{"stub.sleep_us", mode == "async" ? "200" : "1000000000"}});
  FixedRate clock(*robot.policy.runtime, 500);
  std::atomic<int> sinks = 0;
  std::thread thread([&] {
    clock.run(robot.source(), [&](std::span<const float>, Status) { return ++sinks, Status::ok; });
  });
  while (mode == "async" && sinks < 5) std::this_thread::yield();
  CHECK(mode == "lockstep" || clock.report().periods >= 4);  // read while it runs
  while (robot.policy.runtime->telemetry().ticks == 0 && mode == "async") std::this_thread::yield();
  std::thread busy([&] {
    if (mode == "async") CHECK_THROWS(PolicyError, "another thread", clock.run(robot.source(), robot.sink()));
  });
  busy.join();
  if (mode == "lockstep") std::this_thread::sleep_for(std::chrono::milliseconds(20));
  clock.stop();  // once, of an engine's call that takes 1000 s in lockstep
  thread.join();
  const int seen_then = sinks;
  clock.stop();  // there is none: the next one ends before it begins
  clock.run(robot.source(), [&](std::span<const float>, Status) { return ++sinks, Status::ok; });
  CHECK(sinks == seen_then + 1 && clock.report().periods == 0);
}

/// Between two looks at the stop, too: nothing is computed, and no action given, once it was called.
void a_stop_within_the_source_is_seen() {
  for (const std::string mode : {"lockstep", "async"}) {
    RuntimeOptions options;
    options.mode = mode;
    Robot robot(options, {{"stub.sleep_us", "1000000000"}});
    FixedRate clock(*robot.policy.runtime, 500);
    const Source stops = [&](Observation& observation) {
      observation = kSeen;
      clock.stop();
      return Status::ok;
    };
    clock.run(stops, robot.sink());
    CHECK(robot.statuses == std::vector<Status>{Status::interrupted});
    CHECK(clock.report().periods == 0);
  }
}

/// A period of 1000 s: a stop is seen in the sleep.
void a_slow_rate_keeps_no_stop_waiting() {
  Robot robot;
  FixedRate clock(*robot.policy.runtime, 0.001);
  std::thread thread([&] { clock.run(robot.source(), robot.sink()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  clock.stop();
  thread.join();
  CHECK(robot.statuses == std::vector<Status>{Status::interrupted});
}

/// What was left of the first run's chunk is of another moment, and the hold in between was given.
void another_run_begins_anew() {
  Robot robot;
  robot.clock(100, {.periods = 2})->run(robot.source(), robot.sink());
  const std::uint64_t chunks = robot.policy.runtime->latency().chunks;
  robot.clock(100, {.periods = 1})->run(robot.source(), robot.sink());
  CHECK(robot.policy.runtime->latency().chunks == chunks + 1);
  robot.policy.reset();
  const std::uint64_t interrupts = robot.policy.runtime->latency().interrupts;
  robot.clock(100, {.periods = 1})->run(robot.source(), robot.sink());
  CHECK(robot.policy.runtime->latency().interrupts == interrupts);  // an episode of its own
}

/// There is no more: an end, and no error.
void a_source_may_end() {
  Robot robot;
  const auto clock = robot.clock(100, {});
  const Source three = [&, count = 0](Observation& observation) mutable {
    observation = kSeen;
    return ++count > 3 ? Status::closed : Status::ok;
  };
  clock->run(three, robot.sink());
  CHECK(clock->report().periods == 3 && robot.statuses.back() == Status::interrupted);
}

/// Another thread is inside, as `reset` is: a hold for a second at most.
void somebody_inside_costs_a_hold() {
  Robot robot({}, {{"stub.sleep_us", "1000000000"}});
  std::thread other([&] {
    Action action = robot.policy.runtime->make_action();
    CHECK(robot.policy.runtime->tick(kSeen, action) != Status::ok);  // it is closed meanwhile
  });
  for (bool inside = false; !inside; std::this_thread::yield()) {
    try {
      robot.policy.runtime->about();
    } catch (const PolicyError& error) {
      inside = error.status == Status::busy;
    }
  }
  const auto clock = robot.clock(10, {});
  CHECK_THROWS(PolicyError, "another thread", clock->run(robot.source(), robot.sink()));
  CHECK(robot.statuses.size() >= 10 && robot.statuses.front() == Status::busy);
  CHECK(robot.actions.front() == robot.policy.runtime->bundle().action.hold);
  robot.policy.runtime->close();
  other.join();
}

/// Whatever is permitted here: what is asked for is there, or it is told why not; and it is put back.
void reports_what_it_obtained() {
  ThreadReport before, inside, after;
  {
    before = ThreadSetup({}).report();
    const int core = before.cores.front();
    const ThreadSetup setup(
        {.fifo_priority = 20, .cores = {core}, .lock_memory = true, .prefault_stack = 256 << 10});
    inside = setup.report();
    CHECK(inside.policy == "SCHED_FIFO" ? inside.priority == 20 && inside.fifo_refusal.empty()
                                        : inside.fifo_refusal.find("SCHED_FIFO 20: ") == 0);
    CHECK(inside.cores == std::vector<int>{core} || !inside.cores_refusal.empty());
    CHECK(inside.memory_locked || inside.memory_refusal.find("mlockall: ") == 0);
    CHECK(inside.prefaulted == 256 << 10 && inside.stack_refusal.empty());
  }
  after = ThreadSetup({}).report();
  CHECK(after.policy == before.policy && after.priority == before.priority && after.cores == before.cores);
  CHECK(!ThreadSetup({.prefault_stack = std::size_t{1} << 40}).report().stack_refusal.empty());
  CHECK(!ThreadSetup({.cores = {1023}}).report().cores_refusal.empty() || before.cores.back() == 1023);
}

/// Without the right to it, as most users are: a report, and the run goes on.
void a_refusal_is_no_error() {
  std::thread([] {
    const rlimit none{0, 0};
    setrlimit(RLIMIT_RTPRIO, &none);
    Robot robot;
    FixedRate clock(*robot.policy.runtime, 0, {.periods = 3, .thread = {.fifo_priority = 99}});
    clock.run(robot.source(), robot.sink());
    const RunReport report = clock.report();
    CHECK(report.periods == 3 && report.rate_hz == robot.policy.runtime->bundle().control_rate_hz);
    CHECK((report.thread.policy == "SCHED_FIFO") == report.thread.fifo_refusal.empty());
    CHECK(report.voluntary_switches + report.involuntary_switches > 0);
  }).join();
}

void refuses_what_cannot_be() {
  Robot robot;
  Runtime& runtime = *robot.policy.runtime;
  CHECK_THROWS(ArgumentError, "rate_hz: expected 0.001..100000", FixedRate(runtime, -1));
  CHECK_THROWS(ArgumentError, "rate_hz: expected", FixedRate(runtime, NAN));
  CHECK_THROWS(ArgumentError, "fifo_priority: expected 0 (none) or 1..99, got 100",
               FixedRate(runtime, 10, {.thread = {.fifo_priority = 100}}));
  CHECK_THROWS(ArgumentError, "cores: expected", FixedRate(runtime, 10, {.thread = {.cores = {-1}}}));
}

}  // namespace

int main() {
  points_do_not_drift();
  it_ticks_once_a_period();
  an_overrun_skips_to_the_next_point();
  source_and_sink_end_it();
  failed_ticks_go_on();
  stops_from_any_thread("lockstep");
  stops_from_any_thread("async");
  a_stop_within_the_source_is_seen();
  a_slow_rate_keeps_no_stop_waiting();
  another_run_begins_anew();
  a_source_may_end();
  somebody_inside_costs_a_hold();
  reports_what_it_obtained();
  a_refusal_is_no_error();
  refuses_what_cannot_be();
  return result();
}
