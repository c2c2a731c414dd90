// The asynchronous loop without its threads: chunks are begun and ended when the test says so, so that every
// schedule is exact and follows from a seed.
#include <algorithm>
#include <random>

#include "async_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// Random chunk lengths, thresholds, delays and interrupts, also in the midst of a run. The observation says
/// which action comes next, so whatever the delays, the n-th action of the policy must be n: none is skipped,
/// none taken twice. And none comes from a run of the engine in another epoch.
void every_action_once_and_none_from_before_an_interrupt(const std::string& rule, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](int end) { return static_cast<int>(random() % static_cast<unsigned>(end)); };
  const int rows = 1 + below(12), execute = 1 + below(rows);
  std::vector<std::uint64_t> epochs = {0};  // of the runs, from 1
  std::uint64_t interrupts = 0, underruns = 0;
  Runtime* runtime = nullptr;
  const auto interrupt = [&] {
    runtime->interrupt();
    ++interrupts;
  };
  Stepped policy(index_manifest(rows, execute),
                 {.merge = rule, .request_below = below(rows + 1), .blend_actions = below(rows + 1)},
                 [&](int) {
                   epochs.push_back(interrupts);
                   if (below(25) == 0) interrupt();
                   return Status::ok;
                 });
  runtime = policy.runtime.get();
  int ticks_to_go = 0;
  bool computing = false;
  for (int i = 0; i < 400; ++i) {
    if (below(25) == 0) interrupt();
    const std::int64_t wanted = policy.actions;
    if (policy.tick()) {
      CHECK_NEAR(policy.action.values[0], static_cast<double>(wanted), 1e-2);
      const auto first = std::ranges::find(epochs, interrupts) - epochs.begin();  // run of this epoch
      CHECK(policy.action.values[1] > static_cast<float>(first) - 0.01f);
    } else {
      ++underruns;
      CHECK(policy.rests());
    }
    if (computing && ticks_to_go-- == 0) {
      policy.ends_chunk();
      computing = false;
    }
    if (!computing && below(3) != 0) {
      computing = policy.begins_chunk();
      ticks_to_go = below(rows + 2);
    }
  }
  const Telemetry seen = policy.runtime->telemetry();
  CHECK(seen.actions == static_cast<std::uint64_t>(policy.actions) && seen.consumed == policy.actions);
  CHECK(seen.actions + underruns == 400 && seen.ticks == 400);
  CHECK(policy.runtime->latency().interrupts == interrupts && interrupts > 5);
  std::uint64_t counted = 0;
  for (const std::uint64_t cause : seen.underruns) counted += cause;
  CHECK(counted == underruns && seen.actions > 30 && seen.max_delay <= rows);
  CHECK(policy.runtime->latency().stages[static_cast<std::size_t>(Stage::interrupt)].count <= interrupts);
}

/// lerobot #4223: a slow first call, in whose time nothing was executed, skips nothing; what the next one
/// skips is what was executed, and the slow one is forgotten.
void a_delay_is_what_was_consumed() {
  Stepped policy(index_manifest(30, 15), {.merge = "replace"});
  CHECK(!policy.tick() && policy.begins_chunk());
  for (int i = 0; i < 21; ++i) CHECK(!policy.tick() && policy.rests());
  policy.ends_chunk();
  CHECK(policy.tick() && policy.action.values[0] == 0);  // row 0
  CHECK(policy.runtime->telemetry().delay == 0 && policy.runtime->telemetry().expected_delay == 1);
  for (int round = 0; round < 9; ++round) {
    while (!policy.begins_chunk()) CHECK(policy.tick());
    const int delay = round == 0 ? 13 : 9;
    for (int i = 0; i < delay; ++i) CHECK(policy.tick());
    policy.ends_chunk();
    const std::int64_t wanted = policy.actions;
    CHECK(policy.tick() && policy.action.values[0] == static_cast<float>(wanted));
    // The observation was that of the tick before, whose own action counts, too.
    CHECK(policy.runtime->telemetry().delay == delay + 1);
    CHECK(policy.runtime->telemetry().expected_delay == (round < 8 ? 14 : 10));
    CHECK(policy.runtime->telemetry().usual_delay == (round < 1 ? 14 : 10));  // one slow call is an exception
  }
  CHECK(policy.runtime->telemetry().max_delay == 14 && policy.underruns(Cause::late) == 0);
  CHECK(policy.underruns(Cause::starting) == 22);
}

