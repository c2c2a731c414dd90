// A session of ONNX Runtime with its inputs and outputs bound once; a run is one call.
#pragma once

#include "engines/ort_library.hpp"
#include "keystep/engine.hpp"

namespace keystep {

/// `copies_inputs`: the provider has memory of its own. Throws BundleError where `spec` disagrees with the
/// session or with `buffers`.
std::unique_ptr<Graph> make_onnx_graph(std::shared_ptr<const ort::Library> library,
                                       std::shared_ptr<ort::Session> session, bool copies_inputs,
                                       const GraphSpec& spec, const Buffers& buffers);

}  // namespace keystep
