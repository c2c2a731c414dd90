#include "keystep/runtime.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <set>
#include <thread>

#include "bundle/bundle_files.hpp"
#include "loop/entry.hpp"
#include "loop/runtime_impl.hpp"
#include "policy/task.hpp"

namespace keystep {
namespace {

using Clock = std::chrono::steady_clock;

/// Room for the message of every status, so that a tick that says no more allocates nothing.
constexpr std::size_t kMessageBytes = 256;

RuntimeOptions checked(RuntimeOptions options, const Bundle& bundle) {
  if (!(options.deadline_us >= 0) || !std::isfinite(options.deadline_us)) {
    throw ArgumentError(
        expected("deadline_us", "0 (the control period) or more", std::to_string(options.deadline_us)));
  }
  if (options.max_observation_age_us < 0) {
    throw ArgumentError(expected("max_observation_age_us", "0 (no limit) or more",
                                 std::to_string(options.max_observation_age_us)));
  }
  if (options.clock != "steady" && options.clock != "external") {
    throw ArgumentError(expected("clock", "steady | external", in_quotes(options.clock)));
  }
  const auto needs_planner = [&](bool given, const char* option, const std::string& got) {
    if (given && !bundle.planner)
      throw ArgumentError(expected(option, "none (the bundle has no planner)", got));
  };
  needs_planner(options.planner_steps != 0, "planner_steps", std::to_string(options.planner_steps));
  needs_planner(!options.planner_sampler.empty(), "planner_sampler", "'" + options.planner_sampler + "'");
  needs_planner(options.replan.has_value(), "replan", options.replan.value_or(false) ? "true" : "false");
  const bool has_unet =
      std::ranges::any_of(bundle.graphs, [](const auto& entry) { return entry.second.unet != nullptr; });
  const std::string why = " (the bundle has no U-Net with weights of its own)";
  if (options.engine.engine == "native" && !has_unet) {
    throw ProviderError(expected("engine", "auto | onnxruntime" + why, "'native'"));
  }
  if (options.engine.engine == "auto" && !options.engine.precision.empty() && !has_unet) {
    throw ProviderError(expected("precision", "none" + why, "'" + options.engine.precision + "'"));
  }
  if (options.deadline_us == 0) options.deadline_us = 1e6 / bundle.control_rate_hz;
  return options;
}

/// Every file is hashed; `bundle.files` gets the content of those that the engine will load.
std::unique_ptr<Engine> engine_for(Bundle& bundle, const EngineOptions& options) {
  auto engine = make_engine(options);
  std::set<std::string> wanted;
  for (const auto& [key, graph] : bundle.graphs) wanted.merge(engine->files(graph));
  read_files(bundle, wanted);
  return engine;
}

std::vector<float> held_at_first(const ActionSpec& spec) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  return spec.hold_mode == "last" ? std::vector<float>(spec.names.size(), kNone) : spec.hold;
}

}  // namespace

std::unique_ptr<Runtime> RuntimeInternals::open(const std::filesystem::path& bundle,
                                                const RuntimeOptions& options,
                                                const PlannerFactory& factory) {
  return std::unique_ptr<Runtime>(new Runtime(std::make_unique<Runtime::Impl>(bundle, options, factory)));
}

const Controller& RuntimeInternals::controller(const Runtime& runtime) noexcept {
  return *runtime.impl_->controller;
}

Runtime::Impl::Impl(const std::filesystem::path& folder, const RuntimeOptions& wanted,
                    const PlannerFactory& factory)
    : bundle(open_bundle(folder)),
      options(checked(wanted, bundle)),
      external_clock(options.clock == "external"),
      engine(engine_for(bundle, options.engine)),
      controller(std::make_unique<Controller>(bundle, *engine, options.inference_steps, options.sampler)),
      planner(factory(bundle, *engine,
                      {options.planner_steps, options.planner_sampler, options.replan, options.strict_text})),
      description(engine->description()),
      choices(engine->choices()),
      plan_size(planner->plan_size()),
      buffer(bundle.chunk.horizon - bundle.chunk.start, bundle.chunk.execute,
             static_cast<int>(bundle.action.names.size())),
      gate(bundle.action),
      chunk(bundle.chunk.horizon * bundle.action.names.size()),
      first_value(bundle.chunk.start * bundle.action.names.size()),
      unheld(held_at_first(bundle.action)),
      held(unheld),
      attention(options.attendant) {
  bundle.files.clear();  // the engine has taken what it needs
  last_error.reserve(kMessageBytes);
  controller->reserve_text(planner->text_capacity());
}

// ---- the public face

Runtime::Runtime(const std::filesystem::path& bundle, RuntimeOptions options)
    : impl_(std::make_unique<Impl>(bundle, options, &make_planner)) {}
