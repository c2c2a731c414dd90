#include "loop/async/async_loop.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>

#include "loop/async/async_options.hpp"
#include "support/clock.hpp"

namespace keystep {
namespace {

constexpr std::size_t kMessageBytes = 256;

float* target_of(const Bundle& bundle, const Tensors& tensors, const std::string& name) {
  return tensors.data<float>(observing_graph(bundle), kObservationPrefix + name);
}

std::vector<bool> taken_by(const Bundle& bundle, const Tensors& tensors) {
  std::vector<bool> taken;
  for (const FeatureSpec& feature : bundle.observation) {
    taken.push_back(target_of(bundle, tensors, feature.name()) != nullptr);
  }
  return taken;
}

/// Room for as many frames as the network takes of any feature.
std::size_t frames_of(const Bundle& bundle, const std::vector<bool>& taken) {
  int frames = 1;
  for (std::size_t i = 0; i < taken.size(); ++i) {
    if (taken[i]) frames = std::max(frames, bundle.observation[i].history);
  }
  return static_cast<std::size_t>(frames);
}

Snapshot empty_snapshot(const Bundle& bundle, std::size_t frames, std::size_t rest) {
  return {.frames = std::vector(frames, OwnedObservation(bundle.observation)),
          .rest = std::vector<float>(rest)};
}

}  // namespace

const char* name(Cause cause) noexcept {
  switch (cause) {
    case Cause::starting:
      return "starting";
    case Cause::interrupted:
      return "interrupted";
    case Cause::late:
      return "late";
    case Cause::stale:
      return "stale";
    case Cause::refused:
      return "refused";
    case Cause::failed:
      return "failed";
    case Cause::hung:
      return "hung";
  }
  return "unknown cause";
}

AsyncLoop::AsyncLoop(const Parts& parts)
    : parts_(parts),
      options_(parts.options.async),
      rows_(parts.bundle.chunk.horizon - parts.bundle.chunk.start),
      first_value_(static_cast<std::size_t>(parts.bundle.chunk.start) * parts.bundle.action.names.size()),
      request_below_(request_below(options_, parts.bundle)),
      plan_ahead_(plan_ahead(options_, parts.bundle)),
      taken_(taken_by(parts.bundle, parts.tensors)),
      intake_(parts.bundle.observation,
              [&](const std::string& of) { return target_of(parts.bundle, parts.tensors, of); }),
      no_snapshot_(empty_snapshot(parts.bundle, frames_of(parts.bundle, taken_),
                                  static_cast<std::size_t>(rows_) * parts.bundle.action.names.size())),
      no_frame_(empty_snapshot(parts.bundle, 1, 0)),
      no_goal_{.goal = OwnedGoal(parts.bundle, parts.planner.text_capacity())},
      no_chunk_{.values = std::vector<float>(static_cast<std::size_t>(parts.bundle.chunk.horizon) *
                                             parts.bundle.action.names.size()),
                .error = {}},
      exchange_(no_frame_, no_snapshot_, no_goal_, no_chunk_),
      chunk_maker_(exchange_, parts.interrupts, parts.controller, parts.recorder, parts.replan_wanted,
                   continuing(options_, parts.bundle)),
      plan_maker_(exchange_, parts.interrupts, parts.planner, parts.controller, parts.recorder,
                  parts.replan_wanted, no_goal_.goal),
      planner_track_(parts.trace.thread("planner")),
      controller_track_(parts.trace.thread("controller")),
      queue_(queue_settings(options_, parts.bundle)),
      underrun_(underrun_policy(options_), parts.bundle.action, parts.bundle.chunk.execute),
      recent_(no_snapshot_.frames) {
  error_.reserve(kMessageBytes);
  failure_error_.reserve(kMessageBytes);
}

AsyncLoop::~AsyncLoop() { stop(); }

void AsyncLoop::start(const NoiseKey& key, bool threads) {
  exchange_.to_planner.reset(no_frame_);
  exchange_.to_controller.reset(no_snapshot_);
  exchange_.goals.reset(no_goal_);
  exchange_.chunks.reset(no_chunk_);
  exchange_.plan_failures.reset({});
  exchange_.chunk_wanted = false;
  exchange_.consumed = exchange_.ticks = exchange_.goal_from = 0;
  exchange_.plan_delay = 1;
  exchange_.goal_number = exchange_.goal_taken = 0;
  exchange_.planner_alive = exchange_.controller_alive = 0;
  chunk_maker_.reset(key);
  exchange_.plans = plan_maker_.reset();
  queue_.reset();
  underrun_.reset();
  delays_ = {};
  recent_count_ = 0;
  at_epoch_ = parts_.interrupts.epoch;
  parts_.interrupts.since_ns = interrupted_ns_ = 0;
  goal_ = flow_ = received_ = 0;
  waiting_ = had_chunk_ = had_chunk_in_epoch_ = false;
  failure_ = Status::ok;
  counts_.hung = 0;
  if (threads) launch();
}

void AsyncLoop::launch() {
  exchange_.stopping = false;
  try {
    controller_thread_ = run(chunk_maker_, exchange_.controller_bell, controller_track_.get());
    if (exchange_.plans) planner_thread_ = run(plan_maker_, exchange_.planner_bell, planner_track_.get());
  } catch (const std::system_error& error) {
    stop();
    throw Error(std::string("mode async: expected threads for planner and controller, got ") + error.what());
  }
  wake();
}

template <class Maker>
std::thread AsyncLoop::run(Maker& maker, Bell& bell, TraceTrack* track) {
  ++running_;
  try {
    return std::thread([this, &maker, &bell, track] {
      const TracedThread traced(track);
      for (bell.wait(); !exchange_.stopping; bell.wait()) {
        while (!exchange_.stopping && maker.begin()) maker.finish();
      }
      --running_;
    });
  } catch (...) {
    --running_;
    throw;
  }
}

/// A call of the engine that has just begun may take a terminate for an old one: repeat.
void AsyncLoop::stop() noexcept {
  if (!controller_thread_.joinable()) return;
  exchange_.stopping = true;
  for (; running_ > 0; std::this_thread::sleep_for(std::chrono::microseconds(50))) {
    parts_.interrupts.epoch.fetch_add(1);
    parts_.terminate();
    wake();
  }
  controller_thread_.join();
  if (planner_thread_.joinable()) planner_thread_.join();
}

void AsyncLoop::wake() noexcept {
  exchange_.planner_bell.ring();
  exchange_.controller_bell.ring();
}

void AsyncLoop::replan() noexcept {
  parts_.replan_wanted = true;
  parts_.interrupts.add(now_ns());
  parts_.terminate();
  wake();
}

void AsyncLoop::reset_counts() noexcept {
  counts_ = {};
  report();
}

void AsyncLoop::report() noexcept {
  counts_.consumed = queue_.consumed();
  counts_.left = queue_.left();
  counts_.plans = parts_.recorder.plans.get();
  counts_.expected_delay = expected_delay();
  counts_.usual_delay = usual_delay();
  counts_.interrupts = parts_.interrupts.counted;
  counts_.gate = parts_.gate.counts();
  telemetry_.store(counts_);
}

}  // namespace keystep
