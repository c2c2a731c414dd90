#include "policy/subgoal_planner.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include "bundle/bundle_check.hpp"
#include "keystep/status.hpp"
#include "policy/subgoal_planner_impl.hpp"
#include "policy/task.hpp"
#include "support/finite.hpp"

namespace keystep {

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
  impl_->due = impl_->due_at(request.consumed, request.replan);
}

bool SubgoalPlanner::computes(std::int64_t consumed, bool replan) const noexcept {
  return impl_->due_at(consumed, replan) == Impl::Due::plan;
}

PlanReply SubgoalPlanner::poll(const PlanRequest& request) noexcept {
  Impl& self = *impl_;
  const auto due = std::exchange(self.due, Impl::Due::nothing);
  if (due == Impl::Due::nothing) return {.settled = request.replan};
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
  impl_->choice.terminate();
}

std::int64_t SubgoalPlanner::due() const noexcept {
  if (!impl_->planned) return 0;
  return impl_->stays() ? kNever : impl_->since + impl_->spec.steps_per_subgoal;
}

void SubgoalPlanner::postpone(std::int64_t actions) noexcept { impl_->since += actions; }

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
  if (const Status status = self.score(epoch, self.unrecorded); status != Status::ok) return status;
  int best = 0;
  return self.choose(self.to_physical, out, best);
}

Status SubgoalPlanner::predict_candidates(const Observation& observation, std::span<const float> noise,
                                          const Epoch& epoch, PlanCandidates& out) noexcept {
  Impl& self = *impl_;
  const std::size_t size = self.plan.size();
  // The best comes first, and is overwritten by the first.
  const Status status = predict(observation, noise, epoch, out.plans.first(size));
  if (status != Status::ok) return status;
  out.chosen = self.choice.best();
  std::ranges::copy(self.choice.scores(), out.scores.begin());
  for (int i = 0; i < self.choice.count(); ++i) {
    self.to_physical.apply(self.loop.result(i), out.plans.data() + static_cast<std::size_t>(i) * size);
  }
  return Status::ok;
}

int SubgoalPlanner::candidates() const noexcept { return impl_->choice.count(); }

bool SubgoalPlanner::plan(std::span<float> out) const noexcept {
  const Impl& self = *impl_;
  if (!self.planned || out.size() != self.plan.size()) return false;
  self.controller_to_physical.apply(self.plan, out.data());
  return true;
}

bool SubgoalPlanner::candidates(PlanCandidates& out) const noexcept {
  const Impl& self = *impl_;
  const bool fits =
      out.scores.size() == self.scores.size() && out.plans.size() == self.scores.size() * self.plan.size();
  if (!self.planned || self.is_given || !fits) return false;
  out.chosen = self.chosen;
  std::ranges::copy(self.scores, out.scores.begin());
  if (self.tried.empty()) return plan(out.plans);
  std::ranges::copy(self.tried, out.plans.begin());
  return true;
}

PlanProgress SubgoalPlanner::progress(std::int64_t consumed) const noexcept {
  if (!impl_->planned) return {.plans = impl_->plans};
  return {impl_->plans, impl_->subgoal, consumed - impl_->since};
}

}  // namespace keystep
