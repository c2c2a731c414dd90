// Merging inside the sampler, in the asynchronous loop without its threads: schedules from seeds, and every
// action to the bit that of a slow reference, which checks the seams.
#include <random>

#include "loop/runtime_internals.hpp"
#include "merge_reference.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// The loop and the reference, tick by tick.
class Compared {
 public:
  /// `goal_steps`: actions of a goal; 0: none changes.
  Compared(const std::string& manifest, const AsyncOptions& async, bool trained, int goal_steps,
           std::uint64_t seed)
      : random_(seed) {
    write_bundle(folder_.path(), manifest);
    RuntimeOptions options;
    options.engine.engine = "stub";
    options.mode = "async";
    options.async = async;
    const PlannerFactory counting = [this, goal_steps](const keystep::Policy&, Tensors&) {
      return std::make_unique<CountingPlanner>(log_, goal_steps, 0);
    };
    runtime = RuntimeInternals::open(folder_.path(), options, goal_steps > 0 ? counting : &make_planner);
    runtime->reset({.task = "push", .seed = 7, .episode = 1});
    loop().stop();
    loop().start({7, 1, 0, 0}, false);
    action_ = runtime->make_action();
    reference.emplace(folder_.path(), trained, goal_steps > 0 ? &log_ : nullptr);
  }
  AsyncLoop& loop() { return RuntimeInternals::async(*runtime); }

  void interrupt() {
    runtime->interrupt();
    reference->interrupt();
  }

  /// The chunk asked for takes so many ticks, and so does the plan.
  void tick(int chunk_ticks, int plan_ticks) {
    std::uniform_real_distribution<float> anywhere(-2, 2);
    const std::vector<float> state = {anywhere(random_), anywhere(random_), anywhere(random_)};
    const std::vector<float> wanted = reference->tick(state);
    CHECK(runtime->tick(test::seen(state), action_) == Status::ok);
    const Telemetry seen = runtime->telemetry();
    reference->expects(seen.usual_delay);
    CHECK(seen.actions - counted_ == !wanted.empty());
    counted_ = seen.actions;
    if (!wanted.empty()) CHECK(action_.values == wanted);
    plan(plan_ticks);
    if (sampling_ < 0 && loop().chunk_maker().begin()) {
      reference->begin();
      sampling_ = chunk_ticks;
    }
    if (sampling_ < 0 || sampling_-- > 0) return;
    loop().chunk_maker().finish();
    reference->finish();
  }

  std::unique_ptr<Runtime> runtime;
  std::optional<MergeReference> reference;

 private:
  void plan(int ticks) {
    if (planning_ < 0 && loop().plan_maker().begin()) planning_ = ticks;
    if (planning_ < 0 || planning_-- > 0) return;
    const bool first = log_.from.size() == 1;
    loop().plan_maker().finish();
    if (first && log_.from.size() > 1) reference->interrupt();  // nobody foresaw it
  }

  TemporaryFolder folder_;
  std::mt19937_64 random_;
  CountingPlanner::Log log_;
  Action action_;
  std::uint64_t counted_ = 0;
  int sampling_ = -1, planning_ = -1;
};

struct Counts {
  int exact = 0, late = 0, other_goals = 0, beyond = 0;
  double late_seams = 0, late_seams_alone = 0;
};

/// Random chunk lengths, thresholds, delays, goals and interrupts. `chosen`: any weights of the old chunk.
void every_action_is_the_reference_s(bool trained, bool goals, bool chosen, std::uint64_t seed, Counts& all) {
  std::mt19937_64 random(seed);
  const auto below = [&](int end) { return static_cast<int>(random() % static_cast<unsigned>(end)); };
  const int rows = 2 + below(11), start = below(2), execute = 1 + below(rows);
  const int max_delay = trained ? 1 + below(std::min(rows - 1, 3)) : 0, slow = 1 + below(5);
  AsyncOptions options{.request_below = below(2) * below(rows + 1)};
  const bool linear = chosen && below(2) == 0;
  if (linear) options.merge_decay = "linear";
  if (chosen && below(3) > 0) options.merge_overlap = below(rows + 1);
  Compared run(merging_manifest(rows, start, execute, max_delay), options, trained, goals ? 3 + below(12) : 0,
               seed);
  run.reference->overlap = options.merge_overlap;
  if (linear) run.reference->decay = Continuation::Decay::linear;
  for (int i = 0; i < 300; ++i) {
    if (below(40) == 0) run.interrupt();
    run.tick(below(30) == 0 ? below(rows + 2) : below(slow), below(4));
  }
  const Telemetry seen = run.runtime->telemetry();
  const MergeReference& reference = *run.reference;
  CHECK(seen.chunks == static_cast<std::uint64_t>(reference.installed) && reference.installed > 10);
  CHECK(seen.chunks_continued == static_cast<std::uint64_t>(reference.continued));
  CHECK(seen.chunks_beyond_max_delay == static_cast<std::uint64_t>(reference.beyond));
  all.exact += reference.exact;
  all.late += reference.late;
  all.other_goals += reference.other_goals;
  all.beyond += reference.beyond;
  all.late_seams += reference.late_seams;
  all.late_seams_alone += reference.late_seams_alone;
}

