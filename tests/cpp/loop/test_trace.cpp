// Traces: bytes as protobuf itself writes them, rings that drop whole spans, a file that is valid at every
// moment. tests/runtime/test_trace.py reads such files with Perfetto's own classes.
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "keystep/status.hpp"
#include "keystep/trace.hpp"
#include "loop/trace_encoder.hpp"
#include "loop/trace_ring.hpp"
#include "policy_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr TraceLabel kOuter = {"outer", "number"}, kInner = {"inner"}, kPoint = {"point", "number"};

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// How many packets the bytes are; -1: they end within one, or are none.
int packets_of(const std::string& bytes) {
  int count = 0;
  for (std::size_t at = 0; at < bytes.size(); ++count) {
    if (bytes[at++] != 0x0a) return -1;
    std::uint64_t length = 0;
    for (int shift = 0;; shift += 7) {
      if (at == bytes.size()) return -1;
      const auto byte = static_cast<unsigned char>(bytes[at++]);
      length |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    if (length > bytes.size() - at) return -1;
    at += length;
  }
  return count;
}

/// The same trace is made of protobuf's classes by tests/support/perfetto_golden.py, into the same file.
void bytes_are_those_of_protobuf() {
  TraceEncoder encoder("keystep \xc3\xa4", 4711, 1'000'000);
  encoder.track(3, "tick");
  encoder.counter(200, "chunk buffer", "actions");
  const auto event = [&](std::int64_t time, TraceKind kind, const TraceLabel* label, std::int64_t value = 0,
                         std::uint64_t flow = 0, std::uint32_t track = 3) {
    encoder.event({1'000'000 + time, label, value, flow, track, kind});
  };
  event(0, TraceKind::begin, &kOuter, 1, (std::uint64_t{3} << 40) | 1);
  event(127, TraceKind::begin, &kInner);
  event(128, TraceKind::end, nullptr);
  event(16'384, TraceKind::instant, &kPoint, -1);
  event(std::int64_t{1} << 40, TraceKind::end, nullptr);
  event((std::int64_t{1} << 40) + 1, TraceKind::count, nullptr, -300, 0, 200);
  event((std::int64_t{1} << 40) + 2, TraceKind::begin, &kOuter, std::numeric_limits<std::int64_t>::max());
  event((std::int64_t{1} << 40) + 3, TraceKind::end, nullptr);
  event(-5, TraceKind::instant, &kInner);  // before the trace: at its beginning
  CHECK(encoder.packets() == read(GOLDEN_TRACE));
}

/// What comes out of a ring, whoever is faster: balanced, in order, and nothing is lost uncounted.
void rings_drop_whole_spans(std::size_t capacity, bool slow_reader) {
  TraceTrack ring(7, capacity);
  std::atomic<bool> finished = false;
  std::uint64_t begun = 0;  // read after join
  std::thread producer([&] {
    std::mt19937 random(static_cast<unsigned>(capacity));
    std::vector<bool> open;  // whether each counts
    const int steps = cases(200'000, 20'000);
    for (std::int64_t time = 0; time < steps; ++time) {
      const bool deeper = open.empty() || (open.size() < 5 && random() % 2 == 0);
      if (deeper) {
        open.push_back(ring.begin(kOuter, time, static_cast<std::int64_t>(open.size()), 0));
        ++begun;
      } else {
        if (open.back()) ring.end(time);
        open.pop_back();
      }
    }
    for (; !open.empty(); open.pop_back()) {
      if (open.back()) ring.end(steps);
    }
    finished = true;
  });
  std::uint64_t begins = 0;
  std::int64_t last = 0;
  int depth = 0;
  const auto take = [&](const TraceEvent& event) {
    if (event.time_ns < last) ++failures;
    last = event.time_ns;
    depth += event.kind == TraceKind::begin ? 1 : -1;
    begins += event.kind == TraceKind::begin;
    if (depth < 0) ++failures;
  };
  while (!finished) {
    ring.drain(take);
    if (slow_reader) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  producer.join();
  ring.drain(take);
  CHECK(depth == 0 && begins + ring.dropped() == begun);
  CHECK(begins > 0 && (!slow_reader || ring.dropped() > 0));
}

/// Threads come and go, each with spans of its own.
void threads_come_and_go() {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "run.pftrace";
  constexpr int kThreads = 4, kSpans = 500;
  {
    Tracer tracer(file, {.ring_events = 4096, .drain_ms = 1});
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&tracer, i] {
        const auto track = tracer.track("thread " + std::to_string(i));
        const TracedThread traced(track.get());
        for (int k = 0; k < kSpans; ++k) {
          const Span outer(kOuter, k, track->flow(1));
          const Span inner(kInner);
          if (k % 100 == 0) tracer.flush();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    tracer.flush();
    const TraceReport report = tracer.report();
    CHECK(report.events == kThreads * kSpans * 4 && report.dropped == 0 && report.error.empty());
    CHECK(report.bytes == fs::file_size(file));
  }
  CHECK(packets_of(read(file)) == 2 + kThreads + kThreads * kSpans * 4);  // the process, the drops
}

/// Whoever is not traced records nothing.
void spans_without_a_track_are_nothing() {
  const TemporaryFolder folder;
  Tracer tracer(folder.path() / "run.pftrace");
  const auto track = tracer.track("tick");
  {
    const Span before(kOuter);
    const TracedThread traced(track.get());
    const Span within(kOuter);
    const TracedThread untraced(nullptr);
    const Span after(kOuter);
  }
  tracer.flush();
  CHECK(tracer.report().events == 2);
}

/// A long trace goes on in another file, where open spans begin again.
void long_traces_are_several_files() {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "run.pftrace";
  {
    Tracer tracer(file, {.drain_ms = 1, .max_bytes = 64 << 10});
    const auto track = tracer.track("tick");
    const TracedThread traced(track.get());
    const Span whole(kOuter);
    for (int k = 0; k < 6000; ++k) {
      const Span span(kInner);
      if (k % 1000 == 0) tracer.flush();
    }
  }
  int packets = 0, files = 0;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    const int found = packets_of(read(entry.path()));
    CHECK(found > 0);
    packets += found;
    ++files;
  }
  CHECK(files > 2 && fs::exists(folder.path() / "run.2.pftrace"));
  CHECK(packets >= 12'000 + 2);
}

/// Neither a full disk nor a limit of the file's size is the loop's concern: told once, the file is whole.
void a_full_disk_is_told_once() {
  {
    Tracer tracer("/dev/full");
    const auto track = tracer.track("tick");
    const TracedThread traced(track.get());
    for (int k = 0; k < 3; ++k) {
      const Span span(kOuter);
      tracer.flush();
    }
    tracer.flush();
    const TraceReport report = tracer.report();
    CHECK(report.error == "trace: expected room for more in /dev/full, got No space left on device");
    CHECK(report.dropped > 0 && report.bytes == 0);
  }
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "run.pftrace";
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 3001;  // within a packet
  setrlimit(RLIMIT_FSIZE, &small);
  {
    Tracer tracer(file);
    const auto track = tracer.track("tick");
    const TracedThread traced(track.get());
    for (int k = 0; k < 200; ++k) {
      const Span span(kOuter);
      if (k % 10 == 0) tracer.flush();
    }
    tracer.flush();
    CHECK(tracer.report().error.find("File too large") != std::string::npos);
    CHECK(tracer.report().bytes == fs::file_size(file));
  }
  setrlimit(RLIMIT_FSIZE, &before);
  CHECK(packets_of(read(file)) > 10);
}

void what_cannot_be_is_refused() {
  const TemporaryFolder folder;
  const std::string no_file = (folder.path() / "none" / "run.pftrace").string();
  CHECK_THROWS(Error, "trace: expected a file that can be written, got " + no_file, Tracer{no_file});
  const fs::path file = folder.path() / "run.pftrace";
  const auto opened = [&](TraceOptions options) { Tracer tracer(file, std::move(options)); };
  CHECK_THROWS(ArgumentError, "trace.ring_events: expected a power of two from 16, got 100",
               opened({.ring_events = 100}));
  CHECK_THROWS(ArgumentError, "trace.drain_ms: expected at least 1, got 0", opened({.drain_ms = 0}));
  CHECK_THROWS(ArgumentError, "trace.max_bytes: expected 0 or at least 65536, got 1",
               opened({.max_bytes = 1}));
}

/// The loop's own spans, of two sessions, of which one ends early.
void the_loop_is_traced() {
  const TemporaryFolder folder;
  const auto tracer = std::make_shared<Tracer>(folder.path() / "run.pftrace");
  {
    test::Policy policy(kManifest, {}, {.tracer = tracer});
    const auto other = policy.runtime->session();
    policy.reset();
    for (int k = 0; k < 10; ++k) CHECK(policy.tick() == Status::ok);
    policy.runtime->close();
    const TraceReport report = tracer->report();
    CHECK(report.events > 10 * 7 && report.dropped == 0);
    CHECK(packets_of(read(tracer->file())) > static_cast<int>(report.events));
    other->reset({"push", {}, 7, 1});
    CHECK(other->tick(seen(kState), policy.action) == Status::ok);
    tracer->flush();
    CHECK(tracer->report().events > report.events);
  }
}

/// So is the asynchronous one, on three threads.
void the_asynchronous_loop_is_traced() {
  const TemporaryFolder folder;
  const auto tracer = std::make_shared<Tracer>(folder.path() / "run.pftrace");
  test::Policy policy(kManifest, {}, {.mode = "async", .tracer = tracer});
  policy.reset();
  for (std::uint64_t wanted = 20; wanted <= 60; wanted += 20) {
    for (int k = 0; k < 20'000 && policy.runtime->telemetry().actions < wanted; ++k) {
      policy.tick();
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    policy.runtime->interrupt();
  }
  const Telemetry seen = policy.runtime->telemetry();
  policy.runtime->close();
  const TraceReport report = tracer->report();
  CHECK(seen.actions >= 60 && report.dropped == 0 && report.error.empty());
  CHECK(report.events > 2 * (seen.ticks + 2 * seen.actions + 5 * seen.chunks));
  CHECK(packets_of(read(tracer->file())) > static_cast<int>(report.events));
}

}  // namespace

int main() {
  bytes_are_those_of_protobuf();
  for (const std::size_t capacity : {16, 64, 1024}) {
    rings_drop_whole_spans(capacity, false);
    rings_drop_whole_spans(capacity, true);
  }
  threads_come_and_go();
  spans_without_a_track_are_nothing();
  long_traces_are_several_files();
  a_full_disk_is_told_once();
  what_cannot_be_is_refused();
  the_loop_is_traced();
  the_asynchronous_loop_is_traced();
  return result();
}
