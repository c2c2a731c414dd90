#include "loop/async/chunk_maker.hpp"

#include <utility>

#include "loop/trace_labels.hpp"
#include "support/clock.hpp"
#include "support/finite.hpp"

namespace keystep {

void ChunkMaker::reset(const NoiseKey& key) noexcept {
  key_ = key;
  epoch_ = interrupts_.epoch;
  goal_ = goals_taken_ = 0;
  goal_from_ = 0;
  goal_status_ = Status::ok;
}

bool ChunkMaker::begin() noexcept {
  const std::uint64_t epoch = interrupts_.epoch;
  if (exchange_.plans && exchange_.answered != epoch)
    return false;                         // the planner says first what the goal is
  exchange_.controller_alive = now_ns();  // before it takes: from here on no tick asks once more
  const bool asked = exchange_.chunk_wanted.exchange(false);
  if (asked || epoch != epoch_) exchange_.to_controller.take();
  const Snapshot& seen = exchange_.to_controller.front();
  // An interrupt asks by itself: no tick has to come first.
  if ((!asked && epoch == epoch_) || seen.count == 0) {
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
  made.status = sample(seen, made.values);
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
  if (made.status != Status::interrupted) exchange_.chunks.publish();
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

Status ChunkMaker::sample(const Snapshot& seen, std::vector<float>& chunk) noexcept {
  // A goal that the controller cannot take is the planner's fault, and said once: then the old one stands.
  if (const Status status = std::exchange(goal_status_, Status::ok); status != Status::ok) return status;
  if (const Status status = observe(seen); status != Status::ok) return status;
  // What merges inside the sampler is told here: `controller_.continue_from` with the rows that are left of
  // the old chunk (`seen.rest`, its first row executes now) and the delay to come (`seen.expected_delay`).
  const NoiseKey noise = key_;
  key_.chunk = after(key_.chunk);
  const Epoch epoch{interrupts_.epoch, epoch_, nullptr, &exchange_.controller_alive};
  const Status status =
      controller_.sample(noise, {}, epoch, recorder_[Stage::encode], recorder_[Stage::denoise], chunk);
  if (status != Status::ok) return status;
  return all_finite(chunk) ? Status::ok : Status::rejected_chunk;
}

}  // namespace keystep
