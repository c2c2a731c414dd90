#include "loop/async/owned_goal.hpp"

#include <algorithm>
#include <array>

namespace keystep {
namespace {

constexpr std::size_t kMostTensors = 32;  // of one goal; a controller has a handful of inputs

}  // namespace

OwnedGoal::OwnedGoal(const Bundle& bundle, std::size_t text_capacity)
    : seen_(bundle.observation), every_feature_(bundle.observation.size(), true) {
  if (bundle.planner) subgoal_.reserve(subgoal_size(bundle));
  text_.reserve(text_capacity);
}

void OwnedGoal::clear() noexcept {
  task_.reset();
  has_seen_ = has_subgoal_ = has_instruction_ = false;
}

void OwnedGoal::take(const Goal& goal) {
  std::visit([this](const auto& given) { take(given); }, goal);
}

void OwnedGoal::take(const ObservationGoal& goal) {
  seen_.copy(goal.seen, every_feature_);
  has_seen_ = true;
}

void OwnedGoal::take(const SubgoalGoal& goal) {
  subgoal_.assign(goal.values.begin(), goal.values.end());
  has_subgoal_ = true;
}

void OwnedGoal::take(const InstructionGoal& goal) {
  text_.assign(goal.text);
  tensor_count_ = std::min(goal.tensors.size(), kMostTensors);
  if (tensors_.size() < tensor_count_) tensors_.resize(tensor_count_);
  for (std::size_t i = 0; i < tensor_count_; ++i) {
    tensors_[i].name.assign(goal.tensors[i].name);
    tensors_[i].values.assign(goal.tensors[i].values.begin(), goal.tensors[i].values.end());
  }
  has_instruction_ = true;
}

Status OwnedGoal::give(Controller& controller) const noexcept {
  Status first = Status::ok;
  const auto give = [&](const Goal& goal) {
    const Status status = controller.set_goal(goal);
    if (first == Status::ok) first = status;
  };
  if (task_) give(TaskGoal{*task_});
  if (has_seen_) {
    const Observation seen = seen_.view();
    give(ObservationGoal{seen});
  }
  if (has_subgoal_) give(SubgoalGoal{subgoal_});
  if (has_instruction_) {
    std::array<GoalTensor, kMostTensors> tensors;
    for (std::size_t i = 0; i < tensor_count_; ++i) tensors[i] = {tensors_[i].name, tensors_[i].values};
    give(InstructionGoal{text_, {tensors.data(), tensor_count_}});
  }
  return first;
}

}  // namespace keystep
