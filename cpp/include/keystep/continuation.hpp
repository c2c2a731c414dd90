// What a new chunk continues: the actions that the old one still has.
#pragma once

#include <span>

namespace keystep {

/// All of it is read within the call that it is given to.
struct Continuation {
  enum class Rule {
    none,     ///< a chunk of its own, bit for bit that of no continuation
    x0blend,  ///< every denoise step draws the predicted chunk towards the old one; any network with a
              ///< sampler
    trained,  ///< the network is given the rows below `delay`; a bundle with `chunk.max_delay` (`--rtc`)
  };
  enum class Decay { linear, exponential };

  /// Actions not executed yet, physical units, one row after the other; the first is what executes now.
  std::span<const float> previous{};
  /// Actions that will be consumed before the new chunk begins to act: 0 .. horizon - start, of `trained` at
  /// most `chunk.max_delay`. The new chunk has the old one's rows below it, exactly.
  int delay = 0;
  /// x0blend: the first row that is wholly new, delay .. horizon - start. After a key-step: `delay`.
  int overlap = 0;
  Rule rule = Rule::none;
  Decay decay = Decay::exponential;  ///< x0blend: of the weight of the old chunk from `delay` to `overlap`
};

/// W: how much of the old chunk each row of a new one keeps (RTC, Black et al. 2025, arXiv:2506.07339, eq.
/// 5). 1 below `delay`, for these rows are executed from the old chunk while the new one is made; then c, or
/// c (e^c - 1) / (e - 1), with c falling from 1 to 0 in equal steps up to `overlap`, the first row that is
/// wholly new; then 0. `rows`: those that the old chunk still has. It ends there at the latest: what does not
/// exist has the weight 0.
void merge_weights(int delay, int overlap, int rows, Continuation::Decay decay,
                   std::span<float> weights) noexcept;

}  // namespace keystep
