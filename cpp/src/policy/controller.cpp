#include "policy/controller.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "bundle/bundle_check.hpp"
#include "keystep/status.hpp"
#include "policy/normalizer.hpp"
#include "policy/observation_inputs.hpp"
#include "policy/run_graph.hpp"
#include "policy/tensor_memory.hpp"
#include "sampling/denoise_loop.hpp"

namespace keystep {
namespace {

/// The graph that ends in actions: one denoise step, the sampler unrolled, or the whole policy.
std::string last_graph(const Bundle& bundle) {
  for (const char* key : {"denoise", "sample"}) {
    if (bundle.graphs.contains(key)) return key;
  }
  return "act";
}

/// Options that say how to denoise are refused where there are no steps to choose.
std::optional<SamplerSpec> sampler_of(const Bundle& bundle, int steps, const std::string& kind) {
  const auto refuse_unless = [](bool same, const char* option, const std::string& wanted,
                                const std::string& got) {
    if (!same) throw ArgumentError(expected(option, wanted, got));
  };
  if (!bundle.sampler) {
    const std::string why = " (the controller is one graph, act)";
    refuse_unless(steps == 0, "inference_steps", "0" + why, std::to_string(steps));
    refuse_unless(kind.empty(), "sampler", "none" + why, "'" + kind + "'");
    return {};
  }
  if (!bundle.graphs.contains("denoise")) {
    const int unrolled = bundle.sampler->inference_steps;
    const std::string why = " (unrolled in the bundle's one graph)";
    refuse_unless(steps == 0 || steps == unrolled, "inference_steps", std::to_string(unrolled) + why,
                  std::to_string(steps));
    refuse_unless(kind.empty() || kind == bundle.sampler->kind, "sampler", bundle.sampler->kind + why,
                  "'" + kind + "'");
  }
  return choose_sampler(*bundle.sampler, kind, steps, "");
}

/// Where a planner's tensor goes, in the network's own units.
struct GoalInput {
  std::string name;
  std::span<float> values;
};

}  // namespace

struct Controller::Impl {
  Impl(const Bundle& bundle, Engine& engine, int inference_steps, const std::string& kind);

  ObservationInputs inputs_of(const Bundle& bundle, const std::vector<FeatureSpec>& features,
                              const std::string& prefix) const;
  std::vector<GoalInput> goal_inputs_of(const Bundle& bundle) const;
  Status take(const NoGoal&) noexcept { return Status::ok; }
  Status take(const TaskGoal& given) noexcept;
  Status take(const ObservationGoal& given) noexcept;
  Status take(const SubgoalGoal& given) noexcept;
  Status take(const InstructionGoal& given) noexcept;
  Status settled(Status status) noexcept;
  bool noise_fits(std::span<const float> noise) noexcept;
  Status condition(const Epoch& epoch) noexcept;
  Status predict(const NoiseKey& key, std::span<const float> noise, const Epoch& epoch, Histogram& encoding,
                 Histogram& denoising) noexcept;

