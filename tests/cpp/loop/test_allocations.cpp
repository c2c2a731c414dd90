// A tick allocates nothing: counted by replacing operator new for the whole program. With the stub engine the
// count must be 0, renewals included. ONNX Runtime allocates inside its own library; of those calls only the
// ones made from this program's own code are forbidden, the rest is printed.
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "check.hpp"
#include "keystep/keystep.hpp"
#include "native_policy.hpp"
#include "policy/resizer.hpp"
#include "subgoal_fixture.hpp"
#include "text_planner.hpp"

namespace {

std::atomic<bool> counting = false, failing = false;
std::atomic<std::uint64_t> allocations = 0, own_allocations = 0;

/// Whether `address` lies in the program itself and not in a shared library.
bool is_own_code(const void* address) {
  static const void* const base = [] {
    Dl_info info{};
    dladdr(reinterpret_cast<const void*>(&is_own_code), &info);
    return static_cast<const void*>(info.dli_fbase);
  }();
  Dl_info info{};
  return dladdr(address, &info) != 0 && info.dli_fbase == base;
}

void* allocate(std::size_t bytes, std::size_t alignment, const void* caller) {
  if (counting) {
    counting = false;  // dladdr may itself allocate
    ++allocations;
    own_allocations += is_own_code(caller);
    counting = true;
  }
  if (failing) throw std::bad_alloc();
  bytes = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, bytes == 0 ? alignment : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// Not inlined: the return address must be the caller's, and GCC 12 mistakes inlined pairs for mismatches.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  return allocate(bytes, alignof(std::max_align_t), __builtin_return_address(0));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment), __builtin_return_address(0));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return failing ? nullptr : allocate(bytes, alignof(std::max_align_t), __builtin_return_address(0));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr int kTicks = 100;  // 34 renewals and, with a planner, more than 10 plans

void count_ticks(const fs::path& bundle, const EngineOptions& engine, int candidates = 1,
                 std::shared_ptr<Tracer> tracer = {}) {
  Runtime runtime(bundle, {.engine = engine,
                           .planner_candidates = candidates,
                           .max_observation_age_us = 1'000'000,
                           .tracer = std::move(tracer)});
  runtime.reset({"push", {}, 7, 1});
  Action action = runtime.make_action();
  const std::vector<float> state = {1.5f, 2.5f, 5.0f};
  bool good = runtime.tick(seen(state), action) == Status::ok;  // ONNX Runtime sizes its arenas now
  allocations = own_allocations = 0;
  counting = true;
  for (int i = 0; i < kTicks; ++i) {
    if (i % 10 == 5) runtime.interrupt();
    if (i % 10 == 7 && runtime.bundle().planner) runtime.replan();
    good &= runtime.tick(seen(state).at(now_us()), action) == Status::ok;
  }
  counting = false;
  CHECK(good);
}

void count_ticks(const std::string& manifest, const EngineOptions& engine, int candidates = 1,
                 std::shared_ptr<Tracer> tracer = {}) {
  const TemporaryFolder folder;
  write_bundle(folder.path(), manifest, encode_graph(), denoise_graph());
  count_ticks(folder.path(), engine, candidates, std::move(tracer));
}

void the_counter_counts() {
  counting = true;
  const auto one = std::make_unique<int>(1);
  const std::vector<std::string> two(2, std::string(100, 'x'));
  counting = false;
  CHECK(allocations >= 4 && own_allocations >= 2);
}

/// A planner that writes text, answers later and is aborted allocates nothing either, nor do its goals.
void count_written_ticks() {
  for (const auto& [manifest, tensor] : {std::pair{kManifest, ""}, {kSubgoalManifest, "state"}}) {
    Written policy(manifest, tensor);
    CHECK(policy.tick() == Status::ok);
    allocations = 0;
    counting = true;
    for (int i = 0; i < kTicks; ++i) {
      if (i % 7 == 5) policy.runtime->interrupt();
      if (policy.tick() != Status::ok) ++failures;
    }
    counting = false;
    CHECK(allocations == 0 && policy.log.answered.size() > 10 && !policy.log.aborted.empty());
  }
}

/// Nor does a chunk that continues another.
void count_continued_chunks(const std::string& manifest) {
  test::Policy policy(manifest);
  policy.reset();
  std::vector<float> chunk(kChunk), old(kChunk, 0.5f);
  allocations = 0;
  counting = true;
  for (int i = 0; i < kTicks; ++i) {
    const Continuation from{
        .previous = old, .delay = i % 3, .overlap = 3, .rule = Continuation::Rule::x0blend};
    if (policy.runtime->predict_chunk(seen(kState), {}, chunk, nullptr, from) != Status::ok) ++failures;
  }
  counting = false;
  CHECK(allocations == 0);
}

/// Neither do ticks that are interrupted, in a plan or in a chunk.
void count_interrupted_ticks(const std::string& manifest) {
  test::Policy policy(manifest, {{"stub.sleep_us", "20000"}});
  policy.reset();
  std::atomic<bool> done = false;
  std::thread other([&] {
    for (; !done; std::this_thread::sleep_for(std::chrono::milliseconds(2))) policy.runtime->interrupt();
  });
  allocations = 0;
  counting = true;
  for (int i = 0; i < 3; ++i) {
    if (policy.tick() != Status::interrupted) ++failures;
  }
  counting = false;
  done = true;
  other.join();
  CHECK(allocations == 0 && policy.runtime->last_error() == describe(Status::interrupted));
}

/// Neither do the ticks of the asynchronous mode, nor its threads once every message was sent.
void count_asynchronous_ticks(const std::string& manifest, AsyncOptions async = {}) {
  RuntimeOptions options;
  options.mode = "async";
  options.async = std::move(async);
  const bool continues = options.async.merge.empty();
  test::Policy policy(manifest, {}, options);
  policy.reset();
  const auto tick = [&](int i) {
    if (i % 50 == 5) policy.runtime->interrupt();
    if (i % 50 == 7 && policy.runtime->bundle().planner) policy.runtime->replan();
    if (policy.tick() != Status::ok) ++failures;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  };
  for (int i = 0; i < 500; ++i) tick(i);
  const Telemetry before = policy.runtime->telemetry();
  allocations = 0;
  counting = true;
  for (int i = 0; i < 500; ++i) tick(i);
  counting = false;
  const Telemetry after = policy.runtime->telemetry();
  CHECK(allocations == 0 && after.chunks > before.chunks + 10);
  CHECK((after.chunks_continued > before.chunks_continued + 10) == continues);
}

/// Smaller images fit where larger ones did.
void images_of_other_sizes() {
  const std::vector<std::uint8_t> bytes(40 * 30 * 3, 200);
  Resizer resizer(10, 10);
  resizer.resize({bytes.data(), 40, 30});
  allocations = 0;
  counting = true;
  for (const auto& [height, width] : {std::pair{20, 30}, {40, 30}, {7, 9}, {39, 29}}) {
    resizer.resize({bytes.data(), height, width});
  }
  counting = false;
  CHECK(allocations == 0);
}

/// Without memory for a larger image the resizer still does the sizes it did.
void a_resizer_survives_a_failed_allocation() {
  const std::vector<std::uint8_t> bytes(400 * 300 * 3, 200);
  Resizer resizer(10, 10);
  resizer.resize({bytes.data(), 40, 30});
  failing = true;
  bool refused = false;
  try {
    resizer.resize({bytes.data(), 400, 300});
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  failing = false;
  CHECK(refused);
  const ImageView view = resizer.resize({bytes.data(), 40, 30});
  CHECK(std::all_of(view.data, view.data + 300, [](std::uint8_t byte) { return byte == 200; }));
}

void check_stub(const std::string& manifest, int candidates = 1) {
  count_ticks(manifest, {.engine = "stub"}, candidates);
  CHECK(allocations == 0);
}

/// Nor does one that is traced. The thread that writes the file sleeps meanwhile, for it does allocate.
void check_traced(const std::string& manifest) {
  const TemporaryFolder folder;
  const auto tracer =
      std::make_shared<Tracer>(folder.path() / "run.pftrace", TraceOptions{.drain_ms = 1'000'000});
  count_ticks(manifest, {.engine = "stub"}, 1, tracer);
  CHECK(allocations == 0);
  tracer->flush();
  CHECK(tracer->report().events > 10 * kTicks && tracer->report().dropped == 0);
}

/// False if there is no ONNX Runtime to count.
bool check_onnxruntime() {
  try {
    count_ticks(kManifest, {.threads = 1});
  } catch (const ProviderError& error) {
    std::printf("skipped: %s\n", error.what());
    return false;
  }
  const std::uint64_t library = allocations - own_allocations;
  std::printf("onnxruntime: %.1f allocations a tick inside its library, %.1f in ours\n",
              static_cast<double>(library) / kTicks, static_cast<double>(own_allocations) / kTicks);
  CHECK(own_allocations == 0);
  const TemporaryFolder folder;
  write_native_policy(folder.path());
  for (const char* precision : {"fp32", "bf16", "int8"}) {
    count_ticks(folder.path(), {.engine = "native", .threads = 1, .precision = precision});
    CHECK(own_allocations == 0);
  }
  return true;
}

}  // namespace

int main() {
  the_counter_counts();
  check_stub(kManifest);
  check_stub(guided(kManifest, 2));
  check_stub(replaced(kManifest, "\"ddim\"", "\"ddpm\""));
  check_stub(replaced(kManifest, "\"rate_limit\": null", "\"rate_limit\": [0.1, 0.1]"));
  check_stub(one_step(kManifest));
  check_stub(with_history(kManifest));
  check_stub(holding(kHoldsLast));
  check_stub(ensembled(kManifest));
  check_stub(kSubgoalManifest);
  check_stub(unguided(kSubgoalManifest));
  check_stub(with_both_films(kSubgoalManifest));
  check_stub(kSubgoalManifest, 8);
  check_stub(scored(kSubgoalManifest), 8);
  for (const std::string& manifest : {kManifest, kSubgoalManifest}) check_traced(manifest);
  count_written_ticks();
  for (const std::string& manifest : {kManifest, kRelativeManifest}) count_continued_chunks(manifest);
  count_interrupted_ticks(kManifest);
  count_interrupted_ticks(kSubgoalManifest);
  for (const std::string& manifest : {kManifest, kRelativeManifest}) count_asynchronous_ticks(manifest);
  count_asynchronous_ticks(masked(kManifest, 2));
  count_asynchronous_ticks(with_history(kManifest), {.underrun = "repeat", .merge = "temporal_ensemble"});
  count_asynchronous_ticks(kSubgoalManifest, {.underrun = "decelerate"});
  images_of_other_sizes();
  a_resizer_survives_a_failed_allocation();
  const bool complete = check_onnxruntime();
  return failures || complete ? result() : kSkipped;
}
