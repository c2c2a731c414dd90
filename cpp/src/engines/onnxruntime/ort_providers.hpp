// Execution providers: what to append for each, and which package brings one that is missing.
#pragma once

#include "engines/onnxruntime/ort_library.hpp"
#include "keystep/engine.hpp"

namespace keystep::ort {

/// Appends `options.provider` with its options to the session options, unless they are `on_cpu`. Keys that
/// begin with "session." are session configuration entries and go there for every provider. Throws
/// ProviderError when the library lacks the provider or its own libraries do not load, ArgumentError for a
/// name or key it does not know.
void append_provider(const Library& library, const EngineOptions& options, bool on_cpu, int threads,
                     SessionOptions& session);

/// Which packages bring the provider of this name.
std::string provider_hint(const std::string& provider);

}  // namespace keystep::ort