Runtime::Runtime(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Runtime::~Runtime() { close(); }

const Bundle& Runtime::bundle() const noexcept { return impl_->bundle; }
const RuntimeOptions& Runtime::options() const noexcept { return impl_->options; }
std::string Runtime::engine_description() const { return impl_->description; }
const std::vector<EngineChoice>& Runtime::engine_choices() const noexcept { return impl_->choices; }
const std::string& Runtime::last_error() const noexcept { return impl_->last_error; }
void Runtime::interrupt() noexcept { impl_->interrupt(); }
void Runtime::call_attention(bool at_once) noexcept { impl_->call_attention(at_once); }

Action Runtime::make_action() const { return {impl_->unheld}; }

void Runtime::reset(const EpisodeContext& context) {
  Impl& self = *impl_;
  if (const Status status = usable(); status != Status::ok) throw Error(describe(status));
  const Entry entry(self.busy);
  if (!entry) throw Error(describe(Status::busy));
  if (self.closed) throw Error(describe(Status::closed));
  const Attention::Call call(self.attention);
  // First everything that may be refused.
  const Aim aim = aim_of(self.bundle, context);
  const bool wants_goal = self.bundle.goal == "observation";
  if (wants_goal != context.goal.has_value()) {
    const char* wanted = wants_goal ? "a goal observation" : "none (the policy takes no goal)";
    throw ArgumentError(expected("goal", wanted, wants_goal ? "none" : "one"));
  }
  self.planner->check(context, aim);
  if (wants_goal && self.controller->set_goal(ObservationGoal{*context.goal}) != Status::ok) {
    throw ArgumentError(self.controller->error());
  }
  self.controller->set_goal(TaskGoal{std::max(aim.task, 0)});
  self.started = false;
  self.held = self.unheld;  // where the last episode led to may be far from where this one starts
  const std::atomic<std::uint64_t> never = 0;  // an interrupt is for plans and chunks
  self.planner->reset(context, aim, {never, 0, &self.attention});
  self.controller->set_goal(self.planner->goal());
  self.controller->forget();
  self.replan_wanted = false;
  self.buffer.reset();
  self.gate.reset();
  self.key = {context.seed, context.episode, 0, 0};
  self.started = true;
}

std::string Runtime::text_warning(const std::string& instruction) const {
  const Entry entry(impl_->busy);  // close frees the planner
  return entry && impl_->planner ? impl_->planner->text_warning(instruction) : "";
}

void Runtime::replan() {
  if (!impl_->bundle.planner) {
    throw ArgumentError(expected("replan", "a bundle with a planner", "family " + impl_->bundle.family));
  }
  if (const Status status = usable(); status != Status::ok) throw Error(describe(status));
  impl_->replan_wanted = true;
}

Status Runtime::tick(const Observation& observation, Action& action) noexcept {
  Impl& self = *impl_;
  action.values = self.unheld;  // allocates only if the caller did not use make_action
  if (const Status status = usable(); status != Status::ok) return status;
  const Entry entry(self.busy);
  if (!entry) return Status::busy;  // `held` belongs to the other thread
  action.values = self.held;
  if (self.closed) return self.fail(Status::closed);
  if (!self.started) return self.fail(Status::not_reset);
  const Attention::Call call(self.attention);
  const auto start = Clock::now();
  const Status status = self.tick(observation, action);
  if (status != Status::ok) self.gate.held(action.values);
  if (status == Status::ok && self.bundle.action.hold_mode == "last") self.held = action.values;
  const auto elapsed = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
  self.recorder.record_tick(elapsed, self.options.deadline_us);
  return status;
}

Status Runtime::predict_chunk(const Observation& observation, std::span<const float> noise,
                              std::span<float> chunk) noexcept {
  Impl& self = *impl_;
  if (const Status status = usable(); status != Status::ok) return status;
  const Entry entry(self.busy);
  if (!entry) return Status::busy;
  if (self.closed) return self.fail(Status::closed);
  if (!self.started) return self.fail(Status::not_reset);
  const Attention::Call call(self.attention);
  return self.predict_chunk(observation, noise, chunk);
}

Status Runtime::predict_plan(const Observation& observation, std::span<const float> noise,
                             std::span<float> plan) noexcept {
  Impl& self = *impl_;
  if (const Status status = usable(); status != Status::ok) return status;
  const Entry entry(self.busy);
  if (!entry) return Status::busy;
  if (self.closed) return self.fail(Status::closed);
  if (!self.started) return self.fail(Status::not_reset);
  const Attention::Call call(self.attention);
  return self.predict_plan(observation, noise, plan);
}

bool Runtime::closed() const noexcept { return impl_->closed; }

Status Runtime::usable() const noexcept {
  if (impl_->closed) return Status::closed;
  return forks() == impl_->forks_at_load ? Status::ok : Status::forked;
}

std::size_t Runtime::plan_size() const noexcept { return impl_->plan_size; }

bool Runtime::plan(std::span<float> out) const noexcept {
  const Entry entry(impl_->busy);  // close frees the planner
  return entry && impl_->planner && impl_->planner->plan(out);
}

PlanProgress Runtime::plan_progress() const noexcept {
  const Entry entry(impl_->busy);
  if (!entry || !impl_->planner) return {};
  return impl_->planner->progress(impl_->buffer.consumed());
}

LatencyReport Runtime::latency() const noexcept {
  const Impl& self = *impl_;
  LatencyReport report = self.recorder.report();
  report.interrupts = self.epoch.load() - self.uncounted_epoch.load();
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
  if (forks() != self.forks_at_load) {  // whoever was inside, or holds a lock, is not in this process
    self.closed = true;
    [[maybe_unused]] const void* left[] = {self.controller.release(), self.planner.release(),
                                           self.engine.release()};
    return;
  }
  if (self.closed.exchange(true)) return;
  // A tick on another thread ends first. One that has just begun may take an interrupt for an old one:
  // repeat.
  for (; self.busy.test_and_set(); std::this_thread::yield()) {
    self.interrupt();
    ++self.uncounted_epoch;  // not the caller's
  }
  {
    const std::lock_guard lock(self.engine_mutex);
    self.controller.reset();
    self.planner.reset();
    self.engine.reset();
  }
  self.busy.clear();
}

}  // namespace keystep
