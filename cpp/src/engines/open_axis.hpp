// Tensors of which every run has its own part.
#pragma once

#include "keystep/bundle.hpp"

namespace keystep {

/// What the second axis of a tensor counts where every run has its own number of it, by its role: `tokens`
/// and `vectors` have the run's rows, `logits` those of them from the input `first` on. The parts lie at the
/// beginning of the tensor's memory, whose shape has the most that there can be.
enum class OpenAxis { none, tokens, logits };
OpenAxis open_axis(const TensorSpec& tensor) noexcept;
/// Whether a tensor of the graph has an open axis: then any number of rows runs.
bool is_open(const GraphSpec& graph) noexcept;

}  // namespace keystep