/// lerobot #1557: the threshold alone decides, however alike the observations are.
void half_a_chunk_is_asked_for_in_time() {
  Stepped policy(index_manifest(8, 8), {});
  CHECK(!policy.tick() && policy.makes_chunk());
  for (int i = 0; i < 200; ++i) {
    const Telemetry seen = policy.runtime->telemetry();
    CHECK(policy.tick());
    CHECK(policy.begins_chunk() == (i % 4 == 0 && i > 0));
    if (i % 4 == 0 && i > 0) policy.ends_chunk();
    CHECK(i == 0 || seen.left >= 3);
  }
  CHECK(policy.underruns(Cause::late) == 0);
}

/// An interrupt does not wait for a tick: the controller begins anew with what was seen last.
void after_an_interrupt_the_controller_begins_at_once() {
  Stepped policy(index_manifest(8, 4), {});
  CHECK(!policy.tick() && policy.makes_chunk() && policy.tick() && policy.tick());
  CHECK(!policy.begins_chunk());
  policy.runtime->interrupt();
  CHECK(policy.makes_chunk() && !policy.begins_chunk());
  CHECK(policy.tick() && policy.action.values[0] == 2);
  const LatencyReport report = policy.runtime->latency();
  CHECK(report.stages[static_cast<std::size_t>(Stage::interrupt)].count == 1 && report.interrupts == 1);
  CHECK(policy.underruns(Cause::interrupted) == 0);
}

/// ros2_controllers #683: what was given last is not given again after an abort, whatever is declared.
void an_abort_does_not_keep_the_last_velocity() {
  for (const char* declared : {"hold", "repeat", "fault"}) {
    Stepped policy(index_manifest(8, 4), {.underrun = declared});
    policy.tick(declared == std::string("fault") ? Status::underrun : Status::ok);
    CHECK(policy.makes_chunk() && policy.tick() && policy.tick() && !policy.rests());
    policy.runtime->interrupt();
    for (int i = 0; i < 3; ++i) {
      CHECK(!policy.tick(declared == std::string("fault") ? Status::underrun : Status::ok) && policy.rests());
    }
    CHECK(policy.underruns(Cause::interrupted) == 3);
  }
}

/// Three frames, of which the last two are seen: those of three ticks, though only the third made a chunk.
void a_history_is_that_of_the_ticks() {
  const auto options = RuntimeOptions{.engine = {.engine = "stub"}};
  test::Policy lockstep(with_history(kManifest), {}, options);
  auto asynchronous = options;
  asynchronous.mode = "async";
  test::Policy other(with_history(kManifest), {}, asynchronous);
  lockstep.reset();
  other.reset();
  AsyncLoop& loop = RuntimeInternals::async(*other.runtime);
  loop.stop();
  loop.start({7, 1, 0, 0}, false);
  for (const float x : {1.0f, 5.0f, -2.0f}) {
    const std::vector<float> state = {x, 2 * x, 1};
    std::vector<float> noise(kChunk), chunk(kChunk);
    fill_normal({7, 1, 0, 0}, noise);
    CHECK(lockstep.runtime->predict_chunk(seen(state), noise, chunk) == Status::ok);
    CHECK(lockstep.runtime->tick(seen(state), lockstep.action) == Status::ok);
    CHECK(other.runtime->tick(seen(state), other.action) == Status::ok && holds(other));
    if (x != -2) continue;
    CHECK(loop.chunk_maker().begin());
    loop.chunk_maker().finish();
    for (std::size_t row = 0; row < 4; ++row) {
      CHECK(other.tick() == Status::ok);
      for (std::size_t d = 0; d < kDim; ++d) CHECK_NEAR(other.action.values[d], chunk[row * kDim + d], 1e-5);
    }
  }
  std::vector<float> chunk(kChunk);
  CHECK(other.runtime->predict_chunk(seen(kState), {}, chunk) == Status::busy);
}

