// A session of ONNX Runtime with its inputs and outputs bound once; a run is one call.
#pragma once

#include <functional>
#include <memory>

#include "engines/onnxruntime/ort_library.hpp"
#include "keystep/engine.hpp"

namespace keystep {

/// Makes the session anew for other extents of the file's symbolic axis. Throws.
using Reopen = std::function<std::shared_ptr<ort::Session>(const GraphSpec& spec)>;

/// `spec` fits the session (`ort::check_graph`). `copies_inputs`: the provider has memory of its own.
/// `reopen`: for a session whose symbolic axis is fixed; else empty. Throws BundleError where `spec`
/// disagrees with `buffers`.
std::unique_ptr<Graph> make_onnx_graph(std::shared_ptr<const ort::Library> library,
                                       std::shared_ptr<ort::Session> session, bool copies_inputs,
                                       Reopen reopen, const GraphSpec& spec, const Buffers& buffers);

}  // namespace keystep
