// An observation that is owned: what a thread computes with while the caller's memory is used again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/observation.hpp"

namespace keystep {

/// One frame of every feature.
class OwnedObservation {
 public:
  /// Room for frames of the features' own sizes.
  explicit OwnedObservation(const std::vector<FeatureSpec>& features);
  OwnedObservation(const OwnedObservation& other);
  OwnedObservation& operator=(const OwnedObservation& other);
  OwnedObservation(OwnedObservation&&) noexcept = default;  // the views stay good: bytes keep their place
  OwnedObservation& operator=(OwnedObservation&&) noexcept = default;

  /// Copies the features that `taken` says; the views of the others are empty. Allocates where an image is
  /// larger than before, and throws std::bad_alloc then.
  void copy(const Observation& seen, const std::vector<bool>& taken);
  Observation view() const noexcept { return {views_, timestamp_us_, now_us_}; }

 private:
  void point() noexcept;

  std::vector<std::vector<std::byte>> bytes_;
  std::vector<FeatureView> views_;  // into `bytes_`
  std::int64_t timestamp_us_ = -1, now_us_ = -1;
};

/// What a tick saw, and where the network takes several frames, those before it.
struct Snapshot {
  std::vector<OwnedObservation> frames;  ///< oldest first; only the last `count` are filled
  std::size_t count = 0;                 ///< 0: nothing was seen yet
  std::uint64_t traced = 0, flow = 0;    ///< its number and arrow in a trace (`LoopTrace`)
  std::int64_t consumed = 0;             ///< index of the action that this observation is for
  std::int64_t tick = 0;                 ///< its number
  std::int64_t expected_delay = 0;       ///< actions that will be consumed before what is made of it acts
  std::vector<float> rest;      ///< the actions that are left of the newest chunk, from `consumed` on
  std::size_t rest_values = 0;  ///< of `rest`
  std::uint64_t goal = 0;       ///< of that chunk, as `GoalMessage::number`
  std::uint64_t epoch = 0;      ///< in which it was taken: in another `rest` is of no use
  std::uint64_t received = 0;   ///< `ChunkMessage::number` of the last chunk that the tick has taken

  const OwnedObservation& newest() const noexcept { return frames.back(); }
};

}  // namespace keystep
