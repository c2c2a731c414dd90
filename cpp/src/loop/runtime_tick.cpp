#include <algorithm>
#include <cmath>
#include <utility>

#include "loop/runtime_impl.hpp"
#include "support/clock.hpp"
#include "support/finite.hpp"

namespace keystep {

/// The loop of the design, one control period.
Status Runtime::Impl::tick(const Observation& observation, Action& action) noexcept {
  // An interrupt since the last tick: the rest of that chunk must not be executed.
  absorb_interrupts();

  // Note the observation.
  if (const Status status = check_stamp(observation); status != Status::ok) return status;
  if (const Status status = note(observation); status != Status::ok) return status;

  // Ask the planner; a key-step interrupts: the chunk was made for another goal.
  const PlanReply reply = ask(observation, buffer.consumed());
  if (reply.key_step) drop_chunks();  // also where the controller cannot take the new goal
  if (reply.status != Status::ok) return fail(reply.status, said(reply.status, planner->error()));

  // Renew the chunk.
  if (buffer.needs_renewal()) {
    if (const Status status = renew(observation); status != Status::ok) return status;
  }

  // Take the next action, by consumed index.
  const Span span(kActionLabel, buffer.consumed(), trace.flow(chunk_tick));
  std::ranges::copy(take(), action.values.begin());
  const StageTimer timer(recorder[Stage::gate], &label(Stage::gate));
  gate.apply(action.values);
  recorder.actions.add();
  if (interrupted_ns != 0) recorder[Stage::interrupt].record(now_ns() - std::exchange(interrupted_ns, 0));
  trace.acted(buffer.remaining());
  return Status::ok;
}

Status Runtime::Impl::tick_in_mode(const Observation& observation, Action& action) noexcept {
  if (virtual_wait) return tick_slow(observation, action);
  if (!async) return tick(observation, action);
  if (!virtual_threads) return tick_async(observation, action);
  virtual_threads->before_tick();
  const Status status = tick_async(observation, action);
  virtual_threads->after_tick();
  return status;
}

/// Lockstep that stands still while it computes, in virtual time: what comes of it is known at once, and
/// given when its time has come.
Status Runtime::Impl::tick_slow(const Observation& observation, Action& action) noexcept {
  if (at_epoch != epoch) virtual_wait->drop();
  if (!virtual_wait->waits()) {
    const std::uint64_t plans = recorder.plans.get(), chunks = recorder.chunks.get();
    const Status status = tick(observation, action);
    if (status != Status::ok) {
      virtual_wait->failed(status, action.values);
      return status;
    }
    if (virtual_wait->arrives(action.values, recorder.plans.get() - plans, recorder.chunks.get() - chunks))
      return status;
  }
  virtual_wait->wait(action.values, gate);
  return all_finite(action.values) ? Status::ok : fail(Status::underrun);
}

/// Computes nothing: others do.
Status Runtime::Impl::tick_async(const Observation& observation, Action& action) noexcept {
  const Status status = async->tick(observation, check_stamp(observation), action.values);
  if (status == Status::ok) return status;
  const bool says_why = !async->error().empty();
  // What is wrong with a stamp was said by its check.
  return status == Status::bad_observation && !says_why ? status : fail(status, said(status, async->error()));
}

/// Checked here, for everybody who takes it. Kept only by a policy that sees more than one frame.
Status Runtime::Impl::note(const Observation& observation) noexcept {
  Status status = controller->check(observation);
  if (status == Status::ok && controller->remembers()) {
    const StageTimer timer(recorder[Stage::observe], &label(Stage::observe), trace.now());
    status = controller->note(observation);
  }
  return status == Status::ok ? status : fail(Status::bad_observation, controller->error().c_str());
}

/// Without an answer yet, the controller keeps the goal it has.
PlanReply Runtime::Impl::ask(const Observation& observation, std::int64_t at) noexcept {
  sampling = true;
  const bool replan = replan_wanted && replan_wanted.exchange(false);  // written only where it is set
  const bool early = at > buffer.consumed();
  const PlanRequest request{
      observation, at, replan, epoch_of_tick(), recorder[Stage::plan], recorder[Stage::score], early};
  planner->start(request);
  PlanReply reply = planner->poll(request);
  sampling.store(false, std::memory_order_release);
  const bool renewed = reply.status == Status::ok && reply.stale != Stale::nothing;
  // A goal that the controller cannot take is the planner's fault.
  if (renewed && controller->set_goal(reply.goal) != Status::ok) reply.status = Status::rejected_plan;
  recorder.plans.add(reply.planned && reply.status == Status::ok);
  gate.counts().rejected_plans += reply.status == Status::rejected_plan;
  if (renewed && ensemble) ensemble->drop();  // chunks for another goal have no say
  return reply;
}

/// The next action: of the chunk, or the mean of all chunks that know it.
std::span<const float> Runtime::Impl::take() noexcept {
  const std::span<const float> row = buffer.take();
  return ensemble ? ensemble->take() : row;
}

void Runtime::Impl::drop_chunks() noexcept {
  buffer.drop();
  if (ensemble) ensemble->drop();
}

/// A chunk that fails leaves the buffer empty: the next tick tries again, new noise.
Status Runtime::Impl::renew(const Observation& observation) noexcept {
  if (const Status status = make_chunk(observation); status != Status::ok) return status;
  // Lockstep: row `chunk.start` is the action this observation was made for.
  const std::span<const float> rows = std::span(chunk).subspan(first_value);
  buffer.install(buffer.consumed(), rows);
  if (ensemble) ensemble->install(ensemble->consumed(), rows, true);
  chunk_tick = trace.now();
  return Status::ok;
}

/// Observation to chunk.
Status Runtime::Impl::make_chunk(const Observation& observation) noexcept {
  const Span span(kChunkLabel, key.chunk);
  {
    const std::uint64_t number = trace.now();
    const StageTimer timer(recorder[Stage::observe], &label(Stage::observe), number, trace.flow(number));
    if (controller->observe(observation, true) != Status::ok)
      return fail(Status::bad_observation, controller->error().c_str());
  }
  const NoiseKey noise = key;
  key.chunk = after(key.chunk);
  sampling = true;
  const Status status = controller->sample(noise, {}, epoch_of_tick(), recorder[Stage::encode],
                                           recorder[Stage::denoise], chunk);
  sampling.store(false, std::memory_order_release);
  if (status != Status::ok) return fail(status, controller->error().c_str());
  recorder.chunks.add();
  const StageTimer timer(recorder[Stage::gate], &label(Stage::gate));
  if (!gate.admit(chunk)) {
    replan_wanted = true;  // the plan may be what the controller cannot follow; one handed in stays
    return fail(Status::rejected_chunk);
  }
  return Status::ok;
}

Status Runtime::Impl::predict_chunk(const Observation& observation, std::span<const float> noise,
                                    const Continuation& continuation, std::span<float> out) noexcept {
  if (async) return fail(Status::busy, kOthersAtWork);
  if (out.size() != chunk.size()) return wrong_size("chunk", chunk.size(), out.size());
  if (const char* lacking = planner->lacks_goal()) return fail(Status::not_reset, lacking);
  if (const Status status = check_noise(noise); status != Status::ok) return status;
  if (const Status status = check_stamp(observation); status != Status::ok) return status;
  if (controller->check(observation) != Status::ok || controller->observe(observation, false) != Status::ok)
    return fail(Status::bad_observation, controller->error().c_str());
  if (const Status status = controller->continue_from(continuation); status != Status::ok)
    return fail(status, controller->error().c_str());
  sampling = true;
  const Status status = controller->sample(key, noise, epoch_of_call(), unrecorded[Stage::encode],
                                           unrecorded[Stage::denoise], out);
  sampling.store(false, std::memory_order_release);
  if (status != Status::ok) return fail(status, controller->error().c_str());
  return all_finite(out) ? Status::ok : fail(Status::rejected_chunk);
}

Status Runtime::Impl::predict_plan(const Observation& observation, std::span<const float> noise,
                                   std::span<float> out) noexcept {
  return plan_ahead(observation, noise, out.size(),
                    [&](const Epoch& call) { return planner->predict(observation, noise, call, out); });
}

Status Runtime::Impl::predict_candidates(const Observation& observation, std::span<const float> noise,
                                         PlanCandidates& out) noexcept {
  if (async) return fail(Status::busy, kOthersAtWork);
  if (const Status status = planner->can_predict(plan_size); status != Status::ok) {
    return fail(status, planner->error().c_str());
  }
  const auto count = static_cast<std::size_t>(planner->candidates());
  if (out.scores.size() != count) return wrong_size("scores", count, out.scores.size());
  if (out.plans.size() != count * plan_size) return wrong_size("plans", count * plan_size, out.plans.size());
  return plan_ahead(observation, noise, plan_size, [&](const Epoch& call) {
    return planner->predict_candidates(observation, noise, call, out);
  });
}

/// `work` for an observation and noise that are fit for it.
template <class Work>
Status Runtime::Impl::plan_ahead(const Observation& observation, std::span<const float> noise,
                                 std::size_t values, const Work& work) noexcept {
  if (async) return fail(Status::busy, kOthersAtWork);
  if (const Status status = planner->can_predict(values); status != Status::ok) {
    return fail(status, planner->error().c_str());
  }
  if (const Status status = check_noise(noise); status != Status::ok) return status;
  if (const Status status = check_stamp(observation); status != Status::ok) return status;
  if (controller->check(observation) != Status::ok)
    return fail(Status::bad_observation, controller->error().c_str());
  sampling = true;
  const Status status = work(epoch_of_call());
  sampling.store(false, std::memory_order_release);
  return status == Status::ok ? status : fail(status, said(status, planner->error()));
}

/// The epoch first, then terminate: a sample that starts in between sees the new epoch by itself.
void Runtime::Impl::interrupt() noexcept {
  if (in_child()) return;  // the lock may be held by a thread that is not here
  interrupts.add(now_ns());
  if (sampling || async) terminate();
  if (async) async->wake();
}

void Runtime::Impl::call_attention(bool at_once) noexcept {
  if (in_child() || !options.attendant) return;
  attention.call();
  if (at_once) terminate();
}

/// Runs in flight end early; whoever made them looks at its epoch.
void Runtime::Impl::terminate() noexcept {
  const std::lock_guard lock(engine_mutex);
  if (controller) controller->terminate();
  if (planner) planner->terminate();
}

void Runtime::Impl::absorb_interrupts() noexcept {
  const std::uint64_t before = std::exchange(at_epoch, epoch.load());
  if (before == at_epoch) return;
  const std::int64_t since = interrupts.since_ns.exchange(0);
  if (interrupted_ns == 0) interrupted_ns = since;
  trace.absorbed(at_epoch, since);
  drop_chunks();
  planner->abort();
}

Status Runtime::Impl::check_stamp(const Observation& seen) noexcept {
  const std::int64_t stamp = seen.timestamp_us;
  if (!external_clock && seen.now_us != -1) {
    return refuse("now_us", "none (the runtime's clock is steady)", seen.now_us);
  }
  if (stamp == -1) return Status::ok;
  if (stamp < 0) return refuse("timestamp_us", "0 or more", stamp);
  if (external_clock && seen.now_us < 0) {
    return refuse("now_us", "the time that the external clock shows, 0 or more", seen.now_us);
  }
  const std::int64_t now = external_clock ? seen.now_us : now_us();
  if (stamp - now > kStampSlackUs) {
    return refuse("timestamp_us",
                  external_clock ? "no later than now_us" : "no later than keystep's now_us()", stamp);
  }
  if (options.max_observation_age_us == 0 || now - stamp <= options.max_observation_age_us) return Status::ok;
  ++gate.counts().stale_observations;
  return fail(Status::stale_observation);
}

Status Runtime::Impl::check_noise(std::span<const float> noise) noexcept {
  if (all_finite(noise)) return Status::ok;
  const auto bad = std::ranges::find_if(noise, [](float value) { return !std::isfinite(value); });
  try {
    const std::string field = "noise[" + std::to_string(bad - noise.begin()) + "]";
    return fail(Status::bad_observation, expected(field, "finite numbers", std::to_string(*bad)).c_str());
  } catch (...) {
    return fail(Status::bad_observation);  // out of memory: the status still tells
  }
}

Status Runtime::Impl::wrong_size(const char* field, std::size_t wanted, std::size_t got) noexcept {
  try {
    return fail(Status::bad_observation,
                expected(field, std::to_string(wanted) + " values", std::to_string(got)).c_str());
  } catch (...) {
    return fail(Status::bad_observation);  // out of memory: the status still tells
  }
}

Status Runtime::Impl::refuse(const char* field, const char* wanted, std::int64_t got) noexcept {
  try {
    return fail(Status::bad_observation,
                expected(std::string("observation.") + field, wanted, std::to_string(got)).c_str());
  } catch (...) {
    return fail(Status::bad_observation);  // out of memory: the status still tells
  }
}

}  // namespace keystep
