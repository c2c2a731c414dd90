// The upper level. A planner is asked at every tick; its reply may be a key-step, which interrupts the chunk.
#pragma once

#include "keystep/observation.hpp"
#include "keystep/status.hpp"

namespace keystep {

struct PlanReply {
  Status status = Status::ok;
  bool key_step = false;  ///< drop the rest of the chunk, abort a sample in flight
};

class Planner {
 public:
  virtual ~Planner() = default;
  virtual void reset() noexcept = 0;
  virtual PlanReply ask(const Observation& observation) noexcept = 0;
};

/// Flat policies: the task given to `reset` is the whole plan.
class NoPlanner final : public Planner {
 public:
  void reset() noexcept override {}
  PlanReply ask(const Observation&) noexcept override { return {}; }
};

}  // namespace keystep
