// What the tensors of a graph may be: by role their type and shape.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "keystep/bundle.hpp"

namespace keystep {

using Shape = std::vector<std::int64_t>;

struct RoleSpec {
  DType dtype;
  Shape shape;  ///< empty: any, as for `condition`
  bool required;
  std::int64_t rows = 0;  ///< leading extent where the rest of the shape is free; 0: any
};
using Roles = std::map<std::string, RoleSpec>;

struct Sides {
  Roles inputs, outputs;
  std::vector<std::string> conditions_of = {};  ///< the graphs whose outputs may be its conditions
};

/// By graph, of a bundle of the family code.
std::map<std::string, Sides> code_sides(const Bundle& bundle);
/// That graphs of this family share memory by the names that docs/code_bundle.md gives. Throws BundleError.
void check_code_names(const Bundle& bundle);

}  // namespace keystep
