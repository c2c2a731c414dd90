// The threads of an engine: the caller and workers that share its work.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace keystep::native {

/// A denoise step is some thirty short stages; each has a part for every thread, and the next begins when all
/// parts are done. That must cost less than a microsecond, so threads that wait spin: for a bounded time,
/// with yields, then they sleep. And on a busy machine a worker may be off its core for longer than the whole
/// step takes, so nobody waits for a thread, only for parts: whoever has nothing to do takes a part that no
/// one has begun.
///
/// What a run executes is a `Job`, which every member walks through by itself, stage after stage. `share`
/// gives it the parts it gets; a member that comes late finds the stages done and walks past them.
class Team {
 public:
  class Member;

  /// Lives as long as the team may walk through it: see `settle`.
  class Job {
   public:
    virtual ~Job() = default;
    virtual void walk(Member& member) noexcept = 0;
  };

  static constexpr int kMostThreads = 16;

  /// `threads`: 1 .. kMostThreads, the caller of `run` included: with 1 no thread is started. Workers keep
  /// off the core on which the caller runs; `pin`: and each has one of its own. Throws std::system_error.
  Team(int threads, bool pin, int spin_us);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const noexcept { return static_cast<int>(workers_.size()) + 1; }
  /// Returns when all stages are done. From any thread; callers take turns, in the order in which they came:
  /// the workers have one job at a time. Without workers there is nothing to wait for, and each caller walks
  /// through its job at once.
  void run(Job& job) noexcept;
  /// Returns when no worker walks through any job any more; waits for a run on another thread.
  void settle() noexcept;

 private:
  /// Of the stage that is being worked on; in one word, so that a part is taken by one exchange.
  struct State {
    std::uint32_t run;    ///< counts runs
    std::uint16_t stage;  ///< of that run
    std::uint16_t taken;  ///< a bit for each part
  };

  /// Callers in the order in which they came. A mutex would go to the one that has just given it back, for
  /// all steps of its chunk, while the others wait.
  class Queue {
   public:
    void lock() noexcept {
      const std::uint32_t turn = next_.fetch_add(1);
      for (std::uint32_t now = serving_.load(); now != turn; now = serving_.load()) serving_.wait(now);
    }
    void unlock() noexcept {
      serving_.fetch_add(1);
      serving_.notify_all();
    }

   private:
    std::atomic<std::uint32_t> next_ = 0, serving_ = 0;
  };

  /// What late workers find after `settle`.
  struct Nothing final : Job {
    void walk(Member&) noexcept override {}
  };

  void serve(int index) noexcept;
  void stop() noexcept;
  void leave_core_of_caller() noexcept;
  template <class Word>
  void wait_while(const std::atomic<Word>& word, Word value) const noexcept;

  const bool pin_;
  const int spin_us_;
  const std::vector<int> cpus_;
  int callers_cpu_ = -1;  // when the workers were told to leave it
  int last_cpu_ = -1;     // of the last caller
  Nothing nothing_;
  Queue entry_;
  std::vector<std::thread> workers_;
  // Each on a cache line of its own: waiters read one while others write another.
  alignas(64) std::atomic<std::uint32_t> runs_ = 0;  // changes when a run starts, or the team ends
  std::atomic<Job*> job_ = nullptr;                  // of the last run; null: the team ends
  // libstdc++ counts sleepers by an address's low bits: 8 bytes further, those on `runs_` do not make every
  // stage's notification a system call.
  [[maybe_unused]] alignas(64) std::uint64_t apart_ = 0;
  std::atomic<std::uint64_t> state_ = 0;      // a State
  alignas(64) std::atomic<int> done_ = 0;     // parts of this stage
  alignas(64) std::atomic<int> walking_ = 0;  // workers inside a job
};

/// One thread on its way through a job.
class Team::Member {
 public:
  Member(Team& team, int index, std::uint32_t run) noexcept : team_(team), index_(index), run_(run) {}

  /// One stage: calls `work(part)` for the parts this thread gets. Returns when all parts of the stage are
  /// done, and what they wrote is visible.
  template <class Work>
  void share(Work&& work) noexcept {
    if (team_.size() == 1) return work(0);
    for (int part = take(); part >= 0; part = take()) {
      work(part);
      finish();
    }
    ++stage_;
  }

 private:
  /// A part of this stage that no one has begun, its own first; -1 once the stage is done.
  int take() noexcept;
  void finish() noexcept;

  Team& team_;
  const int index_;
  const std::uint32_t run_;
  std::uint16_t stage_ = 0;
  bool patient_ = true;  // until an owner did not come
};

}  // namespace keystep::native
