// The upper level. A planner is asked at every tick; its reply may be a key-step, which interrupts the chunk.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "keystep/episode.hpp"
#include "keystep/latency.hpp"
#include "keystep/observation.hpp"
#include "keystep/status.hpp"
#include "loop/epoch.hpp"

namespace keystep {

struct PlanRequest {
  const Observation& observation;  ///< one the controller accepts
  std::int64_t consumed;           ///< actions taken since reset
  bool replan;                     ///< someone asked for a new plan
  Epoch epoch;
  Histogram& timing;  ///< of the plans made
};

struct PlanReply {
  Status status = Status::ok;
  bool planned = false;              ///< a plan was made
  bool key_step = false;             ///< drop the rest of the chunk
  std::span<const float> subgoal{};  ///< of a key-step: the controller's next goal, `Controller::set_subgoal`
};

class Planner {
 public:
  virtual ~Planner() = default;
  /// Whether an episode can be about this; changes nothing. Throws ArgumentError.
  virtual void check(const EpisodeContext& context) const = 0;
  /// Starts an episode that was checked. Throws Error, also when the epoch is over.
  virtual void reset(const EpisodeContext& context, const Epoch& epoch) = 0;
  virtual PlanReply ask(const PlanRequest& request) noexcept = 0;
  virtual void terminate() noexcept = 0;  ///< any thread: ends a plan in the making
  virtual const std::string& error() const noexcept = 0;
};

/// Flat policies: the task given to `reset` is the whole plan.
class NoPlanner final : public Planner {
 public:
  void check(const EpisodeContext& context) const override;
  void reset(const EpisodeContext&, const Epoch&) override {}
  PlanReply ask(const PlanRequest&) noexcept override { return {}; }
  void terminate() noexcept override {}
  const std::string& error() const noexcept override { return none_; }

 private:
  const std::string none_;
};

}  // namespace keystep
