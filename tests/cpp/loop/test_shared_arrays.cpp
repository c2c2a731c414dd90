// Arrays in shared memory: whole records only, a runtime between two of them, and refusals.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "loop/clock/shared_layout.hpp"
#include "policy_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

/// Of this process alone, and removed at the end.
struct Name {
  Name() : text("keystep-test-" + std::to_string(getpid())) {}
  ~Name() { shm_unlink(("/" + text).c_str()); }
  const std::string text;
};

const std::vector<SharedField> kFields = {
    {"image", DType::uint8, {5, 7, 3}}, {"state", DType::float32, {3}}, {"count", DType::int64, {2}}};

void a_record_comes_as_it_was_written() {
  const Name name;
  const auto writer = SharedArrays::create(name.text, kFields);
  const auto reader = SharedArrays::open(name.text);
  CHECK(reader->fields() == kFields && !reader->read() && reader->read_count() == 0);
  std::vector<std::uint8_t> image(5 * 7 * 3);
  for (std::uint64_t n = 1; n < 6; ++n) {
    std::ranges::fill(image, static_cast<std::uint8_t>(40 * n));
    const std::array<float, 3> state = {1.5f, -2, static_cast<float>(n)};
    const std::array<std::int64_t, 2> count = {-7, static_cast<std::int64_t>(n)};
    const std::array<const void*, 3> arrays = {image.data(), state.data(), count.data()};
    writer->write(arrays, {static_cast<std::int64_t>(n), 9, Status::underrun});
    CHECK(reader->read() && !reader->read() && reader->read_count() == n && writer->count() == n);
    CHECK(std::memcmp(reader->array(0), image.data(), image.size()) == 0);
    CHECK(std::memcmp(reader->array(1), state.data(), sizeof state) == 0);
    CHECK(std::memcmp(reader->array(2), count.data(), sizeof count) == 0);
    CHECK(reader->stamp().timestamp_us == static_cast<std::int64_t>(n) && reader->stamp().now_us == 9);
    CHECK(reader->stamp().status == Status::underrun);
  }
  CHECK(!reader->ended());
  writer->end();
  CHECK(reader->ended());
}

