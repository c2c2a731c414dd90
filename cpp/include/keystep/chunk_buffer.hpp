// Actions waiting to be executed, addressed by *consumed index*: how many actions were taken since reset.
// A chunk is installed at the index its observation was seen at, so actions that were executed while it
// was computed are skipped exactly, with no estimate of the delay.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace keystep {

class ChunkBuffer {
 public:
  /// horizon: actions per chunk; execute: how many of them are taken before renewal; dim: values per action.
  /// Throws ArgumentError unless 1 <= execute <= horizon and dim >= 1.
  ChunkBuffer(int horizon, int execute, int dim);

  void reset() noexcept;  ///< empty, consumed index 0
  void drop() noexcept;   ///< forget the remaining actions (an interrupt); the consumed index stays

  /// Somebody else took actions, of what was given to him: there were so many by now. Forgets the rest.
  void seek(std::int64_t consumed) noexcept;

  std::int64_t consumed() const noexcept { return consumed_; }
  bool needs_renewal() const noexcept;
  int remaining() const noexcept;  ///< actions that can still be taken before renewal

  /// Replaces the content by a horizon x dim chunk whose first action belongs to index `start`.
  /// False, and nothing changes, if it starts in the future or none of its first `execute` actions is still
  /// to come (or if its size is not horizon x dim): after true there is an action to take.
  bool install(std::int64_t start, std::span<const float> chunk) noexcept;
  /// The next action (dim values, valid until the next call that changes the buffer). Requires
  /// !needs_renewal(), and is empty otherwise.
  std::span<const float> take() noexcept;

 private:
  int execute_, dim_;
  std::int64_t start_ = 0;
  std::int64_t consumed_ = 0;
  bool filled_ = false;
  std::vector<float> actions_;
};

}  // namespace keystep
