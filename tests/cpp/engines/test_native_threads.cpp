// The native engine among threads: several callers, two engines, interrupts, an engine that ends elsewhere.
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "check.hpp"
#include "engines/native/team.hpp"
#include "loaded_unet.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

const UnetShape kShape = {.dims = {16, 24}, .horizon = 8, .rows = 2};
constexpr int kRuns = 40;

int two() { return std::min(2, cores_here()); }

EngineOptions options(const std::string& precision, int spin_us = 0, int threads = two()) {
  EngineOptions made = native_options("", precision, threads);
  made.spin_us = spin_us;
  return made;
}

/// Runs one U-Net again and again; every result is the same.
void run_often(LoadedUnet& unet, unsigned seed) {
  unet.draw(seed);
  const std::vector<float> first = unet.ran();
  for (int i = 1; i < kRuns; ++i) CHECK(unet.ran() == first);
}

void callers_of_one_engine() {
  const UnetFolder folder(kShape, random_weights(kShape));
  for (const auto& [spin_us, threads] : {std::pair{0, two()}, {50, two()}, {0, 1}}) {
    native::NativeEngine engine(options("fp32", spin_us, threads));
    LoadedUnet one(engine, folder), two(engine, folder), three(engine, folder);
    std::thread a([&] { run_often(one, 1); }), b([&] { run_often(two, 2); });
    run_often(three, 1);
    a.join();
    b.join();
    CHECK(one.ran() == three.ran());
    CHECK(one.ran() != two.ran());
  }
}

/// Waits in the midst of a stage until so many jobs are there, for a minute at most.
struct Meeting final : native::Team::Job {
  explicit Meeting(std::atomic<int>& there) : there_(there) {}
  void walk(native::Team::Member& member) noexcept override {
    member.share([this](int) {
      ++there_;
      for (int i = 0; i < 60'000 && there_ < 2; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      met = there_ == 2;
    });
  }
  bool met = false;

 private:
  std::atomic<int>& there_;
};

/// A team without workers has nothing to wait for: a server's sessions run on as many cores as there are.
void callers_of_one_thread_run_at_once() {
  native::Team team(1, false, 0);
  std::atomic<int> there = 0;
  Meeting one(there), other(there);
  std::thread thread([&] { team.run(one); });
  team.run(other);
  thread.join();
  CHECK(one.met && other.met);
}

/// Two engines have threads of their own; what they compute does not meet.
void two_engines() {
  const UnetFolder folder(kShape, random_weights(kShape));
  native::NativeEngine first(options("fp32")), second(options("bf16", 50));
  LoadedUnet one(first, folder), other(second, folder);
  std::thread thread([&] { run_often(one, 1); });
  run_often(other, 1);
  thread.join();
}

/// Loading on one thread while another computes.
void loads_beside_a_run() {
  const UnetFolder folder(kShape, random_weights(kShape)), other(kShape, random_weights(kShape, 2));
  native::NativeEngine engine(options("int8"));
  LoadedUnet unet(engine, folder);
  std::thread thread([&] { run_often(unet, 1); });
  for (int i = 0; i < 5; ++i) {
    LoadedUnet later(engine, other);
    later.draw(3);
    CHECK(later.run());
  }
  thread.join();
}

/// Made here, used on a second thread, ended on a third.
void moves_between_threads() {
  const UnetFolder folder(kShape, random_weights(kShape));
  std::optional<native::NativeEngine> engine;
  std::optional<LoadedUnet> unet;
  std::thread([&] {
    engine.emplace(options("fp32"));
    unet.emplace(*engine, folder);
  }).join();
  std::thread([&] { run_often(*unet, 1); }).join();
  run_often(*unet, 2);
  std::thread([&] {
    unet.reset();
    engine.reset();
  }).join();
}

/// Its threads end with it, whether they have run or not, and whether they sleep or spin.
void ends_at_any_time() {
  const UnetFolder folder(kShape, random_weights(kShape));
  for (const int spin_us : {0, 100000}) {
    for (int runs = 0; runs < 3; ++runs) {
      native::NativeEngine engine(options("fp32", spin_us));
      LoadedUnet unet(engine, folder);
      for (int i = 0; i < runs; ++i) CHECK(unet.run());
    }
  }
  native::NativeEngine never_used(options("fp32"));
}

/// An interrupt ends a run early or comes too late for it; the next run without one is whole.
void survives_a_storm_of_interrupts() {
  const UnetFolder folder(kShape, random_weights(kShape));
  native::NativeEngine engine(options("fp32"));
  LoadedUnet unet(engine, folder);
  unet.draw(1);
  const std::vector<float> whole = unet.ran();
  std::atomic<bool> done = false;
  std::thread storm([&] {
    while (!done) {
      unet.step->terminate();
      unet.film->terminate();
    }
  });
  for (int i = 0; i < 500; ++i) {
    const Status status = unet.run_step();
    CHECK(status == Status::ok || status == Status::interrupted);
    if (status == Status::ok) CHECK(std::equal(whole.begin(), whole.end(), unet.output().begin()));
  }
  done = true;
  storm.join();
  for (Graph* graph : {unet.film.get(), unet.step.get()}) {  // one may be left from the storm
    const Status status = graph->run(kShape.rows);
    CHECK(status == Status::ok || status == Status::interrupted);
  }
  CHECK(unet.ran() == whole);
}

/// More callers than cores, each with an engine: waiting threads sleep, and everybody gets through.
void more_engines_than_cores() {
  const UnetFolder folder(kShape, random_weights(kShape));
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i) {
    threads.emplace_back([&folder, i] {
      native::NativeEngine engine(options(kPrecisions[i % 3], i % 2 ? 100 : 0));
      LoadedUnet unet(engine, folder);
      run_often(unet, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main() {
  if (cores_here() < 2) std::printf("one core: the engines have one thread each\n");
  callers_of_one_engine();
  callers_of_one_thread_run_at_once();
  two_engines();
  loads_beside_a_run();
  moves_between_threads();
  ends_at_any_time();
  survives_a_storm_of_interrupts();
  more_engines_than_cores();
  return result();
}
