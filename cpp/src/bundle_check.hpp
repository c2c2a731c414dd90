// What a manifest must agree with itself about, once every field has its type.
#pragma once

#include "keystep/bundle.hpp"

namespace keystep {

/// Lengths, ranges, unique names, normalisation, tensor roles and shapes. Throws BundleError.
void check_consistency(const Bundle& bundle);

/// Rows of the conditional and unconditional branches in one batch: 2 with guidance, else 1.
inline std::int64_t branches(const Bundle& bundle) noexcept { return bundle.sampler.guidance != 0 ? 2 : 1; }

/// "[1, 8, 7]"
std::string to_string(const std::vector<std::int64_t>& shape);

}  // namespace keystep
