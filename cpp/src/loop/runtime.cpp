#include "keystep/runtime.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <new>
#include <utility>

#include "loop/async/async_options.hpp"
#include "loop/runtime_impl.hpp"
#include "policy/task.hpp"

namespace keystep {
namespace {

using Clock = std::chrono::steady_clock;

RuntimeOptions attended(RuntimeOptions options, std::shared_ptr<Attendant> attendant) {
  options.attendant = std::move(attendant);
  return options;
}

std::vector<float> held_at_first(const ActionSpec& spec) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  return spec.hold_mode == "last" ? std::vector<float>(spec.names.size(), kNone) : spec.hold;
}

}  // namespace

std::unique_ptr<Runtime> RuntimeInternals::open(const std::filesystem::path& bundle,
                                                const RuntimeOptions& options, const PlannerFactory& planner,
                                                const EngineFactory& engine) {
  return std::unique_ptr<Runtime>(new Runtime(std::make_unique<Runtime::Impl>(
      std::make_shared<const Policy>(bundle, options, engine), options.attendant, planner)));
}

const Controller& RuntimeInternals::controller(const Runtime& runtime) noexcept {
  return *runtime.impl_->controller;
}

AsyncLoop& RuntimeInternals::async(Runtime& runtime) noexcept { return *runtime.impl_->async; }

bool RuntimeInternals::take_clock(Runtime& runtime) noexcept {
  return !runtime.impl_->clocked.exchange(true);
}

void RuntimeInternals::leave_clock(Runtime& runtime) noexcept {
  runtime.impl_->was_clocked = true;
  runtime.impl_->clocked = false;
}

bool RuntimeInternals::was_clocked(const Runtime& runtime) noexcept { return runtime.impl_->was_clocked; }

void RuntimeInternals::given(Runtime& runtime, std::span<const float> action) noexcept {
  Runtime::Impl& self = *runtime.impl_;
  const Entry entry(self.inside);
  if (self.refusal(entry) != Status::ok) return;
  self.gate.held(action);
  if (self.async) self.async->given(action);
  if (self.virtual_wait) self.virtual_wait->given(action);
}

Runtime::Impl::Impl(std::shared_ptr<const Policy> shared, std::shared_ptr<Attendant> attendant,
                    const PlannerFactory& factory)
    : SessionBase(attendant),
      policy(std::move(shared)),
      shared_bundle(policy->bundle()),
      bundle(*shared_bundle),
      options(attended(policy->options(), std::move(attendant))),
      description(policy->engine_description()),
      choices(policy->engine_choices()),
      make_planner(factory),
      external_clock(options.clock == "external"),
      holds_last(bundle.action.hold_mode == "last"),
      tensors(policy->tensors()),
      planner_tensors(options.mode == "async" ? policy->tensors() : nullptr),
      controller(std::make_unique<Controller>(*policy, *tensors)),
      planner(make_planner(*policy, planner_tensors ? *planner_tensors : *tensors)),
      plan_size(planner->plan_size()),
      buffer(bundle.chunk.horizon - bundle.chunk.start, bundle.chunk.execute,
             static_cast<int>(bundle.action.names.size())),
      ensemble(lockstep_ensemble(options.mode, options.async, bundle)),
      gate(bundle.action),
      chunk(bundle.chunk.horizon * bundle.action.names.size()),
      first_value(bundle.chunk.start * bundle.action.names.size()),
      unheld(held_at_first(bundle.action)),
      held(unheld),
      trace(options.tracer) {
  controller->reserve_text(planner->text_capacity());
  const auto& virtual_time = options.virtual_time;
  if (options.mode != "async") {
    if (virtual_time)
      virtual_wait = std::make_unique<VirtualWait>(*virtual_time, underrun_policy(options.async), bundle);
    return;
  }
  async = std::make_unique<AsyncLoop>(AsyncLoop::Parts{bundle, options, *controller, *planner, *tensors, gate,
                                                       recorder, interrupts, trace, replan_wanted,
                                                       [this] { terminate(); }});
  if (virtual_time) virtual_threads = std::make_unique<VirtualThreads>(*virtual_time, *async, interrupts);
}

// ---- the public face

Runtime::Runtime(const std::filesystem::path& bundle, RuntimeOptions options)
    : impl_(std::make_unique<Impl>(std::make_shared<const Policy>(bundle, options), options.attendant,
                                   &make_planner)) {}
