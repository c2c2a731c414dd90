// For code of our own that brings an engine.
#pragma once

#include <filesystem>
#include <memory>

#include "keystep/code_runtime.hpp"
#include "policy/policy.hpp"

namespace keystep {

struct CodeRuntimeInternals {
  static std::unique_ptr<CodeRuntime> open(const std::filesystem::path& bundle, const CodeOptions& options,
                                           const EngineFactory& engine);
};

}  // namespace keystep
