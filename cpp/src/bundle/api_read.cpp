#include "bundle/api_read.hpp"

#include <algorithm>
#include <set>
#include <string_view>

namespace keystep {
namespace {

constexpr std::size_t kMostFunctions = 256, kMostParameters = 16, kMostChoices = 256, kMostName = 64;

std::string name_of(const ManifestNode& node) {
  const std::string name = node.text();
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto is_of_name = [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); };
  const bool good = !name.empty() && name.size() <= kMostName && is_letter(name[0]) &&
                    std::ranges::all_of(name, is_of_name) && name != "pose_dict";
  if (!good) node.refuse("a name of 1 to " + std::to_string(kMostName) + " letters, digits and _");
  return name;
}

ValueType type_of(const ManifestNode& node) {
  const std::string name =
      node.text_of({"actor", "pose", "number", "string", "bool", "position", "list of actors"});
  if (name == "actor") return ValueType::actor;
  if (name == "pose") return ValueType::pose;
  if (name == "number") return ValueType::number;
  if (name == "string") return ValueType::string;
  if (name == "bool") return ValueType::boolean;
  return name == "position" ? ValueType::position : ValueType::actors;
}

/// A string that stands between single quotes as it is.
std::string choice_of(const ManifestNode& node) {
  const std::string choice = node.text();
  const auto plain = [](char c) { return c >= ' ' && c <= '~' && c != '\'' && c != '\\'; };
  const bool good = !choice.empty() && choice.size() <= kMostName && std::ranges::all_of(choice, plain);
  if (!good) node.refuse("1 to 64 printable ASCII characters without ' and backslash");
  return choice;
}

ParameterSpec parameter_of(const ManifestNode& node) {
  node.check_keys({"name", "types", "required", "choices"});
  ParameterSpec spec;
  spec.name = name_of(node["name"]);
  for (const ManifestNode& type : node["types"].items()) {
    spec.types.push_back(type_of(type));
    if (std::ranges::count(spec.types, spec.types.back()) > 1) type.refuse("each type once");
  }
  if (spec.types.empty()) node["types"].refuse("at least one type");
  spec.required = node["required"].boolean();
  const std::vector<ManifestNode> choices = node["choices"].items();
  if (choices.size() > kMostChoices) node["choices"].refuse("at most 256 choices");
  for (const ManifestNode& choice : choices) spec.choices.push_back(choice_of(choice));
  const bool is_string = spec.types.size() == 1 && spec.types[0] == ValueType::string;
  if (!spec.choices.empty() && !is_string) node["choices"].refuse("none (of a string alone there are)");
  return spec;
}

FunctionSpec function_of(const ManifestNode& node) {
  node.check_keys({"name", "result", "parameters"});
  FunctionSpec spec;
  spec.name = name_of(node["name"]);
  if (!node["result"].is_null()) spec.result = type_of(node["result"]);
  const std::vector<ManifestNode> parameters = node["parameters"].items();
  if (parameters.size() > kMostParameters) node["parameters"].refuse("at most 16 parameters");
  std::set<std::string> known;
  for (const ManifestNode& parameter : parameters) {
    spec.parameters.push_back(parameter_of(parameter));
    if (!known.insert(spec.parameters.back().name).second) parameter["name"].refuse("each parameter once");
    const std::size_t count = spec.parameters.size();
    const bool in_order =
        count == 1 || spec.parameters[count - 2].required || !spec.parameters.back().required;
    if (!in_order) parameter["required"].refuse("optional parameters last");
  }
  return spec;
}

}  // namespace

CodeApi read_api(const ManifestNode& node) {
  CodeApi api;
  std::set<std::string> known;
  const std::vector<ManifestNode> functions = node.items();
  if (functions.empty()) node.refuse("at least one function");
  if (functions.size() > kMostFunctions) node.refuse("at most 256 functions");
  for (const ManifestNode& function : functions) {
    api.push_back(function_of(function));
    if (!known.insert(api.back().name).second) function["name"].refuse("each function once");
  }
  return api;
}

CodeApi read_api(const std::string& json) {
  const nlohmann::json parsed = parse_json(json, "api");
  return read_api(ManifestNode(parsed, "api"));
}

}  // namespace keystep
