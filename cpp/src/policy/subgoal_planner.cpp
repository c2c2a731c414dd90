#include "policy/subgoal_planner.hpp"

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include "bundle/bundle_check.hpp"
#include "keystep/status.hpp"
#include "policy/normalizer.hpp"
#include "policy/observation_inputs.hpp"
#include "policy/run_graph.hpp"
#include "policy/subgoal_feature.hpp"
#include "policy/task.hpp"
#include "sampling/denoise_loop.hpp"
#include "support/finite.hpp"

namespace keystep {
namespace {

const Normalization kPhysical = {"identity", {}, {}};

}  // namespace

struct SubgoalPlanner::Impl {
  Impl(const Policy& policy, Tensors& tensors);

  float* place(const std::string& name, void* memory) const;
  Renormalizer renormalizer(const Normalization& from, const Normalization& to) const;
  void encode_text(const std::string& of_episode, const Epoch& epoch);
  void take(const std::vector<Observation>& subgoals);
  Status imagine(const Observation& observation, const NoiseKey& with, std::span<const float> noise,
                 const Epoch& epoch) noexcept;
  Status make_plan(const PlanRequest& request) noexcept;
  std::span<const float> current() const noexcept;

  const Bundle& bundle;
  const PlannerSpec& spec;
  const Vocabulary& vocabulary;
  const bool replan, strict_text;
  const std::size_t size, plane;              // values of a subgoal, and of each of its channels
  std::unique_ptr<Graph> text, encode, film;  // encode, film: may be none
  std::unique_ptr<Graph> denoise;
  const int rows;  // of these; denoise runs the first alone where guidance is 0
  Tensor &words, &seen;
  DenoiseLoop loop;
  ObservationInputs inputs;
  std::vector<float> given;  // room for one subgoal handed in, as the controller takes it
  ObservationInputs given_inputs;
  Renormalizer to_controller, to_physical, controller_to_physical;

