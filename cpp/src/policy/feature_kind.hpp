// The kinds of features. A new kind is a row of the table in feature_kind.cpp, and a FrameReader if none of
// those there can read its frames.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/observation.hpp"

namespace keystep {

inline constexpr const char* kObservationPrefix = "observation.";

/// Reads the frames of one feature for the network.
class FrameReader {
 public:
  virtual ~FrameReader() = default;
  /// The frame at the feature's own size, valid until the next call. Allocates where an image comes in a
  /// larger size than before; may throw std::bad_alloc.
  virtual const void* sized(const FeatureView& frame) { return frame.data; }
  /// Normalises a frame of the feature's own size into its place in the network's input.
  virtual void normalize(const void* frame, float* output) const noexcept = 0;
};

struct FeatureKind {
  const char* name;
  DType dtype;        ///< of floats, every one must be finite
  const char* shape;  ///< in the manifest, for messages
  int axes;           ///< of that shape
  int channels;       ///< of an image, which goes channels first to the network; 0: a vector
  /// What an entry of the manifest has beside the keys of all kinds: names | resize; nullptr: nothing.
  const char* key;
  bool subgoal;  ///< a planner's subgoals may be of this kind
  std::unique_ptr<FrameReader> (*make_reader)(const FeatureSpec& spec);
};

const std::vector<FeatureKind>& feature_kinds();
/// nullptr: there is none of this name.
const FeatureKind* find_kind(const std::string& name) noexcept;
const FeatureKind& kind_of(const FeatureSpec& spec) noexcept;

/// Values that each statistic has: one per value of a vector, one per channel of an image.
std::size_t statistics_width(const FeatureSpec& spec) noexcept;
/// One frame as the network takes it: {S} | {channels, height, width}.
std::vector<std::int64_t> network_frame(const FeatureSpec& spec);
/// The network's input of `history` frames: {1, ..} of one, else {1, history, ..}.
std::vector<std::int64_t> network_shape(const FeatureSpec& spec, int history);

}  // namespace keystep
