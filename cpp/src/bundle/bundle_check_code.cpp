// What a bundle of the family code must agree with itself about.
#include <algorithm>
#include <string_view>

#include "bundle/bundle_check.hpp"
#include "bundle/graph_roles.hpp"
#include "policy/feature_kind.hpp"

namespace keystep {
namespace {

constexpr const char* kObjects = "observation.objects";

const FeatureSpec* find_feature(const Bundle& bundle, const std::string& key) {
  const auto found = std::ranges::find(bundle.observation, key, &FeatureSpec::key);
  return found == bundle.observation.end() ? nullptr : &*found;
}

void check_observed(const Bundle& bundle, const CodePlannerSpec& spec) {
  const FeatureSpec* const seen = find_feature(bundle, spec.sees);
  const bool shows = seen && (seen->kind == "rgb" || (seen->kind == "vector" && seen->key == kObjects));
  if (!shows) {
    refuse("planner.sees", std::string("an rgb picture of the observation, or ") + kObjects, spec.sees);
  }
  const FeatureSpec* const felt = spec.feels.empty() ? nullptr : find_feature(bundle, spec.feels);
  if (!spec.feels.empty() && (!felt || felt->kind != "vector" || felt == seen)) {
    refuse("planner.feels", "null, or another vector of the observation", spec.feels);
  }
  for (std::size_t i = 0; i < bundle.observation.size(); ++i) {
    const FeatureSpec& feature = bundle.observation[i];
    const std::string field = at("observation", i);
    if (&feature != seen && &feature != felt) {
      refuse(field, "what the planner sees or feels", feature.key);
    }
    if (feature.history != 1) {
      refuse(field + ".history", "1 (the planner sees one frame)", std::to_string(feature.history));
    }
  }
  check_statistics(spec.sees_normalization, statistics_width(*seen), "planner.normalization." + spec.sees);
  if (!felt) return;
  check_statistics(spec.feels_normalization, statistics_width(*felt), "planner.normalization." + spec.feels);
}

/// The numbers that no reply has: all that are no text, but the end.
std::vector<Token> never_written(const WordTokenizer& words, std::size_t vocabulary) {
  std::vector<Token> never;
  for (Token token = 0; token < static_cast<Token>(vocabulary); ++token) {
    if (token != WordTokenizer::kEnd && !words.is_text(token)) never.push_back(token);
  }
  return never;
}

void check_words(const CodePlannerSpec& spec) {
  const WordTokenizer words(spec.words);
  if (spec.vocabulary < static_cast<std::size_t>(words.size())) {
    refuse("planner.vocabulary", "at least " + std::to_string(words.size()) + " (numbers of the tokenizer)",
           std::to_string(spec.vocabulary));
  }
  const std::vector<Token> never = never_written(words, spec.vocabulary);
  if (spec.never == never) return;
  refuse("planner.never",
         "all that is no text but the end (" + std::to_string(never.size()) + " numbers, ascending)",
         std::to_string(spec.never.size()) + " numbers");
}

void check_felt_order(const CodePlannerSpec& spec, const std::vector<std::string>& order, const char* field) {
  const bool asked = std::ranges::find(order, "proprioception") != order.end();
  if (asked && spec.feels.empty()) refuse(field, "no proprioception (planner.feels is null)", "it");
}

/// A planner that is shown neither its task nor what it wrote answers with something, at every step.
void check_shown(const CodePlannerSpec& spec) {
  const std::vector<std::string>& order = spec.prompt.order;
  std::vector<std::string_view> wanted = {"task", "memory", "image"};
  if (!spec.feels.empty()) wanted.emplace_back("proprioception");
  for (const std::string_view section : wanted) {
    if (std::ranges::find(order, section) != order.end()) continue;
    refuse("planner.prompt.order", "the section " + std::string(section), "none");
  }
}

void check_limits(const CodePlannerSpec& spec) {
  constexpr std::size_t kMostRemembered = std::size_t{1} << 20;
  const std::size_t remembered = spec.memory.keysteps * spec.reply_tokens;
  if (remembered > kMostRemembered) {
    refuse("planner.memory.keysteps",
           "at most " + std::to_string(kMostRemembered) + " tokens (keysteps x reply_tokens)",
           std::to_string(remembered));
  }
  if (spec.context > spec.reply_tokens) return;
  refuse("planner.context", "more than reply_tokens (" + std::to_string(spec.reply_tokens) + ")",
         std::to_string(spec.context));
}

/// What the past is called in an input, or the present in an output: both are one memory.
std::string name_of(std::string_view role, bool input) {
  constexpr std::string_view kCache = "cache.";
  if (!role.starts_with(kCache)) return "plan." + std::string(role);
  return (input ? "plan.past." : "plan.present.") + std::string(role.substr(kCache.size()));
}

}  // namespace

void check_code(const Bundle& bundle) {
  const CodePlannerSpec& spec = *bundle.code;
  if (!bundle.tasks.empty()) refuse("tasks", "none (family code)", std::to_string(bundle.tasks.size()));
  check_observed(bundle, spec);
  check_words(spec);
  check_felt_order(spec, spec.prompt.order, "planner.prompt.order");
  check_felt_order(spec, spec.prompt.question_order, "planner.prompt.question_order");
  check_shown(spec);
  check_limits(spec);
}

std::map<std::string, Sides> code_sides(const Bundle& bundle) {
  const CodePlannerSpec& spec = *bundle.code;
  const auto extent = [](std::size_t size) { return static_cast<std::int64_t>(size); };
  const std::int64_t width = extent(spec.width), context = extent(spec.context);
  const auto needs = [](DType dtype, Shape shape) { return RoleSpec{dtype, std::move(shape), true}; };
  const RoleSpec one = needs(DType::int64, {1}), vectors = needs(DType::float32, {1, context, width});
  Sides vision, decode;
  for (const FeatureSpec& feature : bundle.observation) {
    vision.inputs[feature.key] = needs(DType::float32, network_shape(feature, 1));
  }
  vision.outputs["seen"] = needs(DType::float32, {1, extent(spec.image_tokens), width});
  if (!spec.feels.empty()) vision.outputs["felt"] = needs(DType::float32, {1, 1, width});
  decode.inputs = {{"vectors", vectors}, {"length", one}, {"first", one}};
  decode.outputs["logits"] = needs(DType::float32, {1, extent(spec.reply_tokens), extent(spec.vocabulary)});
  const RoleSpec cache = needs(DType::float32, {1, extent(spec.key_heads), context, extent(spec.head_width)});
  for (std::size_t layer = 0; layer < spec.layers; ++layer) {
    for (const char* half : {".key", ".value"}) {
      const std::string role = "cache." + std::to_string(layer) + half;
      decode.inputs[role] = decode.outputs[role] = cache;
    }
  }
  const Sides embed = {{{"tokens", needs(DType::int64, {1, context})}}, {{"vectors", vectors}}};
  return {{"vision", vision}, {"embed", embed}, {"decode", decode}};
}

void check_code_names(const Bundle& bundle) {
  for (const auto& [key, graph] : bundle.graphs) {
    for (const auto& [list, side] :
         {std::pair(&graph.inputs, ".inputs"), std::pair(&graph.outputs, ".outputs")}) {
      for (std::size_t i = 0; i < list->size(); ++i) {
        const TensorSpec& tensor = (*list)[i];
        const std::string wanted = name_of(tensor.role, list == &graph.inputs);
        if (tensor.name == wanted) continue;
        refuse(at("graphs." + key + side, i) + ".name", wanted + " (" + tensor.role + ")",
               "'" + tensor.name + "'");
      }
    }
  }
}

}  // namespace keystep
