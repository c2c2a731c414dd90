#include "loop/virtual/virtual_threads.hpp"

namespace keystep {

void VirtualThreads::reset(const NoiseKey& key) noexcept {
  durations_.reset(key);
  plan_ = chunk_ = {};
  now_ = -1;
  epoch_ = interrupts_.epoch;
}

/// The events of a period in the order of their times; what ends may let others begin.
void VirtualThreads::before_tick() noexcept {
  now_ += 1;
  follow_interrupts(now_);
  for (;;) {
    Work* next = nullptr;
    for (Work* work : {&plan_, &chunk_}) {
      if (work->busy && work->ends <= now_ && (next == nullptr || work->ends < next->ends)) next = work;
    }
    if (next == nullptr) return;
    finish(*next);
    follow_interrupts(next->ends);  // a key-step that nobody foresaw is one
    begin(next->ends);
  }
}

/// It is computed now, of the observation that it was begun with.
void VirtualThreads::finish(Work& work) noexcept {
  work.busy = false;
  if (&work == &plan_) {
    loop_.plan_maker().finish();
  } else {
    loop_.chunk_maker().finish();
  }
}

/// Whoever is idle looks whether there is something to do; the planner first, as the controller waits for it.
void VirtualThreads::begin(double now) noexcept {
  if (!plan_.busy && loop_.plan_maker().begin()) {
    plan_ = {true, loop_.plan_maker().computes() ? now + durations_.plan() : now};
  }
  if (!chunk_.busy && loop_.chunk_maker().begin()) chunk_ = {true, now + durations_.chunk()};
}

/// An interrupt ends what is in flight, as it does a thread's: it has drawn its noise, and nothing else is
/// left of it. Then it begins anew at once.
void VirtualThreads::follow_interrupts(double now) noexcept {
  if (epoch_ == interrupts_.epoch) return;
  if (plan_.busy) finish(plan_);
  if (chunk_.busy) finish(chunk_);
  epoch_ = interrupts_.epoch;
  begin(now);
}

}  // namespace keystep
