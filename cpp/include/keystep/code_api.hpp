// The functions of the code that a planner writes, as the manifest lists them; keystep.code.language in
// Python.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace keystep {

/// Of a value in code. A position is a cell (column, row) of the grid.
enum class ValueType : std::uint8_t { actor, pose, number, string, boolean, position, actors };

struct ParameterSpec {
  std::string name;
  std::vector<ValueType> types;      ///< any of these
  bool required = true;              ///< others are given by name
  std::vector<std::string> choices;  ///< of a string; none: any will do
};

struct FunctionSpec {
  std::string name;
  std::optional<ValueType> result;  ///< none: an action
  std::vector<ParameterSpec> parameters;
};

using CodeApi = std::vector<FunctionSpec>;

/// `planner.api` of a manifest, as JSON. Throws BundleError.
CodeApi read_api(const std::string& json);

}  // namespace keystep
