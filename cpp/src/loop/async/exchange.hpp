// What the tick, the planner's thread and the controller's thread exchange. Nobody waits for anybody: values
// go by triple buffers, the rest are single atomics.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "keystep/status.hpp"
#include "loop/async/bell.hpp"
#include "loop/async/owned_goal.hpp"
#include "loop/async/snapshot.hpp"
#include "loop/async/triple_buffer.hpp"
#include "loop/interrupts.hpp"

namespace keystep {

/// From the controller's thread to the tick.
struct ChunkMessage {
  Status status = Status::ok;
  std::uint64_t number = 0;       ///< counts messages; 0: none yet
  std::uint64_t epoch = 0;        ///< in which it was begun: in another it is never executed
  std::uint64_t goal = 0;         ///< `GoalMessage::number` of its goal
  std::int64_t start = 0;         ///< consumed index that its first row belongs to
  std::uint64_t flow = 0;         ///< of the observation that it was made of, in a trace
  std::int64_t tick = 0;          ///< of its observation
  std::int64_t begins = 0;        ///< consumed index from which on its goal is to be followed
  std::vector<float> values;      ///< horizon x action dim, physical units
  bool continued = false;         ///< merged with the one before in the sampler
  bool beyond_max_delay = false;  ///< and by x0blend, though `trained` is what was wanted
  std::string error;              ///< of a status that is not ok
};

/// From the planner's thread to the tick.
struct PlanFailure {
  Status status = Status::ok;
  std::uint64_t epoch = 0;
  std::string error;
};

struct Exchange {
  Exchange(const Snapshot& to_plan, const Snapshot& to_act, const GoalMessage& goal,
           const ChunkMessage& chunk)
      : to_planner(to_plan), to_controller(to_act), goals(goal), chunks(chunk), plan_failures({}) {}

  TripleBuffer<Snapshot> to_planner, to_controller;
  TripleBuffer<GoalMessage> goals;
  TripleBuffer<ChunkMessage> chunks;
  TripleBuffer<PlanFailure> plan_failures;
  Bell planner_bell, controller_bell;

  bool plans = false;  // there is a planner to ask; known before the threads begin

  // The tick writes.
  std::atomic<bool> chunk_wanted = false;
  std::atomic<std::int64_t> consumed = 0, ticks = 0;
  std::atomic<bool> stopping = false;

  // The planner's thread writes.
  std::atomic<std::uint64_t> answered = 0;     // the epoch for which the controller has its goal
  std::atomic<std::int64_t> ask_at = 0;        // `Planner::due`
  std::atomic<std::uint64_t> goal_number = 0;  // of the newest, after `goal_from`
  std::atomic<std::int64_t> goal_from = 0;
  std::atomic<std::int64_t> plan_delay = 1;  // expected, in ticks
  // The controller's thread writes.
  std::atomic<std::uint64_t> goal_taken = 0;  // the number of its goal

  // When either thread gave a sign of life; 0: it computes nothing.
  std::atomic<std::int64_t> planner_alive = 0, controller_alive = 0;
};

}  // namespace keystep