void schedules_from_seeds() {
  for (const bool trained : {false, true}) {
    for (const bool goals : {false, true}) {
      Counts all;
      for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        every_action_is_the_reference_s(trained, goals, false, seed, all);
      }
      // The schedules had in them what is checked.
      CHECK(all.exact > 50 && (all.beyond > 10) == trained && (all.other_goals > 10) == goals);
      CHECK(trained || (all.late > 10 && all.late_seams < 0.9 * all.late_seams_alone));
    }
  }
}

void weights_that_were_chosen() {
  for (const bool trained : {false, true}) {
    Counts all;
    for (std::uint64_t seed = 101; seed <= 130; ++seed) {
      every_action_is_the_reference_s(trained, true, true, seed, all);
    }
    CHECK(all.exact > 50 && (all.beyond > 10) == trained && all.other_goals > 10);
  }
}

/// With a delay that stays as it is no seam can be seen, whatever the chunks would have been on their own.
void a_delay_as_expected_leaves_no_jump() {
  for (const int ticks : {0, 1, 3}) {
    Compared run(merging_manifest(12, 0, 4, 0), {}, false, 0, 5);
    for (int i = 0; i < 200; ++i) run.tick(ticks, 0);
    const MergeReference& reference = *run.reference;
    CHECK(reference.late <= 1 && reference.exact + 2 >= reference.continued && reference.continued > 20);
    CHECK(run.runtime->telemetry().underruns[static_cast<std::size_t>(Cause::late)] == 0);
  }
}

/// Asked for twice at once, of one observation: the second would continue what the first has replaced.
void a_chunk_continues_what_the_tick_has_installed() {
  const TemporaryFolder folder;
  write_bundle(folder.path(), kManifest);
  RuntimeOptions options;
  options.engine.engine = "stub";
  const keystep::Policy policy(folder.path(), options);
  const Bundle& bundle = *policy.bundle();
  const auto tensors = policy.tensors();
  Controller controller(policy, *tensors);
  const Snapshot none{.frames = {OwnedObservation(bundle.observation)}, .rest = {}};
  Exchange exchange(none, none, {.goal = OwnedGoal(bundle, 0)},
                    {.values = std::vector<float>(4 * kWidth), .error = {}});
  Interrupts interrupts;
  LatencyRecorder recorder;
  std::atomic<bool> replan = false;
  ChunkMaker maker(exchange, interrupts, controller, recorder, replan, {});
  maker.reset({7, 1, 0, 0});
  const std::vector<float> state = {1, 2, 3};
  const auto ask = [&](std::uint64_t received) {
    Snapshot& newest = exchange.to_controller.back();
    newest.frames[0].copy(seen(state), {true});
    newest.count = 1;
    newest.received = received;
    exchange.to_controller.publish();
    exchange.chunk_wanted = true;
  };
  ask(0);
  CHECK(maker.begin());
  exchange.chunk_wanted = true;  // by a tick that does not know yet
  maker.finish();
  CHECK(!maker.begin());
  ask(0);
  CHECK(!maker.begin());
  ask(1);
  CHECK(maker.begin());
  maker.finish();
  interrupts.add(1);
  CHECK(maker.begin());  // after an interrupt nothing is continued, and nothing waited for
}

}  // namespace

int main() {
  a_chunk_continues_what_the_tick_has_installed();
  schedules_from_seeds();
  weights_that_were_chosen();
  a_delay_as_expected_leaves_no_jump();
  return result();
}