Runtime::Runtime(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

std::unique_ptr<Runtime> Runtime::session(std::shared_ptr<Attendant> attendant) const {
  const Impl& self = *impl_;
  if (const Status status = usable(); status != Status::ok) throw PolicyError(status);
  const std::shared_ptr<const Policy> policy = [&] {
    const std::lock_guard lock(self.engine_mutex);  // close on another thread
    return self.policy;
  }();
  if (!policy) throw PolicyError(Status::closed);
  return std::unique_ptr<Runtime>(
      new Runtime(std::make_unique<Impl>(policy, std::move(attendant), self.make_planner)));
}

Runtime::~Runtime() { close(); }

const Bundle& Runtime::bundle() const noexcept { return impl_->bundle; }
const RuntimeOptions& Runtime::options() const noexcept { return impl_->options; }
std::string Runtime::engine_description() const { return impl_->description; }
const std::vector<EngineChoice>& Runtime::engine_choices() const noexcept { return impl_->choices; }
const std::string& Runtime::last_error() const noexcept { return impl_->last_error; }
void Runtime::interrupt() noexcept {
  impl_->interrupts.counted.fetch_add(1);
  impl_->interrupt();
}
void Runtime::call_attention(bool at_once) noexcept { impl_->call_attention(at_once); }

Action Runtime::make_action() const { return {impl_->unheld}; }

void Runtime::reset(const EpisodeContext& context) {
  Impl& self = *impl_;
  const Entry entry(self.inside);
  self.require(entry);
  const Attention::Call call(self.attention);
  // First everything that may be refused.
  const Aim aim = aim_of(self.bundle, context);
  const bool wants_goal = self.bundle.goal == "observation";
  if (wants_goal != context.goal.has_value()) {
    const char* wanted = wants_goal ? "a goal observation" : "none (the policy takes no goal)";
    throw ArgumentError(expected("goal", wanted, wants_goal ? "none" : "one"));
  }
  std::string about = name_of(self.bundle, aim);
  self.planner->check(context, aim);
  if (self.async) self.async->stop();  // they use the controller, and the planner
  if (wants_goal && self.controller->set_goal(ObservationGoal{*context.goal}) != Status::ok) {
    const std::string& error = self.controller->error();
    if (self.async && self.started && !self.virtual_threads) self.async->launch();
    throw ArgumentError(error.empty() ? describe(Status::bad_observation) : error);
  }
  self.controller->set_goal(TaskGoal{std::max(aim.task, 0)});
  self.started = false;
  self.held = self.unheld;  // where the last episode led to may be far from where this one starts
  const std::atomic<std::uint64_t> never = 0;  // an interrupt is for plans and chunks
  self.planner->reset(context, aim, {never, 0, &self.attention});
  self.controller->set_goal(self.planner->goal());
  self.controller->forget();
  self.replan_wanted = false;
  self.was_clocked = false;
  self.buffer.reset();
  if (self.ensemble) self.ensemble->reset();
  self.gate.reset();
  self.key = {context.seed, context.episode, 0, 0};
  self.goal_from = 0;
  self.goal_number = 0;
  self.interrupts.since_ns = self.interrupted_ns = 0;
  self.trace.reset(context.episode);
  self.about = std::move(about);
  if (self.async) self.async->start(self.key, !self.virtual_threads);
  if (self.virtual_threads) self.virtual_threads->reset(self.key);
  if (self.virtual_wait) self.virtual_wait->reset(self.key);
  self.started = true;
}

std::string Runtime::about() const {
  const Entry entry(impl_->inside, Inside::reader);
  impl_->require(entry);
  return impl_->about;
}

bool Runtime::is_about(const std::string& told) const { return is_named(impl_->bundle, about(), told); }

std::string Runtime::text_warning(const std::string& instruction) const {
  const Entry entry(impl_->inside, Inside::reader);  // close frees the planner
  return entry && impl_->planner ? impl_->planner->text_warning(instruction) : "";
}

void Runtime::replan() {
  if (!impl_->bundle.planner) {
    throw ArgumentError(expected("replan", "a bundle with a planner", "family " + impl_->bundle.family));
  }
  if (const Status status = usable(); status != Status::ok) throw PolicyError(status);
  if (impl_->async) return impl_->async->replan();
  impl_->replan_wanted = true;
}

Status Runtime::tick(const Observation& observation, Action& action, std::string* message) noexcept {
  Impl& self = *impl_;
  action.values = self.unheld;  // allocates only if the caller did not use make_action
  return self.call(message, [&] {
    action.values = self.held;  // to be read inside alone
    const TracedTick traced(self.trace);
    const auto start = Clock::now();
    const Status status = self.tick_in_mode(observation, action);
    if (status != Status::ok) self.trace.failed(status), self.gate.held(action.values);
    if (status == Status::ok && self.holds_last) self.held = action.values;
    const auto elapsed = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
    self.recorder.record_tick(elapsed, self.options.deadline_us);
    return status;
  });
}

Status Runtime::predict_chunk(const Observation& observation, std::span<const float> noise,
                              std::span<float> chunk, std::string* message,
                              const Continuation& continuation) noexcept {
  return impl_->call(message, [&] { return impl_->predict_chunk(observation, noise, continuation, chunk); });
}

Status Runtime::predict_plan(const Observation& observation, std::span<const float> noise,
                             std::span<float> plan, std::string* message) noexcept {
  return impl_->call(message, [&] { return impl_->predict_plan(observation, noise, plan); });
}

Status Runtime::predict_candidates(const Observation& observation, std::span<const float> noise,
                                   PlanCandidates& candidates, std::string* message) noexcept {
  return impl_->call(message, [&] { return impl_->predict_candidates(observation, noise, candidates); });
}

bool Runtime::closed() const noexcept { return impl_->closed; }

Status Runtime::usable() const noexcept { return impl_->usable(); }

void Runtime::close() noexcept {
  Impl& self = *impl_;
  if (self.in_child()) {  // whoever was inside, or holds a lock, is not in this process
    self.closed = true;
    [[maybe_unused]] const void* left[] = {self.virtual_threads.release(),
                                           self.async.release(),
                                           self.controller.release(),
                                           self.planner.release(),
                                           self.tensors.release(),
                                           self.planner_tensors.release(),
                                           new (std::nothrow) std::shared_ptr(std::move(self.policy))};
    return;
  }
  if (!self.shut([&] { self.interrupt(); })) return;  // a tick on another thread ended
  if (self.async) self.async->stop();
  {
    const std::lock_guard lock(self.engine_mutex);
    self.controller.reset();
    self.planner.reset();
    self.tensors.reset();
    self.planner_tensors.reset();
    self.policy.reset();
  }
  self.inside = Inside::nobody;
  self.trace.flush();
}

}  // namespace keystep
