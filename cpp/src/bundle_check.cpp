#include "bundle_check.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "keystep/status.hpp"

namespace keystep {
namespace {

using Shape = std::vector<std::int64_t>;

[[noreturn]] void refuse(const std::string& field, const std::string& wanted, const std::string& got) {
  throw BundleError(expected(field, wanted, got));
}

std::string at(const std::string& field, std::size_t index) {
  return field + "[" + std::to_string(index) + "]";
}

void check_unique(const std::vector<std::string>& names, const std::string& field) {
  std::set<std::string> seen;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) refuse(at(field, i), "a name", "\"\"");
    if (!seen.insert(names[i]).second) refuse(at(field, i), "unique names", "'" + names[i] + "' again");
  }
}

template <class T>
void check_length(const std::vector<T>& values, std::size_t wanted, const std::string& field) {
  if (values.size() == wanted) return;
  refuse(field, std::to_string(wanted) + " values", std::to_string(values.size()));
}

// ---- observation, action, normalisation

void check_action(const ActionSpec& action) {
  check_unique(action.names, "action.names");
  const std::size_t dim = action.names.size();
  if (dim == 0) refuse("action.names", "at least one name", "none");
  check_length(action.units, dim, "action.units");
  check_length(action.min, dim, "action.min");
  check_length(action.max, dim, "action.max");
  check_length(action.hold, dim, "action.hold");
  if (!action.rate_limit.empty()) check_length(action.rate_limit, dim, "action.rate_limit");
  for (std::size_t i = 0; i < dim; ++i) {
    const std::string min = std::to_string(action.min[i]), max = std::to_string(action.max[i]);
    if (!(action.min[i] < action.max[i])) refuse(at("action.max", i), "more than the minimum " + min, max);
    if (!(action.min[i] <= action.hold[i] && action.hold[i] <= action.max[i])) {
      refuse(at("action.hold", i), "a value in " + min + ".." + max, std::to_string(action.hold[i]));
    }
    if (!action.rate_limit.empty() && !(action.rate_limit[i] > 0)) {
      refuse(at("action.rate_limit", i), "a positive change per action",
             std::to_string(action.rate_limit[i]));
    }
  }
}

/// Values per normalised key: every observation key and "action".
std::map<std::string, std::size_t> normalized_keys(const Bundle& bundle) {
  std::map<std::string, std::size_t> keys = {{"action", bundle.action.names.size()}};
  if (!bundle.observation.state_names.empty()) {
    keys["observation.state"] = bundle.observation.state_names.size();
  }
  for (const ImageSpec& image : bundle.observation.images) keys["observation.images." + image.camera] = 3;
  return keys;
}

void check_statistics(const Normalization& stats, std::size_t length, const std::string& field) {
  if (stats.mode == "identity") return;
  const bool min_max = stats.mode == "min_max";
  const std::string low = field + (min_max ? ".min" : ".mean"), high = field + (min_max ? ".max" : ".std");
  check_length(stats.low_or_mean, length, low);
  check_length(stats.high_or_std, length, high);
  for (std::size_t i = 0; i < length; ++i) {
    const double width = stats.high_or_std[i] - (min_max ? stats.low_or_mean[i] : 0.0);
    // The reciprocal is what normalisation multiplies by: a denormal width is as good as none.
    if (width > 0 && std::isfinite(width) && std::isfinite(2 / width)) continue;
    refuse(at(high, i), min_max ? "more than the minimum (a width that is not zero)" : "a positive deviation",
           std::to_string(stats.high_or_std[i]));
  }
}

void check_normalization(const Bundle& bundle) {
  const auto keys = normalized_keys(bundle);
  for (const auto& [key, length] : keys) {
    const auto found = bundle.normalization.find(key);
    if (found == bundle.normalization.end()) refuse("normalization." + key, "a value", "no such key");
    check_statistics(found->second, length, "normalization." + key);
  }
  for (const auto& [key, stats] : bundle.normalization) {
    if (!keys.contains(key)) refuse("normalization." + key, "an observation key or action", "an unknown key");
  }
}

