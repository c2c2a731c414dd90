// What an episode is about: the argument of `Runtime::reset`; and how far its plan is.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "keystep/observation.hpp"

namespace keystep {

struct EpisodeContext {
  /// One of `Bundle::tasks`, by its name or word for word by its instruction; empty: none.
  std::string task{};
  std::optional<Observation> goal{};  ///< required exactly when `Bundle::goal` is "observation"
  std::uint64_t seed = 0;
  std::uint32_t episode = 0;
  std::optional<double> guidance{};  ///< of plans, lambda >= 0; none: the manifest's
  /// Subgoals in place of plans: one observation each, of which only `PlannerSpec::subgoal` is read. As many
  /// as a plan has, or none. The planner is never asked, so it needs no task; the last one stays.
  std::vector<Observation> subgoals{};
  /// In place of `task`, with a planner: any sentence in UTF-8. Without one: the instruction of a task.
  std::string instruction{};
};

/// Plans for one observation, in the caller's memory.
struct PlanCandidates {
  std::span<float>
      plans{};  ///< `RuntimeOptions::planner_candidates` of them, each as `predict_plan` writes it
  std::span<float>
      scores{};    ///< of each, the more the better; NaN: not to be followed, or nothing to compare
  int chosen = 0;  ///< index of the best
};

struct PlanProgress {
  std::uint64_t plans = 0;   ///< made since reset
  int subgoal = 0;           ///< index of the current one; 0 without a plan
  std::int64_t actions = 0;  ///< taken on it; 0 without a plan
};

}  // namespace keystep
