// What a planner that writes sees: from an observation to the vectors that stand in its prompt.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "code/decoder.hpp"
#include "policy/observation_inputs.hpp"

namespace keystep {

/// Of one session.
class CodeSight {
 public:
  /// `observation`: the features of whoever hands over observations, those of the planner among them. The
  /// specifications and the tensors outlive it. Throws BundleError.
  CodeSight(const CodePlannerSpec& spec, const std::vector<FeatureSpec>& observation, const GraphSpec& graph,
            std::unique_ptr<Graph> vision, const Tensors& tensors);

  /// Ok or `bad_observation`, for which `error` names the field.
  Status check(const Observation& observation, std::string& error) const noexcept;
  /// Allocates only where a picture comes in a larger size than before, and for messages.
  Status look(const Observation& observation, const Epoch& epoch, std::string& error) noexcept;
  const SeenTensors& seen() const noexcept { return seen_; }
  void terminate() noexcept { vision_->terminate(); }  ///< any thread

 private:
  const std::unique_ptr<Graph> vision_;
  std::vector<Tensor*> taken_;  // from the observation
  const SeenTensors seen_;
  ObservationInputs inputs_;
};

}  // namespace keystep
