// Two threads in one runtime are a mistake of the caller's, and are told so.
#pragma once

#include <atomic>

namespace keystep {

/// At most one thread inside the runtime. Not a mutex: a second caller is told, never kept waiting.
class Entry {
 public:
  explicit Entry(std::atomic_flag& busy) noexcept : busy_(busy), entered_(!busy.test_and_set()) {}
  ~Entry() {
    if (entered_) busy_.clear();
  }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;
  explicit operator bool() const noexcept { return entered_; }

 private:
  std::atomic_flag& busy_;
  bool entered_;
};

}  // namespace keystep
