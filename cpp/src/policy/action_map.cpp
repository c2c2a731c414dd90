#include "policy/action_map.hpp"

#include <algorithm>

namespace keystep {

ActionMap::ActionMap(const Bundle& bundle)
    : normalizer_(bundle.action.normalization, bundle.action.names.size()) {
  if (!bundle.action.relative) return;
  const auto& features = bundle.observation;
  const auto found = std::ranges::find(features, bundle.action.relative->feature, &FeatureSpec::key);
  feature_ = static_cast<std::size_t>(found - features.begin());
  places_ = bundle.action.relative->values;
  anchor_.resize(places_.size());
}

void ActionMap::anchor(const Observation& newest) noexcept {
  if (places_.empty()) return;
  const auto* values = static_cast<const float*>(newest.features[feature_].data);
  std::ranges::transform(places_, anchor_.begin(), [&](int place) { return place < 0 ? 0 : values[place]; });
}

void ActionMap::to_network(std::span<const float> physical, std::span<float> network) const noexcept {
  if (places_.empty()) return normalizer_.normalize(physical, network.data());
  for (std::size_t i = 0; i < physical.size(); ++i) network[i] = physical[i] - anchor_[i % anchor_.size()];
  normalizer_.normalize(network, network.data());
}

void ActionMap::to_physical(std::span<const float> network, std::span<float> physical) const noexcept {
  normalizer_.unnormalize(network, physical.data());
  if (places_.empty()) return;
  for (std::size_t i = 0; i < physical.size(); ++i) physical[i] += anchor_[i % anchor_.size()];
}

}  // namespace keystep
