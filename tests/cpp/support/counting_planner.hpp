// A planner whose goals are due at known indices.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "policy/planner.hpp"

namespace keystep::test {

/// A new goal every so many actions, as a planner of subgoals has: task `first` + its number. Every
/// `subgoals`-th has to be computed.
class CountingPlanner final : public Planner {
 public:
  struct Log {
    std::vector<std::int64_t> from = {0};  ///< index from which on goal i is followed
    int fails = 0;                         ///< so many replies to come fail
  };

  CountingPlanner(Log& log, int steps, int first = 100, int subgoals = 1)
      : log_(log), steps_(steps), first_(first), subgoals_(subgoals) {}

  void check(const EpisodeContext&, const Aim&) const override {}
  void reset(const EpisodeContext&, const Aim&, const Epoch&) override { log_.from = {0}; }
  void start(const PlanRequest& request) noexcept override {
    asked_ = goals() == 0 || request.replan || request.consumed - log_.from.back() >= steps_;
  }
  PlanReply poll(const PlanRequest& request) noexcept override {
    if (!std::exchange(asked_, false)) return {};
    if (log_.fails > 0) return {.status = log_.fails-- > 0 ? Status::engine_failure : Status::ok};
    const bool planned = computes(request.consumed, request.replan);
    log_.from.push_back(request.consumed);
    return {
        .planned = planned, .key_step = true, .stale = Stale::everything, .goal = TaskGoal{first_ + goals()}};
  }
  void abort() noexcept override { asked_ = false; }
  void terminate() noexcept override {}
  std::int64_t due() const noexcept override { return goals() == 0 ? 0 : log_.from.back() + steps_; }
  bool computes(std::int64_t, bool replan) const noexcept override {
    return replan || goals() % subgoals_ == 0;
  }
  void postpone(std::int64_t actions) noexcept override { log_.from.back() += actions; }
  const char* lacks_goal() const noexcept override { return goals() == 0 ? "no goal" : nullptr; }
  const std::string& error() const noexcept override { return error_; }
  Status can_predict(std::size_t) noexcept override { return Status::bad_observation; }

 private:
  int goals() const noexcept { return static_cast<int>(log_.from.size()) - 1; }

  Log& log_;
  const int steps_, first_, subgoals_;
  const std::string error_ = "the planner's own words";
  bool asked_ = false;
};

}  // namespace keystep::test
