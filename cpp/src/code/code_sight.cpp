#include "code/code_sight.hpp"

#include <utility>

#include "keystep/status.hpp"
#include "loop/trace_labels.hpp"
#include "policy/run_graph.hpp"

namespace keystep {
namespace {

/// As the planner was trained, not as a controller of the same world may have been.
std::vector<FeatureSpec> as_planned(std::vector<FeatureSpec> features, const CodePlannerSpec& spec) {
  features = single_frames(std::move(features));
  for (FeatureSpec& feature : features) {
    if (feature.key == spec.sees) feature.normalization = spec.sees_normalization;
    if (feature.key == spec.feels) feature.normalization = spec.feels_normalization;
  }
  return features;
}

SeenTensors seen_by(const GraphSpec& graph, const Tensors& tensors) {
  const SeenTensors seen{tensors.find(graph, "seen"), tensors.find(graph, "felt")};
  if (seen.seen == nullptr) throw BundleError(expected("graphs.vision.outputs", "the role seen", "none"));
  return seen;
}

}  // namespace

CodeSight::CodeSight(const CodePlannerSpec& spec, const std::vector<FeatureSpec>& observation,
                     const GraphSpec& graph, std::unique_ptr<Graph> vision, const Tensors& tensors)
    : vision_(std::move(vision)),
      seen_(seen_by(graph, tensors)),
      inputs_(as_planned(observation, spec), [&](const std::string& name) -> float* {
        Tensor* const taken = tensors.find(graph, kObservationPrefix + name);
        if (taken == nullptr) return nullptr;
        taken_.push_back(taken);
        return static_cast<float*>(taken->data);
      }) {}

Status CodeSight::check(const Observation& observation, std::string& error) const noexcept {
  return inputs_.check(observation, "observation", error);
}

Status CodeSight::look(const Observation& observation, const Epoch& epoch, std::string& error) noexcept {
  if (const Status status = check(observation, error); status != Status::ok) return status;
  const Span span(kPlanVisionLabel);
  if (const Status status = inputs_.fill(observation, false); status != Status::ok)
    return without_message(status, error);
  for (Tensor* const tensor : taken_) {
    if (const Status status = tensor->upload(); status != Status::ok) return without_message(status, error);
  }
  if (const Status status = run_graph(*vision_, 1, epoch, error); status != Status::ok) return status;
  for (Tensor* const tensor : {seen_.seen, seen_.felt}) {
    if (tensor == nullptr) continue;
    if (const Status status = tensor->download(); status != Status::ok) return without_message(status, error);
  }
  return Status::ok;
}

}  // namespace keystep
