#include "engines/native/team.hpp"

#include <pthread.h>
#include <sched.h>

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace keystep::native {
namespace {

using Clock = std::chrono::steady_clock;

void pause() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// On x86 denormals count as zero while a thread works for us: they cost a hundred times as much, and no
/// network needs them.
class WithoutDenormals {
 public:
  WithoutDenormals() noexcept {
#if defined(__x86_64__)
    saved_ = _mm_getcsr();
    _mm_setcsr(saved_ | 0x8040);  // flush to zero, denormals are zero
#endif
  }
  ~WithoutDenormals() {
#if defined(__x86_64__)
    _mm_setcsr(saved_);
#endif
  }
  WithoutDenormals(const WithoutDenormals&) = delete;
  WithoutDenormals& operator=(const WithoutDenormals&) = delete;

 private:
  [[maybe_unused]] unsigned saved_ = 0;
};

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  cpu_set_t allowed;
  if (pthread_getaffinity_np(pthread_self(), sizeof allowed, &allowed) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace

Team::Team(int threads, bool pin, int spin_us) : pin_(pin), spin_us_(spin_us), cpus_(allowed_cpus()) {
  try {
    for (int member = 1; member < threads; ++member) {
      workers_.emplace_back([this, member] { serve(member); });
    }
  } catch (...) {  // the system has no more threads
    stop();
    throw;
  }
}

Team::~Team() { stop(); }

void Team::stop() noexcept {
  function_ = nullptr;
  runs_.fetch_add(1);  // sequentially consistent, as in `barrier`
  runs_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Team::start(Function function, void* context) noexcept {
  const WithoutDenormals guard;
  if (workers_.empty()) return function(context, 0);
  leave_core_of_caller();
  function_ = function;
  context_ = context;
  runs_.fetch_add(1);  // sequentially consistent, as in `barrier`
  runs_.notify_all();
  function(context, 0);
  barrier();
}

/// A woken worker is often put where its caller runs, and stays there for milliseconds: longer than a denoise
/// step.
void Team::leave_core_of_caller() noexcept {
  const int here = sched_getcpu();
  if (here == callers_cpu_ || cpus_.size() < 2) return;
  callers_cpu_ = here;
  std::size_t next = 0;  // among the others, for workers that are pinned
  for (std::thread& worker : workers_) {
    cpu_set_t others;
    CPU_ZERO(&others);
    for (const int cpu : cpus_) {
      if (cpu != here) CPU_SET(cpu, &others);
    }
    if (pin_) {
      if (cpus_[next % cpus_.size()] == here) ++next;
      CPU_ZERO(&others);
      CPU_SET(cpus_[next++ % cpus_.size()], &others);
    }
    pthread_setaffinity_np(worker.native_handle(), sizeof others, &others);
  }
}

void Team::serve(int member) noexcept {
  const WithoutDenormals guard;
  for (std::uint32_t run = 0;; ++run) {
    wait_while(runs_, run);
    if (function_ == nullptr) return;
    function_(context_, member);
    barrier();
  }
}

void Team::barrier() noexcept {
  if (workers_.empty()) return;
  const std::uint32_t round = passed_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == workers_.size()) {
    arrived_.store(0, std::memory_order_relaxed);
    // Sequentially consistent: notify_all reads whether anyone sleeps, which must not happen before this
    // store.
    passed_.store(round + 1);
    passed_.notify_all();
  } else {
    wait_while(passed_, round);
  }
}

void Team::wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t value) const noexcept {
  constexpr int kPauses = 64;  // about a microsecond: the clock is read that often
  const auto same = [&] { return word.load(std::memory_order_acquire) == value; };
  const auto begin = Clock::now();
  for (auto spun = Clock::duration::zero(); spun < std::chrono::microseconds(spin_us_);
       spun = Clock::now() - begin) {
    for (int i = 0; i < kPauses; ++i) {
      if (!same()) return;
      pause();
    }
    sched_yield();  // whoever is waited for may be queued behind this thread
  }
  while (same()) word.wait(value, std::memory_order_acquire);
}

}  // namespace keystep::native
