#include "policy/planner.hpp"

#include "keystep/status.hpp"
#include "policy/subgoal_planner.hpp"

namespace keystep {

void NoPlanner::check(const EpisodeContext& context, const Aim&) const {
  const std::string none = "none (the bundle has no planner)";
  if (context.guidance) throw ArgumentError(expected("guidance", none, std::to_string(*context.guidance)));
  if (!context.subgoals.empty()) {
    throw ArgumentError(expected("subgoals", none, std::to_string(context.subgoals.size())));
  }
}

std::unique_ptr<Planner> make_planner(const Policy& policy, Tensors& tensors) {
  if (policy.bundle()->planner) return std::make_unique<SubgoalPlanner>(policy, tensors);
  return std::make_unique<NoPlanner>();
}

}  // namespace keystep