// ---- graphs

struct RoleSpec {
  DType dtype;
  Shape shape;  ///< empty: any, as for `condition`
  bool required;
};
using Roles = std::map<std::string, RoleSpec>;

Roles encode_inputs(const Bundle& bundle) {
  Roles roles;
  const bool goal = bundle.goal == "observation";
  const auto add = [&](const std::string& key, const Shape& shape) {
    roles["observation." + key] = {DType::float32, shape, true};
    if (goal) roles["goal." + key] = {DType::float32, shape, false};
  };
  if (const auto n = static_cast<std::int64_t>(bundle.observation.state_names.size())) add("state", {1, n});
  for (const ImageSpec& image : bundle.observation.images) {
    add("images." + image.camera, {1, 3, image.height, image.width});
  }
  if (!bundle.tasks.empty()) roles["task"] = {DType::int64, {1}, false};
  return roles;
}

void check_tensor(const TensorSpec& tensor, const Roles& roles, const std::string& field) {
  const auto found = roles.find(tensor.role);
  if (found == roles.end()) {
    std::string known;
    for (const auto& [role, spec] : roles) known += (known.empty() ? "" : ", ") + role;
    refuse(field + ".role", "one of " + known, "'" + tensor.role + "'");
  }
  const RoleSpec& role = found->second;
  if (tensor.dtype != role.dtype) refuse(field + ".dtype", name(role.dtype), name(tensor.dtype));
  if (!role.shape.empty() && tensor.shape != role.shape) {
    refuse(field + ".shape", to_string(role.shape) + " (" + tensor.role + ")", to_string(tensor.shape));
  }
}

/// Every tensor has a known role with its dtype and shape, a role other than `condition` appears once, and
/// what is required is there.
void check_roles(const std::vector<TensorSpec>& tensors, const Roles& roles, const std::string& field) {
  std::set<std::string> seen;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    check_tensor(tensors[i], roles, at(field, i));
    if (!seen.insert(tensors[i].role).second && tensors[i].role != "condition") {
      refuse(at(field, i) + ".role", "each role once", "'" + tensors[i].role + "' again");
    }
  }
  for (const auto& [role, spec] : roles) {
    if (spec.required && !seen.contains(role)) refuse(field, "a tensor with the role " + role, "none");
  }
}

void check_names(const GraphSpec& graph, const std::string& field) {
  std::set<std::string> seen;
  for (const auto& [list, side] :
       {std::pair(&graph.inputs, ".inputs"), std::pair(&graph.outputs, ".outputs")}) {
    for (std::size_t i = 0; i < list->size(); ++i) {
      if (!seen.insert((*list)[i].name).second) {
        refuse(at(field + side, i) + ".name", "unique names", "'" + (*list)[i].name + "' again");
      }
    }
  }
}

/// A condition of `graph` is the tensor of that name that encode writes: one buffer, so one dtype and shape.
void check_conditions(const Bundle& bundle, const std::string& graph) {
  const auto& written = bundle.graphs.at("encode").outputs;
  const auto& inputs = bundle.graphs.at(graph).inputs;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].role != "condition") continue;
    const std::string field = at("graphs." + graph + ".inputs", i);
    const auto same = std::find_if(written.begin(), written.end(),
                                   [&](const TensorSpec& tensor) { return tensor.name == inputs[i].name; });
    if (same == written.end()) refuse(field + ".name", "an output of encode", "'" + inputs[i].name + "'");
    if (same->shape != inputs[i].shape) {
      refuse(field + ".shape", to_string(same->shape) + " (as encode writes it)", to_string(inputs[i].shape));
    }
  }
}

/// A goal that no tensor takes would be asked of the caller and then ignored.
void check_goal(const Bundle& bundle) {
  if (bundle.goal != "observation") return;
  const auto& inputs = bundle.graphs.at("encode").inputs;
  const bool taken = std::any_of(inputs.begin(), inputs.end(),
                                 [](const TensorSpec& tensor) { return tensor.role.starts_with("goal."); });
  if (!taken) refuse("graphs.encode.inputs", "a tensor with a role goal.* (goal is \"observation\")", "none");
}

