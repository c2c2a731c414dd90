// Family subgoal (HD-ExpIt, Algorithm 4): a diffusion model imagines M subgoals from an observation and a
// text; each is the controller's goal for n actions, and the plan is made anew when they are used up.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "policy/planner.hpp"

namespace keystep {

/// A plan is M x `subgoal_shape` floats: states in physical units, images [3, h, w] in 0..1 and a little
/// beyond.
class SubgoalPlanner final : public Planner {
 public:
  /// Binds the policy's graphs to the tensors of a session, sizes every buffer. The policy has a planner;
  /// both outlive this object.
  SubgoalPlanner(const Policy& policy, Tensors& tensors);
  ~SubgoalPlanner() override;

  void check(const EpisodeContext& context, const Aim& aim) const override;
  void reset(const EpisodeContext& context, const Aim& aim, const Epoch& epoch) override;
  /// A plan is due if there is none, if asked for, or if all subgoals were held for n actions and replanning
  /// is on; otherwise the next subgoal is, after n actions.
  void start(const PlanRequest& request) noexcept override;
  /// Plans inside. A plan that fails leaves none, or the one of now if it was asked for early: the next call
  /// tries again, with new noise. Status rejected_plan: NaN or Inf in it, or in the controller's units, of
  /// every candidate.
  PlanReply poll(const PlanRequest& request) noexcept override;
  void abort() noexcept override;  ///< of nothing: no plan outlives its tick
  void terminate() noexcept override;
  std::int64_t due() const noexcept override;
  bool computes(std::int64_t consumed, bool replan) const noexcept override;
  void postpone(std::int64_t actions) noexcept override;
  const std::string& error() const noexcept override;

  Goal goal() const noexcept override;  ///< the current subgoal, NoGoal without a plan
  const char* lacks_goal() const noexcept override;
  std::string text_warning(const std::string& instruction) const override;
  std::size_t plan_size() const noexcept override;
  bool plan(std::span<float> out) const noexcept override;
  int candidates() const noexcept override;
  bool candidates(PlanCandidates& out) const noexcept override;
  PlanProgress progress(std::int64_t consumed) const noexcept override;
  Status can_predict(std::size_t values) noexcept override;
  Status predict(const Observation& observation, std::span<const float> noise, const Epoch& epoch,
                 std::span<float> out) noexcept override;
  Status predict_candidates(const Observation& observation, std::span<const float> noise, const Epoch& epoch,
                            PlanCandidates& out) noexcept override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keystep
