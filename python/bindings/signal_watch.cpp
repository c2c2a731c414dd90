#include "signal_watch.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <mutex>
#include <thread>

namespace keystep::python {
namespace {

class Watcher {
 public:
  Watcher() {
    if (pipe2(pipe_.data(), O_CLOEXEC) != 0) return;
    fcntl(pipe_[1], F_SETFL, O_NONBLOCK);  // as Python wants it
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // the thread inherits it: signals go to others
    try {
      std::thread([this] { watch(); }).detach();
      started_ = true;
    } catch (const std::system_error&) {  // no more threads: signals wait for the end of a call
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  bool started() const { return started_; }
  int descriptor() const { return pipe_[1]; }
  void pass_on_to(int descriptor) { next_ = descriptor; }
  /// Returns the one before, when nobody uses it any more.
  Runtime* watch_over(Runtime* runtime) {
    const std::lock_guard lock(mutex_);
    return std::exchange(runtime_, runtime);
  }

 private:
  void watch() {
    std::array<unsigned char, 64> signals{};
    for (;;) {
      const ssize_t count = read(pipe_[0], signals.data(), signals.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      const auto came = std::span(signals).first(static_cast<std::size_t>(count));
      if (const int next = next_; next >= 0) {
        [[maybe_unused]] const ssize_t passed = write(next, came.data(), came.size());
      }
      // What is meant to end the call does so in the middle of a graph. Others may come every millisecond: a
      // run that is begun again each time would never end.
      const bool at_once = std::ranges::any_of(came, [](int one) { return one == SIGINT || one == SIGTERM; });
      const std::lock_guard lock(mutex_);
      if (runtime_) runtime_->call_attention(at_once);
    }
  }

  std::array<int, 2> pipe_ = {-1, -1};
  bool started_ = false;
  std::atomic<int> next_ = -1;
  std::mutex mutex_;
  Runtime* runtime_ = nullptr;
};

// Never freed: its thread sleeps in it when the process ends. None before the first call, and in a child.
Watcher* watcher = nullptr;
unsigned long main_thread = 0;

}  // namespace

SignalWatch::SignalWatch(Runtime& runtime) : active_(PyThread_get_thread_ident() == main_thread) {
  if (!active_) return;
  if (!watcher) watcher = new Watcher;
  active_ = watcher->started();
  if (!active_) return;
  outer_ = watcher->watch_over(&runtime);
  descriptor_ = PySignal_SetWakeupFd(watcher->descriptor());
  if (descriptor_ != watcher->descriptor()) watcher->pass_on_to(descriptor_);
}

SignalWatch::~SignalWatch() {
  if (!active_) return;
  PySignal_SetWakeupFd(descriptor_);
  watcher->watch_over(outer_);
}

bool handlers_raised() {
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool raised = PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return raised;
}

void watch_signals(py::module_& module) {
  main_thread = py::cast<unsigned long>(py::module_::import("threading").attr("main_thread")().attr("ident"));
  // The thread and its pipe stay with the parent; who forks is the main thread of the child.
  module.def("_after_fork", [] {
    watcher = nullptr;
    main_thread = PyThread_get_thread_ident();
  });
  py::module_::import("os").attr("register_at_fork")(py::arg("after_in_child") = module.attr("_after_fork"));
}

}  // namespace keystep::python
