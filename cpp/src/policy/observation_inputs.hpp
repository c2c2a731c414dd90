// The network inputs that one observation fills, and the frames before it where they take more than one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/observation.hpp"
#include "keystep/status.hpp"
#include "policy/feature_kind.hpp"

namespace keystep {

/// The features with a history of one frame: what goals, subgoals and planners take.
std::vector<FeatureSpec> single_frames(std::vector<FeatureSpec> features);

class ObservationInputs {
 public:
  /// `target` gives the memory for a feature by the name of its key, with room for its whole history;
  /// nullptr where the network takes no such input.
  ObservationInputs(const std::vector<FeatureSpec>& features,
                    const std::function<float*(const std::string&)>& target);

  /// Types, sizes and finiteness of what the network takes; if they are wrong, `error` names the field, of
  /// `name` ("observation", "goal"). Allocates only then. What follows takes what this accepted.
  Status check(const Observation& seen, const char* name, std::string& error) const noexcept;
  bool keeps_any() const noexcept { return keeps_any_; }  ///< the network takes several frames of something
  /// Keeps its frames where the network takes several, the first one in place of all before it. Copies
  /// nothing elsewhere.
  Status note(const Observation& seen) noexcept;
  void forget() noexcept { noted_ = 0; }
  /// Resizes and normalises into the network's inputs, oldest frame first. `is_noted`: `seen` is the one
  /// that was noted last; if not it is taken as the newest, and stays unnoted. Allocates where an image
  /// comes in a larger size than before.
  Status fill(const Observation& seen, bool is_noted) noexcept;

 private:
  struct Input {
    // What every tick looks at stands together.
    float* target;
    FeatureView own;       // without data: a frame of the feature's own size
    std::size_t elements;  // of that
    FeatureSpec spec;
    std::unique_ptr<FrameReader> reader;
    std::size_t bytes;            // of a frame of the feature's own size
    std::size_t size;             // of a frame in the network's input
    std::vector<std::byte> ring;  // `history` frames, where that is more than one

    bool keeps() const noexcept { return !ring.empty(); }
    std::byte* kept(std::uint64_t frame) noexcept;
    bool fits(const FeatureView& view) const noexcept;
    std::string fault(const FeatureView& view, const std::string& field) const;
    void fill(const FeatureView& view, std::uint64_t noted, bool is_noted);
  };

  std::string find_fault(const Observation& seen, const std::string& name) const;

  std::vector<Input> inputs_;  // one per feature
  bool takes_any_ = false, keeps_any_ = false;
  std::uint64_t noted_ = 0;  // observations
};

}  // namespace keystep
