#include "loop/async/chunk_maker.hpp"

#include <algorithm>
#include <utility>

#include "loop/trace_labels.hpp"
#include "support/clock.hpp"
#include "support/finite.hpp"

namespace keystep {

void ChunkMaker::reset(const NoiseKey& key) noexcept {
  key_ = key;
  epoch_ = interrupts_.epoch;
  goal_ = goals_taken_ = sent_ = 0;
  goal_from_ = 0;
  goal_status_ = Status::ok;
}

bool ChunkMaker::begin() noexcept {
  const std::uint64_t epoch = interrupts_.epoch;
  if (exchange_.plans && exchange_.answered != epoch)
    return false;  // the planner says first what the goal is
  // Alive for nothing, even for a moment, and a tick that looks just then leaves its question to the next.
  if (!exchange_.chunk_wanted && epoch == epoch_) return false;
  exchange_.controller_alive = now_ns();  // before it takes: from here on no tick asks once more
  const bool asked = exchange_.chunk_wanted.exchange(false);
  if (asked || epoch != epoch_) exchange_.to_controller.take();
  const Snapshot& seen = exchange_.to_controller.front();
  // An interrupt asks by itself: no tick has to come first. What was asked for while the last chunk was
  // begun, and seen before that one came, has another rest than what will be executed: the next tick asks
  // again.
  const bool wanted = epoch != epoch_ || (asked && seen.received == sent_);
  if (!wanted || seen.count == 0) {
    exchange_.controller_alive = 0;
    return false;
  }
  epoch_ = epoch;
  choose_goal(seen);
  return true;
}

/// By counting: the goal that will be active when the chunk's first new action is executed.
void ChunkMaker::choose_goal(const Snapshot& seen) noexcept {
  exchange_.goals.take();
  const GoalMessage& next = exchange_.goals.front();
  if (next.sent == goals_taken_ || seen.consumed + seen.expected_delay < next.from) return;
  goals_taken_ = next.sent;
  exchange_.goal_taken = goal_ = next.number;
  goal_from_ = next.from;
  goal_status_ = next.goal.give(controller_);
}

void ChunkMaker::finish() noexcept {
  const Snapshot& seen = exchange_.to_controller.front();
  ChunkMessage& made = exchange_.chunks.back();
  const Span span(kChunkLabel, key_.chunk);
  made.status = sample(seen, made);
  made.epoch = epoch_;
  made.goal = goal_;
  made.start = seen.consumed;
  made.flow = seen.flow;
  made.tick = seen.tick;
  made.begins = goal_from_;
  if (made.status == Status::rejected_chunk)
    replan_wanted_ = true;  // the plan may be what cannot be followed
  try {
    made.error.assign(made.status == Status::ok ? "" : controller_.error());
  } catch (...) {
    made.error.clear();  // out of memory: the status still tells
  }
  if (made.status != Status::interrupted) {
    made.number = ++sent_;
    exchange_.chunks.publish();
  }
  exchange_.controller_alive = 0;
}

/// The frames of the snapshot are all that there is to remember.
Status ChunkMaker::observe(const Snapshot& seen) noexcept {
  const StageTimer timer(recorder_[Stage::observe], &label(Stage::observe), seen.traced, seen.flow);
  if (controller_.remembers()) {
    controller_.forget();
    for (std::size_t i = seen.frames.size() - seen.count; i < seen.frames.size(); ++i) {
      if (const Status status = controller_.note(seen.frames[i].view()); status != Status::ok) return status;
    }
  }
  return controller_.observe(seen.newest().view(), true);
}

/// What is executed while the chunk is made stays; how far the rest of the old chunk has a say is the law of
/// docs/merging.md. Nothing of it has beyond the delay if it was made for another goal, and none of it if it
/// is from before an interrupt.
Continuation ChunkMaker::continuation_of(const Snapshot& seen) const noexcept {
  const int rest = static_cast<int>(seen.rest_values) / continuing_.dim;
  if (rest == 0 || seen.epoch != epoch_) return {};
  const int delay = std::min(static_cast<int>(seen.expected_delay), rest);
  const int most = continuing_.overlap.value_or(continuing_.rows - delay);
  const int overlap = seen.goal == goal_ ? std::max(delay, std::min(rest, most)) : delay;
  const bool beyond = continuing_.rule == Continuation::Rule::trained && delay > continuing_.max_delay;
  return {.previous = std::span(seen.rest).first(seen.rest_values),
          .delay = delay,
          .overlap = overlap,
          .rule = beyond ? Continuation::Rule::x0blend : continuing_.rule,
          .decay = continuing_.decay};
}

Status ChunkMaker::sample(const Snapshot& seen, ChunkMessage& made) noexcept {
  // A goal that the controller cannot take is the planner's fault, and said once: then the old one stands.
  if (const Status status = std::exchange(goal_status_, Status::ok); status != Status::ok) return status;
  if (const Status status = observe(seen); status != Status::ok) return status;
  const Continuation from = continuation_of(seen);
  made.continued = from.rule != Continuation::Rule::none;
  made.beyond_max_delay = from.rule != continuing_.rule && made.continued;
  if (const Status status = controller_.continue_from(from); status != Status::ok) return status;
  const NoiseKey noise = key_;
  key_.chunk = after(key_.chunk);
  const Epoch epoch{interrupts_.epoch, epoch_, nullptr, &exchange_.controller_alive};
  const Status status =
      controller_.sample(noise, {}, epoch, recorder_[Stage::encode], recorder_[Stage::denoise], made.values);
  if (status != Status::ok) return status;
  return all_finite(made.values) ? Status::ok : Status::rejected_chunk;
}

}  // namespace keystep
