// What goes wrong in a tick, and other threads: each fault has its status and message, and the loop goes on.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <limits>
#include <thread>

#include "policy_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

void refuses_bad_observations() {
  Policy policy;
  CHECK(policy.tick() == Status::not_reset && holds(policy));
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  const std::vector<float> two = {1, 2}, nan = {1, std::nanf(""), 3};
  CHECK(policy.runtime->tick(seen(two), policy.action) == Status::bad_observation && holds(policy));
  CHECK(policy.runtime->last_error() == "observation.state: expected 3 values, got 2");
  CHECK(policy.runtime->tick(seen(nan), policy.action) == Status::bad_observation);
  CHECK(policy.runtime->last_error() == "observation.state[1] (y): expected a finite value, got nan");
  CHECK(policy.tick() == Status::ok);  // the second action of the same chunk
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 0, 0}), 1);
}

void refuses_stale_observations() {
  Policy policy(kManifest, {}, {.max_observation_age_us = 50'000});
  policy.reset();
  CHECK(policy.runtime->tick(seen(kState).at(now_us() - 60'000), policy.action) == Status::stale_observation);
  CHECK(holds(policy) && policy.runtime->latency().gate.stale_observations == 1);
  CHECK(policy.tick() == Status::ok);  // not stamped
}

/// Its status; `said` begins the message.
Status stamped(Policy& policy, std::int64_t timestamp_us, std::int64_t clock_us = -1,
               const std::string& said = "") {
  const Status status = policy.runtime->tick(seen(kState).at(timestamp_us, clock_us), policy.action);
  CHECK(said.empty() || (holds(policy) && policy.runtime->last_error().starts_with(said)));
  return status;
}

void refuses_stamps_of_another_clock() {
  constexpr std::int64_t kWall = 1'790'000'000'000'000, kFar = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t limit : {std::int64_t{0}, std::int64_t{50'000}}) {
    Policy policy(kManifest, {}, {.max_observation_age_us = limit});
    policy.reset();
    for (const std::int64_t ahead : {now_us() + 10'000'000, kWall, kWall - 10'000'000, kFar}) {
      CHECK(stamped(policy, ahead, -1,
                    "observation.timestamp_us: expected no later than keystep's now_us(), got ") ==
            Status::bad_observation);
    }
    for (const std::int64_t negative : {std::int64_t{-2}, std::numeric_limits<std::int64_t>::min()}) {
      CHECK(stamped(policy, negative, -1, "observation.timestamp_us: expected 0 or more, got -") ==
            Status::bad_observation);
    }
    CHECK(stamped(policy, now_us(), 5, "observation.now_us: expected none") == Status::bad_observation);
    CHECK(stamped(policy, now_us()) == Status::ok);
    std::vector<float> chunk(kChunk);
    CHECK(policy.runtime->predict_chunk(seen(kState).at(kWall), {}, chunk) == Status::bad_observation);
  }
}

void refuses_noise_that_is_not_finite() {
  Policy policy;
  policy.reset();
  std::vector<float> noise(kChunk), chunk(kChunk);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    noise[3] = bad;
    CHECK(policy.runtime->predict_chunk(seen(kState), noise, chunk) == Status::bad_observation);
    CHECK(policy.runtime->last_error().starts_with("noise[3]: expected finite numbers, got "));
  }
}

void an_external_clock_is_the_caller_s() {
  Policy policy(kManifest, {}, {.max_observation_age_us = 50, .clock = "external"});
  policy.reset();
  CHECK(stamped(policy, 1000, 1040) == Status::ok);
  CHECK(stamped(policy, 1000, 1050) == Status::ok);
  CHECK(stamped(policy, 1000, 1051) == Status::stale_observation);
  CHECK(stamped(policy, 1000, std::numeric_limits<std::int64_t>::max()) == Status::stale_observation);
  CHECK(stamped(policy, 1000 + kStampSlackUs, 1000) == Status::ok);
  CHECK(stamped(policy, 1001 + kStampSlackUs, 1000,
                "observation.timestamp_us: expected no later than now_us") == Status::bad_observation);
  CHECK(stamped(policy, 1000, -1, "observation.now_us: expected the time that the external clock shows") ==
        Status::bad_observation);
  CHECK(policy.tick() == Status::ok);  // not stamped
  CHECK_THROWS(ArgumentError, "clock: expected steady | external, got 'wall'",
               Policy(kManifest, {}, {.clock = "wall"}));
}

/// A child of this process, at most 30 s long. Its exit status; -1: it did not end by itself.
int in_child(const std::function<bool()>& right) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    _exit(right() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void a_forked_child_is_told_and_can_close() {
  Policy policy;
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  std::vector<float> chunk(kChunk);
  const auto refuses = [&] {
    Runtime& runtime = *policy.runtime;
    bool right = policy.tick() == Status::forked && runtime.usable() == Status::forked && holds(policy);
    right &= runtime.predict_chunk(seen(kState), {}, chunk) == Status::forked;
    runtime.interrupt();
    try {
      policy.reset();
      right = false;
    } catch (const Error&) {
    }
    runtime.close();
    return right && policy.tick() == Status::closed;
  };
  CHECK(in_child(refuses) == 0);
  // Forked while another thread is inside: whatever it holds is never given back in the child.
  Policy slow(kManifest, {{"stub.sleep_us", "100000"}});
  slow.reset();
  std::thread inside([&] { slow.tick(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(in_child([&] {
          const bool told = slow.tick() == Status::forked;
          slow.runtime.reset();
          return told;
        }) == 0);
  inside.join();
  CHECK(slow.tick() == Status::ok && policy.tick() == Status::ok);
}

/// Gives up when told to.
struct Listener final : Attendant {
  void begin() noexcept override { ++begun; }
  void end() noexcept override { ++ended; }
  bool gives_up() noexcept override {
    ++asked;
    return giving_up;
  }
  std::atomic<int> begun = 0, ended = 0, asked = 0;
  std::atomic<bool> giving_up = false;
};

void an_attendant_may_end_a_call() {
  const auto listener = std::make_shared<Listener>();
  Policy policy(kManifest, {{"stub.sleep_us", "200000"}}, {.attendant = listener});  // 3 runs a chunk
  policy.reset();
  const auto tick_called = [&](bool giving_up) {
    listener->giving_up = giving_up;
    std::thread caller([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      policy.runtime->call_attention(true);
    });
    const Status status = policy.tick();
    caller.join();
    return status;
  };
  CHECK(tick_called(true) == Status::interrupted && listener->asked > 0);
  listener->giving_up = false;
  CHECK(policy.tick() == Status::ok);  // usable as before
  policy.reset();
  CHECK(tick_called(false) == Status::ok);  // the run broken off is begun again: the same bits
  const std::vector<float> again = policy.action.values;
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 0, 0}), 0);
  const int begun = listener->begun;
  CHECK(policy.tick() == Status::ok && listener->begun == begun);  // from the chunk: no attendance
  CHECK(listener->begun == listener->ended);
}

void survives_nan_and_failure() {
  Policy policy(kManifest, {{"stub.nan_at_run", "5"}, {"stub.fail_at_run", "9"}});  // 3 runs a chunk
  policy.reset();
  for (int i = 0; i < 3; ++i) CHECK(policy.tick() == Status::ok);
  CHECK(policy.tick() == Status::rejected_chunk && holds(policy));
  CHECK(policy.runtime->latency().gate.rejected_chunks == 1);
  CHECK(policy.tick() == Status::engine_failure && holds(policy));
  CHECK(policy.runtime->last_error() == "stub.fail_at_run 9");
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 3, 0}), 0);
}