  // The episode.
  std::vector<float> plan;  // M subgoals as the controller takes them
  bool has_text = false;
  bool planned = false, is_given = false;
  enum class Due { nothing, next, plan } due = Due::nothing;  // within a tick
  int subgoal = 0;                                            // index of the current one
  std::int64_t since = 0;                                     // consumed index at which it became so
  std::uint64_t plans = 0;
  NoiseKey key;  // of the next plan
  std::string error;
};

SubgoalPlanner::Impl::Impl(const Policy& policy, Tensors& tensors)
    : bundle(*policy.bundle()),
      spec(*bundle.planner),
      vocabulary(policy.vocabulary()),
      replan(policy.options().replan.value_or(spec.replan)),
      strict_text(policy.options().strict_text),
      size(subgoal_size(bundle)),
      plane(size / statistics_width(subgoal_feature(bundle))),
      text(policy.bind("text", tensors)),
      encode(policy.bind("plan_encode", tensors)),
      film(policy.bind("plan_film", tensors)),
      denoise(policy.bind("plan_denoise", tensors)),
      rows(bundle.graphs.at("plan_denoise").rows),
      words(*tensors.find(bundle.graphs.at("text"), "text")),
      seen(seen_in(bundle, tensors)),
      loop(*policy.planner_sampler(), bundle.graphs.at("plan_denoise"), tensors,
           static_cast<std::size_t>(spec.subgoals) * size),
      inputs(seen_features(bundle), [this](const std::string& name) { return place(name, seen.data); }),
      given(size),
      given_inputs(single_frames(bundle.observation),
                   [this](const std::string& name) { return place(name, given.data()); }),
      to_controller(renormalizer(spec.normalization, subgoal_feature(bundle).normalization)),
      to_physical(renormalizer(spec.normalization, kPhysical)),
      controller_to_physical(renormalizer(subgoal_feature(bundle).normalization, kPhysical)),
      plan(static_cast<std::size_t>(spec.subgoals) * size) {}

/// Memory for the one feature that a subgoal is.
float* SubgoalPlanner::Impl::place(const std::string& name, void* memory) const {
  return kObservationPrefix + name == spec.subgoal ? static_cast<float*>(memory) : nullptr;
}

Renormalizer SubgoalPlanner::Impl::renormalizer(const Normalization& from, const Normalization& to) const {
  return {from, to, size / plane, plane};
}

std::span<const float> SubgoalPlanner::Impl::current() const noexcept {
  return std::span(plan).subspan(static_cast<std::size_t>(subgoal) * size, size);
}

/// Empty: subgoals were handed in, and there is nothing to plan for.
void SubgoalPlanner::Impl::encode_text(const std::string& of_episode, const Epoch& epoch) {
  has_text = !of_episode.empty();
  if (!has_text) return;
  *static_cast<std::string*>(words.data) = of_episode;
  Status status = without_message(words.upload(), error);
  if (status == Status::ok) status = run_graph(*text, rows, epoch, error);
  if (status == Status::interrupted) throw Error(describe(status));
  if (status != Status::ok) throw Error("graphs.text: " + (error.empty() ? describe(status) : error));
}

/// Subgoals from outside become the plan.
void SubgoalPlanner::Impl::take(const std::vector<Observation>& subgoals) {
  for (std::size_t i = 0; i < subgoals.size(); ++i) {
    if (given_inputs.fill(subgoals[i], false) != Status::ok) throw std::bad_alloc();
    std::ranges::copy(given, plan.begin() + static_cast<std::ptrdiff_t>(i * size));
  }
  is_given = planned = !subgoals.empty();
}

/// Observation to the loop's result.
Status SubgoalPlanner::Impl::imagine(const Observation& observation, const NoiseKey& with,
                                     std::span<const float> noise, const Epoch& epoch) noexcept {
  if (const Status status = without_message(inputs.fill(observation, false), error); status != Status::ok) {
    return status;
  }
  if (const Status status = without_message(seen.upload(), error); status != Status::ok) return status;
  for (Graph* graph : {encode.get(), film.get()}) {
    if (graph == nullptr) continue;
    if (const Status status = run_graph(*graph, rows, epoch, error); status != Status::ok) return status;
  }
  return loop.run(*denoise, with, noise, epoch, error);
}

Status SubgoalPlanner::Impl::make_plan(const PlanRequest& request) noexcept {
  const StageTimer timer(request.timing);
  const NoiseKey noise = key;
  key.chunk = after(key.chunk);
  planned = false;
  if (const Status status = imagine(request.observation, noise, {}, request.epoch); status != Status::ok) {
    return status;
  }
  to_controller.apply(loop.result(), plan.data());
  // What is finite to the planner may be infinite in the controller's units; NaN and Inf stay what they are.
  if (!all_finite(plan)) return Status::rejected_plan;
  planned = true;
  subgoal = 0;
  ++plans;
  return Status::ok;
}

// ---- the public face

SubgoalPlanner::SubgoalPlanner(const Policy& policy, Tensors& tensors)
    : impl_(std::make_unique<Impl>(policy, tensors)) {}
SubgoalPlanner::~SubgoalPlanner() = default;

void SubgoalPlanner::check(const EpisodeContext& context, const Aim& aim) const {
  Impl& self = *impl_;
  if (self.strict_text && !aim.text.empty()) {
    if (const std::string warning = text_warning(aim.text); !warning.empty()) throw ArgumentError(warning);
  }
  SamplerSpec sampler = self.loop.sampler().spec();
  sampler.guidance = context.guidance.value_or(0);
  validate(sampler);
  if (!self.spec.guided && sampler.guidance != 0) {
    throw ArgumentError(expected("guidance", "0 (the planner was trained without dropout of its text)",
                                 std::to_string(sampler.guidance)));
  }
  const std::size_t count = context.subgoals.size();
  if (count != 0 && count != static_cast<std::size_t>(self.spec.subgoals)) {
    throw ArgumentError(expected("subgoals", std::to_string(self.spec.subgoals), std::to_string(count)));
  }
  std::string fault;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = at("subgoals", i);
    if (self.given_inputs.check(context.subgoals[i], name.c_str(), fault) != Status::ok) {
      throw ArgumentError(fault);
    }
    if (self.given_inputs.fill(context.subgoals[i], false) != Status::ok) throw std::bad_alloc();
    if (all_finite(self.given)) continue;
    throw ArgumentError(expected(name, "values that are finite once normalised", "Inf"));
  }
}

