#include <algorithm>
#include <map>
#include <set>

#include "bundle/bundle_check.hpp"
#include "bundle/graph_roles.hpp"
#include "policy/feature_kind.hpp"

namespace keystep {
namespace {

const RoleSpec kTimestep = {DType::int64, {1}, true};

/// What the controller may take of the observation, the goal and the task.
Roles controller_inputs(const Bundle& bundle) {
  Roles roles;
  for (const FeatureSpec& feature : bundle.observation) {
    roles[feature.key] = {DType::float32, network_shape(feature, feature.history), true};
    const bool subgoal = bundle.planner && bundle.planner->subgoal == feature.key;
    if (!subgoal && bundle.goal != "observation") continue;
    roles["goal." + feature.name()] = {DType::float32, network_shape(feature, 1), subgoal};
  }
  // A planner's text may be no known task.
  if (!bundle.tasks.empty() && !bundle.planner) roles["task"] = {DType::int64, {1}, false};
  return roles;
}

std::map<std::string, Sides> controller_sides(const Bundle& bundle) {
  const Shape chunk = {1, bundle.chunk.horizon, static_cast<std::int64_t>(bundle.action.names.size())};
  const RoleSpec batch = {DType::float32, {branches(bundle), chunk[1], chunk[2]}, true};
  const RoleSpec actions = {DType::float32, chunk, true};
  Roles denoised = {{"sample", batch}, {"timestep", kTimestep}, {"condition", {DType::float32, {}, false}}};
  if (bundle.chunk.max_delay > 0)
    denoised["prefix_mask"] = {DType::float32, {batch.shape[0], chunk[1], 1}, true};
  const RoleSpec written = {DType::float32, {}, true};
  const std::string last = bundle.graphs.contains("film") ? "film" : "encode";  // before the denoise steps
  return {{"encode", {controller_inputs(bundle), {{"condition", written}}}},
          {"film", {{{"condition", written}}, {{"condition", written}}, {"encode"}}},
          {"denoise", {denoised, {{"model_output", batch}}, {last}}},
          {"act", {controller_inputs(bundle), {{"actions", actions}}}}};
}

std::map<std::string, Sides> planner_sides(const Bundle& bundle) {
  const PlannerSpec& planner = *bundle.planner;
  const std::int64_t rows = branches(planner);
  Shape seen = subgoal_shape(bundle), plan = seen;
  seen.insert(seen.begin(), 1);
  plan.insert(plan.begin(), {rows, planner.subgoals});
  const RoleSpec observation = {DType::float32, seen, false}, batch = {DType::float32, plan, true};
  const RoleSpec condition = {DType::float32, {}, false, rows}, written = {DType::float32, {}, true, rows};
  const std::string last = bundle.graphs.contains("plan_film") ? "plan_film" : "plan_encode";
  Shape one_plan = plan;
  one_plan[0] = 1;
  return {
      {"text", {{{"text", {DType::string, {1}, true}}}, {{"condition", written}}}},
      {"score",
       {{{"sample", {DType::float32, one_plan, true}},
         {"condition", condition},
         {planner.subgoal, {DType::float32, seen, true}}},
        {{"score", {DType::float32, {1}, true}}},
        {"text"}}},
      {"plan_encode",
       {{{planner.subgoal, observation}, {"condition", condition}}, {{"condition", written}}, {"text"}}},
      {"plan_film", {{{"condition", written}}, {{"condition", written}}, {"text", "plan_encode"}}},
      {"plan_denoise",
       {{{"sample", batch}, {"timestep", kTimestep}, {"condition", written}, {planner.subgoal, observation}},
        {{"model_output", batch}},
        {"text", last}}}};
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
  if (role.rows != 0 && (tensor.shape.empty() || tensor.shape[0] != role.rows)) {
    refuse(field + ".shape", "[" + std::to_string(role.rows) + ", ..] (" + tensor.role + ")",
           to_string(tensor.shape));
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

/// A condition of `graph` is the tensor of that name that another graph writes: one buffer, so one shape.
void check_conditions(const Bundle& bundle, const std::string& graph,
                      const std::vector<std::string>& writers) {
  const auto& inputs = bundle.graphs.at(graph).inputs;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].role != "condition") continue;
    const std::string field = at("graphs." + graph + ".inputs", i);
    std::string known;
    const TensorSpec* written = nullptr;
    for (const std::string& writer : writers) {
      if (!bundle.graphs.contains(writer)) continue;
      known += (known.empty() ? "" : " or ") + writer;
      for (const TensorSpec& output : bundle.graphs.at(writer).outputs) {
        if (output.name == inputs[i].name) written = &output;
      }
    }
    if (written == nullptr) refuse(field + ".name", "an output of " + known, "'" + inputs[i].name + "'");
    if (written->shape != inputs[i].shape) {
      refuse(field + ".shape", to_string(written->shape) + " (as " + known + " writes it)",
             to_string(inputs[i].shape));
    }
  }
}

bool takes(const GraphSpec& graph, const std::string& role_prefix) {
  return std::any_of(graph.inputs.begin(), graph.inputs.end(),
                     [&](const TensorSpec& tensor) { return tensor.role.starts_with(role_prefix); });
}

/// Whether an input is one of the graph text's outputs.
bool takes_text(const Bundle& bundle, const std::string& graph) {
  if (!bundle.graphs.contains(graph)) return false;
  const auto& inputs = bundle.graphs.at(graph).inputs;
  const auto& written = bundle.graphs.at("text").outputs;
  return std::any_of(inputs.begin(), inputs.end(), [&](const TensorSpec& input) {
    return std::any_of(written.begin(), written.end(),
                       [&](const TensorSpec& output) { return output.name == input.name; });
  });
}

/// What no tensor takes would be asked of the caller, or of the planner, and then ignored.
void check_taken(const Bundle& bundle) {
  const std::string observing = bundle.graphs.contains("act") ? "graphs.act" : "graphs.encode";
  if (bundle.goal == "observation" && !takes(observing_graph(bundle), "goal.")) {
    refuse(observing + ".inputs", "a tensor with a role goal.* (goal is \"observation\")", "none");
  }
  if (!bundle.planner) return;
  const std::string& key = bundle.planner->subgoal;
  const bool encoded = bundle.graphs.contains("plan_encode") && takes(bundle.graphs.at("plan_encode"), key);
  const bool denoised = takes(bundle.graphs.at("plan_denoise"), key);
  if (encoded == denoised) {
    refuse("graphs.plan_denoise.inputs", "a tensor with the role " + key + " here or in plan_encode",
           encoded ? "one in both" : "none");
  }
  for (const char* graph : {"plan_encode", "plan_film", "plan_denoise"}) {
    if (takes_text(bundle, graph)) return;
  }
  refuse("graphs.plan_denoise.inputs", "a condition that text writes, here or in plan_encode", "none");
}

/// Names are shared by all graphs of the controller, and of the planner: one name, one meaning, one writer. A
/// sample is written in place, so each graph has its own.
void check_shared_names(const Bundle& bundle, const std::map<std::string, Sides>& planner) {
  struct Use {
    std::string role, graph;
    bool of_planner;
  };
  std::map<std::string, Use> uses;
  std::map<std::string, std::string> writers;
  for (const auto& [key, graph] : bundle.graphs) {
    const std::string field = "graphs." + key;
    const bool of_planner = planner.contains(key);
    for (const auto* list : {&graph.inputs, &graph.outputs}) {
      for (const TensorSpec& tensor : *list) {
        const Use& use = uses.emplace(tensor.name, Use{tensor.role, key, of_planner}).first->second;
        if (use.role != tensor.role) {
          refuse(field, "tensor '" + tensor.name + "' in the role " + use.role, tensor.role);
        }
        if (use.of_planner != of_planner) {
          refuse(field, "tensors of other names in planner and controller", "'" + tensor.name + "' in both");
        }
        if (tensor.role == "sample" && use.graph != key) {
          refuse(field, "a sample of another name than that of " + use.graph,
                 "'" + tensor.name + "' in both");
        }
      }
    }
    for (const TensorSpec& tensor : graph.outputs) {
      const auto [writer, first] = writers.emplace(tensor.name, key);
      if (!first)
        refuse(field, "'" + tensor.name + "' written by one graph", "by " + writer->second + ", too");
    }
  }
}

/// Tensors take memory before a tick, so their sum is bounded: of policies that people run, images included,
/// it is some 100 MB.
void check_memory(const Bundle& bundle) {
  constexpr std::size_t kMaxTensorBytes = std::size_t{1} << 30;
  std::map<std::string, std::size_t> bytes;
  for (const auto& [key, graph] : bundle.graphs) {
    for (const auto* list : {&graph.inputs, &graph.outputs}) {
      for (const TensorSpec& tensor : *list) {
        const bool cached = tensor.role.starts_with("cache.");  // past and present are one memory
        bytes[cached ? tensor.role : tensor.name] = tensor.elements() * size_of(tensor.dtype);
      }
    }
  }
  std::size_t sum = 0;
  for (const auto& [name, size] : bytes) sum += size;
  if (sum <= kMaxTensorBytes) return;
  refuse("graphs", "tensors of at most " + std::to_string(kMaxTensorBytes) + " bytes together",
         std::to_string(sum));
}

/// The controller is `act`, or `encode` with `denoise`; a planner brings its graphs. Family code has no
/// controller.
void check_graph_keys(const Bundle& bundle) {
  const auto needs = [&](const std::string& key, const std::string& why) {
    if (!bundle.graphs.contains(key)) refuse("graphs." + key, "a graph" + why, "no such key");
  };
  const auto excludes = [&](const std::string& key, const std::string& why) {
    if (bundle.graphs.contains(key)) refuse("graphs." + key, "no such key" + why, "a graph");
  };
  for (const char* key : {"vision", "embed", "decode"}) {
    if (bundle.code) needs(key, " (family code)");
    if (!bundle.code) excludes(key, " (family " + bundle.family + ")");
  }
  if (bundle.code) {
    for (const auto& [key, graph] : bundle.graphs) {
      if (key != "vision" && key != "embed" && key != "decode") excludes(key, " (family code)");
    }
    return;
  }
  if (bundle.graphs.contains("act")) {
    for (const char* key : {"encode", "film", "denoise"}) excludes(key, " (the controller is the graph act)");
    if (bundle.sampler) refuse("sampler", "null (the controller is the graph act)", "an object");
  } else {
    needs("encode", "");
    needs("denoise", "");
    if (!bundle.sampler) refuse("sampler", "an object (null: the controller is the graph act)", "null");
  }
  for (const char* key : {"text", "plan_denoise"}) {
    if (bundle.planner) needs(key, " (family subgoal)");
  }
  for (const char* key : {"text", "plan_encode", "plan_film", "plan_denoise", "score"}) {
    if (!bundle.planner) excludes(key, " (family flat)");
  }
  if (!bundle.planner) return;
  if (bundle.planner->scorer) needs("score", " (there is a planner.scorer)");
  if (!bundle.planner->scorer) excludes("score", " (there is no planner.scorer)");
}

}  // namespace

std::string to_string(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

void check_graphs(const Bundle& bundle) {
  check_graph_keys(bundle);
  const auto planner = bundle.planner ? planner_sides(bundle) : std::map<std::string, Sides>();
  auto sides = bundle.code ? code_sides(bundle) : controller_sides(bundle);
  sides.insert(planner.begin(), planner.end());
  for (const auto& [key, graph] : bundle.graphs) {
    const std::string field = "graphs." + key;
    check_names(graph, field);
    check_roles(graph.inputs, sides.at(key).inputs, field + ".inputs");
    check_roles(graph.outputs, sides.at(key).outputs, field + ".outputs");
    check_conditions(bundle, key, sides.at(key).conditions_of);
  }
  if (bundle.code) return check_code_names(bundle), check_memory(bundle);
  check_taken(bundle);
  check_shared_names(bundle, planner);
  check_unets(bundle);
  check_memory(bundle);
}

}  // namespace keystep
