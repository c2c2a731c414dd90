// A goal that is owned: planners lend theirs for the length of a call.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"
#include "loop/async/snapshot.hpp"
#include "policy/controller.hpp"
#include "policy/goal.hpp"

namespace keystep {

/// The last of each kind, for each has inputs of its own.
class OwnedGoal {
 public:
  OwnedGoal(const Bundle& bundle, std::size_t text_capacity);

  void clear() noexcept;
  /// Allocates where a planner names tensors it did not name before; throws std::bad_alloc then.
  void take(const Goal& goal);
  /// The first refusal of the controller, if any.
  Status give(Controller& controller) const noexcept;

 private:
  struct NamedValues {
    std::string name;
    std::vector<float> values;
  };

  void take(const NoGoal&) noexcept {}
  void take(const TaskGoal& goal) noexcept { task_ = goal.index; }
  void take(const ObservationGoal& goal);
  void take(const SubgoalGoal& goal);
  void take(const InstructionGoal& goal);

  std::optional<int> task_;
  OwnedObservation seen_;
  std::vector<bool> every_feature_;
  std::vector<float> subgoal_;
  std::string text_;
  std::vector<NamedValues> tensors_;  // the last `tensor_count_` are old
  std::size_t tensor_count_ = 0;
  bool has_seen_ = false, has_subgoal_ = false, has_instruction_ = false;
};

/// From the planner's thread to the controller's.
struct GoalMessage {
  OwnedGoal goal;
  std::uint64_t sent = 0;    ///< counts messages; 0: none yet
  std::uint64_t number = 0;  ///< counts key-steps; 0: the goal that `reset` gave
  std::int64_t from = 0;     ///< consumed index from which on it is to be followed
};

}  // namespace keystep
