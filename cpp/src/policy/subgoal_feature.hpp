// The one feature that a planner imagines, as its graphs and its controller see it.
#pragma once

#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/engine.hpp"
#include "policy/observation_inputs.hpp"

namespace keystep {

/// Where the planner's own graphs take the observation.
inline Tensor& seen_in(const Bundle& bundle, const Tensors& tensors) {
  const auto encode = bundle.graphs.find("plan_encode");
  Tensor* seen =
      encode == bundle.graphs.end() ? nullptr : tensors.find(encode->second, bundle.planner->subgoal);
  return seen != nullptr ? *seen : *tensors.find(bundle.graphs.at("plan_denoise"), bundle.planner->subgoal);
}

inline const FeatureSpec& subgoal_feature(const Bundle& bundle) {
  return bundle.observation[subgoal_index(bundle)];
}

/// The planner sees the newest frame, normalised as it was trained.
inline std::vector<FeatureSpec> seen_features(const Bundle& bundle) {
  std::vector<FeatureSpec> features = single_frames(bundle.observation);
  features[subgoal_index(bundle)].normalization = bundle.planner->normalization;
  return features;
}

}  // namespace keystep
