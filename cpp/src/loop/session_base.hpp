// What every kind of runtime does around its calls: who may come in, who may end what is going on, what a
// refusal says, how it is closed.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "keystep/status.hpp"
#include "loop/attention.hpp"
#include "loop/entry.hpp"
#include "loop/epoch.hpp"
#include "loop/fork.hpp"
#include "loop/interrupts.hpp"

namespace keystep {

struct SessionBase {
  explicit SessionBase(std::shared_ptr<Attendant> attendant);

  Status usable() const noexcept;  ///< ok, closed or forked
  /// Why a call does not begin; ok: it does.
  Status refusal(const Entry& entry) const noexcept;
  void require(const Entry& entry) const;  ///< throws PolicyError
  /// For who reads under `entry`.
  bool admits(const Entry& entry, Status* told) const noexcept;
  bool in_child() const noexcept { return forks() != forks_at_load; }

  /// A call of an episode, once one was `started`. Its message is handed out before another call may begin.
  template <class Work>
  Status call(std::string* message, const Work& work) noexcept {
    const Entry entry(inside);
    Status status = refusal(entry);
    const bool refused = status != Status::ok;
    if (!refused) {
      const Attention::Call attended(attention);
      status = started ? work() : fail(Status::not_reset);
    }
    tell(status, refused, message);
    return status;
  }
  /// Keeps the message of a call that was not ok. Allocates for long ones only: those of a bad observation or
  /// of the engine.
  Status fail(Status status, const char* message = "") noexcept;

  /// Nobody comes in any more: who is inside ends first. One that has just begun may take an interrupt for
  /// an old one: it is repeated. False: that was so before. Not in a child.
  template <class Interrupt>
  bool shut(const Interrupt& interrupt) noexcept {
    if (closed.exchange(true)) return false;
    Inside found = Inside::nobody;
    for (; !inside.compare_exchange_strong(found, Inside::caller); std::this_thread::yield()) {
      found = Inside::nobody;
      interrupt();
    }
    return true;
  }

  const std::uint64_t forks_at_load = forks();
  bool started = false;  // reset was called
  std::string last_error;

  // Shared with other threads.
  Attention attention;
  Interrupts interrupts;
  // A plan or a chunk is in flight: terminate has something to end. It may find true a little longer.
  std::atomic<bool> sampling = false;
  std::atomic<bool> closed = false;
  std::atomic<Inside> inside = Inside::nobody;
  mutable std::mutex engine_mutex;  // interrupt or session on one thread, close on another

 private:
  void tell(Status status, bool refused, std::string* message) const noexcept;
};

}  // namespace keystep
