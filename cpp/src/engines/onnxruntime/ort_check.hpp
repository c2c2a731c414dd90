// What a graph file says of its inputs and outputs, against what the manifest says.
#pragma once

#include "engines/onnxruntime/ort_library.hpp"
#include "keystep/engine.hpp"

namespace keystep::ort {

int element_type(DType dtype) noexcept;

/// Names, element types and shapes must be equal, with so many rows. An axis of the graph is symbolic only
/// where it is that of the rows, and must be where `several` numbers of them will run. Throws BundleError
/// naming the tensor.
void check_graph(const Library& library, const Session& session, const GraphSpec& spec, int rows,
                 bool several);

}  // namespace keystep::ort
