// The actions to come, by consumed index, and how a new chunk joins those of the one before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace keystep {

enum class MergeRule { replace, blend, temporal_ensemble };

/// A chunk is installed at the index its observation was seen at: what was executed while it was made is
/// skipped exactly. All memory is taken at construction.
class ActionQueue {
 public:
  struct Settings {
    MergeRule rule = MergeRule::replace;
    int rows = 1, dim = 1;         ///< of a chunk
    int blend = 1;                 ///< actions over which `blend` fades the old chunk
    double ensemble_decay = 0.01;  ///< m of `temporal_ensemble`
  };
  explicit ActionQueue(const Settings& settings);

  void reset() noexcept;  ///< empty, consumed index 0
  void drop() noexcept;   ///< forgets the actions (an interrupt); the consumed index stays

  std::int64_t consumed() const noexcept { return consumed_; }
  int left() const noexcept;  ///< actions that can still be taken

  /// rows x dim values, whose row 0 belongs to index `start`, which is not in the future. `joins`: it merges
  /// with the chunks before it, which were made for the same goal; else it replaces them. False, and nothing
  /// changes, if all of its actions are past.
  bool install(std::int64_t start, std::span<const float> chunk, bool joins) noexcept;
  /// The next action (dim values, valid until the next call). Empty: there is none.
  std::span<const float> take() noexcept;
  /// The newest chunk's rows from the next action on.
  std::span<const float> rest() const noexcept;

 private:
  struct Chunk {
    std::int64_t start = 0;
    std::vector<float> values;
  };
  /// The i-th oldest.
  const Chunk& at(std::size_t i) const noexcept { return chunks_[(first_ + i) % chunks_.size()]; }
  bool knows(const Chunk& chunk, std::int64_t index) const noexcept;
  std::span<const float> row(const Chunk& chunk, std::int64_t index) const noexcept;
  void blend(Chunk& into, std::int64_t start, std::span<const float> chunk) const noexcept;
  void average() noexcept;

  const Settings settings_;
  std::vector<Chunk> chunks_;  // a ring, oldest first; of one but for the ensemble
  std::size_t first_ = 0, count_ = 0;
  std::int64_t consumed_ = 0;
  std::vector<double> weights_;  // of the ensemble, oldest first
  std::vector<double> sum_;
  std::vector<float> action_;
};

}  // namespace keystep
