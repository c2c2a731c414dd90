// What the controller is to reach. A goal borrows: whoever gives it keeps its memory as it is until the
// controller has taken it, `Controller::set_goal`.
#pragma once

#include <span>
#include <string_view>
#include <variant>

#include "keystep/observation.hpp"

namespace keystep {

struct NoGoal {};  ///< leaves the goal as it is

struct TaskGoal {
  int index = 0;  ///< in `Bundle::tasks`
};

/// What the robot shall see.
struct ObservationGoal {
  const Observation& seen;
};

/// Family subgoal: the controller's own normalised values, `subgoal_shape` of them.
struct SubgoalGoal {
  std::span<const float> values;
};

struct GoalTensor {
  std::string_view name;  ///< of the controller's input with the role "goal.<name>"
  std::span<const float> values;
};

/// What a planner that writes says: a text, what it made of the text for the controller's networks, or both.
struct InstructionGoal {
  std::string_view text{};
  std::span<const GoalTensor> tensors{};
};

using Goal = std::variant<NoGoal, TaskGoal, ObservationGoal, SubgoalGoal, InstructionGoal>;

}  // namespace keystep
