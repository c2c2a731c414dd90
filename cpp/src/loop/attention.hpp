// Another thread wants a word with the one inside the runtime, which then decides whether to go on.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <utility>

#include "keystep/runtime.hpp"

namespace keystep {

class Attention {
 public:
  explicit Attention(std::shared_ptr<Attendant> attendant) : attendant_(std::move(attendant)) {}

  /// One call from outside; the rest happens within it, on its thread.
  class Call {
   public:
    explicit Call(Attention& attention) noexcept : attention_(attention) { attention_.ended_ = false; }
    ~Call() {
      if (std::exchange(attention_.computing_, false)) attention_.attendant_->end();
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Attention& attention_;
  };

  void call() noexcept { called_ = true; }  ///< any thread
  /// Before each run of a graph: a tick that takes an action from the chunk costs no attendance.
  void begin_run() noexcept {
    if (!attendant_ || computing_) return;
    computing_ = true;
    attended_ = Clock::now();
    attendant_->begin();
  }
  /// Asks the attendant if it was called, or not asked for a while; once it gives up, the call is over.
  bool ends_call() noexcept {
    if (ended_ || !computing_) return ended_;
    const auto now = Clock::now();
    if (!called_.exchange(false) && now - attended_ < kLongest) return false;
    attended_ = now;
    return ended_ = attendant_->gives_up();
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kLongest = std::chrono::milliseconds(200);

  const std::shared_ptr<Attendant> attendant_;
  std::atomic<bool> called_ = false;
  bool computing_ = false, ended_ = false;
  Clock::time_point attended_{};
};

}  // namespace keystep