/// Names are shared by all graphs: the same name with another meaning would be an accident.
void check_shared_names(const Bundle& bundle) {
  std::map<std::string, std::string> role_of;
  for (const auto& [key, graph] : bundle.graphs) {
    for (const auto* list : {&graph.inputs, &graph.outputs}) {
      for (const TensorSpec& tensor : *list) {
        const auto [entry, added] = role_of.emplace(tensor.name, tensor.role);
        if (added || entry->second == tensor.role) continue;
        refuse("graphs." + key, "tensor '" + tensor.name + "' in the role " + entry->second, tensor.role);
      }
    }
  }
}

void check_graphs(const Bundle& bundle) {
  const Shape chunk = {1, bundle.chunk.horizon, static_cast<std::int64_t>(bundle.action.names.size())};
  const Shape batch = {branches(bundle), chunk[1], chunk[2]};
  const RoleSpec condition = {DType::float32, {}, false};
  const RoleSpec required_condition = {DType::float32, {}, true};
  const std::map<std::string, std::pair<Roles, Roles>> sides = {
      {"encode", {encode_inputs(bundle), {{"condition", required_condition}}}},
      {"denoise",
       {{{"sample", {DType::float32, batch, true}},
         {"timestep", {DType::int64, {1}, true}},
         {"condition", condition}},
        {{"model_output", {DType::float32, batch, true}}}}},
      {"sample",
       {{{"noise", {DType::float32, chunk, true}}, {"condition", condition}},
        {{"actions", {DType::float32, chunk, true}}}}}};
  if (!bundle.graphs.contains("denoise") && !bundle.graphs.contains("sample")) {
    refuse("graphs", "denoise or sample", "neither");
  }
  for (const auto& [key, graph] : bundle.graphs) {
    const std::string field = "graphs." + key;
    check_names(graph, field);
    check_roles(graph.inputs, sides.at(key).first, field + ".inputs");
    check_roles(graph.outputs, sides.at(key).second, field + ".outputs");
    if (key != "encode") check_conditions(bundle, key);
  }
  check_goal(bundle);
  check_shared_names(bundle);
}

void check_sampler(const Bundle& bundle) {
  try {
    validate(bundle.sampler);
  } catch (const ArgumentError& error) {
    const std::string message = error.what();
    throw BundleError(message.starts_with("sampler.") ? message : "sampler." + message);
  }
  if (!bundle.graphs.contains("sample")) return;
  if (bundle.sampler.kind != "ddim" || bundle.sampler.eta != 0) {
    refuse("graphs.sample", "a deterministic sampler (ddim, eta 0)",
           bundle.sampler.kind + ", eta " + std::to_string(bundle.sampler.eta));
  }
}

}  // namespace

std::string to_string(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

void check_consistency(const Bundle& bundle) {
  if (bundle.name.empty()) refuse("name", "a name", "\"\"");
  if (!(bundle.control_rate_hz > 0 && bundle.control_rate_hz <= 1e6)) {
    refuse("control_rate_hz", "a rate in (0, 1e6]", std::to_string(bundle.control_rate_hz));
  }
  check_unique(bundle.observation.state_names, "observation.state.names");
  std::vector<std::string> cameras, tasks;
  for (const ImageSpec& image : bundle.observation.images) cameras.push_back(image.camera);
  for (const TaskSpec& task : bundle.tasks) tasks.push_back(task.name);
  check_unique(cameras, "observation.images");
  check_unique(tasks, "tasks");
  if (cameras.empty() && bundle.observation.state_names.empty()) {
    refuse("observation", "a state or an image", "neither");
  }
  check_action(bundle.action);
  check_normalization(bundle);
  check_sampler(bundle);
  check_graphs(bundle);
}

}  // namespace keystep
