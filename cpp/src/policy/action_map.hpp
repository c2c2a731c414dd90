// What the network makes to actions in physical units, and back.
#pragma once

#include <span>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/observation.hpp"
#include "policy/normalizer.hpp"

namespace keystep {

/// Its normalisation, and where actions are relative (`ActionSpec::relative`) the state that they are
/// relative to: that of the observation a chunk is made for, one for all its rows. Everything outside is
/// absolute, so chunks made at different states are merged as they are. All memory is taken at construction.
class ActionMap {
 public:
  explicit ActionMap(const Bundle& bundle);

  /// The newest frame is what the next chunk is made for; it was checked.
  void anchor(const Observation& newest) noexcept;
  /// Both take whole rows: input.size() == output.size(), a multiple of the number of actions.
  void to_network(std::span<const float> physical, std::span<float> network) const noexcept;
  void to_physical(std::span<const float> network, std::span<float> physical) const noexcept;

 private:
  VectorNormalizer normalizer_;
  std::size_t feature_ = 0;    ///< of the observation
  std::vector<int> places_;    ///< of its values, by action; -1: absolute. Empty: all are
  std::vector<float> anchor_;  ///< what is added, by action; 0: nothing
};

}  // namespace keystep
