// Two threads in one runtime: each is told of its own call, or that another is inside.
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "loop/entry.hpp"
#include "policy_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

void one_is_inside_at_a_time() {
  std::atomic<Inside> inside = Inside::nobody;
  for (const Inside first : {Inside::reader, Inside::caller}) {
    const Entry entry(inside, first);
    CHECK(entry);
    CHECK(!Entry(inside, Inside::reader));
    CHECK(!Entry(inside));  // a caller's patience with a reader has an end
    CHECK(inside == first);
  }
  CHECK(inside == Inside::nobody);
}

/// Whether a call that is not ok says why, in its own words: `mine` of a bad observation.
bool says_why(Status status, const std::string& message, const std::string& mine) {
  if (status == Status::busy) return message == describe(Status::busy);
  return status == Status::bad_observation && message == mine;
}

/// Bad calls and some good ones, until each thread was told both that another is inside and why its own
/// failed.
void each_thread_hears_of_its_own_call() {
  Policy policy(kManifest, {{"stub.sleep_us", "50"}});
  policy.reset();
  Runtime& runtime = *policy.runtime;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  std::atomic<int> wrong = 0, content = 0;
  const auto hammer = [&](std::size_t values, bool chunks) {
    const std::string mine = "observation.state: expected 3 values, got " + std::to_string(values);
    const std::vector<float> few_or_many(values, 1);
    std::vector<float> chunk(kChunk);
    Action action = runtime.make_action();
    bool refused = false, failed = false, done = false;
    for (int i = 0; i < 5000 || (content < 2 && std::chrono::steady_clock::now() < end); ++i) {
      const auto given = seen(i % 50 == 0 ? kState : few_or_many);
      std::string message = "before";
      const Status status =
          chunks ? runtime.predict_chunk(given, {}, chunk, &message) : runtime.tick(given, action, &message);
      wrong += status == Status::ok ? i % 50 != 0 || message != "before" : !says_why(status, message, mine);
      refused |= status == Status::busy;
      failed |= status == Status::bad_observation;
      if (refused && failed && !std::exchange(done, true)) ++content;
    }
  };
  std::thread other([&] { hammer(2, true); });
  hammer(4, false);
  other.join();
  CHECK(wrong == 0 && content == 2);
}

/// Beside a thread that ticks: what another reads is whole, or it is told busy.
void who_looks_on_is_told_too() {
  Policy policy;
  policy.reset();
  Runtime& runtime = *policy.runtime;
  std::atomic<bool> done = false;
  std::atomic<int> wrong = 0;
  std::thread reader([&] {
    while (!done) {
      Status status = Status::closed;
      const LatencyReport report = runtime.latency(&status);
      wrong += status == Status::ok ? report.chunks > report.actions : report.actions != 0;
      wrong += status != Status::ok && status != Status::busy;
      runtime.plan_progress(&status);
      wrong += status != Status::ok && status != Status::busy;
      status = runtime.reset_latency();
      wrong += status != Status::ok && status != Status::busy;
      try {
        wrong += runtime.about() != "push";
      } catch (const PolicyError& error) {
        wrong += error.status != Status::busy || error.what() != std::string(describe(Status::busy));
      }
    }
  });
  for (int i = 0; i < 2000; ++i) {
    const Status status = policy.tick();
    wrong += status != Status::ok && status != Status::busy;
  }
  done = true;
  reader.join();
  CHECK(wrong == 0);
}

void a_refusal_says_its_status() {
  Policy policy;
  std::string message = "before";
  CHECK(policy.runtime->tick(seen(kState), policy.action, &message) == Status::not_reset);
  CHECK(message == describe(Status::not_reset) && message == policy.runtime->last_error());
  policy.reset();
  message = "before";
  CHECK(policy.runtime->tick(seen(kState), policy.action, &message) == Status::ok && message == "before");
  policy.runtime->close();
  CHECK(policy.runtime->tick(seen(kState), policy.action, &message) == Status::closed);
  CHECK(message == describe(Status::closed) && policy.runtime->reset_latency() == Status::closed);
  Status status = Status::ok;
  CHECK(policy.runtime->latency(&status).actions == 1 && status == Status::closed);  // still there to read
  CHECK(!policy.runtime->plan({}, &status) && status == Status::closed);
  CHECK_THROWS(PolicyError, describe(Status::closed), policy.runtime->about());
}

}  // namespace

int main() {
  one_is_inside_at_a_time();
  each_thread_hears_of_its_own_call();
  who_looks_on_is_told_too();
  a_refusal_says_its_status();
  return result();
}
