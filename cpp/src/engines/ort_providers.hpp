// Execution providers: what to append for each, and which package brings one that is missing.
#pragma once

#include "engines/ort_library.hpp"
#include "keystep/engine.hpp"

namespace keystep::ort {

/// Appends `options.provider` with its options to the session options. Keys that begin with "session." are
/// session configuration entries and go there for every provider. Throws ProviderError when the library lacks
/// the provider or its own libraries do not load, ArgumentError for a name or key it does not know.
void append_provider(const Library& library, const EngineOptions& options, int threads,
                     SessionOptions& session);

}  // namespace keystep::ort