/// A fast writer, in a thread (for the sanitizer) or a process, and a reader: never two records in one.
void records_are_whole(bool process) {
  const Name name;
  constexpr std::size_t kSize = 3000;
  constexpr std::int64_t kRecords = cases(20'000, 500);
  const auto reader = SharedArrays::create(name.text, {{"values", DType::int64, {kSize}}});
  const auto writes = [&] {
    const auto writer = SharedArrays::open(name.text);
    std::vector<std::int64_t> values(kSize);
    for (std::int64_t n = 1; n <= kRecords; ++n) {
      std::ranges::fill(values, n);
      const std::array<const void*, 1> arrays = {values.data()};
      writer->write(arrays, {.timestamp_us = n});
    }
    writer->end();
  };
  std::thread thread;
  pid_t child = -1;
  if (process && (child = fork()) == 0) {
    writes();
    _exit(0);
  } else if (!process) {
    thread = std::thread(writes);
  }
  std::int64_t last = 0;
  for (bool ended = false; !ended;) {
    ended = reader->ended();
    if (!reader->read()) continue;
    const std::span values(static_cast<const std::int64_t*>(reader->array(0)), kSize);
    const std::int64_t n = reader->stamp().timestamp_us;
    CHECK(n > last && n == static_cast<std::int64_t>(reader->read_count()));
    CHECK(std::ranges::all_of(values, [&](std::int64_t value) { return value == n; }));
    last = n;
  }
  CHECK(last == kRecords);
  if (thread.joinable()) thread.join();
  if (child > 0) waitpid(child, nullptr, 0);
}

void a_policy_runs_between_two() {
  const Name name, other;
  test::Policy policy, reference;
  const Bundle& bundle = policy.runtime->bundle();
  const auto seen_there = SharedArrays::create(name.text + "-o", observation_fields(bundle));
  const auto done_there = SharedArrays::create(name.text + "-a", action_fields(bundle));
  SharedArrays::remove(name.text + "-o");  // who has it goes on
  SharedArrays::remove(name.text + "-a");
  FixedRate clock(*policy.runtime, 1000, {.periods = 1});
  const Source source = shared_source(*seen_there, bundle);
  const Sink sink = shared_sink(*done_there, bundle);
  policy.reset();
  reference.reset();
  CHECK_THROWS(PolicyError, "source: act was called before reset", clock.run(source, sink));  // no record yet
  for (int i = 0; i < 5; ++i) {
    const std::array<const void*, 1> arrays = {kState.data()};
    CHECK(seen_there->write(arrays, {.timestamp_us = now_us()}));
    if (i > 0) reference.runtime->interrupt();  // as the next run does
    clock.run(source, [&](std::span<const float> action, Status status) {
      CHECK(sink(action, status) == Status::ok && done_there->read());
      CHECK(done_there->stamp().status == status);
      if (status != Status::ok) return Status::ok;  // the hold at the end
      CHECK(reference.tick() == Status::ok);
      CHECK(std::memcmp(done_there->array(0), reference.action.values.data(), kDim * sizeof(float)) == 0);
      return Status::ok;
    });
  }
  CHECK_THROWS(ArgumentError, "source: expected observation.state float32 (3), got action float32 (2)",
               shared_source(*done_there, bundle));
  CHECK_THROWS(ArgumentError, "sink: expected action float32 (2)", shared_sink(*seen_there, bundle));
}

/// One that is killed in its work: the readers know, and the next one may write.
void a_writer_that_is_gone_is_known() {
  const Name name;
  test::Policy policy;
  const Bundle& bundle = policy.runtime->bundle();
  const auto reader = SharedArrays::create(name.text, observation_fields(bundle));
  CHECK(!reader->has_writer());
  const std::array<const void*, 1> arrays = {kState.data()};
  const pid_t child = fork();
  if (child == 0) {
    const auto writer = SharedArrays::open(name.text);
    writer->write(arrays, {});
    for (;;) pause();
  }
  while (!reader->read()) std::this_thread::yield();
  CHECK(reader->has_writer() && reader->stamp().written_us > 0);
  CHECK(!SharedArrays::open(name.text)->write(arrays, {}));  // one at a time
  const Source source = shared_source(*reader, bundle);
  Observation observation;
  CHECK(source(observation) == Status::ok);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK(!reader->has_writer());
  while (now_us() - reader->stamp().written_us < 110'000) std::this_thread::yield();
  CHECK_THROWS(Error, "to have a writer, got none for 1", source(observation));
  const auto next = SharedArrays::open(name.text);
  CHECK(next->write(arrays, {}) && source(observation) == Status::ok && reader->has_writer());
  next->end();
  CHECK(source(observation) == Status::closed && !next->write(arrays, {}));
}

/// The name that a creator takes away is its own.
void a_name_is_removed_by_whose_it_is() {
  const Name name;
  const auto first = SharedArrays::create(name.text, kFields);
  SharedArrays::remove(name.text);
  const auto second = SharedArrays::create(name.text, kFields);
  first->remove();
  CHECK(SharedArrays::open(name.text)->fields() == kFields);
  second->remove();
  CHECK_THROWS(Error, "No such file", SharedArrays::open(name.text));
  second->remove();  // of nothing
}

/// Changes bytes of the memory, and opens it.
template <class Value>
void open_changed(const std::string& name, std::size_t offset, Value value) {
  const int file = shm_open(("/" + name).c_str(), O_RDWR, 0);
  Value before;
  CHECK(pread(file, &before, sizeof before, static_cast<off_t>(offset)) == sizeof before);
  CHECK(pwrite(file, &value, sizeof value, static_cast<off_t>(offset)) == sizeof value);
  try {
    SharedArrays::open(name);
  } catch (...) {
    CHECK(pwrite(file, &before, sizeof before, static_cast<off_t>(offset)) == sizeof before);
    close(file);
    throw;
  }
  close(file);
}

void refuses_what_it_does_not_know() {
  const Name name;
  CHECK_THROWS(Error, "No such file", SharedArrays::open(name.text));
  CHECK_THROWS(ArgumentError, "name: expected", SharedArrays::open("a/b"));
  CHECK_THROWS(ArgumentError, "fields: expected 1..64", SharedArrays::create(name.text, {}));
  CHECK_THROWS(ArgumentError, "x: expected extents of 1 or more",
               SharedArrays::create(name.text, {{"x", DType::uint8, {0}}}));
  CHECK_THROWS(ArgumentError, "x: expected extents",
               SharedArrays::create(name.text, {{"x", DType::int64, {1 << 20, 1 << 20, 1 << 30}}}));
  CHECK_THROWS(ArgumentError, "fields: expected names that differ, got x",
               SharedArrays::create(name.text, {{"x", DType::uint8, {1}}, {"x", DType::uint8, {1}}}));
  const auto arrays = SharedArrays::create(name.text, kFields);
  CHECK_THROWS(Error, "File exists", SharedArrays::create(name.text, kFields));
  const std::string& there = name.text;
  const std::size_t entry = sizeof(SharedHeader);
  CHECK_THROWS(Error, "expected keystep's arrays, got something else", open_changed(there, 0, 'x'));
  CHECK_THROWS(Error, "expected version 1, got 2",
               open_changed(there, offsetof(SharedHeader, version), std::uint32_t{2}));
  for (const std::uint32_t fields : {0u, 2u, 64u, 65u, ~0u}) {
    CHECK_THROWS(Error, "expected", open_changed(there, offsetof(SharedHeader, fields), fields));
  }
  CHECK_THROWS(Error, "bytes for its fields",
               open_changed(there, entry + offsetof(SharedEntry, shape), std::int64_t{500}));
  CHECK_THROWS(Error, "bytes for its fields",
               open_changed(there, entry + offsetof(SharedEntry, offset), std::uint64_t{1 << 20}));
  CHECK_THROWS(Error, "a damaged one",
               open_changed(there, entry + offsetof(SharedEntry, dtype), std::uint32_t{3}));
  CHECK_THROWS(ArgumentError, "expected extents",
               open_changed(there, entry + offsetof(SharedEntry, shape), std::int64_t{-1}));
  CHECK(SharedArrays::open(there)->fields() == kFields);
}

}  // namespace

int main() {
  a_record_comes_as_it_was_written();
  records_are_whole(true);  // before there are threads
  a_writer_that_is_gone_is_known();
  a_name_is_removed_by_whose_it_is();
  records_are_whole(false);
  a_policy_runs_between_two();
  refuses_what_it_does_not_know();
  return result();
}
