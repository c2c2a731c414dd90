// Where the time of a loop goes, as a trace that Perfetto opens: spans on one track a thread, flows,
// counters. The thread that is traced writes into a ring of its own and never waits; another thread writes
// the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace keystep {

/// What an event is called, and what its number means; no argument: it has none. Of static storage, for the
/// trace keeps the address.
struct TraceLabel {
  const char* name;
  const char* argument = nullptr;
};

struct TraceOptions {
  std::size_t ring_events = std::size_t{1} << 14;  ///< room of each track, 40 bytes each; a power of two
  int drain_ms = 10;                               ///< so often the rings are emptied to the file
  std::uint64_t max_bytes = 1'073'741'824;         ///< of a file, the next is NAME.2.EXT; 0: no limit
  std::string process = "keystep";                 ///< the name that the trace shows
};

struct TraceReport {
  std::uint64_t events = 0;   ///< in the file: begins, ends, instants and values of counters
  std::uint64_t dropped = 0;  ///< spans, instants and values that found their ring full, or no file
  std::uint64_t bytes = 0;    ///< of all files
  std::string error;          ///< why the file ended early, such as a full disk; empty: it did not
};

class TraceTrack;

/// One trace file. It is a valid trace at every moment: whoever dies leaves a prefix of it. Tracks may be
/// asked for at any time and by any thread; each is written to by one thread at a time.
class Tracer {
 public:
  /// Creates the file (or empties it) and starts the thread that writes it. Throws Error, ArgumentError.
  explicit Tracer(const std::filesystem::path& file, TraceOptions options = {});
  ~Tracer();  ///< writes what is left
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  /// A track with a ring. What it still holds when the last owner leaves is written. Allocates.
  std::shared_ptr<TraceTrack> track(const std::string& name);
  /// A track of single events or values that have `TraceTrack::point` or `count` write them; of a counter
  /// with what it counts. It has no ring: one thread writes to it through its own.
  std::uint32_t side_track(const std::string& name);
  std::uint32_t counter(const std::string& name, const std::string& unit);

  /// Waits until all that was recorded before is in the file, at most 10 s.
  void flush() noexcept;
  TraceReport report() const;
  const std::filesystem::path& file() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Nanoseconds of the steady clock, which the trace counts from its beginning.
std::int64_t trace_now_ns() noexcept;

namespace detail {
extern constinit thread_local TraceTrack* current_track;
/// False: the ring is full, and the span does not count.
bool begin_span(TraceTrack& track, const TraceLabel& label, std::int64_t time_ns, std::int64_t argument,
                std::uint64_t flow) noexcept;
void end_span(TraceTrack& track, std::int64_t time_ns) noexcept;
}  // namespace detail

/// While it lives, what this thread does is on `track`; nullptr: on none, which costs nothing.
class TracedThread {
 public:
  explicit TracedThread(TraceTrack* track) noexcept : before_(detail::current_track) {
    detail::current_track = track;
  }
  ~TracedThread() { detail::current_track = before_; }
  TracedThread(const TracedThread&) = delete;
  TracedThread& operator=(const TracedThread&) = delete;

 private:
  TraceTrack* before_;
};

/// From construction to destruction, on this thread's track if there is one. Spans of one flow are joined by
/// arrows, in the order of their time; 0: none. Allocates nothing, waits for nobody.
class Span {
 public:
  explicit Span(const TraceLabel& label, std::int64_t argument = 0, std::uint64_t flow = 0) noexcept {
    TraceTrack* const track = detail::current_track;
    if (track != nullptr && detail::begin_span(*track, label, trace_now_ns(), argument, flow)) track_ = track;
  }
  ~Span() {
    if (track_ != nullptr) detail::end_span(*track_, trace_now_ns());
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  TraceTrack* track_ = nullptr;
};

}  // namespace keystep