  const std::optional<SamplerSpec> sampler;
  const std::string last_key;           // of `last`
  TensorMemory memory;                  // of the graphs below: each adds its own
  std::unique_ptr<Graph> encode, film;  // film: may be none; neither where `last` is act
  std::unique_ptr<Graph> last;
  std::optional<DenoiseLoop> loop;  // none where `last` is act
  ObservationInputs observation, goal;
  std::int64_t* task;
  std::span<float> subgoal;  // empty unless family subgoal
  const std::vector<GoalInput> goal_inputs;
  std::string instruction;  // the text of the last
  std::size_t text_capacity = 0;
  std::span<const float> actions;
  VectorNormalizer action_normalizer;
  std::string error;
};

Controller::Impl::Impl(const Bundle& bundle, Engine& engine, int inference_steps, const std::string& kind)
    : sampler(sampler_of(bundle, inference_steps, kind)),
      last_key(last_graph(bundle)),
      encode(load_graph(bundle, engine, "encode", memory)),
      film(load_graph(bundle, engine, "film", memory)),
      last(load_graph(bundle, engine, last_key, memory)),
      observation(inputs_of(bundle, bundle.observation, kObservationPrefix)),
      goal(inputs_of(bundle, single_frames(bundle.observation), "goal.")),
      task(memory.by_role<std::int64_t>(observing_graph(bundle), "task")),
      goal_inputs(goal_inputs_of(bundle)),
      action_normalizer(bundle.action.normalization, bundle.action.names.size()) {
  const GraphSpec& spec = bundle.graphs.at(last_key);
  const std::size_t size = bundle.chunk.horizon * bundle.action.names.size();
  const bool steps = last_key == "denoise";
  if (sampler) {
    loop.emplace(*sampler, DenoiseLoop::Tensors{memory.by_role<float>(spec, steps ? "sample" : "noise"),
                                                memory.by_role<float>(spec, "model_output"),
                                                memory.by_role<std::int64_t>(spec, "timestep"), size});
  }
  actions = steps ? loop->result() : std::span<const float>(memory.by_role<float>(spec, "actions"), size);
  if (!bundle.planner) return;
  const std::string role = "goal." + bundle.observation[subgoal_index(bundle)].name();
  subgoal = {memory.by_role<float>(observing_graph(bundle), role), subgoal_size(bundle)};
}

ObservationInputs Controller::Impl::inputs_of(const Bundle& bundle, const std::vector<FeatureSpec>& features,
                                              const std::string& prefix) const {
  return {features, [&](const std::string& name) {
            return memory.by_role<float>(observing_graph(bundle), prefix + name);
          }};
}

std::vector<GoalInput> Controller::Impl::goal_inputs_of(const Bundle& bundle) const {
  constexpr std::string_view kPrefix = "goal.";
  std::vector<GoalInput> found;
  for (const TensorSpec& tensor : observing_graph(bundle).inputs) {
    if (!tensor.role.starts_with(kPrefix) || tensor.dtype != DType::float32) continue;
    auto* values = memory.by_role<float>(observing_graph(bundle), tensor.role);
    found.push_back({tensor.role.substr(kPrefix.size()), {values, tensor.elements()}});
  }
  return found;
}

/// There was no memory, and none is asked for to say so: the status still tells.
Status Controller::Impl::settled(Status status) noexcept {
  if (status != Status::ok) error.clear();
  return status;
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

/// What all denoise steps share.
Status Controller::Impl::condition(const Epoch& epoch) noexcept {
  const Status status = run_graph(*encode, epoch, error);
  return status == Status::ok && film ? run_graph(*film, epoch, error) : status;
}

// ---- the kinds of goals

Status Controller::Impl::take(const TaskGoal& given) noexcept {
  if (task != nullptr) *task = given.index;
  return Status::ok;
}

Status Controller::Impl::take(const ObservationGoal& given) noexcept {
  const Status status = goal.check(given.seen, "goal", error);
  return status == Status::ok ? goal.fill(given.seen, false) : status;
}

Status Controller::Impl::take(const SubgoalGoal& given) noexcept {
  if (given.values.size() == subgoal.size()) std::ranges::copy(given.values, subgoal.begin());
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
    const StageTimer timer(encoding);
    const Status status = loop ? condition(epoch) : run_graph(*last, epoch, error);
    if (status != Status::ok || !loop) return status;
  }
  const StageTimer timer(denoising);
  if (last_key == "denoise") return loop->run(*last, key, noise, epoch, error);
  loop->start(key, noise);
  return run_graph(*last, epoch, error);
}

// ---- the public face

Controller::Controller(const Bundle& bundle, Engine& engine, int inference_steps, const std::string& sampler)
    : impl_(std::make_unique<Impl>(bundle, engine, inference_steps, sampler)) {}
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

Status Controller::note(const Observation& observation) noexcept {
  return impl_->settled(impl_->observation.note(observation));
}

void Controller::forget() noexcept { impl_->observation.forget(); }

Status Controller::observe(const Observation& observation, bool is_noted) noexcept {
  return impl_->settled(impl_->observation.fill(observation, is_noted));
}

Status Controller::sample(const NoiseKey& key, std::span<const float> noise, const Epoch& epoch,
                          Histogram& encode, Histogram& denoise, std::span<float> chunk) noexcept {
  Impl& self = *impl_;
  if (chunk.size() != self.actions.size() || !self.noise_fits(noise)) return Status::bad_observation;
  const Status status = self.predict(key, noise, epoch, encode, denoise);
  if (status == Status::ok) self.action_normalizer.unnormalize(self.actions, chunk.data());
  return status;
}

void Controller::terminate() noexcept {
  for (Graph* graph : {impl_->encode.get(), impl_->film.get(), impl_->last.get()}) {
    if (graph != nullptr) graph->terminate();
  }
}

const std::string& Controller::error() const noexcept { return impl_->error; }

}  // namespace keystep
