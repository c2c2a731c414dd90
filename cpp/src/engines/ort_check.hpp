// What a graph file says of its inputs and outputs, against what the manifest says.
#pragma once

#include "engines/ort_library.hpp"
#include "keystep/bundle.hpp"

namespace keystep::ort {

int element_type(DType dtype) noexcept;

/// Names, element types and shapes must be equal; a symbolic axis of the graph takes any extent. Throws
/// BundleError naming the tensor.
void check_graph(const Library& library, const Session& session, const GraphSpec& spec);

}  // namespace keystep::ort
