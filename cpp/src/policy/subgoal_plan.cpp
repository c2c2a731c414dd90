#include <algorithm>
#include <new>

#include "keystep/status.hpp"
#include "loop/trace_labels.hpp"
#include "policy/run_graph.hpp"
#include "policy/subgoal_feature.hpp"
#include "policy/subgoal_planner_impl.hpp"
#include "support/finite.hpp"

namespace keystep {
namespace {

const Normalization kPhysical = {"identity", {}, {}};

}  // namespace

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
      choice(policy, tensors, static_cast<std::size_t>(spec.subgoals) * size),
      loop(*policy.planner_sampler(), bundle.graphs.at("plan_denoise"), tensors,
           static_cast<std::size_t>(spec.subgoals) * size, choice.count()),
      inputs(seen_features(bundle), [this](const std::string& name) { return place(name, seen.data); }),
      given(size),
      given_inputs(single_frames(bundle.observation),
                   [this](const std::string& name) { return place(name, given.data()); }),
      to_controller(renormalizer(spec.normalization, subgoal_feature(bundle).normalization)),
      to_physical(renormalizer(spec.normalization, kPhysical)),
      controller_to_physical(renormalizer(subgoal_feature(bundle).normalization, kPhysical)),
      plan(static_cast<std::size_t>(spec.subgoals) * size),
      made(plan.size()),
      tried(choice.count() > 1 ? plan.size() * static_cast<std::size_t>(choice.count()) : 0),
      scores(static_cast<std::size_t>(choice.count())) {}

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

/// Observation to the loop's results.
Status SubgoalPlanner::Impl::imagine(const Observation& observation, const NoiseKey& with,
                                     std::span<const float> noise, const Epoch& epoch) noexcept {
  if (const Status status = without_message(inputs.fill(observation, false), error); status != Status::ok) {
    return status;
  }
  if (const Status status = without_message(seen.upload(), error); status != Status::ok) return status;
  for (Graph* graph : {encode.get(), film.get()}) {
    if (graph == nullptr) continue;
    const Span span(kPlanEncodeLabel);
    if (const Status status = run_graph(*graph, rows, epoch, error); status != Status::ok) return status;
  }
  if (const Status status = choice.spread(loop, error); status != Status::ok) return status;
  return loop.run(*denoise, with, noise, epoch, error);
}

/// A single plan is compared with nothing, and takes no time for it.
Status SubgoalPlanner::Impl::score(const Epoch& epoch, Histogram& timing) noexcept {
  if (choice.count() == 1) return Status::ok;
  const StageTimer timer(timing, &label(Stage::score));
  return choice.score(loop, epoch, error);
}

/// The best of the loop's results. What is finite to the planner may be infinite in other units; NaN and Inf
/// stay what they are.
Status SubgoalPlanner::Impl::choose(const Renormalizer& units, std::span<float> out, int& best) noexcept {
  for (best = choice.best(); best >= 0; best = choice.best()) {
    units.apply(loop.result(best), out.data());
    if (all_finite(out)) return Status::ok;
    if (choice.count() == 1) break;
    choice.pass_over(best);
  }
  return Status::rejected_plan;
}

/// What the plan was chosen from, for those who ask: by the way that `plan` goes, so that equal plans are.
void SubgoalPlanner::Impl::keep(int best) noexcept {
  chosen = best;
  std::ranges::copy(choice.scores(), scores.begin());
  if (choice.count() == 1) return;
  for (int i = 0; i < choice.count(); ++i) {
    const auto of_this = std::span(tried).subspan(static_cast<std::size_t>(i) * plan.size(), plan.size());
    to_controller.apply(loop.result(i), of_this.data());
    controller_to_physical.apply(of_this, of_this.data());
  }
}

Status SubgoalPlanner::Impl::make_plan(const PlanRequest& request) noexcept {
  const StageTimer timer(request.timing, &label(Stage::plan));
  const NoiseKey noise = key;
  key.chunk = after(key.chunk);
  planned = planned && request.early;
  if (const Status status = imagine(request.observation, noise, {}, request.epoch); status != Status::ok) {
    return status;
  }
  if (const Status status = score(request.epoch, request.scoring); status != Status::ok) return status;
  int best = 0;
  if (const Status status = choose(to_controller, made, best); status != Status::ok) return status;
  std::ranges::copy(made, plan.begin());
  keep(best);
  planned = true;
  subgoal = 0;
  ++plans;
  return Status::ok;
}

}  // namespace keystep
