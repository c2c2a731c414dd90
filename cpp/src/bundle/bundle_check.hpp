// What a manifest must agree with itself about, once every field has its type.
#pragma once

#include <algorithm>

#include "keystep/bundle.hpp"
#include "keystep/status.hpp"

namespace keystep {

/// Lengths, ranges, unique names, normalisation, planner, tensor roles and shapes. Throws BundleError.
void check_consistency(const Bundle& bundle);
/// Its part that is about graphs.
void check_graphs(const Bundle& bundle);
/// The part of that about graphs that other kernels stand in for. After the rest of it.
void check_unets(const Bundle& bundle);

/// What only bundles of the family code have. After their observation.
void check_code(const Bundle& bundle);
/// Lengths and widths of statistics of `length` values. Throws BundleError.
void check_statistics(const Normalization& stats, std::size_t length, const std::string& field);

/// Rows of the conditional and unconditional branches in one batch of the controller: 2 with guidance,
/// else 1.
inline std::int64_t branches(const Bundle& bundle) noexcept {
  return bundle.sampler && bundle.sampler->guidance != 0 ? 2 : 1;
}
/// The same of the planner, whose guidance may change with every reset.
inline std::int64_t branches(const PlannerSpec& planner) noexcept { return planner.guided ? 2 : 1; }

/// Of `ensemble_decay`: exp(500) times an action is still finite.
inline int most_ensemble_decay(const ChunkSpec& chunk) noexcept {
  const int rows = std::max(chunk.horizon - chunk.start, 1);  // a planner alone has none
  return std::max(500 / rows, 1);
}

[[noreturn]] inline void refuse(const std::string& field, const std::string& wanted, const std::string& got) {
  throw BundleError(expected(field, wanted, got));
}

inline std::string at(const std::string& field, std::size_t index) {
  return field + "[" + std::to_string(index) + "]";
}

/// "[1, 8, 7]"
std::string to_string(const std::vector<std::int64_t>& shape);

}  // namespace keystep
