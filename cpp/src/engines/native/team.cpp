#include "engines/native/team.hpp"

#include <pthread.h>
#include <sched.h>

#include <bit>
#include <chrono>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace keystep::native {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPauses = 64;  // about a microsecond

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
  job_.store(nullptr);
  runs_.fetch_add(1);
  runs_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Team::run(Job& job) noexcept {
  const WithoutDenormals guard;
  if (size() == 1) {  // touches nothing that callers share
    Member alone(*this, 0, 0);
    return job.walk(alone);
  }
  const std::lock_guard lock(entry_);
  leave_core_of_caller();
  const std::uint32_t run = runs_.load(std::memory_order_relaxed) + 1;
  done_.store(0, std::memory_order_relaxed);
  state_.store(std::bit_cast<std::uint64_t>(State{run, 0, 0}));
  job_.store(&job);
  // Here and below sequentially consistent: notify_all reads whether anyone sleeps, which must not happen
  // before.
  runs_.store(run);
  runs_.notify_all();
  Member caller(*this, 0, run);
  job.walk(caller);
}

void Team::settle() noexcept {
  const std::lock_guard lock(entry_);
  // A worker that is about to begin the last job has announced itself before it read which one it is.
  job_.store(&nothing_);
  for (int turns = 0; walking_.load() != 0; ++turns) {
    turns < 100 ? void(sched_yield()) : std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

/// A woken worker is often put where its caller runs, and stays there for milliseconds: longer than a denoise
/// step. Callers on several cores that take turns move nobody.
void Team::leave_core_of_caller() noexcept {
  const int here = sched_getcpu();
  const bool stays = std::exchange(last_cpu_, here) == here || callers_cpu_ == -1;
  if (here == callers_cpu_ || !stays || cpus_.size() < 2) return;
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

void Team::serve(int index) noexcept {
  const WithoutDenormals guard;
  for (std::uint32_t seen = 0;;) {
    wait_while(runs_, seen);
    seen = runs_.load();
    walking_.fetch_add(1);
    Job* job = job_.load();
    if (job == nullptr) return;
    // If another run has begun since, none of its stages is this one's: it walks past all of them.
    Member member(*this, index, seen);
    job->walk(member);
    walking_.fetch_sub(1);
  }
}

int Team::Member::take() noexcept {
  const unsigned all = (1u << team_.size()) - 1;
  for (std::uint64_t word = team_.state_.load(std::memory_order_acquire);;) {
    const auto state = std::bit_cast<State>(word);
    if (state.run != run_ || state.stage != stage_) return -1;
    const unsigned left = all & ~unsigned{state.taken};
    if (left == 0) {
      patient_ = true;
      team_.wait_while(team_.state_, word);
      word = team_.state_.load(std::memory_order_acquire);
      continue;
    }
    const bool own = (left >> index_ & 1) != 0;
    if (!own && patient_) {  // whoever owns it may be on its way, and has its weights in its own cache
      patient_ = false;
      for (int i = 0; i < kPauses && team_.state_.load(std::memory_order_acquire) == word; ++i) pause();
      word = team_.state_.load(std::memory_order_acquire);
      continue;
    }
    const int part = own ? index_ : std::countr_zero(left);
    const State taken{state.run, state.stage, static_cast<std::uint16_t>(state.taken | 1u << part)};
    if (team_.state_.compare_exchange_weak(word, std::bit_cast<std::uint64_t>(taken),
                                           std::memory_order_acq_rel, std::memory_order_acquire)) {
      return part;
    }
  }
}

void Team::Member::finish() noexcept {
  if (team_.done_.fetch_add(1, std::memory_order_acq_rel) + 1 != team_.size()) return;
  team_.done_.store(0, std::memory_order_relaxed);
  team_.state_.store(std::bit_cast<std::uint64_t>(State{run_, static_cast<std::uint16_t>(stage_ + 1), 0}));
  team_.state_.notify_all();
}

template <class Word>
void Team::wait_while(const std::atomic<Word>& word, Word value) const noexcept {
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
