// From the manifest's JSON: the functions of the code that a planner writes.
#pragma once

#include "bundle/manifest_node.hpp"
#include "keystep/code_api.hpp"

namespace keystep {

/// Checks everything. Throws BundleError.
CodeApi read_api(const ManifestNode& node);

}  // namespace keystep
