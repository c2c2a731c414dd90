#include "signals.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <system_error>
#include <thread>

namespace keystep::python {
namespace {

constexpr std::array kEnding = {SIGINT, SIGTERM};

std::atomic<unsigned long> main_thread = 0;
std::atomic<int> alarm_fd = -1;  // where our handler writes; -1: the main thread does not compute
std::array<struct sigaction, kEnding.size()> next;  // Python's handlers

extern "C" void on_signal(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  if (const int fd = alarm_fd; fd >= 0) [[maybe_unused]]
    const ssize_t written = write(fd, "!", 1);
  errno = saved;
  const struct sigaction& python = next[signal == SIGINT ? 0 : 1];
  if ((python.sa_flags & SA_SIGINFO) != 0) {
    python.sa_sigaction(signal, info, context);
  } else {
    python.sa_handler(signal);
  }
}

/// Puts our handler before whatever handler is there now; it stays. The default and "ignore" are left alone.
void intercept() noexcept {
  for (std::size_t i = 0; i < kEnding.size(); ++i) {
    struct sigaction found{};
    if (sigaction(kEnding[i], nullptr, &found) != 0) continue;
    const bool info = (found.sa_flags & SA_SIGINFO) != 0;
    if (info ? found.sa_sigaction == on_signal : found.sa_handler == SIG_DFL || found.sa_handler == SIG_IGN) {
      continue;
    }
    next[i] = found;
    found.sa_sigaction = on_signal;
    found.sa_flags |= SA_SIGINFO;
    sigaction(kEnding[i], &found, nullptr);
  }
}

/// The thread that our handler wakes. Never freed: it sleeps when the process ends.
class Watcher {
 public:
  Watcher() {
    if (pipe2(pipe_.data(), O_CLOEXEC | O_NONBLOCK) != 0) return;
    fcntl(pipe_[0], F_SETFL, 0);  // the reader sleeps, the handler never
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // the thread inherits it: signals go to others
    try {
      std::thread([this] { watch(); }).detach();
      works_ = true;
    } catch (const std::system_error&) {  // no more threads: signals wait for the end of a graph
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  int alarm() const { return works_ ? pipe_[1] : -1; }
  /// Returns the one before, which is not called any more.
  Runtime* watch_over(Runtime* runtime) {
    const std::lock_guard lock(mutex_);
    return std::exchange(runtime_, runtime);
  }

 private:
  void watch() {
    char signal = 0;
    for (ssize_t count = 0; (count = read(pipe_[0], &signal, 1)) == 1 || errno == EINTR;) {
      if (count != 1) continue;
      const std::lock_guard lock(mutex_);
      if (runtime_) runtime_->call_attention(true);
    }
  }

  std::array<int, 2> pipe_ = {-1, -1};
  bool works_ = false;
  std::mutex mutex_;
  Runtime* runtime_ = nullptr;
};

Watcher* watcher = nullptr;  // of this process; none before the first computation

}  // namespace

void SignalAttendant::begin() noexcept {
  given_up_ = false;
  watching_ = PyThread_get_thread_ident() == main_thread;
  if (!watching_) return;
  try {
    if (!watcher) watcher = new Watcher;
    outer_ = watcher->watch_over(runtime_);
  } catch (const std::exception&) {  // no memory: signals wait
    watching_ = false;
    return;
  }
  intercept();
  alarm_fd = watcher->alarm();
}

void SignalAttendant::end() noexcept {
  if (!watching_) return;
  if (!outer_) alarm_fd = -1;
  watcher->watch_over(outer_);
}

bool SignalAttendant::gives_up() noexcept {
  if (!watching_) return false;
  const PyGILState_STATE state = PyGILState_Ensure();
  handling_ = true;
  const bool raised = PyErr_CheckSignals() != 0;
  handling_ = false;
  PyGILState_Release(state);
  return raised || given_up_;
}

bool SignalAttendant::handling() const noexcept {
  return PyThread_get_thread_ident() == main_thread && handling_;
}

void watch_signals(py::module_& module) {
  main_thread = py::cast<unsigned long>(py::module_::import("threading").attr("main_thread")().attr("ident"));
  // The thread and its pipe stay with the parent; who forks is the main thread of the child.
  module.def("_after_fork", [] {
    alarm_fd = -1;
    watcher = nullptr;
    main_thread = PyThread_get_thread_ident();
  });
  py::module_::import("os").attr("register_at_fork")(py::arg("after_in_child") = module.attr("_after_fork"));
}

}  // namespace keystep::python
