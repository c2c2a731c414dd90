#include "policy/policy.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "bundle/bundle_files.hpp"
#include "engines/engines.hpp"
#include "keystep/noise.hpp"
#include "keystep/status.hpp"
#include "loop/virtual/virtual_options.hpp"
#include "sampling/denoise_loop.hpp"

namespace keystep {
namespace {

void check_host(Host host, const Bundle& bundle) {
  if ((host == Host::code_runtime) == bundle.code.has_value()) return;
  const char* wanted = bundle.code ? "flat | subgoal (a CodeRuntime runs family code)" : "code";
  throw ArgumentError(expected("family", wanted, bundle.family));
}

void check_engine(const EngineOptions& options, const Bundle& bundle) {
  const bool has_unet =
      std::ranges::any_of(bundle.graphs, [](const auto& entry) { return entry.second.unet != nullptr; });
  if (bundle.code && options.engine == "stub") {
    throw ProviderError(expected("engine", "auto | onnxruntime (family code)", "'stub'"));
  }
  if (has_unet) return;
  const std::string why = " (the bundle has no U-Net with weights of its own)";
  if (options.engine == "native") {
    throw ProviderError(expected("engine", "auto | onnxruntime" + why, "'native'"));
  }
  if (options.engine == "auto" && !options.precision.empty()) {
    throw ProviderError(expected("precision", "none" + why, "'" + options.precision + "'"));
  }
}

void check_planner(const RuntimeOptions& options, const Bundle& bundle) {
  const auto needs_planner = [&](bool given, const char* option, const std::string& got) {
    if (!given || bundle.planner) return;
    throw ArgumentError(expected(option, "none (the bundle has no planner)", got));
  };
  needs_planner(options.planner_steps != 0, "planner_steps", std::to_string(options.planner_steps));
  needs_planner(!options.planner_sampler.empty(), "planner_sampler", "'" + options.planner_sampler + "'");
  const int candidates = options.planner_candidates;
  needs_planner(candidates != 1, "planner_candidates", std::to_string(candidates));
  needs_planner(!options.planner_score.empty(), "planner_score", "'" + options.planner_score + "'");
  needs_planner(options.replan.has_value(), "replan", options.replan.value_or(false) ? "true" : "false");
}

/// The options of candidates, with what the bundle leaves to say: which score.
void check_candidates(RuntimeOptions& options, const Bundle& bundle) {
  const int count = options.planner_candidates;
  if (count < 1 || count > kMaxCandidates) {
    throw ArgumentError(
        expected("planner_candidates", "1.." + std::to_string(kMaxCandidates), std::to_string(count)));
  }
  if (!bundle.planner) return;
  if (count == 1) {
    if (options.planner_score.empty()) return;
    throw ArgumentError(
        expected("planner_score", "none (planner_candidates is 1)", in_quotes(options.planner_score)));
  }
  const bool learned = bundle.planner->scorer.has_value();
  std::string& score = options.planner_score;
  const bool known = score.empty() || score == "density" || (score == "learned" && learned);
  if (!known) {
    const char* wanted = learned ? "learned | density" : "density (the bundle has no scorer)";
    throw ArgumentError(expected("planner_score", wanted, in_quotes(score)));
  }
  if (score.empty()) score = learned ? "learned" : "density";
}

RuntimeOptions checked(RuntimeOptions options, const Bundle& bundle) {
  if (!(options.deadline_us >= 0) || !std::isfinite(options.deadline_us)) {
    throw ArgumentError(
        expected("deadline_us", "0 (the control period) or more", std::to_string(options.deadline_us)));
  }
  if (options.max_observation_age_us < 0) {
    throw ArgumentError(expected("max_observation_age_us", "0 (no limit) or more",
                                 std::to_string(options.max_observation_age_us)));
  }
  if (options.clock != "steady" && options.clock != "external") {
    throw ArgumentError(expected("clock", "steady | external", in_quotes(options.clock)));
  }
  check_loop(options, bundle);
  check_planner(options, bundle);
  check_candidates(options, bundle);
  check_engine(options.engine, bundle);
  if (options.deadline_us == 0) options.deadline_us = 1e6 / bundle.control_rate_hz;
  return options;
}

/// Options that say how to denoise are refused where there are no steps to choose.
std::optional<SamplerSpec> sampler_of(const Bundle& bundle, const RuntimeOptions& options) {
  const int steps = options.inference_steps;
  const std::string& kind = options.sampler;
  if (bundle.sampler) return choose_sampler(*bundle.sampler, kind, steps, "");
  const std::string why = " (the controller is one graph, act)";
  if (steps != 0) throw ArgumentError(expected("inference_steps", "0" + why, std::to_string(steps)));
  if (!kind.empty()) throw ArgumentError(expected("sampler", "none" + why, "'" + kind + "'"));
  return {};
}

std::optional<SamplerSpec> planner_sampler_of(const Bundle& bundle, const RuntimeOptions& options) {
  if (!bundle.planner) return {};
  return choose_sampler(bundle.planner->sampler, options.planner_sampler, options.planner_steps, "planner_");
}

/// Of the graph `text`; none where the engine did not take its file, as the stub does not.
Vocabulary vocabulary_of(const Bundle& bundle) {
  if (!bundle.planner) return {};
  const auto found = bundle.files.find(bundle.graphs.at("text").file);
  if (found == bundle.files.end()) return {};
  const FileContent& model = *found->second;
  return Vocabulary({reinterpret_cast<const char*>(model.data()), model.size()});
}

/// Every file is hashed; `bundle.files` gets the content of those that the engine will load.
std::unique_ptr<Engine> engine_for(Bundle& bundle, const EngineOptions& options, const EngineFactory& make) {
  auto engine = make(options);
  std::set<std::string> wanted;
  for (const auto& [key, graph] : bundle.graphs) wanted.merge(engine->files(graph));
  read_files(bundle, wanted);
  return engine;
}

/// The graphs as they run: one batch of all candidates goes through those that any rows go through. Throws
/// ArgumentError where that takes more memory than a bundle may.
std::map<std::string, GraphSpec> graphs_of(const Bundle& bundle, int candidates) {
  constexpr std::size_t kMaxBytes = std::size_t{1} << 30;
  std::map<std::string, GraphSpec> graphs = bundle.graphs;
  std::size_t bytes = 0;
  for (auto& [key, graph] : graphs) {
    if (!graph.any_rows || candidates == 1) continue;
    graph = with_rows(graph, graph.rows * candidates);
    for (const auto* list : {&graph.inputs, &graph.outputs}) {
      for (const TensorSpec& tensor : *list) bytes += tensor.elements() * size_of(tensor.dtype);
    }
  }
  if (bytes <= kMaxBytes) return graphs;
  throw ArgumentError(expected("planner_candidates",
                               "plans of at most " + std::to_string(kMaxBytes) + " bytes together",
                               std::to_string(candidates) + " with " + std::to_string(bytes)));
}

/// A planner's guidance may be 0, which is known at `reset`: then its steps run the conditional rows alone.
std::vector<int> rows_of(const std::string& key, const GraphSpec& graph, const Bundle& bundle) {
  if (key == "plan_denoise" && bundle.planner->guided) return {graph.rows, graph.rows / 2};
  return {graph.rows};
}

/// A refusal names the graph.
std::shared_ptr<const Model> load(Engine& engine, const Bundle& bundle, const std::string& key,
                                  const GraphSpec& graph) {
  try {
    return engine.load(bundle.files, graph, rows_of(key, graph, bundle));
  } catch (const BundleError& refused) {
    const std::string_view what = refused.what();
    const bool of_shape = what.find(".shape: ") != what.npos;
    const bool widened = graph.rows != bundle.graphs.at(key).rows && of_shape;
    const char* why = widened ? " (planner_candidates need a symbolic axis of rows: export it again)" : "";
    throw BundleError("graphs." + key + "." + refused.what() + why);
  }
}

}  // namespace

Policy::Policy(const std::filesystem::path& folder, const RuntimeOptions& options, const EngineFactory& make,
               Host host) {
  Bundle bundle = open_bundle(folder);
  check_host(host, bundle);
  options_ = checked(options, bundle);
  options_.attendant.reset();  // a session's
  sampler_ = sampler_of(bundle, options_);
  planner_sampler_ = planner_sampler_of(bundle, options_);
  graphs_ = graphs_of(bundle, options_.planner_candidates);
  engine_ = engine_for(bundle, options_.engine, make);
  // In the order in which they run: the engine tells its choices in that of their loading.
  for (const char* key : {"encode", "film", "denoise", "act", "text", "plan_encode", "plan_film",
                          "plan_denoise", "score", "vision", "embed", "decode"}) {
    if (bundle.graphs.contains(key)) models_[key] = load(*engine_, bundle, key, graphs_.at(key));
  }
  vocabulary_ = vocabulary_of(bundle);
  bundle.files.clear();  // the engine has taken what it needs
  bundle_ = std::make_shared<const Bundle>(std::move(bundle));
}

std::unique_ptr<Tensors> Policy::tensors() const {
  auto tensors = engine_->tensors();
  // The graph with most rows says how large a condition is that others write.
  if (const auto wide = graphs_.find("plan_denoise"); wide != graphs_.end()) tensors->add(wide->second);
  for (const auto& [key, graph] : graphs_) tensors->add(graph);
  return tensors;
}

std::unique_ptr<Graph> Policy::bind(const std::string& key, Tensors& tensors) const {
  const auto found = models_.find(key);
  return found == models_.end() ? nullptr : found->second->bind(tensors);
}

}  // namespace keystep
