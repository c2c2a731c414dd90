#include "signals.hpp"

#include <pthread.h>
#include <semaphore.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace keystep::python {
namespace {

/// A signal that is meant to end what is going on.
struct Ending {
  int number;
  struct sigaction next{};  // the handler below ours
  bool placed = false;      // ours is in the way of the signal
  bool kept = false;        // somebody came to stand above ours, and may call it
};

std::array<Ending, 2> endings = {{{SIGINT}, {SIGTERM}}};
std::atomic<unsigned long> main_thread = 0;
std::atomic<sem_t*> alarm_clock = nullptr;  // what our handler posts; none: the main thread does not compute
// Of the static kind: the first use of another may allocate, which a handler must not.
[[gnu::tls_model("initial-exec")]] constinit thread_local std::array<bool, 2> handled = {};

extern "C" void on_signal(int signal, siginfo_t* info, void* context) {
  const std::size_t i = signal == endings[0].number ? 0 : 1;
  if (handled[i]) {  // the handlers call each other in a circle: Python, which is outside it, is told here
    PyErr_SetInterruptEx(signal);
    return;
  }
  handled[i] = true;
  const int saved = errno;
  if (sem_t* const clock = alarm_clock) sem_post(clock);
  errno = saved;
  const struct sigaction& next = endings[i].next;
  if ((next.sa_flags & SA_SIGINFO) != 0) {
    next.sa_sigaction(signal, info, context);
  } else {
    next.sa_handler(signal);
  }
  handled[i] = false;
}

bool same(const struct sigaction& one, const struct sigaction& other) noexcept {
  return one.sa_sigaction == other.sa_sigaction;  // a union with sa_handler
}

bool is_ours(const struct sigaction& action) noexcept { return action.sa_sigaction == on_signal; }

/// Puts our handler before whatever handler is there. The default and "ignore" are left alone, and so is one
/// that may call ours: that would be a circle.
void intercept() noexcept {
  for (Ending& ending : endings) {
    struct sigaction found{};
    if (sigaction(ending.number, nullptr, &found) != 0) continue;
    if (found.sa_handler == SIG_DFL || found.sa_handler == SIG_IGN) continue;
    ending.placed |= is_ours(found);
    if (is_ours(found) || (ending.kept && !same(found, ending.next))) continue;
    ending.next = found;
    found.sa_sigaction = on_signal;
    found.sa_flags |= SA_SIGINFO;
    ending.placed = sigaction(ending.number, &found, nullptr) == 0;
  }
}

/// The handlers as they were found. One that came meanwhile stays, and ours below it: it may call ours.
void restore() noexcept {
  for (Ending& ending : endings) {
    struct sigaction top{};
    if (!std::exchange(ending.placed, false) || sigaction(ending.number, nullptr, &top) != 0) continue;
    ending.kept = !is_ours(top);
    if (!ending.kept) sigaction(ending.number, &ending.next, nullptr);
  }
}

}  // namespace

/// The thread that our handler wakes. Never freed: it sleeps when the process ends.
class Watcher {
 public:
  Watcher() {
    sem_init(&clock_, 0, 0);
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

  sem_t* alarm_clock() { return works_ ? &clock_ : nullptr; }
  /// Returns the one before, which is not called any more.
  const std::function<void()>* watch_over(const std::function<void()>* wake) {
    const std::lock_guard lock(mutex_);
    return std::exchange(wake_, wake);
  }

 private:
  void watch() {
    while (sem_wait(&clock_) == 0 || errno == EINTR) {
      const std::lock_guard lock(mutex_);
      if (wake_ && *wake_) (*wake_)();
    }
  }

  sem_t clock_{};
  bool works_ = false;
  std::mutex mutex_;
  const std::function<void()>* wake_ = nullptr;  // whoever computes
};

namespace {

Watcher* watcher = nullptr;  // of this process; none before the first computation

/// Of a fork: the thread stays with the parent, and who forks is the main thread of the child.
void begin_child() noexcept {
  restore();
  alarm_clock = nullptr;
  watcher = nullptr;
  main_thread = PyThread_get_thread_ident();
}

}  // namespace

void SignalAttendant::begin() noexcept {
  given_up_ = false;
  watcher_ = nullptr;
  if (PyThread_get_thread_ident() != main_thread) return;
  try {
    if (!watcher) watcher = new Watcher;
    outer_ = watcher->watch_over(&wake_);
  } catch (const std::exception&) {  // no memory: signals wait
    return;
  }
  watcher_ = watcher;
  alarm_clock = watcher->alarm_clock();
  intercept();
}

void SignalAttendant::end() noexcept {
  if (!watcher_ || watcher_ != watcher) return;  // other: a handler forked, and this is the child
  if (!outer_) {
    restore();
    alarm_clock = nullptr;
  }
  watcher->watch_over(outer_);
}

bool SignalAttendant::gives_up() noexcept {
  if (!watcher_) return false;
  const PyGILState_STATE state = PyGILState_Ensure();
  handling_thread_ = PyThread_get_thread_ident();
  const bool raised = PyErr_CheckSignals() != 0;
  handling_thread_ = 0;
  PyGILState_Release(state);
  return raised || given_up_ || watcher_ != watcher;
}

bool SignalAttendant::handling() const noexcept { return handling_thread_ == PyThread_get_thread_ident(); }

void watch_signals() {
  main_thread = py::cast<unsigned long>(py::module_::import("threading").attr("main_thread")().attr("ident"));
  pthread_atfork(nullptr, nullptr, begin_child);
}

}  // namespace keystep::python
