// What goes wrong in a tick, and other threads: each fault has its status and message, and the loop goes on.
#include <atomic>
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
  CHECK(policy.runtime->tick({.state = two}, policy.action) == Status::bad_observation && holds(policy));
  CHECK(policy.runtime->last_error() == "observation.state: expected 3 values, got 2");
  CHECK(policy.runtime->tick({.state = nan}, policy.action) == Status::bad_observation);
  CHECK(policy.runtime->last_error() == "observation.state[1] (y): expected a finite value, got nan");
  CHECK(policy.tick() == Status::ok);  // the second action of the same chunk
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 0, 0}), 1);
}

void refuses_stale_observations() {
  Policy policy(kManifest, {}, {.max_observation_age_us = 50'000});
  policy.reset();
  CHECK(policy.runtime->tick({.state = kState, .timestamp_us = now_us() - 60'000}, policy.action) ==
        Status::stale_observation);
  CHECK(holds(policy) && policy.runtime->latency().gate.stale_observations == 1);
  CHECK(policy.tick() == Status::ok);  // not stamped
  CHECK(policy.runtime->tick({.state = kState, .timestamp_us = now_us() + 1'000'000}, policy.action) ==
        Status::ok);
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
               policy.runtime->reset({"lift", Observation{.state = kState}, 0, 0}));
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
  CHECK(policy.runtime->predict_chunk({.state = kState}, {}, chunk) == Status::closed);
  CHECK_THROWS(Error, "closed", policy.reset());
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
    std::thread loop([&] { first = policy.runtime->tick({.state = kState}, theirs); });
    second = policy.runtime->tick({.state = kState}, mine);
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
