// One compiled policy with one session, ticked once per control period. Lockstep: everything is computed
// inside the tick, so a run is bit-reproducible from (bundle, seed, observations) on one machine. Async:
// planner and controller compute on threads of their own, and the tick never waits.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "keystep/async.hpp"
#include "keystep/bundle.hpp"
#include "keystep/continuation.hpp"
#include "keystep/engine.hpp"
#include "keystep/episode.hpp"
#include "keystep/latency.hpp"
#include "keystep/observation.hpp"
#include "keystep/served_chunk.hpp"
#include "keystep/status.hpp"
#include "keystep/trace.hpp"
#include "keystep/virtual_time.hpp"

namespace keystep {

/// Somebody who may end a call that takes long; from Python the handlers of signals, Ctrl-C's above all. All
/// is called by the thread inside, never for a tick that runs no graph.
class Attendant {
 public:
  virtual ~Attendant() = default;
  virtual void begin() noexcept = 0;  ///< graphs will run until `end`
  virtual void end() noexcept = 0;
  /// Asked between two runs, soon after `Runtime::call_attention` and every 200 ms. True ends the call with
  /// Status::interrupted (`reset` with Error).
  virtual bool gives_up() noexcept = 0;
};

struct RuntimeOptions {
  EngineOptions engine{};
  std::string mode = "lockstep";  ///< lockstep | async
  AsyncOptions async{};           ///< of that mode
  int inference_steps = 0;        ///< denoise steps of a chunk; 0: as the manifest says
  std::string sampler{};          ///< of chunks, a kind of the same network; empty: as the manifest says
  int planner_steps = 0;          ///< denoise steps of a plan; 0: as the manifest says
  std::string planner_sampler{};  ///< of plans, likewise; empty: as the manifest says
  /// Plans sampled at once, 1..256, of which the best is followed.
  int planner_candidates = 1;
  /// Which is best. learned: the bundle's graph `score`; density: the medoid; empty: learned where there is
  /// such a graph.
  std::string planner_score{};
  std::optional<bool> replan{};             ///< when a plan is used up; none: as the manifest says
  bool strict_text = false;                 ///< `text_warning` of an instruction is an error
  double deadline_us = 0;                   ///< of a tick; 0: the control period
  std::int64_t max_observation_age_us = 0;  ///< older stamped observations are refused; 0: no limit
  /// Of stamps. steady: `now_us()`, on this machine; a server stamps what arrives. external: any other
  /// (simulated time), which the caller reads: `Observation::now_us`.
  std::string clock = "steady";
  std::shared_ptr<Attendant> attendant{};
  std::shared_ptr<Tracer> tracer{};  ///< what all sessions write into; none: no trace
  /// The world goes on while it is computed, by declared times; none: by the real ones. Of lockstep then also
  /// `AsyncOptions::underrun` counts.
  std::optional<VirtualTime> virtual_time{};
};

/// One thread is inside at a time: a second one is told `busy` at once and disturbs nobody; only who reads
/// (a plan, latencies) is waited for, some microseconds; in async mode not even that. `message`, of a call
/// that is not ok: as `last_error`, or the description of the status that refused it. No other thread's call
/// changes it, and with room for 256 bytes it allocates as little as the tick.
class Runtime {
 public:
  /// Loads and checks the bundle, opens the engine, sizes all memory. Throws BundleError, ProviderError,
  /// ArgumentError.
  explicit Runtime(const std::filesystem::path& bundle, RuntimeOptions options = {});
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Another session on the same weights, graphs and threads: an episode, buffers, noise and histograms of
  /// its own, which is all the memory it takes. Sessions may run on threads of their own, where native U-Nets
  /// take turns, step by step; `close` frees what they share once the last is closed. Any thread. Throws
  /// PolicyError (closed, forked).
  std::unique_ptr<Runtime> session(std::shared_ptr<Attendant> attendant = {}) const;

  const Bundle& bundle() const noexcept;
  const RuntimeOptions& options() const noexcept;
  std::string engine_description() const;
  /// Of every graph in use.
  const std::vector<EngineChoice>& engine_choices() const noexcept;
  /// Sized for `tick`. It holds the bundle's hold action; NaN where that is the last action given, for there
  /// is none yet.
  Action make_action() const;

