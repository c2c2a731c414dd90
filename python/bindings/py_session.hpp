// What a call from Python needs around it, whatever runtime it is of: the GIL, signals, how it is closed.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "observation_reader.hpp"
#include "signals.hpp"

namespace keystep::python {

/// `R`: Runtime or CodeRuntime.
template <class R>
class PySession {
 public:
  void interrupt() {
    check_usable();
    runtime_->interrupt();
  }

  /// Any thread.
  void check_usable() const { admit(runtime_->usable()); }

  void close() {
    if (signals_->handling()) {  // by a handler that interrupts a call of ours
      close_later_ = true;
      signals_->give_up();
      return;
    }
    py::gil_scoped_release release;
    runtime_->close();
  }

  R& runtime() const { return *runtime_; }
  std::uint64_t tick_allocations() const { return tick_allocations_; }
  LatencyReport latency() const {
    Status status = Status::ok;
    const LatencyReport report = runtime_->latency(&status);
    admit(status);
    return report;
  }
  void reset_latency() {
    admit(runtime_->reset_latency());
    tick_allocations_ = 0;
  }

 protected:
  /// `open(attendant)` makes the runtime, with the GIL released.
  template <class Open>
  explicit PySession(const Open& open) : runtime_(attended(open)), reader_(runtime_->bundle().observation) {}

  static void admit(Status status) {
    if (status != Status::ok) throw PolicyError(status);
  }

  static void check(Status status, const std::string& message) {
    if (status == Status::ok) return;
    const std::string what = describe(status);
    if (message.empty() || message == what) throw PolicyError(status);
    // What names a field says all; what an engine says does not tell that it is an engine's.
    throw PolicyError(status, status == Status::engine_failure ? what + ": " + message : message);
  }

  /// `work` with the GIL released. A signal's handler that raises, closes or forks ends it; that is raised.
  /// What such a handler calls itself, in the midst of it, ends first, and must not wait for it.
  template <class Work>
  void call(const Work& work) {
    std::exception_ptr failure;
    try {
      py::gil_scoped_release release;
      work();
    } catch (const Error&) {
      failure = std::current_exception();
    }
    if (close_later_ && !signals_->handling()) {
      py::gil_scoped_release release;  // whoever else is inside may need it to come out
      runtime_->close();
    }
    if (PyErr_Occurred()) throw py::error_already_set();
    if (close_later_ || failure) check_usable();
    if (failure) std::rethrow_exception(failure);
  }

  /// `step(message)`, one control step: its allocations are counted, and that of its message is none of them.
  template <class Step>
  void call_step(const Step& step) {
    Status status = Status::ok;
    std::string message = std::move(message_room_);  // under the GIL: of whoever comes first
    message.reserve(kMessageBytes);
    call([&] {
      const std::uint64_t before = allocation_count();
      status = step(message);
      tick_allocations_ += allocation_count() - before;
    });
    check(status, message);
    message_room_ = std::move(message);
  }

  const ObservationReader& reader() const { return reader_; }

 private:
  static constexpr std::size_t kMessageBytes = 256;

  template <class Open>
  std::unique_ptr<R> attended(const Open& open) {
    py::gil_scoped_release release;
    std::unique_ptr<R> runtime = open(signals_);
    signals_->attend(*runtime);
    return runtime;
  }

  const std::shared_ptr<SignalAttendant> signals_ = std::make_shared<SignalAttendant>();
  std::unique_ptr<R> runtime_;
  ObservationReader reader_;
  std::atomic<std::uint64_t> tick_allocations_ = 0;  // added to without the GIL
  std::string message_room_;
  bool close_later_ = false;
};

/// Of engines and latencies, for `Runtime` and `CodeRuntime` alike.
py::list choice_list(const std::vector<EngineChoice>& choices);
py::dict latency_dict(const LatencyReport& report, const std::string& engine,
                      const std::vector<EngineChoice>& choices, std::uint64_t allocations);

}  // namespace keystep::python
