// Wakes a thread that has nothing to do. Ringing never waits, and twice is once.
#pragma once

#include <semaphore.h>

#include <atomic>
#include <cerrno>

namespace keystep {

class Bell {
 public:
  Bell() { sem_init(&semaphore_, 0, 0); }
  ~Bell() { sem_destroy(&semaphore_); }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  /// Any thread.
  void ring() noexcept {
    if (!rung_.exchange(true)) sem_post(&semaphore_);
  }
  /// One thread. What was written before `ring` can be read after this.
  void wait() noexcept {
    while (sem_wait(&semaphore_) != 0 && errno == EINTR) {
    }
    rung_.exchange(false);
  }

 private:
  sem_t semaphore_;
  std::atomic<bool> rung_ = false;
};

}  // namespace keystep