void refused(const std::string& message, const AsyncOptions& async, const std::string& mode = "async",
             const std::string& manifest = holding(kHoldsLast)) {
  RuntimeOptions options;
  options.mode = mode;
  options.async = async;
  CHECK_THROWS(ArgumentError, message, test::Policy(manifest, {}, options));
}

void wrong_options_are_refused() {
  refused("mode: expected lockstep | async, got 'sync'", {}, "sync");
  refused("underrun: expected none (mode is lockstep), got 'hold'", {.underrun = "hold"}, "lockstep");
  refused("plan_ahead: expected none (mode is lockstep), got 3", {.plan_ahead = 3}, "lockstep");
  refused("merge: expected replace | temporal_ensemble (mode is lockstep), got 'blend'", {.merge = "blend"},
          "lockstep");
  refused("merge: expected replace (mode is lockstep, and the bundle's chunk.execute is not 1)",
          {.merge = "temporal_ensemble"}, "lockstep");
  refused("ensemble_decay: expected none (mode is lockstep, merge is replace), got 0.1",
          {.ensemble_decay = 0.1}, "lockstep");
  refused("ensemble_decay: expected none (mode is lockstep, merge is replace), got 0.1",
          {.merge = "replace", .ensemble_decay = 0.1}, "lockstep", ensembled(kManifest));
  refused("underrun: expected hold | decelerate | repeat | fault, got 'stop'", {.underrun = "stop"});
  refused("merge: expected x0blend | blend | replace | temporal_ensemble, got 'rtc'", {.merge = "rtc"});
  refused(
      "merge: expected x0blend | blend | replace | temporal_ensemble (the controller was not trained with "
      "--rtc), got 'trained'",
      {.merge = "trained"});
  for (const char* rule : {"x0blend", "trained"}) {
    refused("merge: expected blend | replace | temporal_ensemble (the controller is one graph, act), got '" +
                std::string(rule) + "'",
            {.merge = rule}, "async", one_step(kManifest));
  }
  refused("underrun: expected hold | repeat | fault (the bundle's action.hold is the last action)",
          {.underrun = "decelerate"});
  refused("request_below: expected 0..4, got 5", {.request_below = 5});
  refused("blend_actions: expected 0..4, got -1", {.blend_actions = -1});
  refused("ensemble_decay: expected -125..125, got ", {.ensemble_decay = std::nan("")});
  refused("plan_ahead: expected -1..1000000, got -2", {.plan_ahead = -2});
  refused("merge_decay: expected exponential | linear, got 'cosine'", {.merge_decay = "cosine"});
  refused("merge_decay: expected none (merge is blend), got 'linear'",
          {.merge = "blend", .merge_decay = "linear"});
  refused("merge_decay: expected none (mode is lockstep), got 'linear'", {.merge_decay = "linear"},
          "lockstep");
  for (const int overlap : {-1, 5}) {
    refused("merge_overlap: expected 0..4, got " + std::to_string(overlap), {.merge_overlap = overlap});
  }
  refused("merge_overlap: expected none (merge is replace), got 2", {.merge = "replace", .merge_overlap = 2});
  refused("merge_overlap: expected none (mode is lockstep), got 0", {.merge_overlap = 0}, "lockstep");
  refused("watchdog_us: expected 0..", {.watchdog_us = -1});
}

}  // namespace

int main() {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    for (const char* rule : {"replace", "blend", "temporal_ensemble"}) {
      every_action_once_and_none_from_before_an_interrupt(rule, seed);
    }
  }
  a_delay_is_what_was_consumed();
  half_a_chunk_is_asked_for_in_time();
  after_an_interrupt_the_controller_begins_at_once();
  an_abort_does_not_keep_the_last_velocity();
  a_history_is_that_of_the_ticks();
  wrong_options_are_refused();
  return result();
}
