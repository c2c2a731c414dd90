#include <algorithm>

#include "bundle/bundle_check.hpp"

namespace keystep {
namespace {

struct Unet {
  std::string field;  ///< in the manifest
  std::string film, denoise;
  std::int64_t rows;
};

/// One condition of the width in the manifest becomes one row vector for all of FiLM.
void check_film(const Unet& unet, const GraphSpec& graph) {
  const std::string field = "graphs." + unet.film, why = " (" + unet.field + ")";
  for (const auto& [side, tensors] :
       {std::pair(".inputs", &graph.inputs), std::pair(".outputs", &graph.outputs)}) {
    if (tensors->size() != 1) refuse(field + side, "one tensor" + why, std::to_string(tensors->size()));
  }
  const std::vector<std::int64_t> wanted = {unet.rows, graph.unet->condition};
  if (graph.inputs[0].shape != wanted) {
    refuse(field + ".inputs[0].shape", to_string(wanted) + " (" + unet.field + ".condition)",
           to_string(graph.inputs[0].shape));
  }
  const auto& written = graph.outputs[0].shape;
  if (written.size() != 2 || written[0] != unet.rows) {
    refuse(field + ".outputs[0].shape", "[" + std::to_string(unet.rows) + ", ..]" + why, to_string(written));
  }
}

/// It denoises sequences of vectors, by nothing but the time-step and what `film` wrote.
void check_denoise(const Unet& unet, const GraphSpec& film, const GraphSpec& graph) {
  const std::string field = "graphs." + unet.denoise + ".inputs", why = " (" + unet.field + ")";
  const auto conditions = std::ranges::count(graph.inputs, "condition", &TensorSpec::role);
  const auto masks = std::ranges::count(graph.inputs, "prefix_mask", &TensorSpec::role);
  if (std::ssize(graph.inputs) != 3 + masks || conditions != 1) {
    refuse(field, "sample, timestep and what " + unet.film + " writes" + why,
           std::to_string(graph.inputs.size()) + " tensors, " + std::to_string(conditions) +
               " of them conditions");
  }
  const auto condition = std::ranges::find(graph.inputs, "condition", &TensorSpec::role);
  if (condition->name != film.outputs[0].name) {
    refuse(field, "the condition '" + film.outputs[0].name + "' of " + unet.film + why,
           "'" + condition->name + "'");
  }
  const auto sample = std::ranges::find(graph.inputs, "sample", &TensorSpec::role);
  if (sample->shape.size() != 3) refuse(field, "a sample of vectors" + why, to_string(sample->shape));
  // A convolution takes any length, the network was trained for one; engines with kernels of their own never
  // open the graph, which would tell.
  if (sample->shape[1] == graph.unet->horizon) return;
  refuse(unet.field + ".horizon", std::to_string(sample->shape[1]) + " (graphs." + unet.denoise + ")",
         std::to_string(graph.unet->horizon));
}

}  // namespace

void check_unets(const Bundle& bundle) {
  const std::int64_t plan_rows = bundle.planner ? branches(*bundle.planner) : 1;
  for (const Unet& unet : {Unet{"unet", "film", "denoise", branches(bundle)},
                           Unet{"planner.unet", "plan_film", "plan_denoise", plan_rows}}) {
    const auto film = bundle.graphs.find(unet.film);
    if (film == bundle.graphs.end() || !film->second.unet) continue;
    check_film(unet, film->second);
    check_denoise(unet, film->second, bundle.graphs.at(unet.denoise));
  }
}

}  // namespace keystep
