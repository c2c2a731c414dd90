// The planner's thread: asks it, and hands its goals to the controller's thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "loop/async/delays.hpp"
#include "loop/async/exchange.hpp"
#include "loop/latency_recorder.hpp"
#include "policy/planner.hpp"

namespace keystep {

class PlanMaker {
 public:
  PlanMaker(Exchange& exchange, Interrupts& interrupts, Planner& planner, Controller& controller,
            LatencyRecorder& recorder, std::atomic<bool>& replan_wanted, const OwnedGoal& no_goal);

  /// An episode begins; before the thread does. False: this planner has nothing to say in it, and needs none.
  bool reset() noexcept;
  /// Takes the newest observation. False: there is nothing to ask.
  bool begin() noexcept;
  /// After `begin`: whether the planner has to compute its answer, or only looks it up.
  bool computes() const noexcept;
  /// Asks the planner, and hands over what it says.
  void finish() noexcept;

  // Any thread: of the plan being followed, as `Planner` has it.
  bool plan(std::span<float> out) const noexcept;
  bool candidates(PlanCandidates& out) const noexcept;
  PlanProgress progress(std::int64_t consumed) const noexcept;

 private:
  std::int64_t index_to_ask_for(const Snapshot& seen) const noexcept;
  void deliver(const PlanReply& reply, std::int64_t at, bool interrupts) noexcept;
  void interrupt() noexcept;
  void fail(Status status) noexcept;
  void settle(const PlanReply& reply, bool replan) noexcept;
  void answer() noexcept;
  void show(std::int64_t consumed) noexcept;

  Exchange& exchange_;
  Interrupts& interrupts_;
  Planner& planner_;
  Controller& controller_;
  LatencyRecorder& recorder_;
  std::atomic<bool>& replan_wanted_;

  const OwnedGoal no_goal_;
  OwnedGoal goal_;           // the last of each kind
  std::uint64_t epoch_ = 0;  // that the planner knows of
  bool asked_ = false;       // in this episode, or it has a goal already
  bool replan_ = false;      // what was begun is to plan anew
  bool owed_ = false;        // a new plan was asked for, and the planner has not answered yet
  std::uint64_t sent_ = 0, number_ = 0;
  Delays delays_;  // of plans

  // Copies for those who look on. Held for the length of a copy, never by the tick.
  mutable std::mutex shown_mutex_;
  std::vector<float> shown_plan_, shown_plans_, shown_scores_;
  int shown_chosen_ = 0;
  bool has_plan_ = false, has_candidates_ = false;
  PlanProgress shown_progress_;
  std::int64_t shown_at_ = 0;  // consumed index of `shown_progress_`
};

}  // namespace keystep
