#include "loop/async/plan_maker.hpp"

#include <algorithm>
#include <utility>

#include "support/clock.hpp"

namespace keystep {

PlanMaker::PlanMaker(Exchange& exchange, Interrupts& interrupts, Planner& planner, Controller& controller,
                     LatencyRecorder& recorder, std::atomic<bool>& replan_wanted, const OwnedGoal& no_goal)
    : exchange_(exchange),
      interrupts_(interrupts),
      planner_(planner),
      controller_(controller),
      recorder_(recorder),
      replan_wanted_(replan_wanted),
      no_goal_(no_goal),
      goal_(no_goal),
      shown_plan_(planner.plan_size()),
      shown_plans_(planner.plan_size() * static_cast<std::size_t>(planner.candidates())),
      shown_scores_(static_cast<std::size_t>(planner.candidates())) {}

bool PlanMaker::reset() noexcept {
  epoch_ = interrupts_.epoch;
  goal_ = no_goal_;
  sent_ = number_ = 0;
  delays_ = {};
  const std::int64_t due = planner_.due();
  asked_ = due != 0;
  owed_ = replan_ = false;
  exchange_.ask_at = due;
  exchange_.answered = asked_ ? epoch_ : epoch_ - 1;
  show(0);
  return due != Planner::kNever;
}

bool PlanMaker::begin() noexcept {
  const std::uint64_t epoch = interrupts_.epoch;
  if (epoch != epoch_) {
    planner_.abort();
    if (std::exchange(owed_, false)) replan_wanted_ = true;  // what was to answer it was given up
    epoch_ = epoch;
  }
  // The goal that stands is good after an interrupt; after a call to plan anew the answer comes first.
  if (asked_ && !owed_ && !replan_wanted_) answer();
  // Alive for nothing, even for a moment, and a tick that looks just then leaves its question to the next.
  if (!exchange_.to_planner.fresh()) return false;
  exchange_.planner_alive = now_ns();  // before it takes: from here on no tick asks once more
  exchange_.to_planner.take();
  replan_ = replan_wanted_.exchange(false);
  return true;
}

/// What is due before long is asked for now, as of the index at which it is due; but one goal at a time: the
/// next but one would replace a goal that the controller has not seen.
std::int64_t PlanMaker::index_to_ask_for(const Snapshot& seen) const noexcept {
  const std::int64_t due = planner_.due();
  const bool next_is_known = exchange_.goal_from > seen.consumed;
  if (next_is_known || exchange_.goal_taken < exchange_.goal_number) return seen.consumed;
  return due > seen.consumed && due - seen.expected_delay <= seen.consumed ? due : seen.consumed;
}

bool PlanMaker::computes() const noexcept {
  const Snapshot& seen = exchange_.to_planner.front();
  return planner_.computes(replan_ ? seen.consumed : index_to_ask_for(seen), replan_);
}

void PlanMaker::finish() noexcept {
  const Snapshot& seen = exchange_.to_planner.front();
  const bool replan = replan_;
  const bool sudden = planner_.due() == 0;  // nobody knew beforehand when its next goal would come
  const bool at_once = replan || owed_;
  const std::int64_t at = at_once ? seen.consumed : index_to_ask_for(seen);
  const Epoch epoch{interrupts_.epoch, epoch_, nullptr, &exchange_.planner_alive};
  const Observation newest = seen.newest().view();
  const bool early = !at_once && at > seen.consumed;
  const PlanRequest request{newest, at, replan, epoch, recorder_[Stage::plan], recorder_[Stage::score],
                            early};
  planner_.start(request);
  const PlanReply reply = planner_.poll(request);
  settle(reply, replan);
  if (reply.status == Status::ok) {
    if (reply.planned) {
      recorder_.plans.add();
      if (asked_) delays_.add(exchange_.ticks - seen.tick);  // the first is a warm-up
      exchange_.plan_delay = delays_.expected();
    }
    if (reply.stale != Stale::nothing || reply.key_step) deliver(reply, at, reply.key_step && sudden);
    asked_ = planner_.lacks_goal() == nullptr;  // who answers later has none yet
    if (asked_ && !owed_ && !replan_wanted_) answer();
  } else {
    asked_ = asked_ && planner_.lacks_goal() == nullptr;  // without a goal the controller has to wait
    if (reply.status != Status::interrupted) fail(reply.status);
  }
  if (reply.status != Status::ok || reply.stale != Stale::nothing) show(exchange_.consumed);
  exchange_.ask_at = owed_ ? 0 : planner_.due();
  exchange_.planner_alive = 0;
}

/// Who answers a call to plan anew later is asked until then, and nothing is made for the old goal. One that
/// came to nothing is made again.
void PlanMaker::settle(const PlanReply& reply, bool replan) noexcept {
  owed_ = owed_ || replan;
  if (!owed_) return;
  if (reply.status != Status::ok) {
    owed_ = false;
    replan_wanted_ = true;
  } else if (reply.planned || reply.settled || reply.stale != Stale::nothing) {
    owed_ = false;
  }
}

/// A key-step that nobody foresaw interrupts. One that was due at a known index does not: the actions of the
/// old goal go on until the first chunk of the new one begins to act.
void PlanMaker::deliver(const PlanReply& reply, std::int64_t at, bool interrupts) noexcept {
  const std::int64_t late = std::max<std::int64_t>(exchange_.consumed - at, 0);
  if (late > 0) planner_.postpone(late);
  number_ += reply.key_step;
  try {
    goal_.take(reply.goal);
    GoalMessage& message = exchange_.goals.back();
    message.goal = goal_;
    message.sent = ++sent_;
    message.number = number_;
    // What is said of the goal of now must not bring forward a key-step whose time has not come.
    message.from = reply.key_step ? at + late : exchange_.goal_from.load();
    exchange_.goals.publish();
  } catch (...) {
    return fail(Status::rejected_plan);  // out of memory
  }
  if (!reply.key_step) return;
  exchange_.goal_from = at + late;
  exchange_.goal_number = number_;
  if (interrupts) interrupt();
}

void PlanMaker::interrupt() noexcept {
  const std::uint64_t before = interrupts_.add(now_ns());
  if (before == epoch_) epoch_ = before + 1;  // else somebody else did, too, which `begin` will see
  controller_.terminate();
}

void PlanMaker::fail(Status status) noexcept {
  PlanFailure& failure = exchange_.plan_failures.back();
  failure.status = status;
  failure.epoch = epoch_;
  try {
    failure.error.assign(planner_.error());
  } catch (...) {
    failure.error.clear();  // out of memory: the status still tells
  }
  exchange_.plan_failures.publish();
}

void PlanMaker::answer() noexcept {
  if (exchange_.answered.exchange(epoch_) != epoch_) exchange_.controller_bell.ring();
}

void PlanMaker::show(std::int64_t consumed) noexcept {
  const std::lock_guard lock(shown_mutex_);
  has_plan_ = planner_.plan(shown_plan_);
  PlanCandidates all{shown_plans_, shown_scores_};
  has_candidates_ = planner_.candidates(all);
  shown_chosen_ = all.chosen;
  shown_progress_ = planner_.progress(consumed);
  shown_at_ = consumed;
}

bool PlanMaker::plan(std::span<float> out) const noexcept {
  const std::lock_guard lock(shown_mutex_);
  if (!has_plan_ || out.size() != shown_plan_.size()) return false;
  std::ranges::copy(shown_plan_, out.begin());
  return true;
}

bool PlanMaker::candidates(PlanCandidates& out) const noexcept {
  const std::lock_guard lock(shown_mutex_);
  if (!has_candidates_ || out.plans.size() != shown_plans_.size() ||
      out.scores.size() != shown_scores_.size()) {
    return false;
  }
  std::ranges::copy(shown_plans_, out.plans.begin());
  std::ranges::copy(shown_scores_, out.scores.begin());
  out.chosen = shown_chosen_;
  return true;
}

/// A subgoal whose time has not come yet has taken no action.
PlanProgress PlanMaker::progress(std::int64_t consumed) const noexcept {
  const std::lock_guard lock(shown_mutex_);
  PlanProgress progress = shown_progress_;
  if (has_plan_) progress.actions = std::max<std::int64_t>(progress.actions + consumed - shown_at_, 0);
  return progress;
}

}  // namespace keystep
