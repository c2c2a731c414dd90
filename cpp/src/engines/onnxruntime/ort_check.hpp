// What a graph file says of its inputs and outputs, against what the manifest says.
#pragma once

#include "engines/onnxruntime/ort_library.hpp"
#include "keystep/engine.hpp"

namespace keystep::ort {

int element_type(DType dtype) noexcept;

/// Names, element types and shapes must be equal. An axis of the graph is symbolic only where it is the
/// leading one, that of the two rows of guidance (`sample`, `model_output` and `condition`). `bound`: the
/// memory with both rows, where `spec` may be the first alone; else empty. Throws BundleError naming the
/// tensor.
void check_graph(const Library& library, const Session& session, const GraphSpec& spec, const Buffers& bound);

}  // namespace keystep::ort