void SubgoalPlanner::reset(const EpisodeContext& context, const Aim& aim, const Epoch& epoch) {
  Impl& self = *impl_;
  self.planned = false;
  self.encode_text(aim.text, epoch);
  self.loop.set_guidance(context.guidance.value_or(self.spec.sampler.guidance));
  self.key = {context.seed, context.episode, kPlanNoise, 0};
  self.subgoal = 0;
  self.since = 0;
  self.plans = 0;
  self.take(context.subgoals);
}

void SubgoalPlanner::start(const PlanRequest& request) noexcept {
  Impl& self = *impl_;
  self.due = Impl::Due::nothing;
  const bool wanted = request.replan && !self.is_given;
  if (!self.planned || wanted) {
    self.due = Impl::Due::plan;
  } else if (request.consumed - self.since >= self.spec.steps_per_subgoal) {
    const bool more = self.subgoal + 1 < self.spec.subgoals;
    const bool last_stays = self.is_given || !self.replan;
    self.due = more ? Impl::Due::next : last_stays ? Impl::Due::nothing : Impl::Due::plan;
  }
}

PlanReply SubgoalPlanner::poll(const PlanRequest& request) noexcept {
  Impl& self = *impl_;
  const auto due = std::exchange(self.due, Impl::Due::nothing);
  if (due == Impl::Due::nothing) return {};
  if (due == Impl::Due::next) {
    ++self.subgoal;
  } else if (const Status status = self.make_plan(request); status != Status::ok) {
    return {.status = status};
  }
  self.since = request.consumed;
  return {.planned = due == Impl::Due::plan, .key_step = true, .stale = Stale::everything, .goal = goal()};
}

void SubgoalPlanner::abort() noexcept { impl_->due = Impl::Due::nothing; }

void SubgoalPlanner::terminate() noexcept {
  for (const auto* graph : {&impl_->text, &impl_->encode, &impl_->film, &impl_->denoise}) {
    if (*graph != nullptr) (*graph)->terminate();
  }
}

const std::string& SubgoalPlanner::error() const noexcept { return impl_->error; }

std::string SubgoalPlanner::text_warning(const std::string& instruction) const {
  const bool trained = std::ranges::any_of(
      impl_->bundle.tasks, [&](const TaskSpec& task) { return task.instruction == instruction; });
  return trained ? "" : impl_->vocabulary.doubt(instruction);
}

std::size_t SubgoalPlanner::plan_size() const noexcept { return impl_->plan.size(); }

Goal SubgoalPlanner::goal() const noexcept {
  if (!impl_->planned) return NoGoal{};
  return SubgoalGoal{impl_->current()};
}

const char* SubgoalPlanner::lacks_goal() const noexcept {
  if (impl_->planned) return nullptr;
  return "subgoal: expected a plan (made by a tick) or subgoals given to reset, got none";
}

Status SubgoalPlanner::can_predict(std::size_t values) noexcept {
  Impl& self = *impl_;
  try {
    if (!self.has_text) {
      self.error = "task: expected a task or an instruction given to reset, got subgoals alone";
    } else if (values != self.plan.size()) {
      self.error = expected("plan", std::to_string(self.plan.size()) + " values", std::to_string(values));
    }
  } catch (...) {
    self.error.clear();  // out of memory: the status still tells
  }
  if (!self.has_text) return Status::not_reset;
  return values == self.plan.size() ? Status::ok : Status::bad_observation;
}

Status SubgoalPlanner::predict(const Observation& observation, std::span<const float> noise,
                               const Epoch& epoch, std::span<float> out) noexcept {
  Impl& self = *impl_;
  if (!self.loop.fits(noise, self.error)) return Status::bad_observation;
  if (const Status status = self.imagine(observation, self.key, noise, epoch); status != Status::ok) {
    return status;
  }
  self.to_physical.apply(self.loop.result(), out.data());
  return all_finite(out) ? Status::ok : Status::rejected_plan;
}

bool SubgoalPlanner::plan(std::span<float> out) const noexcept {
  const Impl& self = *impl_;
  if (!self.planned || out.size() != self.plan.size()) return false;
  self.controller_to_physical.apply(self.plan, out.data());
  return true;
}

PlanProgress SubgoalPlanner::progress(std::int64_t consumed) const noexcept {
  if (!impl_->planned) return {.plans = impl_->plans};
  return {impl_->plans, impl_->subgoal, consumed - impl_->since};
}

}  // namespace keystep
