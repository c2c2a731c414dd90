// The upper level. A planner is asked at every tick; its reply may be a key-step, which interrupts the chunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>

#include "keystep/episode.hpp"
#include "keystep/latency.hpp"
#include "keystep/observation.hpp"
#include "keystep/status.hpp"
#include "loop/epoch.hpp"
#include "policy/goal.hpp"
#include "policy/policy.hpp"
#include "policy/task.hpp"

namespace keystep {

/// Valid during the call. A planner that answers later copies what it needs.
struct PlanRequest {
  const Observation& observation;  ///< one the controller accepts
  std::int64_t consumed;           ///< actions taken since reset
  bool replan;                     ///< someone asked for a new plan
  Epoch epoch;
  Histogram& timing;   ///< of the plans made
  Histogram& scoring;  ///< of choosing between candidates, within that
  bool early = false;  ///< asked beforehand: if nothing comes of it, the goal of now stays until `consumed`
};

/// What the controller must encode again before its next chunk.
enum class Stale {
  nothing,     ///< the goal stays
  goal,        ///< there is a new goal; what was encoded of observations stays good
  everything,  ///< there is a new goal, and what was encoded of observations is void
};

struct PlanReply {
  Status status = Status::ok;
  bool planned = false;   ///< a plan was made
  bool key_step = false;  ///< drop the rest of the chunk
  bool settled = false;   ///< a `replan` has no effect, such as on subgoals handed in: nothing will come
  Stale stale = Stale::nothing;
  Goal goal{};  ///< unless nothing is stale: the controller's next goal
};

class Planner {
 public:
  virtual ~Planner() = default;
  /// Whether an episode can be about this; changes nothing. Throws ArgumentError.
  virtual void check(const EpisodeContext& context, const Aim& aim) const = 0;
  /// Starts an episode that was checked; a plan in the making is aborted. Throws Error, also when the epoch
  /// is over.
  virtual void reset(const EpisodeContext& context, const Aim& aim, const Epoch& epoch) = 0;

  /// At every tick: begins a plan if one is due and none is in the making; a `replan` begins anew.
  virtual void start(const PlanRequest& request) noexcept = 0;
  /// At every tick, after `start`: the answer, once there is one. Who computes inside the tick does it here,
  /// who answers later says `{}` until then; the controller keeps the goal it has. Status `interrupted` once
  /// the epoch is over.
  virtual PlanReply poll(const PlanRequest& request) noexcept = 0;
  /// After an interrupt, before the next `start`: what is in the making is given up and never answered.
  virtual void abort() noexcept = 0;
  virtual void terminate() noexcept = 0;  ///< any thread: ends a run of a graph

  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
  /// The consumed index from which on it has something to say: before that nobody has to ask. 0: at any
  /// time, such as while it has no goal. The asynchronous loop asks beforehand, as of that index.
  virtual std::int64_t due() const noexcept { return 0; }
  /// Whether an answer as of that index has to be computed; what is only looked up takes no time.
  virtual bool computes(std::int64_t /*consumed*/, bool /*replan*/) const noexcept { return true; }
  /// The last reply takes effect so many actions after the index that it was asked for.
  virtual void postpone(std::int64_t) noexcept {}
  virtual const std::string& error() const noexcept = 0;

  /// The goal that stands, such as subgoals handed in to `reset`.
  virtual Goal goal() const noexcept { return NoGoal{}; }
  /// Why the controller has no goal yet; nullptr: it needs none, or has one.
  virtual const char* lacks_goal() const noexcept { return nullptr; }
  /// Room for the text of a goal, in bytes; constant.
  virtual std::size_t text_capacity() const noexcept { return 0; }
  virtual std::string text_warning(const std::string&) const { return ""; }  ///< see Runtime

  // Plans that can be looked at: those of subgoals. The rest is for planners that make some.

  virtual std::size_t plan_size() const noexcept { return 0; }  ///< in values; constant
  /// Writes the plan being followed. False if there is none, or if `out` has another size.
  virtual bool plan(std::span<float>) const noexcept { return false; }
  /// How many are tried for one plan; constant.
  virtual int candidates() const noexcept { return 1; }
  /// Likewise what it was chosen from.
  virtual bool candidates(PlanCandidates&) const noexcept { return false; }
  virtual PlanProgress progress(std::int64_t) const noexcept { return {}; }  ///< after so many actions
  /// Whether `predict` can write a plan of so many values now; if not, `error` says why.
  virtual Status can_predict(std::size_t values) noexcept = 0;
  /// A plan for one observation, which changes nothing of the episode. `noise` empty: what the next plan
  /// would draw; else one plan of initial noise, followed by as much again for each step that needs noise.
  virtual Status predict(const Observation&, std::span<const float>, const Epoch&,
                         std::span<float>) noexcept {
    return Status::bad_observation;
  }
  /// Likewise all plans, of which `predict` gives the best.
  virtual Status predict_candidates(const Observation&, std::span<const float>, const Epoch&,
                                    PlanCandidates&) noexcept {
    return Status::bad_observation;
  }
};

/// The planner of one session that the policy's bundle describes; it outlives neither.
std::unique_ptr<Planner> make_planner(const Policy& policy, Tensors& tensors);

/// Flat policies: what was given to `reset` is the whole plan.
class NoPlanner final : public Planner {
 public:
  void check(const EpisodeContext& context, const Aim& aim) const override;
  void reset(const EpisodeContext&, const Aim&, const Epoch&) override {}
  void start(const PlanRequest&) noexcept override {}
  PlanReply poll(const PlanRequest&) noexcept override { return {}; }
  void abort() noexcept override {}
  void terminate() noexcept override {}
  std::int64_t due() const noexcept override { return kNever; }
  const std::string& error() const noexcept override { return error_; }
  Status can_predict(std::size_t) noexcept override { return Status::bad_observation; }

 private:
  const std::string error_ = "plan: expected a bundle with a planner, got family flat";
};

}  // namespace keystep
