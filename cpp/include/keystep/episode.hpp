// What an episode is about: the argument of `Runtime::reset`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "keystep/observation.hpp"

namespace keystep {

struct EpisodeContext {
  /// Flat: a task's name or its instruction; empty if the policy takes none. Subgoal: a task's name, or any
  /// instruction in UTF-8.
  std::string task{};
  std::optional<Observation> goal{};  ///< required exactly when `Bundle::goal` is "observation"
  std::uint64_t seed = 0;
  std::uint32_t episode = 0;
  std::optional<double> guidance{};  ///< of plans, lambda >= 0; none: the manifest's
  /// Subgoals in place of plans: one observation each, of which only `PlannerSpec::subgoal` is read. As many
  /// as a plan has, or none. The planner is never asked; the last one stays.
  std::vector<Observation> subgoals{};
};

}  // namespace keystep
