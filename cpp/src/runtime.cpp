#include "keystep/runtime.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <mutex>
#include <thread>
#include <utility>

#include "entry.hpp"
#include "keystep/chunk_buffer.hpp"
#include "keystep/controller.hpp"
#include "keystep/planner.hpp"
#include "keystep/safety_gate.hpp"
#include "latency_recorder.hpp"

namespace keystep {
namespace {

using Clock = std::chrono::steady_clock;

RuntimeOptions checked(RuntimeOptions options, const Bundle& bundle) {
  if (!(options.deadline_us >= 0) || !std::isfinite(options.deadline_us)) {
    throw ArgumentError(
        expected("deadline_us", "0 (the control period) or more", std::to_string(options.deadline_us)));
  }
  if (options.max_observation_age_us < 0) {
    throw ArgumentError(expected("max_observation_age_us", "0 (no limit) or more",
                                 std::to_string(options.max_observation_age_us)));
  }
  if (options.deadline_us == 0) options.deadline_us = 1e6 / bundle.control_rate_hz;
  return options;
}

/// Index of a task by name or instruction; 0 where the policy takes none and none is given.
int find_task(const Bundle& bundle, const std::string& task) {
  constexpr std::size_t kShown = 20;
  const auto& inputs = bundle.graphs.at("encode").inputs;
  const bool needed = std::any_of(inputs.begin(), inputs.end(),
                                  [](const TensorSpec& tensor) { return tensor.role == "task"; });
  if (task.empty() && !needed) return 0;
  std::string known;
  for (std::size_t i = 0; i < bundle.tasks.size(); ++i) {
    const TaskSpec& spec = bundle.tasks[i];
    if (!task.empty() && (task == spec.name || task == spec.instruction)) return static_cast<int>(i);
    if (i < kShown) known += (i ? ", " : "") + spec.name;
  }
  if (bundle.tasks.size() > kShown) known += " and " + std::to_string(bundle.tasks.size() - kShown) + " more";
  throw ArgumentError(expected("task", known.empty() ? "none (the policy has no tasks)" : "one of " + known,
                               task.empty() ? "none" : "'" + task + "'"));
}

}  // namespace

struct Runtime::Impl {
  Impl(const std::filesystem::path& folder, const RuntimeOptions& wanted)
      : bundle(load_bundle(folder)),
        options(checked(wanted, bundle)),
        engine(make_engine(options.engine)),
        controller(std::make_unique<Controller>(bundle, *engine, options.inference_steps)),
        description(engine->description()),
        buffer(bundle.chunk.horizon, bundle.chunk.execute, static_cast<int>(bundle.action.names.size())),
        gate(bundle.action),
        chunk(bundle.chunk.horizon * bundle.action.names.size()) {}

  Status tick(const Observation& observation, Action& action) noexcept;
  Status renew(const Observation& observation) noexcept;
  Status predict(const Observation& observation, std::span<const float> noise, std::span<float> out) noexcept;
  void interrupt() noexcept;
  void absorb_interrupts() noexcept;
  bool is_stale(const Observation& observation) noexcept;
  Status fail(Status status, const std::string& message = {}) noexcept;

  const Bundle bundle;
  const RuntimeOptions options;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Controller> controller;  // freed by close
  const std::string description;
  NoPlanner planner;
  ChunkBuffer buffer;
  SafetyGate gate;
  std::vector<float> chunk;

  // The episode.
  NoiseKey key;                // chunk counts renewals
  bool started = false;        // reset was called
  std::uint64_t at_epoch = 0;  // the epoch the chunk in the buffer belongs to
  std::string last_error;

  // Shared with other threads.
  std::atomic<std::uint64_t> epoch = 0;  // counts interrupts
  std::atomic<bool> sampling = false;    // a sample is in flight: terminate has something to end
  std::atomic<bool> closed = false;
  std::atomic_flag busy;
  std::mutex controller_mutex;  // interrupt on one thread, close on another

