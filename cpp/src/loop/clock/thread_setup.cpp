#include "loop/clock/thread_setup.hpp"

#include <alloca.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace keystep {
namespace {

std::string why(int error) { return std::generic_category().message(error); }

rlim_t limit(__rlimit_resource resource) noexcept {
  rlimit found{};
  return getrlimit(resource, &found) == 0 ? found.rlim_cur : 0;
}

std::string shown(rlim_t value) { return value == RLIM_INFINITY ? "unlimited" : std::to_string(value); }

bool may_lock_all() noexcept {
  if (limit(RLIMIT_MEMLOCK) == RLIM_INFINITY) return true;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  return syscall(SYS_capget, &header, sets) == 0 && (sets[0].effective >> CAP_IPC_LOCK & 1) != 0;
}

std::string policy_name(int policy) {
  switch (policy & ~SCHED_RESET_ON_FORK) {
    case SCHED_OTHER:
      return "SCHED_OTHER";
    case SCHED_FIFO:
      return "SCHED_FIFO";
    case SCHED_RR:
      return "SCHED_RR";
    case SCHED_BATCH:
      return "SCHED_BATCH";
    case SCHED_IDLE:
      return "SCHED_IDLE";
    default:
      return "policy " + std::to_string(policy);
  }
}

/// Bytes of the calling thread's stack that nobody uses yet.
std::size_t stack_left() noexcept {
  constexpr std::size_t kReserve = 128 << 10;  // of the loop itself, and of what it calls
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return 0;
  void* lowest = nullptr;
  std::size_t size = 0, guard = 0;
  pthread_attr_getstack(&attributes, &lowest, &size);
  pthread_attr_getguardsize(&attributes, &guard);
  pthread_attr_destroy(&attributes);
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  const auto end = reinterpret_cast<std::uintptr_t>(lowest) + guard + kReserve;
  return here > end ? here - end : 0;
}

[[gnu::noinline]] void touch(std::size_t bytes) noexcept {
  constexpr std::size_t kPage = 4096;
  auto* const stack = static_cast<volatile char*>(alloca(bytes));
  for (std::size_t i = 0; i < bytes; i += kPage) stack[bytes - 1 - i] = 0;  // downwards, as a stack grows
}

}  // namespace

void check(const ThreadOptions& options) {
  if (options.fifo_priority < 0 || options.fifo_priority > 99) {
    throw ArgumentError(
        expected("fifo_priority", "0 (none) or 1..99", std::to_string(options.fifo_priority)));
  }
  for (const int core : options.cores) {
    if (core >= 0 && core < CPU_SETSIZE) continue;
    throw ArgumentError(expected("cores", "0.." + std::to_string(CPU_SETSIZE - 1), std::to_string(core)));
  }
}

/// Memory first: what is touched afterwards stays. The cores before the priority, so that it holds on them.
ThreadSetup::ThreadSetup(const ThreadOptions& options) {
  policy_ = sched_getscheduler(0);
  sched_getparam(0, &parameters_);
  if (options.lock_memory) lock_memory();
  if (options.prefault_stack > 0) prefault(options.prefault_stack);
  if (!options.cores.empty()) pin(options.cores);
  if (options.fifo_priority > 0) schedule(options.fifo_priority);
  read_back();
}

ThreadSetup::~ThreadSetup() {
  if (scheduled_ && sched_setscheduler(0, policy_, &parameters_) != 0) {
    sched_setscheduler(0, policy_ | SCHED_RESET_ON_FORK, &parameters_);  // only the privileged take that away
  }
  if (pinned_) sched_setaffinity(0, sizeof cores_, &cores_);
}

/// Threads that this one starts are as they were before: none of them is to compete with the tick.
void ThreadSetup::schedule(int priority) {
  const sched_param wanted{.sched_priority = priority};
  scheduled_ = sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &wanted) == 0;
  if (scheduled_) return;
  report_.fifo_refusal = "SCHED_FIFO " + std::to_string(priority) + ": " + why(errno) +
                         "; it takes CAP_SYS_NICE, or a limit rtprio of at least that (it is " +
                         shown(limit(RLIMIT_RTPRIO)) + ")";
}

void ThreadSetup::pin(const std::vector<int>& cores) {
  cpu_set_t wanted;
  CPU_ZERO(&wanted);
  for (const int core : cores) CPU_SET(static_cast<std::size_t>(core), &wanted);
  pinned_ = sched_getaffinity(0, sizeof cores_, &cores_) == 0;
  if (pinned_) pinned_ = sched_setaffinity(0, sizeof wanted, &wanted) == 0;
  if (!pinned_) {
    report_.cores_refusal = why(errno) + "; none of them may be used by this process";
    return;
  }
  cpu_set_t given;
  CPU_ZERO(&given);
  if (sched_getaffinity(0, sizeof given, &given) != 0) return;
  for (const int core : cores) {
    if (CPU_ISSET(static_cast<std::size_t>(core), &given)) continue;
    report_.cores_refusal +=
        (report_.cores_refusal.empty() ? "this process may not use core " : ", ") + std::to_string(core);
  }
}

/// Later allocations are locked, too, only where no limit can make them fail for it.
void ThreadSetup::lock_memory() {
  const int flags = may_lock_all() ? MCL_CURRENT | MCL_FUTURE : MCL_CURRENT;
  report_.memory_locked = mlockall(flags) == 0;
  if (report_.memory_locked && (flags & MCL_FUTURE) == 0) {
    report_.memory_refusal = "what is allocated later is not locked: the limit memlock is " +
                             shown(limit(RLIMIT_MEMLOCK)) + " bytes";
  } else if (!report_.memory_locked) {
    report_.memory_refusal = "mlockall: " + why(errno) +
                             "; it takes CAP_IPC_LOCK, or a larger limit memlock (it is " +
                             shown(limit(RLIMIT_MEMLOCK)) + " bytes)";
  }
}

void ThreadSetup::prefault(std::size_t bytes) {
  const std::size_t left = stack_left();
  if (bytes > left) {
    report_.stack_refusal =
        "the stack of this thread has " + std::to_string(left) + " bytes left, not " + std::to_string(bytes);
    return;
  }
  touch(bytes);
  report_.prefaulted = bytes;
}

void ThreadSetup::read_back() {
  const int policy = sched_getscheduler(0);
  sched_param parameters{};
  sched_getparam(0, &parameters);
  report_.policy = policy_name(policy);
  report_.priority = parameters.sched_priority;
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) return;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(static_cast<std::size_t>(core), &cores)) report_.cores.push_back(core);
  }
}

}  // namespace keystep
