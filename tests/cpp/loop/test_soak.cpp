// Real threads, schedules and faults from seeds: somebody interrupts, somebody reads, the engine is slow,
// hangs, fails and writes NaN, and every tick is checked. `keystep soak` does the same for hours.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <random>
#include <thread>

#include "async_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr float kHold = -1;

/// Actions {index, tick of the observation, 0}, as `stub.marks` writes them.
std::string marked_manifest(int horizon, int execute) {
  std::string manifest = index_manifest(horizon, execute, R"({"mode": "values", "values": [-1, -1, -1]})");
  manifest = replaced(manifest, R"(["dx", "dy"], "units": ["m", "m"])",
                      R"(["index", "tick", "goal"], "units": ["1", "1", "1"])");
  manifest = replaced(manifest, R"("min": [-1000000, -1000000], "max": [1000000, 1000000])",
                      R"("min": [-1e6, -1e6, -1e6], "max": [1e6, 1e6, 1e6])");
  const std::string shape = "[1, " + std::to_string(horizon) + ", ";
  return replaced(manifest, shape + "2]", shape + "3]");
}

class Soaked {
 public:
  explicit Soaked(std::uint64_t seed)
      : random_(seed),
        rows_(1 + below(12)),
        policy_(marked_manifest(rows_, 1 + below(rows_)), faults(), options()) {
    policy_.reset();
  }

  void run(int ticks) {
    std::thread interrupter([&] { interrupt(); }), reader([&] { read(); });
    for (int i = 0; i < ticks || acted_ < 20; ++i) {
      if (below(300) == 0) reset();
      tick();
      std::this_thread::sleep_for(std::chrono::microseconds(below(300)));
    }
    done_ = true;
    interrupter.join();
    reader.join();
    CHECK(wrong_ == 0);
    policy_.runtime->close();
    CHECK(policy_.tick() == Status::closed);
  }

 private:
  int below(int end) { return static_cast<int>(random_() % static_cast<unsigned>(end)); }

  RuntimeOptions options() {
    const char* merges[] = {"replace", "blend", "temporal_ensemble"};
    const char* underruns[] = {"hold", "decelerate", "repeat", "fault"};
    RuntimeOptions options;
    options.mode = "async";
    options.async.merge = merges[below(3)];
    options.async.underrun = underrun_ = underruns[below(4)];
    options.async.watchdog_us = 3000;
    return options;
  }

  std::map<std::string, std::string> faults() {
    const auto ppm = [&] { return std::to_string(below(2) * below(200'000)); };
    return {{"stub.marks", "1"},        {"stub.fault_seed", std::to_string(below(1 << 30))},
            {"stub.jitter_us", "300"},  {"stub.fault_period", "40"},
            {"stub.fault_length", "8"}, {"stub.fail_ppm", ppm()},
            {"stub.nan_ppm", ppm()},    {"stub.slow_ppm", ppm()},
            {"stub.slow_us", "2000"},   {"stub.hang_ppm", ppm()},
            {"stub.hang_us", "10000"}};
  }

  void reset() {
    policy_.reset(7, static_cast<std::uint32_t>(below(1000)));
    index_ = 0;
    floor_ = ticks_;
  }

  void tick() {
    const std::int64_t floor = floor_;  // of interrupts that are over
    const bool bad = below(50) == 0;
    const std::vector<float> state = {static_cast<float>(index_), static_cast<float>(ticks_),
                                      bad ? std::nanf("") : 0};
    const Telemetry before = policy_.runtime->telemetry();
    const Status status = policy_.runtime->tick(seen(state), policy_.action);
    const Telemetry now = policy_.runtime->telemetry();
    CHECK(now.ticks == before.ticks + 1);
    if (now.actions != before.actions) {
      CHECK(status == Status::ok && !bad);
      // Blending rounds.
      CHECK_NEAR(policy_.action.values[0], static_cast<double>(index_), 0.01);
      CHECK(policy_.action.values[1] > static_cast<float>(floor) - 0.01f);
      CHECK(policy_.action.values[1] < static_cast<float>(ticks_) + 0.01f);
      ++index_;
      ++acted_;
    } else {
      check_cause(before, now, status, bad);
    }
    CHECK(now.consumed == index_ && now.left >= 0 && now.left <= rows_);
    if (!bad) newest_ = ticks_;
    ++ticks_;
  }

  /// The table of docs/real_time.md.
  void check_cause(const Telemetry& before, const Telemetry& now, Status status, bool bad) {
    int cause = -1, causes = 0;
    for (int i = 0; i < kCauses; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (now.underruns[at] == before.underruns[at]) continue;
      cause = i;
      ++causes;
    }
    CHECK(causes == 1 && (static_cast<Cause>(cause) == Cause::refused) == bad);
    switch (static_cast<Cause>(cause)) {
      case Cause::refused:
        CHECK(status == Status::bad_observation);
        break;
      case Cause::failed:
        CHECK((status == Status::engine_failure || status == Status::rejected_chunk) &&
              now.chunks_failed > 0);
        break;
      case Cause::hung:
        CHECK(status == Status::engine_hung && now.hangs > 0);
        break;
      case Cause::stale:
        CHECK(false);
        break;
      default:
        CHECK(status == (underrun_ == "fault" ? Status::underrun : Status::ok));
        if (underrun_ == "hold")
          CHECK(std::ranges::all_of(policy_.action.values, [](float v) { return v == kHold; }));
    }
  }

  void interrupt() {
    std::mt19937_64 random(1);
    while (!done_) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
      const std::int64_t newest = newest_;
      policy_.runtime->interrupt();
      // No action of a later tick is made of anything that was seen before this.
      std::int64_t floor = floor_;
      while (floor < newest && !floor_.compare_exchange_weak(floor, newest)) {
      }
    }
  }

  void read() {
    std::uint64_t before = 0;
    while (!done_) {
      const Telemetry now = policy_.runtime->telemetry();
      const auto underruns = std::accumulate(now.underruns.begin(), now.underruns.end(), std::uint64_t{0});
      wrong_ += now.ticks != now.actions + underruns || now.ticks < before;
      before = now.ticks;
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  std::mt19937_64 random_;
  std::string underrun_;
  const int rows_;
  test::Policy policy_;
  std::int64_t index_ = 0, ticks_ = 0, acted_ = 0;
  std::atomic<std::int64_t> newest_ = -1, floor_ = 0;
  std::atomic<bool> done_ = false;
  std::atomic<int> wrong_ = 0;
};

}  // namespace

int main() {
  for (std::uint64_t seed = 1; seed <= static_cast<std::uint64_t>(cases(8, 4)); ++seed) {
    Soaked(seed).run(cases(1500, 400));
  }
  return result();
}
