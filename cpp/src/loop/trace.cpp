#include "keystep/trace.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "keystep/status.hpp"
#include "loop/fork.hpp"
#include "loop/trace_encoder.hpp"
#include "loop/trace_file.hpp"
#include "loop/trace_ring.hpp"
#include "support/clock.hpp"

namespace keystep {
namespace {

constexpr std::size_t kPiece = std::size_t{64} << 10;  // of a write to the file
constexpr std::chrono::seconds kPatience{10};          // of whoever waits for the file
constexpr std::uint32_t kDrops = 2;                    // the first track of ours, after the process
constexpr std::uint64_t kShortest = 64 << 10;          // of files that follow each other

TraceOptions checked(TraceOptions options) {
  if (!std::has_single_bit(options.ring_events) || options.ring_events < 16) {
    throw ArgumentError(
        expected("trace.ring_events", "a power of two from 16", std::to_string(options.ring_events)));
  }
  if (options.drain_ms < 1) {
    throw ArgumentError(expected("trace.drain_ms", "at least 1", std::to_string(options.drain_ms)));
  }
  if (options.max_bytes != 0 && options.max_bytes < kShortest) {
    throw ArgumentError(expected("trace.max_bytes", "0 or at least " + std::to_string(kShortest),
                                 std::to_string(options.max_bytes)));
  }
  return options;
}

struct NewTrack {
  std::uint32_t id;
  std::string name, unit;  ///< no unit: not a counter
};

}  // namespace

namespace detail {

constinit thread_local TraceTrack* current_track = nullptr;

bool begin_span(TraceTrack& track, const TraceLabel& label, std::int64_t time_ns, std::int64_t argument,
                std::uint64_t flow) noexcept {
  return track.begin(label, time_ns, argument, flow);
}
void end_span(TraceTrack& track, std::int64_t time_ns) noexcept { track.end(time_ns); }

}  // namespace detail

std::int64_t trace_now_ns() noexcept { return now_ns(); }

struct Tracer::Impl {
  Impl(const std::filesystem::path& path, TraceOptions given)
      : options(checked(std::move(given))),
        file(path),
        encoder(options.process, static_cast<std::int32_t>(::getpid()), trace_now_ns()) {
    encoder.counter(kDrops, "dropped", "events");
    thread = std::thread([this] { run(); });
  }

  /// The lock may be held by a thread that is not there.
  void refuse_in_a_child() const {
    if (forks() == forks_at_start) return;
    throw ArgumentError(expected("trace", "the process that opened it", "a child of it"));
  }
  std::uint32_t add(const std::string& name, const std::string& unit);
  void run() noexcept;
  void round();
  void describe_new();
  void take(const TraceEvent& event);
  void write();
  std::uint64_t count_drops() const noexcept;

  const TraceOptions options;
  const std::uint64_t forks_at_start = forks();
  std::thread thread;

  // The writer's.
  TraceFile file;
  TraceEncoder encoder;
  std::uint64_t events = 0, lost = 0;  // lost: found no file
  std::uint64_t drops_written = 0;

