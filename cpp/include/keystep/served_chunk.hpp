// A chunk for somebody who executes it elsewhere, and counts there: the client of a server.
#pragma once

#include <cstdint>
#include <limits>

#include "keystep/continuation.hpp"

namespace keystep {

struct ChunkRequest {
  /// Actions of this episode that were taken before the newest frame, as the client counts them: never fewer
  /// than the last time. After a session is lost it goes on counting.
  std::int64_t consumed = 0;
  /// Actions that will be taken until the chunk can begin to act. The chunk's goal is the one of that index.
  std::int64_t ahead = 0;
  /// `goal` of the chunk that `continuation` continues. Of another goal it has no say beyond the delay.
  std::uint64_t continues = 0;
  Continuation continuation{};
};

struct ServedChunk {
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

  std::uint64_t goal = 0;       ///< number of its goal: 1 is the first key-step, 0 a policy without any
  std::int64_t begins = 0;      ///< the consumed index from which on that goal counts; it may be to come
  std::int64_t until = kNever;  ///< the consumed index of the next key-step, where it is known beforehand
  bool planned = false;         ///< a plan was made for it
};

}  // namespace keystep
