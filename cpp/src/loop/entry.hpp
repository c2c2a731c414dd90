// Two threads in one runtime are a mistake of the caller's, and are told so.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

namespace keystep {

enum class Inside { nobody, reader, caller };

/// At most one thread inside the runtime. Not a mutex: a second caller is told, never kept waiting. But a
/// thread that only reads, for microseconds, must not cost another its tick: a caller waits for a reader, and
/// soon sleeps for it, as a thread under SCHED_FIFO that yields never lets a preempted reader go on.
class Entry {
 public:
  explicit Entry(std::atomic<Inside>& inside, Inside as = Inside::caller) noexcept : inside_(inside) {
    constexpr int kYields = 100, kPatience = 1000;
    for (int i = 0; i < kPatience && !entered_; ++i) {
      Inside found = Inside::nobody;
      entered_ = inside.compare_exchange_strong(found, as);
      if (entered_ || found == Inside::caller || as == Inside::reader) return;
      if (i < kYields) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
    }
  }
  ~Entry() {
    if (entered_) inside_.store(Inside::nobody, std::memory_order_release);
  }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;
  explicit operator bool() const noexcept { return entered_; }

 private:
  std::atomic<Inside>& inside_;
  bool entered_ = false;
};

}  // namespace keystep
