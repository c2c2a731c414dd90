// Ctrl-C while the main thread computes.
#pragma once

#include "bindings.hpp"

namespace keystep::python {

/// While it lives, in the main thread and with the GIL held at both ends, a signal that Python handles calls
/// for the runtime's attention, so that its handler runs and may end the call. Elsewhere it does nothing:
/// handlers run in the main thread only. What the handler raised is pending afterwards.
///
/// Python writes the number of a signal into its wakeup descriptor. That is a pipe of ours meanwhile; a
/// thread of ours sleeps on it, and passes what it reads to the descriptor that was there before (asyncio has
/// one).
class SignalWatch {
 public:
  explicit SignalWatch(Runtime& runtime);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  bool active_;
  int descriptor_ = -1;
  Runtime* outer_ = nullptr;  // of a call that this one interrupts
};

/// Runs the handlers of signals that came. Whether one raised: the exception is pending then.
bool handlers_raised();

void watch_signals(py::module_& module);  ///< when the module is loaded

}  // namespace keystep::python
