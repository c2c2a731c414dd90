// The chunk before, as the sampler takes it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"
#include "keystep/continuation.hpp"
#include "policy/action_map.hpp"
#include "sampling/merge.hpp"

namespace keystep {

/// What the next chunk continues, if anything. All memory is taken at construction.
class ContinuedChunk {
 public:
  /// `mask`: see `Merge`.
  ContinuedChunk(const Bundle& bundle, Tensor* mask);

  /// Takes it for one sample. Where it cannot be, `error` names the field, and nothing is continued.
  Status take(const Continuation& given, std::string& error) noexcept;
  /// For the sampler's loop, which comes next: in network units of what `map` is anchored at by then.
  /// nullptr: there is nothing to do.
  Merge* merge(const ActionMap& map) noexcept;
  /// The rows of the chunk (physical units) that are executed from the old one become these, to the bit; then
  /// all is forgotten.
  void finish(std::span<float> chunk) noexcept;
  void forget() noexcept;

 private:
  void check(const Continuation& given) const;

  const int dim_, start_, rows_;  ///< start_: the row of a chunk that executes now; rows_: from there on
  const int max_delay_;           ///< of `trained`
  std::vector<float> known_;      ///< of the old chunk, from `start_` on, physical units
  std::size_t known_count_ = 0;   ///< values of it
  std::size_t kept_count_ = 0;    ///< of those, what is executed: the first
  Merge merge_;
};

}  // namespace keystep
