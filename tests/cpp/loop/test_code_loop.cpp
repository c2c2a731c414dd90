// A planner that writes code in the loop, lockstep and asynchronous: a key-step reaches the controller and
// cuts the chunk, a call that goes on does neither.
#include <algorithm>
#include <thread>

#include "code_bench.hpp"
#include "loop/runtime_internals.hpp"
#include "policy_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// A flat policy over the stub engine, and a planner that follows a script beside its controller.
struct Coded {
  explicit Coded(NextToken next, DecodingSpec decoding = {}, RuntimeOptions options = {},
                 std::map<std::string, std::string> injected = {})
      : spec(code_spec(kLimits)), graphs(spec, std::move(next)) {
    write_bundle(folder.path(), kManifest);
    options.engine.engine = "stub";
    options.engine.provider_options = std::move(injected);
    runtime = RuntimeInternals::open(
        folder.path(), options, [&, decoding](const keystep::Policy& policy, Tensors&) {
          auto made = graphs.planner(spec, policy.bundle()->observation, decoding);
          planner = made.get();
          return made;
        });
    action = runtime->make_action();
    reset();
  }
  void reset() { runtime->reset({.task = "push", .seed = 7, .episode = 1}); }
  Status tick(float number = 1) {
    const std::array<float, 3> state = {number, 2.5f, 5.0f};
    return runtime->tick(seen(state), action);
  }
  std::string_view instruction() const { return RuntimeInternals::controller(*runtime).instruction(); }

  TemporaryFolder folder;
  CodePlannerSpec spec;
  FakeGraphs graphs;
  CodePlanner* planner = nullptr;
  std::unique_ptr<Runtime> runtime;
  Action action;
};

Script script_of(std::uint32_t seed) {
  Random random(seed);
  return random_script(WordTokenizer(read_words(kWords)), random);
}

/// A chunk lasts 3 actions, but where a key-step, an interrupt or a failure comes between.
void lockstep_follows_key_steps(int every, std::uint32_t seed) {
  Random random(seed);
  Coded policy(script_of(seed), {.every = every});
  std::uint64_t chunks = 0, plans = 0;
  std::int64_t left = 0;
  int key_steps = 0, failed = 0, kept = 0;
  for (int i = 0; i < cases(800, 200); ++i) {
    if (below(random, 30) == 0) policy.runtime->interrupt(), left = 0;
    const std::size_t known = policy.planner->memory().size();
    const std::uint64_t written = policy.planner->counts().key_steps;
    const Status status = policy.tick(static_cast<float>(below(random, 100)));
    const bool key_step = policy.planner->counts().key_steps != written;
    const LatencyReport report = policy.runtime->latency();
    if (status != Status::ok) {
      CHECK(status == Status::rejected_plan && !key_step && policy.planner->memory().size() == known);
      CHECK(policy.action.values == policy.runtime->bundle().action.hold);
      ++failed;
      continue;
    }
    if (key_step) left = 0;
    if (left == 0) {
      CHECK(report.chunks == ++chunks);
      left = 3;
    }
    CHECK(report.chunks == chunks && report.plans >= plans);
    plans = report.plans;
    --left;
    key_steps += key_step;
    kept += !key_step;
    CHECK(policy.instruction() == policy.planner->code());
  }
  CHECK(key_steps > 20 && failed > 5 && kept > 50);
  CHECK(policy.runtime->latency().gate.rejected_plans == static_cast<std::uint64_t>(failed));
}

/// A reset begins with an empty memory, and the controller is told of the new episode's key-steps only.
void reset_forgets() {
  Coded policy(script_of(3));
  for (int i = 0; i < 30; ++i) (void)policy.tick(static_cast<float>(i));
  CHECK(policy.planner->memory().size() > 0);
  policy.reset();
  CHECK(policy.planner->memory().size() == 0 && policy.planner->events().empty());
}

/// On the planner's thread, with interrupts and new episodes at any moment.
void asynchronous_key_steps_arrive(std::uint32_t seed, int every) {
  Random random(seed);
  Coded policy(script_of(seed), {.every = every}, {.mode = "async"}, {{"stub.jitter_us", "200"}});
  std::uint64_t actions = 0, interrupts = 0;  // actions at the last interrupt or new episode
  const auto enough = [&] {
    const Telemetry seen = policy.runtime->telemetry();
    return seen.actions > std::max<std::uint64_t>(actions, 50) && seen.plans > 20;
  };
  for (int i = 0; i < cases(1500, 400) || !enough(); ++i) {
    if (below(random, 40) == 0 && policy.runtime->telemetry().actions > actions) {
      actions = policy.runtime->telemetry().actions;
      if (below(random, 4) == 0) {
        policy.reset();
      } else {
        policy.runtime->interrupt();
        ++interrupts;
      }
    }
    const Status status = policy.tick(static_cast<float>(below(random, 100)));
    CHECK(status == Status::ok || status == Status::rejected_plan);
    std::this_thread::sleep_for(std::chrono::microseconds(below(random, 300)));
  }
  RuntimeInternals::async(*policy.runtime).stop();
  const CodeCounts& counts = policy.planner->counts();
  const Telemetry seen = policy.runtime->telemetry();
  CHECK(counts.key_steps > 5 && counts.replies >= seen.plans && counts.endless > 0);
  CHECK(seen.plans_failed > 0 && seen.actions > 50);
  // What the controller has is a key-step of the planner's, or nothing of this episode yet.
  const CodeMemory& memory = policy.planner->memory();
  bool known = policy.instruction().empty() || memory.size() == 0;
  for (std::size_t i = 0; i < memory.size(); ++i) known |= memory[i] == policy.instruction();
  for (const CodeEvent& event : policy.planner->events()) known |= event.text == policy.instruction();
  CHECK(known);
}

/// A key-step that nobody foresaw drops what is left of the chunk.
void a_key_step_interrupts_the_asynchronous_chunk() {
  const WordTokenizer words(read_words(kWords));
  const auto next = [reply = encoded(words, "done()"),
                     other = encoded(words, "# done()")](std::span<const Vector> seen) -> Token {
    std::size_t start = seen.size();
    while (start > 0 && seen[start - 1][1] == 0) --start;
    const float number = seen[start - 1][0];
    const Tokens& said = number > 0 ? reply : other;
    const std::size_t written = seen.size() - start;
    return written < said.size() ? said[written] : WordTokenizer::kEnd;
  };
  Coded policy(next, {}, {.mode = "async"}, {{"stub.sleep_us", "2000"}});
  const auto until = [&](float number, const auto& there) {
    for (int i = 0; i < 200'000 && !there(); ++i) {
      CHECK(policy.tick(number) == Status::ok);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    CHECK(there());
  };
  const auto interrupted = [&] {
    return policy.runtime->telemetry().underruns[static_cast<std::size_t>(Cause::interrupted)];
  };
  until(1, [&] { return policy.runtime->telemetry().plans > 0; });
  until(0, [&] { return policy.runtime->telemetry().actions > 30; });
  const std::uint64_t before = interrupted();
  until(1, [&] { return interrupted() > before; });
}

}  // namespace

int main() {
  for (std::uint32_t seed = 1; seed <= 3; ++seed) lockstep_follows_key_steps(1 + int(seed) % 3, seed);
  reset_forgets();
  asynchronous_key_steps_arrive(1, 1);
  asynchronous_key_steps_arrive(2, 4);
  a_key_step_interrupts_the_asynchronous_chunk();
  return result();
}