  LatencyRecorder recorder;
  LatencyRecorder unrecorded;         // of predict_chunk, which is outside the loop
  std::uint64_t uncounted_epoch = 0;  // interrupts before reset_latency
};

/// The loop of the design, one control period.
Status Runtime::Impl::tick(const Observation& observation, Action& action) noexcept {
  // An interrupt since the last tick: the rest of that chunk must not be executed.
  absorb_interrupts();

  // Note the observation.
  if (is_stale(observation)) return fail(Status::stale_observation);
  if (controller->check(observation) != Status::ok) return fail(Status::bad_observation, controller->error());

  // Ask the planner; a key-step interrupts.
  PlanReply reply;
  {
    const StageTimer timer(recorder[Stage::plan]);
    reply = planner.ask(observation);
  }
  if (reply.status != Status::ok) return fail(reply.status);
  if (reply.key_step) {
    epoch.fetch_add(1);
    absorb_interrupts();
  }

  // Renew the chunk.
  if (buffer.needs_renewal()) {
    if (const Status status = renew(observation); status != Status::ok) return status;
  }

  // Take the next action, by consumed index.
  std::ranges::copy(buffer.take(), action.values.begin());
  const StageTimer timer(recorder[Stage::gate]);
  gate.apply(action.values);
  ++recorder.actions;
  return Status::ok;
}

/// Observation to chunk. A chunk that fails leaves the buffer empty: the next tick tries again, new noise.
Status Runtime::Impl::renew(const Observation& observation) noexcept {
  {
    const StageTimer timer(recorder[Stage::observe]);
    if (controller->observe(observation) != Status::ok)
      return fail(Status::bad_observation, controller->error());
  }
  const NoiseKey noise = key;
  ++key.chunk;
  sampling = true;
  const Status status = controller->sample(noise, {}, epoch, at_epoch, recorder[Stage::encode],
                                           recorder[Stage::denoise], chunk);
  sampling = false;
  if (status != Status::ok) return fail(status, controller->error());
  ++recorder.chunks;
  const StageTimer timer(recorder[Stage::gate]);
  if (!gate.admit(chunk)) return fail(Status::rejected_chunk);
  // Lockstep: the chunk starts at the action this observation was made for.
  buffer.install(buffer.consumed(), chunk);
  return Status::ok;
}

Status Runtime::Impl::predict(const Observation& observation, std::span<const float> noise,
                              std::span<float> out) noexcept {
  if (out.size() != chunk.size()) {
    const std::string got = std::to_string(out.size());
    return fail(Status::bad_observation, expected("chunk", std::to_string(chunk.size()) + " values", got));
  }
  if (controller->observe(observation) != Status::ok)
    return fail(Status::bad_observation, controller->error());
  sampling = true;
  const Status status = controller->sample(key, noise, epoch, epoch.load(), unrecorded[Stage::encode],
                                           unrecorded[Stage::denoise], out);
  sampling = false;
  if (status != Status::ok) return fail(status, controller->error());
  const bool finite = std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); });
  return finite ? Status::ok : fail(Status::rejected_chunk);
}

/// The epoch first, then terminate: a sample that starts in between sees the new epoch by itself.
void Runtime::Impl::interrupt() noexcept {
  epoch.fetch_add(1);
  if (!sampling) return;
  const std::lock_guard lock(controller_mutex);
  if (controller) controller->terminate();
}

void Runtime::Impl::absorb_interrupts() noexcept {
  const std::uint64_t before = std::exchange(at_epoch, epoch.load());
  if (before != at_epoch) buffer.drop();
}

bool Runtime::Impl::is_stale(const Observation& observation) noexcept {
  if (options.max_observation_age_us == 0 || observation.timestamp_us < 0) return false;
  if (now_us() - observation.timestamp_us <= options.max_observation_age_us) return false;
  ++gate.counts().stale_observations;
  return true;
}

