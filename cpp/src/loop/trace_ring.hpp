// The ring of one track: one thread writes, the tracer's reads, neither waits.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "keystep/trace.hpp"

namespace keystep {

enum class TraceKind : std::uint32_t { begin, end, instant, count };

struct TraceEvent {
  std::int64_t time_ns = 0;  ///< steady clock
  const TraceLabel* label = nullptr;
  std::int64_t value = 0;  ///< the label's argument, or what a counter shows
  std::uint64_t flow = 0;  ///< 0: none
  std::uint32_t track = 0;
  TraceKind kind = TraceKind::instant;
};

/// A span that begins has room for its end, whatever comes between: what the ring drops it drops whole, so
/// that the track stays balanced.
class TraceTrack {
 public:
  TraceTrack(std::uint32_t id, std::size_t capacity) : id_(id), events_(capacity) {}

  std::uint32_t id() const noexcept { return id_; }
  /// Flows of different tracks differ. `number`: 1..2^40.
  std::uint64_t flow(std::uint64_t number) const noexcept { return (std::uint64_t{id_} << 40) | number; }

  // By the thread that is traced.

  bool begin(const TraceLabel& label, std::int64_t time_ns, std::int64_t argument,
             std::uint64_t flow) noexcept {
    if (!has_room(2)) return false;
    ++open_;
    put({time_ns, &label, argument, flow, id_, TraceKind::begin});
    return true;
  }
  void end(std::int64_t time_ns) noexcept {
    --open_;
    put({time_ns, nullptr, 0, 0, id_, TraceKind::end});
  }
  /// A whole span of a side track.
  void span(std::uint32_t track, const TraceLabel& label, std::int64_t from_ns, std::int64_t to_ns,
            std::int64_t argument) noexcept {
    if (!has_room(2)) return;
    put({from_ns, &label, argument, 0, track, TraceKind::begin});
    put({to_ns, nullptr, 0, 0, track, TraceKind::end});
  }
  void point(const TraceLabel& label, std::int64_t time_ns, std::int64_t argument) noexcept {
    if (has_room(1)) put({time_ns, &label, argument, 0, id_, TraceKind::instant});
  }
  void count(std::uint32_t counter, std::int64_t time_ns, std::int64_t value) noexcept {
    if (has_room(1)) put({time_ns, nullptr, value, 0, counter, TraceKind::count});
  }

  void leave() noexcept { left_.store(true, std::memory_order_release); }  ///< nobody will write any more

  // By the tracer's thread.

  bool left() const noexcept { return left_.load(std::memory_order_acquire); }

  /// `take(event)` for all there are.
  template <class Take>
  void drain(const Take& take) {
    const std::size_t end = written_.load(std::memory_order_acquire);
    std::size_t next = read_.load(std::memory_order_relaxed);
    while (next != end) {
      take(events_[next++ & (events_.size() - 1)]);
      // Given back in pieces: the producer need not wait for the file.
      if ((next & 63) == 0) read_.store(next, std::memory_order_release);
    }
    read_.store(next, std::memory_order_release);
  }
  std::uint64_t dropped() const noexcept { return dropped_.load(std::memory_order_relaxed); }

 private:
  /// For so many events, and for the ends of all spans that are open. Counted where there is none.
  bool has_room(std::size_t wanted) noexcept {
    const std::size_t written = written_.load(std::memory_order_relaxed);
    if (written - known_read_ + open_ + wanted <= events_.size()) return true;
    known_read_ = read_.load(std::memory_order_acquire);
    if (written - known_read_ + open_ + wanted <= events_.size()) return true;
    dropped_.store(dropped_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    return false;
  }
  void put(const TraceEvent& event) noexcept {
    const std::size_t written = written_.load(std::memory_order_relaxed);
    events_[written & (events_.size() - 1)] = event;
    written_.store(written + 1, std::memory_order_release);
  }

  static constexpr std::size_t kCacheLine = 64;
  const std::uint32_t id_;
  std::vector<TraceEvent> events_;
  // The producer's.
  alignas(kCacheLine) std::atomic<std::size_t> written_ = 0;
  std::size_t known_read_ = 0;  // at least so far the reader is
  std::size_t open_ = 0;        // spans
  std::atomic<std::uint64_t> dropped_ = 0;
  std::atomic<bool> left_ = false;
  // The consumer's.
  alignas(kCacheLine) std::atomic<std::size_t> read_ = 0;
};

}  // namespace keystep
