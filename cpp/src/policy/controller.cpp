#include "policy/controller.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "keystep/status.hpp"
#include "loop/trace_labels.hpp"
#include "policy/action_map.hpp"
#include "policy/continuation.hpp"
#include "policy/observation_inputs.hpp"
#include "policy/run_graph.hpp"
#include "sampling/denoise_loop.hpp"

namespace keystep {
namespace {

/// The graph that ends in actions: one denoise step, or the whole policy.
std::string last_graph(const Bundle& bundle) { return bundle.sampler ? "denoise" : "act"; }

/// Where a planner's tensor goes, in the network's own units.
struct GoalInput {
  std::string name;
  std::span<float> values;
};

std::vector<GoalInput> goal_inputs_of(const GraphSpec& graph, const Tensors& tensors) {
  constexpr std::string_view kGoalPrefix = "goal.";
  std::vector<GoalInput> found;
  for (const TensorSpec& tensor : graph.inputs) {
    if (!tensor.role.starts_with(kGoalPrefix) || tensor.dtype != DType::float32) continue;
    auto* values = static_cast<float*>(tensors.at(tensor).data);
    found.push_back({tensor.role.substr(kGoalPrefix.size()), {values, tensor.elements()}});
  }
  return found;
}

std::vector<Tensor*> inputs(const GraphSpec& graph, const Tensors& tensors) {
  std::vector<Tensor*> found;
  for (const TensorSpec& tensor : graph.inputs) found.push_back(&tensors.at(tensor));
  return found;
}

}  // namespace

struct Controller::Impl {
  Impl(const Policy& policy, Tensors& tensors);

  ObservationInputs inputs_of(const GraphSpec& graph, const std::vector<FeatureSpec>& features,
                              const std::string& prefix, const Tensors& tensors) const;
  Status upload() noexcept;
  Status take(const NoGoal&) noexcept { return Status::ok; }
  Status take(const TaskGoal& given) noexcept;
  Status take(const ObservationGoal& given) noexcept;
  Status take(const SubgoalGoal& given) noexcept;
  Status take(const InstructionGoal& given) noexcept;
  bool noise_fits(std::span<const float> noise) noexcept;
  Status continue_from(const Continuation& given) noexcept;
  Status condition(const Epoch& epoch) noexcept;
  Status predict(const NoiseKey& key, std::span<const float> noise, const Epoch& epoch, Histogram& encoding,
                 Histogram& denoising) noexcept;

