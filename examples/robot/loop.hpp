// A thread that does something at a rate, and what it hands to another one. Twin of loop.py.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "report.hpp"

namespace robot {

/// The newest value, of one writer for one reader. Neither waits: three slots, of which the third changes
/// hands.
template <class Value>
class Latest {
 public:
  explicit Latest(const Value& first) : slots_{first, first, first} {}

  Value& next() { return slots_[back_]; }  ///< the writer's, to fill in
  void publish() { back_ = between_.exchange(back_ | kNew, std::memory_order_acq_rel) & kSlot; }
  /// The reader's, until it asks again.
  const Value& newest() {
    if ((between_.load(std::memory_order_relaxed) & kNew) != 0) {
      front_ = between_.exchange(front_, std::memory_order_acq_rel) & kSlot;
    }
    return slots_[front_];
  }

 private:
  static constexpr unsigned kSlot = 3, kNew = 4;
  std::array<Value, 3> slots_;
  std::atomic<unsigned> between_{1};
  unsigned back_ = 0, front_ = 2;
};

/// Ask for SCHED_FIFO of the calling thread, unless 0; what it has.
inline std::string scheduled(int fifo_priority) {
  std::string refusal;
  if (fifo_priority > 0) {
    const sched_param wanted{.sched_priority = fifo_priority};
    if (const int error = pthread_setschedparam(pthread_self(), SCHED_FIFO, &wanted); error != 0) {
      refusal = text(", not obtained: SCHED_FIFO %d: %s", fifo_priority, std::strerror(error));
    }
  }
  int policy = SCHED_OTHER;
  sched_param given{};
  pthread_getschedparam(pthread_self(), &policy, &given);
  const char* const name = policy == SCHED_FIFO    ? "SCHED_FIFO"
                           : policy == SCHED_RR    ? "SCHED_RR"
                           : policy == SCHED_OTHER ? "SCHED_OTHER"
                                                   : "another policy";
  return text("%s priority %d", name, given.sched_priority) + refusal;
}

/// Calls `step` at start + k / rate, on a thread of its own, from `start` to `stop`, or until `step` throws.
/// Points that are past when a call ends are left out: the grid never moves, and nothing is made up for.
class Loop {
 public:
  /// `fifo_priority`: SCHED_FIFO with this priority, where that is permitted; 0: not asked for.
  Loop(std::string name, double rate_hz, std::function<void()> step, int fifo_priority = 0)
      : name_(std::move(name)), rate_hz_(rate_hz), step_(std::move(step)), fifo_priority_(fifo_priority) {
    if (!(rate_hz > 0 && rate_hz <= 100'000)) {
      throw keystep::ArgumentError(
          keystep::expected(name_ + "_hz", "above 0, up to 100000", text("%g", rate_hz)));
    }
  }
  ~Loop() { stop(); }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void start() {
    thread_ = std::thread([this] { run(); });
  }
  void stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }
  /// Throws what `step` threw. Any thread.
  void check() const {
    if (failed_) std::rethrow_exception(error_);
  }
  /// After `stop`.
  std::string report() const {
    const double calls = static_cast<double>(std::max<std::uint64_t>(intervals_.count(), 1));
    const keystep::Spread spread{intervals_.count(), 1e-3 * static_cast<double>(least_ns_),
                                 intervals_.total_us() / calls, intervals_.quantile_us(0.99),
                                 intervals_.max_us()};
    return text("%s at %g Hz: ", name_.c_str(), rate_hz_) + scheduling_ +
           text("; %llu calls, %llu overran\n", number(calls_), number(overruns_)) +
           shown("interval", spread);
  }

 private:
  using Clock = std::chrono::steady_clock;

  void run() noexcept {
    try {
      scheduling_ = scheduled(fifo_priority_);
      const Clock::time_point start = Clock::now();
      Clock::time_point last = start;
      for (std::int64_t point = 0; !stopping_;) {
        const Clock::time_point begin = Clock::now();
        if (calls_ > 0) note(begin - last);
        last = begin;
        step_();
        ++calls_;
        const double passed_s = std::chrono::duration<double>(Clock::now() - start).count();
        const auto passed = static_cast<std::int64_t>(std::ceil(passed_s * rate_hz_));
        overruns_ += passed > point + 1 ? 1 : 0;
        point = std::max(point + 1, passed);
        const double until_ns = 1e9 * static_cast<double>(point) / rate_hz_;
        std::this_thread::sleep_until(start + std::chrono::nanoseconds(std::llround(until_ns)));
      }
    } catch (...) {
      error_ = std::current_exception();
      failed_ = true;
    }
  }

  void note(std::chrono::nanoseconds interval) noexcept {
    least_ns_ = intervals_.count() == 0 ? interval.count() : std::min(least_ns_, interval.count());
    intervals_.record(interval.count());
  }

  const std::string name_;
  const double rate_hz_;
  const std::function<void()> step_;
  const int fifo_priority_;
  std::string scheduling_;
  std::uint64_t calls_ = 0, overruns_ = 0;
  keystep::Histogram intervals_;
  std::chrono::nanoseconds::rep least_ns_ = 0;
  std::exception_ptr error_;
  std::atomic<bool> failed_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace robot
