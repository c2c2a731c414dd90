#include <algorithm>
#include <cmath>
#include <numbers>

#include "keystep/continuation.hpp"

namespace keystep {

void merge_weights(int delay, int overlap, int rows, Continuation::Decay decay,
                   std::span<float> weights) noexcept {
  const int end = std::min(std::max(delay, overlap), rows), begin = std::min(delay, rows);
  for (int i = 0; i < std::ssize(weights); ++i) {
    const double c = std::clamp(static_cast<double>(end - i) / (end - begin + 1), 0.0, 1.0);
    const double weight =
        decay == Continuation::Decay::linear ? c : c * std::expm1(c) / (std::numbers::e - 1);
    weights[static_cast<std::size_t>(i)] = static_cast<float>(i < begin ? 1.0 : weight);
  }
}

}  // namespace keystep