  /// Starts an episode. Throws ArgumentError, which leaves the episode before as it was (unknown task, goal
  /// missing or unwanted, text or subgoals that cannot be, doubtful text if strict), PolicyError (closed,
  /// forked, busy), or Error (the text encoder failed).
  void reset(const EpisodeContext& context);
  /// What the episode is about: the name of its task, or else its instruction. Empty: neither (subgoals alone
  /// were given, or the policy needs none), and before `reset`. Throws PolicyError (closed, forked, busy).
  std::string about() const;
  /// Whether `told`, a task by name or instruction or else a sentence, is what the episode is about. Throws
  /// as `about`.
  bool is_about(const std::string& told) const;
  /// Why the text encoder may not understand this sentence: it does not know most of its words. Empty where
  /// it does, where that is not known, for the instruction of a task, and without a planner.
  std::string text_warning(const std::string& instruction) const;
  /// One control period. A tick that is not ok leaves `action` at the bundle's hold: its values, or the last
  /// action given in this episode, and NaN before there is one (and where the status is `busy`, `closed` or
  /// `forked`): check the status, and send nothing that is not finite. Allocates nothing in our own code, but
  /// where an image comes in a larger size than before, and for the message of a bad observation or of a
  /// failed engine. In async mode it is ok wherever `action` may be sent: also the action that
  /// `AsyncOptions::underrun` declares, while there is none of the policy (`telemetry` counts it).
  Status tick(const Observation& observation, Action& action, std::string* message = nullptr) noexcept;
  /// Drops the rest of the chunk and aborts a plan or a sample in flight. Any thread.
  void interrupt() noexcept;
  /// The attendant will be asked soon. `at_once`: a run of a graph is broken off for it, and begun again,
  /// with the same result, if it does not give up. Without effect where there is none. Any thread.
  void call_attention(bool at_once) noexcept;
  /// The next tick makes a new plan and drops the chunk; without effect on subgoals handed in. Any thread.
  /// Throws ArgumentError if the bundle has no planner, PolicyError (closed, forked).
  void replan();
  /// One whole chunk for one observation and the current subgoal, outside the loop: nothing of the episode
  /// changes. In async mode this and the next two are `busy`: others are at work. `noise` empty: what the
  /// next chunk would draw; else one chunk of initial noise, followed by as much again for each step that
  /// needs noise. `chunk`: horizon x action dim, physical units, before the gate's bounds. `continuation`: of
  /// the chunk before; by default none. `not_reset` also before there is a subgoal.
  Status predict_chunk(const Observation& observation, std::span<const float> noise, std::span<float> chunk,
                       std::string* message = nullptr, const Continuation& continuation = {}) noexcept;
  /// The next chunk of this episode for somebody who executes it elsewhere, and counts there: a tick without
  /// its last step. It plans where that is due, and draws the next noise; rows are not gated. In lockstep
  /// alone. `frames`: the newest observation, or with those before it, oldest first, which then are all that
  /// is remembered. `rows`: (horizon - start) x action dim, physical units; the first belongs to
  /// `request.consumed`.
  Status serve_chunk(std::span<const Observation> frames, const ChunkRequest& request, std::span<float> rows,
                     ServedChunk& served, std::string* message = nullptr) noexcept;
  /// One whole plan for one observation: subgoals x `subgoal_shape` floats, states in physical units, images
  /// [3, h, w] in 0..1 and a little beyond. `noise` empty: what the next plan would draw; else one plan of
  /// initial noise (of each candidate), followed by as much again for each step that needs noise. `not_reset`
  /// also without a task or an instruction.
  Status predict_plan(const Observation& observation, std::span<const float> noise, std::span<float> plan,
                      std::string* message = nullptr) noexcept;
  /// The same of every candidate, with their scores.
  Status predict_candidates(const Observation& observation, std::span<const float> noise,
                            PlanCandidates& candidates, std::string* message = nullptr) noexcept;

  std::size_t plan_size() const noexcept;  ///< subgoals x `subgoal_shape`; 0 without a planner
  /// Writes the plan being followed, as `predict_plan`. False if there is none (yet, or since one failed),
  /// and where `status` is not ok: closed, forked or busy.
  bool plan(std::span<float> out, Status* status = nullptr) const noexcept;
  /// Writes what the plan being followed was chosen from. False likewise, and of subgoals handed in.
  bool candidates(PlanCandidates& out, Status* status = nullptr) const noexcept;
  /// All 0 where `plan` would be false for these reasons.
  PlanProgress plan_progress(Status* status = nullptr) const noexcept;
  bool closed() const noexcept;    ///< any thread
  Status usable() const noexcept;  ///< ok, closed or forked; any thread

  /// What the asynchronous loop does. In lockstep all 0, but ticks, actions, chunks and underruns in virtual
  /// time. Any thread, at any time.
  Telemetry telemetry() const noexcept;
  /// All 0 where `status` is busy; of a closed runtime it can still be read.
  LatencyReport latency(Status* status = nullptr) const noexcept;
  Status reset_latency() noexcept;  ///< ok, closed, forked or busy
  /// Of the last tick that was not ok, but for `busy`, `closed` and `forked`, which say it all. Not
  /// synchronised with a tick on another thread: there `message` tells.
  const std::string& last_error() const noexcept;
  /// Frees the engine, unless other sessions use it; everything afterwards is Status::closed. In a forked
  /// child nothing is freed: its threads are the parent's.
  void close() noexcept;

 private:
  friend struct RuntimeInternals;  // a runtime with another planner than the bundle's
  struct Impl;
  explicit Runtime(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace keystep
