// Family subgoal (HD-ExpIt, Algorithm 4): a diffusion model imagines M subgoals from an observation and a
// text; each is the controller's goal for n actions, and the plan is made anew when they are used up.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "keystep/bundle.hpp"
#include "keystep/engine.hpp"
#include "keystep/noise.hpp"
#include "policy/planner.hpp"

namespace keystep {

struct SubgoalPlannerOptions {
  int steps = 0;                 ///< denoise steps of a plan; 0: as the manifest says
  std::string sampler{};         ///< ddpm | ddim; empty: as the manifest says
  std::optional<bool> replan{};  ///< plan anew when a plan is used up; none: as the manifest says
  bool strict_text = false;      ///< see RuntimeOptions
};

/// A plan is M x `subgoal_shape` floats: states in physical units, images [3, h, w] in 0..1 and a little
/// beyond.
class SubgoalPlanner final : public Planner {
 public:
  /// Loads the graphs, sizes every buffer. `bundle` has a planner and outlives this object. Throws.
  SubgoalPlanner(const Bundle& bundle, Engine& engine, const SubgoalPlannerOptions& options);
  ~SubgoalPlanner() override;

  void check(const EpisodeContext& context) const override;
  void reset(const EpisodeContext& context, const Epoch& epoch) override;
  /// Plans if there is no plan, if asked to, or if all subgoals were held for n actions and replanning is on;
  /// otherwise goes to the next subgoal after n actions. A plan that fails leaves none: the next call tries
  /// again, with new noise. Status rejected_plan: NaN or Inf in it, or in the
  /// controller's units.
  PlanReply ask(const PlanRequest& request) noexcept override;
  void terminate() noexcept override;
  const std::string& error() const noexcept override;

  std::string text_warning(const std::string& instruction) const;  ///< see Runtime
  bool has_text() const noexcept;  ///< an episode with subgoals alone has none, and no plans
  std::size_t plan_size() const noexcept;
  /// The current subgoal as the controller takes it; empty without a plan.
  std::span<const float> subgoal() const noexcept;
  /// A plan for one observation, which changes nothing of the episode. `noise` empty: what the next plan
  /// would draw; else one plan of initial noise, followed by as much again for each step that needs noise.
  /// `out`: `plan_size` values.
  Status predict(const Observation& observation, std::span<const float> noise, const Epoch& epoch,
                 std::span<float> out) noexcept;
  /// Writes the plan being followed. False before the first, after one that failed, or if `out` has another
  /// size.
  bool plan(std::span<float> out) const noexcept;
  PlanProgress progress(std::int64_t consumed) const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keystep