  // Never held while a file is written, nor asked for by a thread that is traced.
  mutable std::mutex mutex;
  std::condition_variable wake, done;
  bool stopping = false;
  std::uint64_t asked = 0, answered = 0;  // flushes
  std::uint32_t next_id = kDrops + 1;
  std::vector<std::shared_ptr<TraceTrack>> tracks;
  std::vector<NewTrack> new_tracks;   // not in the file yet
  std::uint64_t dropped_by_gone = 0;  // by tracks that are no more
  TraceReport report;
};

/// Empties the rings every few milliseconds, at once when asked to. Whatever fails here fails here alone.
void Tracer::Impl::run() noexcept {
  for (bool last = false; !last;) {
    std::uint64_t flushed = 0;
    {
      std::unique_lock lock(mutex);
      wake.wait_for(lock, std::chrono::milliseconds(options.drain_ms),
                    [this] { return stopping || asked != answered; });
      last = stopping;
      flushed = asked;
    }
    try {
      round();
    } catch (...) {
      ++lost;  // out of memory: the next round may have some
    }
    const std::lock_guard lock(mutex);
    answered = flushed;
    done.notify_all();
  }
}

void Tracer::Impl::round() {
  std::vector<std::shared_ptr<TraceTrack>> now;
  {
    const std::lock_guard lock(mutex);
    describe_new();
    now = tracks;
  }
  std::vector<const TraceTrack*> gone;
  for (const std::shared_ptr<TraceTrack>& track : now) {
    if (track->left()) gone.push_back(track.get());  // asked first: what is drained then is all
    track->drain([this](const TraceEvent& event) { take(event); });
  }
  std::uint64_t dropped = 0;
  {
    const std::lock_guard lock(mutex);
    std::erase_if(tracks, [&](const std::shared_ptr<TraceTrack>& track) {
      if (std::ranges::find(gone, track.get()) == gone.end()) return false;
      dropped_by_gone += track->dropped();
      return true;
    });
    dropped = count_drops();
  }
  if (std::exchange(drops_written, dropped) != dropped) {
    take({trace_now_ns(), nullptr, static_cast<std::int64_t>(dropped), 0, kDrops, TraceKind::count});
  }
  write();
  const std::lock_guard lock(mutex);
  report = {events, dropped + lost, file.total(), file.error()};
}

/// Under the mutex.
void Tracer::Impl::describe_new() {
  for (const NewTrack& track : std::exchange(new_tracks, {})) {
    if (track.unit.empty()) {
      encoder.track(track.id, track.name);
    } else {
      encoder.counter(track.id, track.name, track.unit);
    }
  }
}

void Tracer::Impl::take(const TraceEvent& event) {
  if (!file.error().empty()) {
    ++lost;
    return;
  }
  encoder.event(event);
  ++events;
  if (encoder.packets().size() >= kPiece) write();
}

void Tracer::Impl::write() {
  std::string& packets = encoder.packets();
  file.append(packets);
  packets.clear();
  if (options.max_bytes == 0 || file.size() < options.max_bytes || !file.next()) return;
  encoder.restart();
  file.append(packets);
  packets.clear();
}

/// Under the mutex.
std::uint32_t Tracer::Impl::add(const std::string& name, const std::string& unit) {
  new_tracks.push_back({next_id, name, unit});
  return next_id++;
}

/// Under the mutex.
std::uint64_t Tracer::Impl::count_drops() const noexcept {
  std::uint64_t sum = dropped_by_gone;
  for (const auto& track : tracks) sum += track->dropped();
  return sum;
}

// ---- the public face

Tracer::Tracer(const std::filesystem::path& file, TraceOptions options)
    : impl_(std::make_unique<Impl>(file, std::move(options))) {}

Tracer::~Tracer() {
  if (forks() != impl_->forks_at_start) {  // its thread is the parent's, who writes the rest
    [[maybe_unused]] const Impl* left = impl_.release();
    return;
  }
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_all();
  impl_->thread.join();
}

std::shared_ptr<TraceTrack> Tracer::track(const std::string& name) {
  impl_->refuse_in_a_child();
  const std::lock_guard lock(impl_->mutex);
  const auto ring = std::make_shared<TraceTrack>(impl_->add(name, ""), impl_->options.ring_events);
  impl_->tracks.push_back(ring);
  return {ring.get(), [ring](TraceTrack* track) { track->leave(); }};
}

std::uint32_t Tracer::side_track(const std::string& name) {
  impl_->refuse_in_a_child();
  const std::lock_guard lock(impl_->mutex);
  return impl_->add(name, "");
}

std::uint32_t Tracer::counter(const std::string& name, const std::string& unit) {
  if (unit.empty()) throw ArgumentError(expected("trace.unit", "what the counter counts", "''"));
  impl_->refuse_in_a_child();
  const std::lock_guard lock(impl_->mutex);
  return impl_->add(name, unit);
}

void Tracer::flush() noexcept {
  Impl& self = *impl_;
  if (forks() != self.forks_at_start) return;
  std::unique_lock lock(self.mutex);
  const std::uint64_t mine = ++self.asked;
  self.wake.notify_all();
  self.done.wait_for(lock, kPatience, [&] { return self.answered >= mine; });
}

TraceReport Tracer::report() const {
  if (forks() != impl_->forks_at_start) return {};
  const std::lock_guard lock(impl_->mutex);
  return impl_->report;
}

const std::filesystem::path& Tracer::file() const noexcept { return impl_->file.path(); }

}  // namespace keystep
