#include "policy/planner.hpp"

#include "keystep/status.hpp"

namespace keystep {

void NoPlanner::check(const EpisodeContext& context) const {
  const std::string none = "none (the bundle has no planner)";
  if (context.guidance) throw ArgumentError(expected("guidance", none, std::to_string(*context.guidance)));
  if (!context.subgoals.empty()) {
    throw ArgumentError(expected("subgoals", none, std::to_string(context.subgoals.size())));
  }
}

}  // namespace keystep
