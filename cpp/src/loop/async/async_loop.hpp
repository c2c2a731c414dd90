// The asynchronous loop: planner and controller compute on threads of their own, the tick never waits.
//
//   tick --- Snapshot ---> planner's thread --- GoalMessage ---> controller's thread --- ChunkMessage --->
//   tick
//     \------ Snapshot ------------------------------------------/
//
// All indices are *consumed indices*: how many actions of the policy were taken since reset. A snapshot says
// for which index it was taken; a chunk made of it is executed from the row that belongs to the next action,
// however long it took. Interrupts are counted by an epoch: what was begun in one is never executed in
// another.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "keystep/runtime.hpp"
#include "keystep/safety_gate.hpp"
#include "loop/async/action_queue.hpp"
#include "loop/async/chunk_maker.hpp"
#include "loop/async/delays.hpp"
#include "loop/async/exchange.hpp"
#include "loop/async/plan_maker.hpp"
#include "loop/async/seqlock.hpp"
#include "loop/async/underrun.hpp"
#include "loop/loop_trace.hpp"
#include "policy/observation_inputs.hpp"

namespace keystep {

class AsyncLoop {
 public:
  /// What it shares with the runtime, which outlives the threads.
  struct Parts {
    const Bundle& bundle;
    const RuntimeOptions& options;
    Controller& controller;
    Planner& planner;
    const Tensors& tensors;  ///< of the controller
    SafetyGate& gate;
    LatencyRecorder& recorder;
    Interrupts& interrupts;
    LoopTrace& trace;
    std::atomic<bool>& replan_wanted;
    std::function<void()> terminate;  ///< ends runs of graphs
  };
  explicit AsyncLoop(const Parts& parts);
  ~AsyncLoop();

  /// An episode begins: planner and controller are ready for it. `threads`: false for a test that calls the
  /// makers itself.
  void start(const NoiseKey& key, bool threads = true);
  /// The threads end, after one call of the engine at most.
  void stop() noexcept;
  /// Once more after `stop`: the episode goes on.
  void launch();

  /// One control period. `stamp`: what is said of the observation's stamp. A status that is not ok has its
  /// message in `error`.
  Status tick(const Observation& observation, Status stamp, std::span<float> action) noexcept;
  const std::string& error() const noexcept { return error_; }
  /// The robot was given this by someone else: what comes next goes on from it.
  void given(std::span<const float> action) noexcept { underrun_.given(action); }
  /// After an interrupt, any thread: wakes who has to begin anew.
  void wake() noexcept;

  /// Drops the chunk, and nothing is made before there is a new plan. Any thread.
  void replan() noexcept;

  Telemetry telemetry() const noexcept { return telemetry_.load(); }  ///< any thread
  void reset_counts() noexcept;                                       ///< while no tick is inside
  const PlanMaker& plans() const noexcept { return plan_maker_; }
  ChunkMaker& chunk_maker() noexcept { return chunk_maker_; }
  PlanMaker& plan_maker() noexcept { return plan_maker_; }

 private:
  template <class Maker>
  std::thread run(Maker& maker, Bell& bell, TraceTrack* track);
  void absorb_interrupts() noexcept;
  Status note(const Observation& observation, Status stamp) noexcept;
  bool copy(const Observation& observation, Snapshot& into) noexcept;
  void receive() noexcept;
  void refuse(Status status, const std::string& why) noexcept;
  void install(const ChunkMessage& made) noexcept;
  void ask_planner(const Observation& observation) noexcept;
  void ask_controller(const Observation& observation) noexcept;
  bool needs_chunk() const noexcept;
  std::uint64_t active_goal() const noexcept;
  std::int64_t lead() const noexcept;
  /// No more than a chunk has actions.
  std::int64_t expected_delay() const noexcept { return std::min<std::int64_t>(delays_.expected(), rows_); }
  std::int64_t usual_delay() const noexcept { return std::min<std::int64_t>(delays_.usual(), rows_); }
  void watch() noexcept;
  Cause cause(Status noted) const noexcept;
  Status give(Status noted, std::span<float> action) noexcept;
  Status give_without(Cause cause, Status noted, std::span<float> action) noexcept;
  Status fail(Status status, const char* message) noexcept;
  void report() noexcept;

  const Parts parts_;
  const AsyncOptions options_;
  const int rows_;                 // of a chunk, from its first that is executed
  const std::size_t first_value_;  // of those
  const int request_below_, plan_ahead_;
  const std::vector<bool> taken_;   // the features that the network takes
  const ObservationInputs intake_;  // checks them, on the thread of the tick
  const Snapshot no_snapshot_, no_frame_;
  const GoalMessage no_goal_;
  const ChunkMessage no_chunk_;

  Exchange exchange_;
  ChunkMaker chunk_maker_;
  PlanMaker plan_maker_;
  std::thread planner_thread_, controller_thread_;
  const std::shared_ptr<TraceTrack> planner_track_, controller_track_;  // none: not traced
  std::atomic<int> running_ = 0;

  // The tick's own.
  ActionQueue queue_;
  Underrun underrun_;
  Delays delays_;
  std::vector<OwnedObservation> recent_;  // where the network takes several frames
  std::size_t recent_count_ = 0;
  std::uint64_t at_epoch_ = 0;
  std::int64_t interrupted_ns_ = 0;  // not answered by an action yet
  std::uint64_t goal_ = 0;           // of the chunk that is executed
  std::uint64_t flow_ = 0;           // likewise, of the observation it was made of
  std::uint64_t received_ = 0;       // number of the last chunk that came
  bool waiting_ = false;             // a chunk came for a goal whose time has not come
  bool had_chunk_ = false, had_chunk_in_epoch_ = false;
  Status failure_ = Status::ok;  // of the last chunk or plan
  std::string failure_error_, error_;
  Telemetry counts_;
  Seqlock<Telemetry> telemetry_;
};

}  // namespace keystep
