#include <algorithm>
#include <utility>

#include "loop/async/async_loop.hpp"
#include "support/clock.hpp"
#include "support/finite.hpp"

namespace keystep {

/// The loop of the design once more, one control period that computes nothing.
Status AsyncLoop::tick(const Observation& observation, Status stamp, std::span<float> action) noexcept {
  ++counts_.ticks;
  exchange_.ticks = exchange_.ticks + 1;
  // An interrupt since the last tick: nothing from before it is executed.
  absorb_interrupts();

  // Note the observation; one that is bad or stale is shown to nobody.
  const Status noted = note(observation, stamp);

  // Take the chunk that was made meanwhile.
  receive();

  // Let others make what will be needed, of this observation.
  watch();
  if (noted == Status::ok) {
    ask_planner(observation);
    ask_controller(observation);
  }

  // Take the next action, by consumed index, or do what is declared for there being none. An interrupt that
  // came within this tick counts, too.
  absorb_interrupts();
  const Status status = give(noted, action);
  report();
  return status;
}

void AsyncLoop::absorb_interrupts() noexcept {
  const std::uint64_t before = std::exchange(at_epoch_, parts_.interrupts.epoch.load());
  if (before == at_epoch_) return;
  const std::int64_t since = parts_.interrupts.since_ns.exchange(0);
  if (interrupted_ns_ == 0) interrupted_ns_ = since;
  parts_.trace.absorbed(at_epoch_, since);
  counts_.chunks_outdated += std::exchange(waiting_, false);
  queue_.drop();
  had_chunk_in_epoch_ = false;
  failure_ = Status::ok;
}

Status AsyncLoop::note(const Observation& observation, Status stamp) noexcept {
  if (stamp != Status::ok) {
    error_.clear();  // its message is the runtime's
    return stamp;
  }
  if (intake_.check(observation, "observation", error_) != Status::ok) return Status::bad_observation;
  if (recent_.size() == 1) return Status::ok;
  try {
    std::ranges::rotate(recent_, recent_.begin() + 1);
    recent_.back().copy(observation, taken_);
    recent_count_ = std::min(recent_count_ + 1, recent_.size());
    return Status::ok;
  } catch (...) {
    error_.clear();
    return Status::bad_observation;  // no memory for a larger image
  }
}

// ---- what the other threads have made

void AsyncLoop::receive() noexcept {
  if (exchange_.plan_failures.take()) {
    const PlanFailure& failed = exchange_.plan_failures.front();
    if (failed.epoch > at_epoch_) absorb_interrupts();  // it came after this tick had looked
    if (failed.epoch == at_epoch_) {
      ++counts_.plans_failed;
      refuse(failed.status, failed.error);
    }
  }
  if (exchange_.chunks.take()) {
    const ChunkMessage& made = exchange_.chunks.front();
    received_ = made.number;
    if (made.epoch > at_epoch_) absorb_interrupts();  // it came after this tick had looked
    waiting_ = made.epoch == at_epoch_ && made.status == Status::ok;
    if (made.epoch != at_epoch_) {
      ++counts_.chunks_outdated;
    } else if (made.status != Status::ok) {
      ++counts_.chunks_failed;
      refuse(made.status, made.error);
    } else {
      counts_.delay = queue_.consumed() - made.start;
      counts_.max_delay = std::max(counts_.max_delay, counts_.delay);
      if (had_chunk_) delays_.add(exchange_.ticks - made.tick);  // the first of an episode is a warm-up
    }
  }
  // A chunk for the next subgoal waits until its time, or until nothing of the old is left.
  if (waiting_ && (queue_.left() == 0 || exchange_.chunks.front().begins <= queue_.consumed())) {
    waiting_ = false;
    install(exchange_.chunks.front());
  }
}

void AsyncLoop::refuse(Status status, const std::string& why) noexcept {
  failure_ = status;
  parts_.gate.counts().rejected_chunks += status == Status::rejected_chunk;
  parts_.gate.counts().rejected_plans += status == Status::rejected_plan;
  try {
    failure_error_.assign(why);
  } catch (...) {
    failure_error_.clear();  // out of memory: the status still tells
  }
}

/// A chunk's goal is the one that is active when its first action is executed.
void AsyncLoop::install(const ChunkMessage& made) noexcept {
  const auto rows = std::span(made.values).subspan(first_value_);
  const bool naive = parts_.options.virtual_time && !parts_.options.virtual_time->skips;
  const std::int64_t start = naive ? queue_.consumed() : made.start;
  if (made.goal < active_goal() || !queue_.install(start, rows, made.goal == goal_)) {
    ++counts_.chunks_outdated;
    return;
  }
  goal_ = made.goal;
  flow_ = made.flow;
  failure_ = Status::ok;
  had_chunk_ = had_chunk_in_epoch_ = true;
  ++counts_.chunks;
  counts_.chunks_continued += made.continued;
  counts_.chunks_beyond_max_delay += made.beyond_max_delay;
  parts_.recorder.chunks.add();
}

/// The newest key-step whose time has come. No planner is asked for the next but one.
std::uint64_t AsyncLoop::active_goal() const noexcept {
  const std::uint64_t newest = exchange_.goal_number;
  return newest == 0 ? 0 : newest - (exchange_.goal_from > queue_.consumed());
}

// ---- what they are asked for

/// How many actions beforehand a planner is asked: what it takes, and what the chunks on both sides take.
std::int64_t AsyncLoop::lead() const noexcept {
  // The next goal is known already, or the controller has not got the last one.
  if (queue_.consumed() < exchange_.goal_from || exchange_.goal_taken < exchange_.goal_number) return 0;
  if (plan_ahead_ >= 0) return plan_ahead_;
  return exchange_.plan_delay + 2 * expected_delay() + 1;
}

void AsyncLoop::ask_planner(const Observation& observation) noexcept {
  if (!exchange_.plans || exchange_.planner_alive != 0) return;
  const std::int64_t ahead = lead();
  if (exchange_.ask_at - ahead > queue_.consumed() && !parts_.replan_wanted) return;
  Snapshot& seen = exchange_.to_planner.back();
  if (!copy(observation, seen)) return;
  seen.expected_delay = ahead;
  exchange_.to_planner.publish();
  exchange_.planner_bell.ring();
}

/// Every observation is handed over: after an interrupt the controller begins with the newest at once.
void AsyncLoop::ask_controller(const Observation& observation) noexcept {
  Snapshot& seen = exchange_.to_controller.back();
  if (!copy(observation, seen)) return;
  seen.expected_delay = usual_delay();
  const std::span<const float> rest = queue_.rest();
  std::ranges::copy(rest, seen.rest.begin());
  seen.rest_values = rest.size();
  seen.goal = goal_;
  seen.epoch = at_epoch_;
  seen.received = received_;
  exchange_.to_controller.publish();
  if (!needs_chunk()) return;
  exchange_.chunk_wanted = true;
  exchange_.controller_bell.ring();
}

bool AsyncLoop::copy(const Observation& observation, Snapshot& into) noexcept {
  try {
    if (into.frames.size() == 1) {
      into.frames[0].copy(observation, taken_);
      into.count = 1;
    } else {
      into.frames = recent_;
      into.count = recent_count_;
    }
  } catch (...) {
    return false;  // no memory for a larger image: those that are there have to do
  }
  into.traced = parts_.trace.now();
  into.flow = parts_.trace.flow(into.traced);
  into.consumed = queue_.consumed();
  into.tick = exchange_.ticks;
  return true;
}

bool AsyncLoop::needs_chunk() const noexcept {
  // One is in the making, or has come.
  if (exchange_.controller_alive != 0 || exchange_.chunks.fresh() || waiting_) return false;
  const std::int64_t consumed = queue_.consumed(), delay = expected_delay(), left = queue_.left();
  if (left == 0 || goal_ < active_goal()) return true;
  const bool known = exchange_.goal_number > goal_;  // or it is foreseen
  const std::int64_t until_next = (known ? exchange_.goal_from : exchange_.ask_at) - consumed;
  if (known && until_next <= delay) return true;
  if (left >= request_below_) return false;
  // A chunk for the goal of now would still be in the making when that for the next has to begin.
  return until_next <= 0 || until_next > 2 * delay || until_next > left;
}

/// A call of the engine that does not come back is told, and the tick goes on.
void AsyncLoop::watch() noexcept {
  bool hung = false;
  if (options_.watchdog_us > 0) {
    const std::int64_t latest = now_ns() - 1000 * options_.watchdog_us;
    for (const auto* alive : {&exchange_.planner_alive, &exchange_.controller_alive}) {
      const std::int64_t since = *alive;
      hung = hung || (since != 0 && since < latest);
    }
  }
  counts_.hangs += hung && counts_.hung == 0;
  counts_.hung = hung;
}

// ---- what the robot is given

Status AsyncLoop::give(Status noted, std::span<float> action) noexcept {
  if (noted == Status::bad_observation) return give_without(Cause::refused, noted, action);
  const bool late = goal_ < active_goal();
  const std::span<const float> next = queue_.take();
  if (next.empty()) return give_without(cause(noted), noted, action);
  const Span span(kActionLabel, queue_.consumed() - 1, flow_);
  std::ranges::copy(next, action.begin());
  {
    const StageTimer timer(parts_.recorder[Stage::gate], &label(Stage::gate));
    parts_.gate.apply(action);
  }
  underrun_.given(action);
  exchange_.consumed = queue_.consumed();
  if (interrupted_ns_ != 0) {
    parts_.recorder[Stage::interrupt].record(now_ns() - std::exchange(interrupted_ns_, 0));
  }
  parts_.trace.acted(static_cast<int>(queue_.left()));
  counts_.late_goals += late;
  ++counts_.actions;
  parts_.recorder.actions.add();
  return Status::ok;
}

Cause AsyncLoop::cause(Status noted) const noexcept {
  if (noted != Status::ok) return Cause::stale;
  if (counts_.hung != 0) return Cause::hung;
  if (failure_ != Status::ok) return Cause::failed;
  if (!had_chunk_) return Cause::starting;
  return had_chunk_in_epoch_ ? Cause::late : Cause::interrupted;
}

/// Waiting is no failure, unless the declared policy says so, or there is nothing that can be given.
Status AsyncLoop::give_without(Cause cause, Status noted, std::span<float> action) noexcept {
  ++counts_.underruns[static_cast<std::size_t>(cause)];
  parts_.trace.starved(static_cast<int>(cause));
  underrun_.act(had_chunk_in_epoch_ && cause != Cause::refused, action);
  parts_.gate.held(action);
  switch (cause) {
    case Cause::refused:
      return noted;  // with the message that it has
    case Cause::stale:
      return fail(noted, "");
    case Cause::failed:
      return fail(failure_, failure_error_.c_str());
    case Cause::hung:
      return fail(Status::engine_hung, "");
    case Cause::starting:
    case Cause::interrupted:
    case Cause::late:
      break;
  }
  const bool fine = underrun_.policy() != UnderrunPolicy::fault && all_finite(action);
  return fine ? Status::ok : fail(Status::underrun, "");
}

Status AsyncLoop::fail(Status status, const char* message) noexcept {
  try {
    error_ = message;
  } catch (...) {
    error_.clear();  // out of memory: the status still tells
  }
  return status;
}

}  // namespace keystep
