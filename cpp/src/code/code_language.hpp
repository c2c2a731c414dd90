// What all sessions of a planner that writes have in common, its weights apart.
#pragma once

#include <optional>

#include "code/constraint.hpp"
#include "keystep/code_planner_spec.hpp"

namespace keystep {

/// It never changes, so any threads read it.
struct CodeLanguage {
  /// Throws BundleError, as of `CodeConstraint`.
  CodeLanguage(const CodePlannerSpec& spec, bool constrained) : words(spec.words) {
    if (constrained) constraint.emplace(spec.api, spec.grid, words);
  }
  CodeLanguage(const CodeLanguage&) = delete;
  CodeLanguage& operator=(const CodeLanguage&) = delete;

  const WordTokenizer words;
  std::optional<CodeConstraint> constraint;  ///< none: a reply may be any text
};

}  // namespace keystep
