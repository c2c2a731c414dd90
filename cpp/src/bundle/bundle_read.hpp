// From the manifest's JSON to plain structs.
#pragma once

#include "bundle/manifest_node.hpp"
#include "keystep/bundle.hpp"

namespace keystep {

/// Keys, types and the range of single values; what fields must agree about is `check_consistency`'s. Throws
/// BundleError.
Bundle read_bundle(const ManifestNode& root);
Normalization read_normalization(const ManifestNode& node);

}  // namespace keystep
