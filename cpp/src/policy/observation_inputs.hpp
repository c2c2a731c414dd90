// The network inputs that one observation fills.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/observation.hpp"
#include "keystep/status.hpp"
#include "policy/normalizer.hpp"
#include "policy/resizer.hpp"

namespace keystep {

class ObservationInputs {
 public:
  /// `target` gives the memory for "state" or "images.<camera>": nullptr where the network takes no such
  /// input. `normalization` has an entry for each that it takes, by observation key.
  ObservationInputs(const ObservationSpec& spec, const std::map<std::string, Normalization>& normalization,
                    const std::function<float*(const std::string&)>& target);

  /// Sizes and finiteness of what the network takes; if they are wrong, `error` names the field, of `name`
  /// ("observation", "goal"). Allocates only then.
  Status check(const Observation& seen, const char* name, std::string& error) const noexcept;
  /// Checks, then resizes and normalises into the network's inputs. Allocates where an image comes in a
  /// larger size than before.
  Status fill(const Observation& seen, const char* name, std::string& error) noexcept;

 private:
  bool image_fits(const Observation& seen, std::size_t camera) const noexcept;
  void normalize(const Observation& seen);
  std::string find_fault(const Observation& seen, const std::string& name) const;

  ObservationSpec spec_;
  float* state_ = nullptr;
  std::vector<float*> images_;
  std::vector<Resizer> resizers_;
  std::optional<VectorNormalizer> state_normalizer_;
  std::vector<std::optional<ImageNormalizer>> image_normalizers_;
};

}  // namespace keystep
