// Sessions on one policy, and an engine whose memory is its own.
#include <atomic>
#include <cmath>
#include <random>
#include <thread>

#include "device_engine.hpp"
#include "loaded_unet.hpp"
#include "loop/runtime_internals.hpp"
#include "native_policy.hpp"
#include "subgoal_fixture.hpp"
#include "text_planner.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// The actions of an episode: observations that differ from tick to tick.
std::vector<float> episode(Runtime& runtime, unsigned seed, int ticks = 30) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> jitter(-0.5f, 0.5f);
  runtime.reset({.task = "push", .seed = seed, .episode = seed + 1});
  Action action = runtime.make_action();
  std::vector<float> all;
  for (int i = 0; i < ticks; ++i) {
    std::vector<float> state = kState;
    for (float& value : state) value += jitter(random);
    if (const Status status = runtime.tick(seen(state), action); status != Status::ok) {
      throw Error(describe(status) + std::string(": ") + runtime.last_error());
    }
    all.insert(all.end(), action.values.begin(), action.values.end());
  }
  return all;
}

/// Ticks of two sessions in turn: neither knows of the other.
void sessions_in_turn(const std::string& manifest) {
  test::Policy policy(manifest);
  const auto other = policy.runtime->session();
  const std::vector<float> first = episode(*policy.runtime, 1), second = episode(*other, 2);
  CHECK(first != second && episode(*other, 1) == first);
  policy.reset();
  other->reset({"push", {}, 7, 1});
  Action action = other->make_action();
  for (int i = 0; i < 20; ++i) {
    if (i == 5) policy.runtime->interrupt();  // drops a chunk of one session only
    if (i == 9) other->reset({"push", {}, 7, 1});
    CHECK(policy.tick() == Status::ok && other->tick(seen(kState), action) == Status::ok);
    if (i < 5) CHECK(action.values == policy.action.values);
  }
  CHECK(policy.runtime->latency().interrupts == 1 && other->latency().interrupts == 0);
  CHECK(policy.runtime->latency().actions == 50 && other->latency().actions == 80);
  CHECK(&other->bundle() == &policy.runtime->bundle());
  CHECK(other->engine_description() == policy.runtime->engine_description());
}

/// Each on a thread of its own, again and again.
void sessions_at_once(Runtime& runtime) {
  const std::vector<float> wanted = episode(runtime, 3);
  std::vector<std::unique_ptr<Runtime>> sessions;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) sessions.push_back(runtime.session());
  std::atomic<int> wrong = 0;
  for (const auto& session : sessions) {
    threads.emplace_back([&wanted, &wrong, &session] {
      for (int i = 0; i < 5; ++i) wrong += episode(*session, 3) != wanted;
    });
  }
  for (int i = 0; i < 5; ++i) wrong += episode(runtime, 3) != wanted;
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

/// They share weights and a team of threads. Skipped without ONNX Runtime, which runs the encoder.
void native_sessions_at_once() {
  const TemporaryFolder folder;
  write_native_policy(folder.path());
  try {
    Runtime runtime(folder.path(), {.engine = {.engine = "native", .threads = std::min(2, cores_here())}});
    sessions_at_once(runtime);
  } catch (const ProviderError& error) {
    std::printf("native sessions skipped: %s\n", error.what());
  }
}

/// What a failure does, or an interrupt, is one session's.
void faults_stay_in_their_session() {
  test::Policy policy(kManifest, {{"stub.fail_at_run", "3"}});
  const auto other = policy.runtime->session();
  other->reset({"push", {}, 7, 1});
  policy.reset();
  Action action = other->make_action();
  const auto fails = [&](Runtime& runtime) {
    Status status = Status::ok;
    for (int i = 0; i < 8 && status == Status::ok; ++i) status = runtime.tick(seen(kState), action);
    return status == Status::engine_failure;
  };
  CHECK(fails(*policy.runtime));
  CHECK(other->last_error().empty());
  CHECK(fails(*other));  // at its own third run
}

/// Whoever ends last frees what they share; the others go on.
void ends_in_any_order() {
  for (const bool first : {true, false}) {
    test::Policy policy(kSubgoalManifest);
    const std::vector<float> wanted = episode(*policy.runtime, 4);
    auto other = policy.runtime->session(), third = other->session();
    (first ? policy.runtime : other)->close();
    Runtime& open = first ? *other : *policy.runtime;
    CHECK(episode(open, 4) == wanted && episode(*third, 4) == wanted);
    Runtime& closed = first ? *policy.runtime : *other;
    CHECK_THROWS(PolicyError, "closed", closed.session());
    CHECK(closed.bundle().name == open.bundle().name);
    policy.runtime.reset();
    other.reset();
    CHECK(episode(*third, 4) == wanted);
  }
}

/// The planner is asked for every session, too.
void planners_are_of_sessions() {
  Written policy(kSubgoalManifest);
  CHECK(policy.tick() == Status::ok);
  const auto other = policy.runtime->session();
  CHECK(&RuntimeInternals::controller(*other) != &RuntimeInternals::controller(*policy.runtime));
  other->reset({.task = "push"});
  CHECK(RuntimeInternals::controller(*other).instruction().empty());
}

/// A device: the same actions as on the host, and nothing carried that need not be.
void runs_on_a_device(const std::string& manifest) {
  test::Policy host(manifest);
  Traffic traffic;
  const auto device = RuntimeInternals::open(
      host.folder.path(), host.runtime->options(), &make_planner,
      [&](const EngineOptions& options) { return std::make_unique<DeviceEngine>(options, traffic); });
  CHECK(device->engine_description() == "device");
  CHECK(episode(*device, 5) == episode(*host.runtime, 5));
  CHECK(episode(*device->session(), 6) == episode(*host.runtime, 6));

  device->reset({"push", {}, 7, 1});
  Action action = device->make_action();
  CHECK(device->tick(seen(kState), action) == Status::ok);
  const int up = traffic.uploads, down = traffic.downloads;
  CHECK(device->tick(seen(kState), action) == Status::ok);
  CHECK(traffic.uploads == up && traffic.downloads == down);  // of a tick without a chunk
  const int steps = device->bundle().sampler ? device->bundle().sampler->inference_steps : 0;
  std::vector<float> chunk(kChunk);
  CHECK(device->predict_chunk(seen(kState), {}, chunk) == Status::ok);
  const int inputs = static_cast<int>(observing_graph(device->bundle()).inputs.size());
  CHECK(traffic.uploads - up == inputs + 2 * steps);      // and sample and time-step of each step
  CHECK(traffic.downloads - down == std::max(steps, 1));  // what the network predicts

  CHECK(device->tick(seen(std::vector<float>{1, NAN, 1}), action) == Status::bad_observation);
  traffic.fails = true;
  CHECK(device->predict_chunk(seen(kState), {}, chunk) == Status::engine_failure);
  CHECK(device->last_error() == describe(Status::engine_failure));  // no older message
  traffic.fails = false;
  CHECK(device->predict_chunk(seen(kState), {}, chunk) == Status::ok);
}

}  // namespace

int main() {
  for (const std::string& manifest : {kManifest, kSubgoalManifest}) {
    sessions_in_turn(manifest);
    sessions_at_once(*test::Policy(manifest).runtime);
    runs_on_a_device(manifest);
  }
  native_sessions_at_once();
  faults_stay_in_their_session();
  ends_in_any_order();
  planners_are_of_sessions();
  return result();
}
