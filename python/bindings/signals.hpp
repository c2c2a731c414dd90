// Ctrl-C while the main thread computes.
#pragma once

#include <functional>

#include "bindings.hpp"

namespace keystep::python {

class Watcher;

/// Runs Python's handlers of signals while a runtime computes in the main thread; one that raises ends the
/// call, and what it raised is pending then. In another thread it does nothing: handlers run in the main
/// thread only.
///
/// Python's own handler of a signal only makes a note of it. SIGINT and SIGTERM, which are meant to end what
/// is going on, reach a handler of ours first: it wakes a thread that calls for the runtime's attention in
/// the middle of a graph, then calls Python's. It is there while graphs run, and no longer: other libraries
/// keep and call the handler that they find. Other signals have their turn between two graphs.
class SignalAttendant final : public Attendant {
 public:
  /// `runtime` lives as long as calls of it.
  template <class R>
  void attend(R& runtime) {
    wake_ = [&runtime] { runtime.call_attention(true); };
  }
  void begin() noexcept override;
  void end() noexcept override;
  bool gives_up() noexcept override;

  bool handling() const noexcept;  ///< this thread runs handlers in the middle of a call
  void give_up() noexcept { given_up_ = true; }

 private:
  std::function<void()> wake_;
  const std::function<void()>* outer_ = nullptr;  // of the call in whose handler this one is
  Watcher* watcher_ = nullptr;                    // where the main thread computes
  unsigned long handling_thread_ = 0;
  bool given_up_ = false;
};

void watch_signals();  ///< when the module is loaded

}  // namespace keystep::python
