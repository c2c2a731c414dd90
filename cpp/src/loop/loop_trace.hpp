// What one session writes into a trace: its tracks, and which observation each action was made from. Without
// a tracer every call is one comparison.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "keystep/status.hpp"
#include "loop/trace_labels.hpp"
#include "loop/trace_ring.hpp"

namespace keystep {

class LoopTrace {
 public:
  explicit LoopTrace(std::shared_ptr<Tracer> tracer) : tracer_(std::move(tracer)) {
    if (!tracer_) return;
    track_ = tracer_->track("tick");
    interrupts_ = tracer_->side_track("interrupts");
    level_ = tracer_->counter("chunk buffer", "actions");
    epoch_ = tracer_->counter("epoch", "interrupts");
  }

  /// Of a thread that computes for this session; nullptr: not traced.
  std::shared_ptr<TraceTrack> thread(const char* name) const {
    return tracer_ ? tracer_->track(name) : nullptr;
  }
  /// Of the thread that ticks; nullptr: not traced.
  TraceTrack* track() const noexcept { return track_.get(); }
  /// Flows join what is of one observation. `number`: of its tick, from 1; 0: no flow.
  std::uint64_t flow(std::uint64_t number) const noexcept {
    return track_ && number != 0 ? track_->flow(number) : 0;
  }
  std::uint64_t now() const noexcept { return ticks_; }  ///< the number of this tick, and of its observation

  // By whoever is inside the runtime.

  std::uint64_t begin_tick() noexcept { return ++ticks_; }
  void reset(std::uint32_t episode) noexcept {
    waiting_ns_ = 0;
    if (track_) track_->point(kResetLabel, trace_now_ns(), episode);
  }
  /// Interrupts, of which the first that no tick had seen came at `since_ns`.
  void absorbed(std::uint64_t epoch, std::int64_t since_ns) noexcept {
    if (!track_) return;
    if (waiting_ns_ == 0) waiting_ns_ = since_ns;
    track_->count(epoch_, trace_now_ns(), static_cast<std::int64_t>(epoch));
  }
  /// After an action was taken, and there are so many left. The first one after an interrupt ends its wait.
  void acted(int remaining) noexcept {
    if (!track_) return;
    const std::int64_t now_ns = trace_now_ns();
    track_->count(level_, now_ns, remaining);
    if (waiting_ns_ == 0) return;
    // An interrupt may come before the action that answers the one before: the track shows one at a time.
    const std::int64_t from_ns = std::clamp(waiting_ns_, answered_ns_, now_ns);
    track_->span(interrupts_, kInterruptLabel, from_ns, now_ns, now_ns - waiting_ns_);
    answered_ns_ = now_ns;
    waiting_ns_ = 0;
  }
  /// There was none to take.
  void starved(int cause) noexcept {
    if (track_) track_->point(kUnderrunLabel, trace_now_ns(), cause);
  }
  void failed(Status status) noexcept {
    if (track_) track_->point(kFailedLabel, trace_now_ns(), static_cast<std::int64_t>(status));
  }

  void flush() const noexcept {
    if (tracer_) tracer_->flush();
  }

 private:
  std::shared_ptr<Tracer> tracer_;
  std::shared_ptr<TraceTrack> track_;
  std::uint32_t interrupts_ = 0, level_ = 0, epoch_ = 0;
  std::uint64_t ticks_ = 0;
  std::int64_t waiting_ns_ = 0;   // since an interrupt; 0: none waits for its action
  std::int64_t answered_ns_ = 0;  // when the last one had it
};

/// While it lives this thread ticks.
class TracedTick {
 public:
  explicit TracedTick(LoopTrace& trace) noexcept
      : thread_(trace.track()), span_(label(Stage::tick), static_cast<std::int64_t>(trace.begin_tick())) {}

 private:
  const TracedThread thread_;
  const Span span_;
};

}  // namespace keystep
