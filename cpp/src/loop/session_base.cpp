#include "loop/session_base.hpp"

#include <utility>

namespace keystep {
namespace {

/// Room for the message of every status, so that a call that says no more allocates nothing.
constexpr std::size_t kMessageBytes = 256;

}  // namespace

SessionBase::SessionBase(std::shared_ptr<Attendant> attendant) : attention(std::move(attendant)) {
  last_error.reserve(kMessageBytes);
}

Status SessionBase::usable() const noexcept {
  if (closed) return Status::closed;
  return in_child() ? Status::forked : Status::ok;
}

Status SessionBase::refusal(const Entry& entry) const noexcept {
  if (const Status status = usable(); status != Status::ok) return status;
  return entry ? Status::ok : Status::busy;
}

void SessionBase::require(const Entry& entry) const {
  if (const Status status = refusal(entry); status != Status::ok) throw PolicyError(status);
}

bool SessionBase::admits(const Entry& entry, Status* told) const noexcept {
  const Status status = refusal(entry);
  if (told != nullptr) *told = status;
  return status == Status::ok;
}

Status SessionBase::fail(Status status, const char* message) noexcept {
  // The attendant may fork.
  if (status == Status::interrupted && in_child()) status = Status::forked;
  const bool says_all = status == Status::interrupted || status == Status::forked;
  try {
    last_error = *message == '\0' || says_all ? describe(status) : message;
  } catch (...) {
    last_error.clear();  // out of memory: the status still tells
  }
  return status;
}

void SessionBase::tell(Status status, bool refused, std::string* message) const noexcept {
  if (message == nullptr || status == Status::ok) return;
  try {
    *message = refused ? describe(status) : last_error.c_str();
  } catch (...) {
    message->clear();  // out of memory: the status still tells
  }
}

}  // namespace keystep