  std::unique_ptr<Graph> encode, film;  // film: may be none; neither where `last` is act
  std::unique_ptr<Graph> last;
  const int rows;                           // of these
  std::optional<DenoiseLoop> loop;          // none where `last` is act
  std::optional<ContinuedChunk> continued;  // likewise
  ObservationInputs observation, goal;
  const std::vector<Tensor*> written;  // by the host, before a chunk
  std::int64_t* const task;
  std::span<float> subgoal;  // empty unless family subgoal
  const std::vector<GoalInput> goal_inputs;
  std::string instruction;  // the text of the last
  std::size_t text_capacity = 0;
  Tensor* const act;  // the actions where `last` is act, else nullptr
  std::span<const float> actions;
  ActionMap action_map;
  std::string error;
};

Controller::Impl::Impl(const Policy& policy, Tensors& tensors)
    : encode(policy.bind("encode", tensors)),
      film(policy.bind("film", tensors)),
      last(policy.bind(last_graph(*policy.bundle()), tensors)),
      rows(observing_graph(*policy.bundle()).rows),
      observation(inputs_of(observing_graph(*policy.bundle()), policy.bundle()->observation,
                            kObservationPrefix, tensors)),
      goal(inputs_of(observing_graph(*policy.bundle()), single_frames(policy.bundle()->observation), "goal.",
                     tensors)),
      written(inputs(observing_graph(*policy.bundle()), tensors)),
      task(tensors.data<std::int64_t>(observing_graph(*policy.bundle()), "task")),
      goal_inputs(goal_inputs_of(observing_graph(*policy.bundle()), tensors)),
      act(policy.sampler() ? nullptr : tensors.find(observing_graph(*policy.bundle()), "actions")),
      action_map(*policy.bundle()) {
  const Bundle& bundle = *policy.bundle();
  const std::size_t size = bundle.chunk.horizon * bundle.action.names.size();
  if (policy.sampler()) {
    const GraphSpec& denoise = bundle.graphs.at("denoise");
    loop.emplace(*policy.sampler(), denoise, tensors, size);
    continued.emplace(bundle, tensors.find(denoise, "prefix_mask"));
  }
  actions = loop ? loop->result() : std::span<const float>(static_cast<float*>(act->data), size);
  if (!bundle.planner) return;
  const std::string role = "goal." + bundle.observation[subgoal_index(bundle)].name();
  subgoal = {tensors.data<float>(observing_graph(bundle), role), subgoal_size(bundle)};
}

ObservationInputs Controller::Impl::inputs_of(const GraphSpec& graph,
                                              const std::vector<FeatureSpec>& features,
                                              const std::string& prefix, const Tensors& tensors) const {
  return {features, [&](const std::string& name) { return tensors.data<float>(graph, prefix + name); }};
}

bool Controller::Impl::noise_fits(std::span<const float> noise) noexcept {
  if (loop) return loop->fits(noise, error);
  if (noise.empty()) return true;
  try {
    error = expected("noise", "none (the controller is one graph, act)",
                     std::to_string(noise.size()) + " values");
  } catch (...) {
    error.clear();  // out of memory: the status still tells
  }
  return false;
}

/// What the host has written since the last chunk.
Status Controller::Impl::upload() noexcept {
  for (Tensor* input : written) {
    if (const Status status = without_message(input->upload(), error); status != Status::ok) return status;
  }
  return Status::ok;
}

Status Controller::Impl::continue_from(const Continuation& given) noexcept {
  if (continued) return continued->take(given, error);
  if (given.rule == Continuation::Rule::none) return Status::ok;
  try {
    error = expected("rule", "none (the controller is one graph, act)",
                     given.rule == Continuation::Rule::x0blend ? "x0blend" : "trained");
  } catch (...) {
    error.clear();  // out of memory: the status still tells
  }
  return Status::bad_observation;
}

/// What all denoise steps share.
Status Controller::Impl::condition(const Epoch& epoch) noexcept {
  const Status status = run_graph(*encode, rows, epoch, error);
  return status == Status::ok && film ? run_graph(*film, rows, epoch, error) : status;
}

// ---- the kinds of goals

Status Controller::Impl::take(const TaskGoal& given) noexcept {
  if (task != nullptr) *task = given.index;
  return Status::ok;
}

Status Controller::Impl::take(const ObservationGoal& given) noexcept {
  const Status status = goal.check(given.seen, "goal", error);
  return status == Status::ok ? without_message(goal.fill(given.seen, false), error) : status;
}

Status Controller::Impl::take(const SubgoalGoal& given) noexcept {
  if (subgoal.empty()) return Status::ok;  // no network takes one
  if (given.values.size() != subgoal.size()) return Status::rejected_plan;
  std::ranges::copy(given.values, subgoal.begin());
  return Status::ok;
}

/// All of it or nothing.
Status Controller::Impl::take(const InstructionGoal& given) noexcept {
  if (given.text.size() > text_capacity) return Status::rejected_plan;
  const auto input_of = [&](const GoalTensor& tensor) {
    return std::ranges::find_if(goal_inputs, [&](const GoalInput& input) {
      return input.name == tensor.name && input.values.size() == tensor.values.size();
    });
  };
  for (const GoalTensor& tensor : given.tensors) {
    if (input_of(tensor) == goal_inputs.end()) return Status::rejected_plan;
  }
  for (const GoalTensor& tensor : given.tensors) {
    std::ranges::copy(tensor.values, input_of(tensor)->values.begin());
  }
  instruction.assign(given.text);
  return Status::ok;
}

Status Controller::Impl::predict(const NoiseKey& key, std::span<const float> noise, const Epoch& epoch,
                                 Histogram& encoding, Histogram& denoising) noexcept {
  {
    const StageTimer timer(encoding, &label(Stage::encode));
    Status status = upload();
    if (status == Status::ok) status = loop ? condition(epoch) : run_graph(*last, rows, epoch, error);
    if (status == Status::ok && !loop) status = without_message(act->download(), error);
    if (status != Status::ok || !loop) return status;
  }
  const StageTimer timer(denoising, &label(Stage::denoise));
  return loop->run(*last, key, noise, epoch, error, continued->merge(action_map));
}

// ---- the public face

Controller::Controller(const Policy& policy, Tensors& tensors)
    : impl_(std::make_unique<Impl>(policy, tensors)) {}
Controller::~Controller() = default;

void Controller::reserve_text(std::size_t bytes) {
  impl_->text_capacity = bytes;
  impl_->instruction.reserve(bytes);
}

Status Controller::set_goal(const Goal& goal) noexcept {
  return std::visit([this](const auto& given) { return impl_->take(given); }, goal);
}

std::string_view Controller::instruction() const noexcept { return impl_->instruction; }

Status Controller::check(const Observation& observation) noexcept {
  return impl_->observation.check(observation, "observation", impl_->error);
}

bool Controller::remembers() const noexcept { return impl_->observation.keeps_any(); }

Status Controller::note(const Observation& observation) noexcept {
  return without_message(impl_->observation.note(observation), impl_->error);
}

void Controller::forget() noexcept { impl_->observation.forget(); }

Status Controller::observe(const Observation& observation, bool is_noted) noexcept {
  impl_->action_map.anchor(observation);
  return without_message(impl_->observation.fill(observation, is_noted), impl_->error);
}

Status Controller::continue_from(const Continuation& continuation) noexcept {
  return impl_->continue_from(continuation);
}

Status Controller::sample(const NoiseKey& key, std::span<const float> noise, const Epoch& epoch,
                          Histogram& encode, Histogram& denoise, std::span<float> chunk) noexcept {
  Impl& self = *impl_;
  Status status = Status::bad_observation;
  if (chunk.size() == self.actions.size() && self.noise_fits(noise)) {
    status = self.predict(key, noise, epoch, encode, denoise);
  }
  if (status == Status::ok) {
    self.action_map.to_physical(self.actions, chunk);
    if (self.continued) self.continued->finish(chunk);
  } else if (self.continued) {
    self.continued->forget();
  }
  return status;
}

void Controller::terminate() noexcept {
  for (Graph* graph : {impl_->encode.get(), impl_->film.get(), impl_->last.get()}) {
    if (graph != nullptr) graph->terminate();
  }
}

const std::string& Controller::error() const noexcept { return impl_->error; }

}  // namespace keystep
