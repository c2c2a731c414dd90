#include <algorithm>
#include <utility>

#include "finite.hpp"
#include "runtime_impl.hpp"

namespace keystep {

/// The loop of the design, one control period.
Status Runtime::Impl::tick(const Observation& observation, Action& action) noexcept {
  // An interrupt since the last tick: the rest of that chunk must not be executed.
  absorb_interrupts();

  // Note the observation.
  if (is_stale(observation)) return fail(Status::stale_observation);
  if (controller->check(observation) != Status::ok)
    return fail(Status::bad_observation, controller->error().c_str());

  // Ask the planner; a key-step interrupts: the chunk was made for another subgoal.
  const PlanReply reply = ask(observation);
  if (reply.status != Status::ok) return fail(reply.status, planner().error().c_str());
  if (reply.key_step) {
    controller->set_subgoal(reply.subgoal);
    buffer.drop();
  }

  // Renew the chunk.
  if (buffer.needs_renewal()) {
    if (const Status status = renew(observation); status != Status::ok) return status;
  }

  // Take the next action, by consumed index.
  std::ranges::copy(buffer.take(), action.values.begin());
  const StageTimer timer(recorder[Stage::gate]);
  gate.apply(action.values);
  ++recorder.actions;
  return Status::ok;
}

PlanReply Runtime::Impl::ask(const Observation& observation) noexcept {
  sampling = true;
  const PlanReply reply = planner().ask({observation, buffer.consumed(), replan_wanted.exchange(false),
                                         Epoch{epoch, at_epoch}, recorder[Stage::plan]});
  sampling = false;
  recorder.plans += reply.planned;
  gate.counts().rejected_plans += reply.status == Status::rejected_plan;
  return reply;
}

/// Observation to chunk. A chunk that fails leaves the buffer empty: the next tick tries again, new noise.
Status Runtime::Impl::renew(const Observation& observation) noexcept {
  {
    const StageTimer timer(recorder[Stage::observe]);
    if (controller->observe(observation) != Status::ok)
      return fail(Status::bad_observation, controller->error().c_str());
  }
  const NoiseKey noise = key;
  ++key.chunk;
  sampling = true;
  const Status status = controller->sample(noise, {}, epoch, at_epoch, recorder[Stage::encode],
                                           recorder[Stage::denoise], chunk);
  sampling = false;
  if (status != Status::ok) return fail(status, controller->error().c_str());
  ++recorder.chunks;
  const StageTimer timer(recorder[Stage::gate]);
  if (!gate.admit(chunk)) {
    replan_wanted = true;  // the plan may be what the controller cannot follow; one handed in stays
    return fail(Status::rejected_chunk);
  }
  // Lockstep: the chunk starts at the action this observation was made for.
  buffer.install(buffer.consumed(), chunk);
  return Status::ok;
}

Status Runtime::Impl::predict_chunk(const Observation& observation, std::span<const float> noise,
                                    std::span<float> out) noexcept {
  if (out.size() != chunk.size()) return wrong_size("chunk", chunk.size(), out.size());
  if (subgoals && subgoals->subgoal().empty()) {
    return fail(Status::not_reset,
                "subgoal: expected a plan (made by a tick) or subgoals given to reset, got none");
  }
  if (controller->observe(observation) != Status::ok)
    return fail(Status::bad_observation, controller->error().c_str());
  sampling = true;
  const Status status = controller->sample(key, noise, epoch, epoch.load(), unrecorded[Stage::encode],
                                           unrecorded[Stage::denoise], out);
  sampling = false;
  if (status != Status::ok) return fail(status, controller->error().c_str());
  return all_finite(out) ? Status::ok : fail(Status::rejected_chunk);
}

Status Runtime::Impl::predict_plan(const Observation& observation, std::span<const float> noise,
                                   std::span<float> out) noexcept {
  if (!subgoals)
    return fail(Status::bad_observation, "plan: expected a bundle with a planner, got family flat");
  if (out.size() != subgoals->plan_size()) return wrong_size("plan", subgoals->plan_size(), out.size());
  sampling = true;
  const Status status = subgoals->predict(observation, noise, {epoch, epoch.load()}, out);
  sampling = false;
  return status == Status::ok ? status : fail(status, subgoals->error().c_str());
}

/// The epoch first, then terminate: a sample that starts in between sees the new epoch by itself.
void Runtime::Impl::interrupt() noexcept {
  epoch.fetch_add(1);
  if (!sampling) return;
  const std::lock_guard lock(engine_mutex);
  if (controller) controller->terminate();
  if (subgoals) subgoals->terminate();
}

void Runtime::Impl::absorb_interrupts() noexcept {
  const std::uint64_t before = std::exchange(at_epoch, epoch.load());
  if (before != at_epoch) buffer.drop();
}

bool Runtime::Impl::is_stale(const Observation& observation) noexcept {
  if (options.max_observation_age_us == 0 || observation.timestamp_us < 0) return false;
  if (now_us() - observation.timestamp_us <= options.max_observation_age_us) return false;
  ++gate.counts().stale_observations;
  return true;
}

Planner& Runtime::Impl::planner() noexcept {
  if (subgoals) return *subgoals;
  return no_planner;
}

Status Runtime::Impl::wrong_size(const char* field, std::size_t wanted, std::size_t got) noexcept {
  try {
    return fail(Status::bad_observation,
                expected(field, std::to_string(wanted) + " values", std::to_string(got)).c_str());
  } catch (...) {
    return fail(Status::bad_observation);  // out of memory: the status still tells
  }
}

/// Keeps the message of a tick that was not ok. Allocates for long ones only: those of a bad observation or
/// of the engine.
Status Runtime::Impl::fail(Status status, const char* message) noexcept {
  const bool says_all = status == Status::interrupted || status == Status::rejected_plan;
  try {
    last_error = *message == '\0' || says_all ? describe(status) : message;
  } catch (...) {
    last_error.clear();  // out of memory: the status still tells
  }
  return status;
}

}  // namespace keystep