void the_rate_is_limited_against_the_hold_of_a_failed_tick() {
  const std::string slow = replaced(kManifest, "\"rate_limit\": null", "\"rate_limit\": [0.001, 0.001]");
  Policy policy(slow);
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  CHECK(policy.runtime->tick({}, policy.action) == Status::bad_observation && holds(policy));
  const std::vector<float> held = policy.action.values;
  CHECK(policy.tick() == Status::ok);
  for (std::size_t d = 0; d < kDim; ++d) CHECK_NEAR(policy.action.values[d], held[d], 0.0011);
}

void refuses_wrong_episodes() {
  Policy policy;
  CHECK_THROWS(ArgumentError, "task: expected one of lift, push, got 'fly'",
               policy.runtime->reset({"fly", {}, 0, 0}));
  CHECK_THROWS(ArgumentError, "task: expected one of lift, push, got none",
               policy.runtime->reset({"", {}, 0, 0}));
  CHECK_THROWS(ArgumentError, "goal: expected none",
               policy.runtime->reset({"lift", Observation(seen(kState)), 0, 0}));
  policy.runtime->reset({"Push it.", {}, 7, 1});
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 0, 0}), 0);
  CHECK_THROWS(ArgumentError, "'fly'", policy.runtime->reset({"fly", {}, 0, 0}));  // the episode goes on
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 0, 0}), 1);
}

void abbreviates_long_task_lists() {
  std::string tasks;
  for (int i = 0; i < 30; ++i) {
    const std::string name = "t" + std::to_string(i);
    tasks += (i ? ", " : "") + ("{\"name\": \"" + name + "\", \"instruction\": \"" + name + "\"}");
  }
  const auto from = kManifest.find("[{\"name\": \"lift\""), to = kManifest.find("]", from);
  Policy policy(std::string(kManifest).replace(from, to - from + 1, "[" + tasks + "]"));
  CHECK_THROWS(ArgumentError, "t18, t19 and 10 more, got 'x'", policy.runtime->reset({"x", {}, 0, 0}));
}

