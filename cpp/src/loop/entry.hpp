// Two threads in one runtime are a mistake of the caller's, and are told so.
#pragma once

#include <atomic>
#include <thread>

namespace keystep {

enum class Inside { nobody, reader, caller };

/// At most one thread inside the runtime. Not a mutex: a second caller is told, never kept waiting. But a
/// thread that only reads, for microseconds, must not cost another its tick: a caller waits for a reader.
class Entry {
 public:
  explicit Entry(std::atomic<Inside>& inside, Inside as = Inside::caller) noexcept : inside_(inside) {
    constexpr int kPatience = 1000;  // the reader may not get to run before this thread sleeps
    for (int i = 0; i < kPatience && !entered_; ++i) {
      Inside found = Inside::nobody;
      entered_ = inside.compare_exchange_strong(found, as);
      if (entered_ || found == Inside::caller || as == Inside::reader) return;
      std::this_thread::yield();
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