/// Keeps the message of a tick that was not ok; the only place where a tick may allocate.
Status Runtime::Impl::fail(Status status, const std::string& message) noexcept {
  try {
    last_error = message.empty() || status == Status::interrupted ? describe(status) : message;
  } catch (...) {
    last_error.clear();  // out of memory: the status still tells
  }
  return status;
}

// ---- the public face

Runtime::Runtime(const std::filesystem::path& bundle, RuntimeOptions options)
    : impl_(std::make_unique<Impl>(bundle, options)) {}

Runtime::~Runtime() { close(); }

const Bundle& Runtime::bundle() const noexcept { return impl_->bundle; }
const RuntimeOptions& Runtime::options() const noexcept { return impl_->options; }
std::string Runtime::engine_description() const { return impl_->description; }
const std::string& Runtime::last_error() const noexcept { return impl_->last_error; }
void Runtime::interrupt() noexcept { impl_->interrupt(); }

Action Runtime::make_action() const { return {impl_->bundle.action.hold}; }

void Runtime::reset(const EpisodeContext& context) {
  Impl& self = *impl_;
  const Entry entry(self.busy);
  if (!entry) throw Error(describe(Status::busy));
  if (self.closed) throw Error(describe(Status::closed));
  const int task = find_task(self.bundle, context.task);
  const bool wants_goal = self.bundle.goal == "observation";
  if (wants_goal != context.goal.has_value()) {
    const char* wanted = wants_goal ? "a goal observation" : "none (the policy takes no goal)";
    throw ArgumentError(expected("goal", wanted, wants_goal ? "none" : "one"));
  }
  if (wants_goal) self.controller->set_goal(*context.goal);
  self.controller->set_task(task);
  self.planner.reset();
  self.buffer.reset();
  self.gate.reset();
  self.key = {context.seed, context.episode, 0, 0};
  self.started = true;
}

Status Runtime::tick(const Observation& observation, Action& action) noexcept {
  Impl& self = *impl_;
  action.values = self.bundle.action.hold;  // allocates only if the caller did not use make_action
  const Entry entry(self.busy);
  if (!entry) return Status::busy;
  if (self.closed) return self.fail(Status::closed);
  if (!self.started) return self.fail(Status::not_reset);
  const auto start = Clock::now();
  const Status status = self.tick(observation, action);
  if (status != Status::ok) self.gate.held(action.values);
  const auto elapsed = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
  self.recorder.record_tick(elapsed, self.options.deadline_us);
  return status;
}

Status Runtime::predict_chunk(const Observation& observation, std::span<const float> noise,
                              std::span<float> chunk) noexcept {
  Impl& self = *impl_;
  const Entry entry(self.busy);
  if (!entry) return Status::busy;
  if (self.closed) return self.fail(Status::closed);
  if (!self.started) return self.fail(Status::not_reset);
  return self.predict(observation, noise, chunk);
}

LatencyReport Runtime::latency() const noexcept {
  const Impl& self = *impl_;
  LatencyReport report = self.recorder.report();
  report.interrupts = self.epoch.load() - self.uncounted_epoch;
  report.deadline_us = self.options.deadline_us;
  report.gate = self.gate.counts();
  return report;
}

void Runtime::reset_latency() noexcept {
  Impl& self = *impl_;
  self.recorder = {};
  self.uncounted_epoch = self.epoch.load();
  self.gate.counts() = {};
}

void Runtime::close() noexcept {
  Impl& self = *impl_;
  if (self.closed.exchange(true)) return;
  // A tick on another thread ends first. One that has just begun may take an interrupt for an old one:
  // repeat.
  for (; self.busy.test_and_set(); std::this_thread::yield()) {
    self.interrupt();
    ++self.uncounted_epoch;  // not the caller's
  }
  {
    const std::lock_guard lock(self.controller_mutex);
    self.controller.reset();
    self.engine.reset();
  }
  self.busy.clear();
}

}  // namespace keystep
