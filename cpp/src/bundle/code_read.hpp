// From the manifest's JSON: a planner that writes code.
#pragma once

#include "bundle/manifest_node.hpp"
#include "keystep/code_planner_spec.hpp"

namespace keystep {

/// The key `planner` of the family code: keys, types and single values. Throws BundleError.
CodePlannerSpec read_code_planner(const ManifestNode& node);

}  // namespace keystep
