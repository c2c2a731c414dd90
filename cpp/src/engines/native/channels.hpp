// How the channels of an activation are shared among threads, and where they lie in memory.
#pragma once

#include <algorithm>
#include <vector>

namespace keystep::native {

/// One thread's channels: first .. first + count - 1 of the network, at `offset` in memory, where they are
/// padded to `padded`, a multiple of the vector's lanes.
struct Segment {
  int first = 0, count = 0;
  int offset = 0, padded = 0;
};

/// Each thread has whole units (the groups of GroupNorm), so that it can normalise what it has computed
/// without waiting for the others; each segment is padded to whole vectors, so that no kernel handles a rest.
class Channels {
 public:
  Channels() = default;
  /// The last unit may be smaller.
  Channels(int count, int unit, int threads, int lanes) : count_(count) {
    const int units = (count + unit - 1) / unit;
    for (int thread = 0; thread < threads; ++thread) {
      const int first = units * thread / threads * unit, end = units * (thread + 1) / threads * unit;
      Segment segment{first, std::max(0, std::min(end, count) - first), padded_, 0};
      segment.padded = (segment.count + lanes - 1) / lanes * lanes;
      padded_ += segment.padded;
      segments_.push_back(segment);
    }
  }

  int count() const noexcept { return count_; }
  int padded() const noexcept { return padded_; }
  const std::vector<Segment>& segments() const noexcept { return segments_; }
  /// Where channel `channel` of the network lies in memory.
  int place(int channel) const noexcept {
    for (const Segment& segment : segments_) {
      if (channel - segment.first < segment.count) return segment.offset + channel - segment.first;
    }
    return 0;
  }

 private:
  int count_ = 0, padded_ = 0;
  std::vector<Segment> segments_;
};

}  // namespace keystep::native
