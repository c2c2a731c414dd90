// The backends, one file each, behind make_engine.
#pragma once

#include <memory>

#include "keystep/engine.hpp"

namespace keystep {

std::unique_ptr<Engine> make_auto_engine(const EngineOptions& options);
std::unique_ptr<Engine> make_onnxruntime_engine(const EngineOptions& options);
std::unique_ptr<Engine> make_stub_engine(const EngineOptions& options);

/// The tensor's buffer, seen with the tensor's own extents. Throws BundleError if it is missing or too small.
Buffer buffer_of(const TensorSpec& tensor, const Buffers& buffers);

}  // namespace keystep
