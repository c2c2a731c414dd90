#include "keystep/status.hpp"

#include "support/readable.hpp"

namespace keystep {

Error::Error(const std::string& message) : std::runtime_error(readable(message, kMaxMessageBytes)) {}

const char* describe(Status status) noexcept {
  switch (status) {
    case Status::ok:
      return "ok";
    case Status::not_reset:
      return "act was called before reset";
    case Status::closed:
      return "the runtime is closed";
    case Status::forked:
      return "the runtime was loaded by the parent of this process; load the bundle here";
    case Status::busy:
      return "another thread is inside the runtime";
    case Status::bad_observation:
      return "the observation has a wrong size, NaN or Inf";
    case Status::stale_observation:
      return "the observation is older than allowed";
    case Status::interrupted:
      return "interrupted while a plan or a chunk was being sampled";
    case Status::rejected_plan:
      return "the planner produced NaN or Inf; the plan was dropped";
    case Status::rejected_chunk:
      return "the policy produced NaN or Inf; the chunk was dropped";
    case Status::engine_failure:
      return "the inference engine failed";
    case Status::engine_hung:
      return "the inference engine does not come back from a call, and no action is left";
    case Status::underrun:
      return "no action of the policy is ready";
  }
  return "unknown status";
}

std::string expected(const std::string& field, const std::string& wanted, const std::string& got) {
  constexpr std::size_t kFieldBytes = 200, kPartBytes = 500;  // of names that nobody would choose
  return readable(field, kFieldBytes) + ": expected " + readable(wanted, kPartBytes) + ", got " +
         readable(got, kPartBytes);
}

}  // namespace keystep
