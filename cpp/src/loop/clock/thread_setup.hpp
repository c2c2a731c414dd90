// What the operating system gives to the thread that ticks.
#pragma once

#include <sched.h>

#include "keystep/fixed_rate.hpp"

namespace keystep {

/// Throws ArgumentError for what no system has (a priority of 100).
void check(const ThreadOptions& options);

/// Gives the calling thread what is asked and permitted, and puts its scheduling and cores back at the end.
class ThreadSetup {
 public:
  explicit ThreadSetup(const ThreadOptions& options);
  ~ThreadSetup();
  ThreadSetup(const ThreadSetup&) = delete;
  ThreadSetup& operator=(const ThreadSetup&) = delete;

  const ThreadReport& report() const noexcept { return report_; }

 private:
  void schedule(int priority);
  void pin(const std::vector<int>& cores);
  void lock_memory();
  void prefault(std::size_t bytes);
  void read_back();

  int policy_ = 0;
  sched_param parameters_{};
  cpu_set_t cores_{};
  bool scheduled_ = false, pinned_ = false;
  ThreadReport report_;
};

}  // namespace keystep