void refuses_use_after_close() {
  Policy policy;
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  policy.runtime->close();
  policy.runtime->close();
  policy.runtime->interrupt();
  CHECK(policy.tick() == Status::closed && holds(policy));
  std::vector<float> chunk(kChunk);
  CHECK(policy.runtime->predict_chunk(seen(kState), {}, chunk) == Status::closed);
  CHECK_THROWS(PolicyError, "closed", policy.reset());
  CHECK(policy.runtime->bundle().name == "test" &&
        policy.runtime->engine_description() == "stub, cpu, 1 thread");
}

void refuses_wrong_options() {
  CHECK_THROWS(ArgumentError, "deadline_us: expected", Policy(kManifest, {}, {.deadline_us = -1}));
  CHECK_THROWS(ArgumentError, "max_observation_age_us: expected",
               Policy(kManifest, {}, {.max_observation_age_us = -1}));
  CHECK_THROWS(ArgumentError, "threads: expected", Policy(kManifest, {}, {.engine = {.threads = -1}}));
  CHECK_THROWS(ArgumentError, "provider_options: expected", Policy(kManifest, {{"stub.x", "1"}}));
  CHECK_THROWS(ArgumentError, "provider_options.stub.sleep_us: expected",
               Policy(kManifest, {{"stub.sleep_us", "1s"}}));
}

// ---- interrupts and threads

void interrupt_drops_the_rest() {
  Policy policy;
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  policy.runtime->interrupt();
  CHECK(policy.tick() == Status::ok);
  const auto& spec = *policy.runtime->bundle().sampler;
  check_action(policy.action, predicted(spec, kStateMean + 1, {7, 1, 1, 0}), 0);
  CHECK(policy.runtime->latency().interrupts == 1 && policy.runtime->latency().chunks == 2);
  policy.runtime->interrupt();
  policy.reset();  // a new episode starts clean, with its first chunk
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(spec, kStateMean + 1, {7, 1, 0, 0}), 0);
  policy.runtime->reset_latency();
  CHECK(policy.runtime->latency().interrupts == 0 && policy.runtime->latency().actions == 0);
}

void interrupt_aborts_a_sample_in_flight() {
  Policy policy(kManifest, {{"stub.sleep_us", "1000000000"}});  // without the abort this test never ends
  policy.reset();
  for (int round = 0; round < 3; ++round) {
    std::atomic<bool> done = false;
    Status status = Status::ok;
    std::thread loop([&] {
      status = policy.tick();
      done = true;
    });
    while (!done) {
      policy.runtime->interrupt();
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    loop.join();
    CHECK(status == Status::interrupted && holds(policy));
  }
  CHECK(policy.runtime->latency().chunks == 0);
}

void close_aborts_a_sample_in_flight() {
  Policy policy(kManifest, {{"stub.sleep_us", "1000000000"}});
  policy.reset();
  Status status = Status::ok;
  std::thread loop([&] { status = policy.tick(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  policy.runtime->close();
  loop.join();
  CHECK(status == Status::interrupted || status == Status::closed);
  CHECK(policy.runtime->latency().interrupts == 0);  // nobody called interrupt
}

void a_second_thread_is_told_busy() {
  Policy policy(kManifest, {{"stub.sleep_us", "2000"}});
  bool refused = false;
  for (int round = 0; round < 100 && !refused; ++round) {
    policy.reset();
    Action mine = policy.runtime->make_action(), theirs = policy.runtime->make_action();
    Status first = Status::closed, second = Status::closed;
    std::thread loop([&] { first = policy.runtime->tick(seen(kState), theirs); });
    second = policy.runtime->tick(seen(kState), mine);
    loop.join();
    CHECK(first == Status::ok || second == Status::ok);
    CHECK(first == Status::ok || first == Status::busy);
    CHECK(second == Status::ok || second == Status::busy);
    refused = first == Status::busy || second == Status::busy;
    if (second == Status::busy) CHECK(mine.values == policy.runtime->bundle().action.hold);
  }
  CHECK(refused);
}

void counts_deadline_misses() {
  Policy policy(kManifest, {{"stub.sleep_us", "100"}}, {.deadline_us = 50});
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  CHECK(policy.runtime->latency().deadline_misses == 1);
}

}  // namespace

int main() {
  refuses_bad_observations();
  refuses_stale_observations();
  refuses_stamps_of_another_clock();
  refuses_noise_that_is_not_finite();
  an_external_clock_is_the_caller_s();
  a_forked_child_is_told_and_can_close();
  an_attendant_may_end_a_call();
  survives_nan_and_failure();
  the_rate_is_limited_against_the_hold_of_a_failed_tick();
  refuses_wrong_episodes();
  abbreviates_long_task_lists();
  refuses_use_after_close();
  refuses_wrong_options();
  interrupt_drops_the_rest();
  interrupt_aborts_a_sample_in_flight();
  close_aborts_a_sample_in_flight();
  a_second_thread_is_told_busy();
  counts_deadline_misses();
  return result();
}
