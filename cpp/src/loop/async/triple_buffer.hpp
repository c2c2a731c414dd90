// The newest value from one thread to another, which neither ever waits for: each has a slot of its own, and
// they exchange it with the one in the middle.
#pragma once

#include <array>
#include <atomic>

namespace keystep {

template <class T>
class TripleBuffer {
 public:
  /// Three copies: sized here, so that writing allocates nothing.
  explicit TripleBuffer(const T& initial) : slots_{initial, initial, initial} {}

  /// While neither thread uses it: nothing was written yet.
  void reset(const T& initial) {
    slots_.fill(initial);
    middle_ = 1;
    back_ = 0;
    front_ = 2;
  }

  T& back() noexcept { return slots_[back_]; }  ///< the writer's own, with what it wrote some time before
  /// Writer: `back` becomes the newest; one that was not taken yet is lost.
  void publish() noexcept { back_ = middle_.exchange(back_ | kFresh, std::memory_order_acq_rel) & kSlot; }

  /// Reader: there is one to take.
  bool fresh() const noexcept { return (middle_.load(std::memory_order_relaxed) & kFresh) != 0; }
  /// Reader: `front` becomes the newest. False: it is already.
  bool take() noexcept {
    if (!fresh()) return false;
    front_ = middle_.exchange(front_, std::memory_order_acq_rel) & kSlot;
    return true;
  }
  const T& front() const noexcept { return slots_[front_]; }

 private:
  static constexpr unsigned kSlot = 3, kFresh = 4;

  std::array<T, 3> slots_;
  alignas(64) std::atomic<unsigned> middle_ = 1;
  alignas(64) unsigned back_ = 0;   // the writer's
  alignas(64) unsigned front_ = 2;  // the reader's
};

}  // namespace keystep
