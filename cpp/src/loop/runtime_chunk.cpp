// Chunks for somebody who executes them elsewhere: one tick of the loop without its last step.
#include <algorithm>

#include "loop/runtime_impl.hpp"

namespace keystep {

Status Runtime::serve_chunk(std::span<const Observation> frames, const ChunkRequest& request,
                            std::span<float> rows, ServedChunk& served, std::string* message) noexcept {
  return impl_->call(message, [&] { return impl_->serve_chunk(frames, request, rows, served); });
}

Status Runtime::Impl::serve_chunk(std::span<const Observation> frames, const ChunkRequest& request,
                                  std::span<float> rows, ServedChunk& served) noexcept {
  if (async || virtual_wait) return fail(Status::busy, kOthersAtWork);
  if (const Status status = check_request(frames, request, rows); status != Status::ok) return status;
  // An interrupt since the last call ends nothing here: what is left of a chunk is the client's.
  absorb_interrupts();

  // Note the observation. Several frames are all that there is to remember.
  if (const Status status = check_stamp(frames.back()); status != Status::ok) return status;
  if (controller->remembers() && frames.size() > 1) controller->forget();
  for (const Observation& frame : frames) {
    if (const Status status = note(frame); status != Status::ok) return status;
  }
  buffer.seek(request.consumed);
  if (ensemble) ensemble->drop();  // of actions that somebody else took, or will take

  // Ask the planner, as of the index that the chunk begins to act at.
  const std::int64_t at = index_to_ask_for(request);
  const PlanReply reply = ask(frames.back(), at);
  if (reply.status != Status::ok) return fail(reply.status, said(reply.status, planner->error()));
  if (reply.key_step) goal_from = at, ++goal_number;

  // Make the chunk.
  Continuation continued = request.continuation;
  if (request.continues != goal_number) continued.overlap = continued.delay;
  if (const Status status = controller->continue_from(continued); status != Status::ok)
    return fail(status, controller->error().c_str());
  if (const Status status = make_chunk(frames.back()); status != Status::ok) return status;
  std::ranges::copy(std::span(chunk).subspan(first_value), rows.begin());
  served = {goal_number, goal_from, planner->due(), reply.planned};
  return Status::ok;
}

/// Everything that can be refused, before anything of the episode changes.
Status Runtime::Impl::check_request(std::span<const Observation> frames, const ChunkRequest& request,
                                    std::span<float> rows) noexcept {
  if (frames.empty()) return wrong("frames", "1 or more observations", 0);
  const std::size_t values = chunk.size() - first_value;
  if (rows.size() != values) return wrong_size("rows", values, rows.size());
  if (request.ahead < 0) return wrong("ahead", "0 or more", request.ahead);
  try {
    if (request.consumed < buffer.consumed())
      return wrong("consumed", std::to_string(buffer.consumed()) + " or more", request.consumed);
  } catch (...) {
    return fail(Status::bad_observation);  // out of memory: the status still tells
  }
  for (const Observation& frame : frames) {
    if (controller->check(frame) != Status::ok)
      return fail(Status::bad_observation, controller->error().c_str());
  }
  return Status::ok;
}

/// A goal that is due before the chunk acts is asked for now, as of the index that it is due at.
std::int64_t Runtime::Impl::index_to_ask_for(const ChunkRequest& request) const noexcept {
  const std::int64_t due = planner->due(), now = request.consumed;
  const bool next_is_known = goal_from > now;
  return !next_is_known && !replan_wanted && due > now && due - request.ahead <= now ? due : now;
}

Status Runtime::Impl::wrong(const char* field, const std::string& wanted, std::int64_t got) noexcept {
  try {
    return fail(Status::bad_observation, expected(field, wanted, std::to_string(got)).c_str());
  } catch (...) {
    return fail(Status::bad_observation);  // out of memory: the status still tells
  }
}

}  // namespace keystep
