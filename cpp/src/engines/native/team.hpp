// The threads of an engine: the caller and workers that wait for it.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace keystep::native {

/// A denoise step is some thirty short parts between which all threads meet, so meeting must cost less than a
/// microsecond: threads that wait spin. They do so for a bounded time, with yields, and then sleep: on a busy
/// machine the one they wait for may need their core.
class Team {
 public:
  /// `threads` >= 1, the caller of `run` included: with 1 no thread is started. Workers keep off the core on
  /// which the caller runs; `pin`: and each has one of its own.
  Team(int threads, bool pin, int spin_us);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  /// Calls `work(member)` on every member, 0 being the caller, and returns when all are done. From any
  /// thread; a second caller waits. `work` may not throw.
  template <class Work>
  void run(Work&& work) noexcept {
    const std::lock_guard lock(entry_);
    start([](void* context, int member) { (*static_cast<std::remove_reference_t<Work>*>(context))(member); },
          &work);
  }

  /// Inside `run`: returns when every member has called it. What they wrote before is visible after.
  void barrier() noexcept;

 private:
  using Function = void (*)(void* context, int member);

  void stop() noexcept;
  void start(Function function, void* context) noexcept;
  void serve(int member) noexcept;
  void leave_core_of_caller() noexcept;
  void wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t value) const noexcept;

  const bool pin_;
  const int spin_us_;
  const std::vector<int> cpus_;
  int callers_cpu_ = -1;  // when the workers were told to leave it
  std::mutex entry_;
  std::vector<std::thread> workers_;
  Function function_ = nullptr;  // of the run that `runs_` announced; null: stop
  void* context_ = nullptr;
  // Each on a cache line of its own: waiters read one while others write another.
  alignas(64) std::atomic<std::uint32_t> runs_ = 0;     // changes when a run starts
  alignas(64) std::atomic<std::uint32_t> arrived_ = 0;  // members at the barrier
  alignas(64) std::atomic<std::uint32_t> passed_ = 0;   // changes when all were there
};

}  // namespace keystep::native
