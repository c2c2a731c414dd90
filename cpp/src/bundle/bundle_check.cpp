#include "bundle/bundle_check.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>

#include "keystep/status.hpp"
#include "policy/feature_kind.hpp"
#include "policy/normalizer.hpp"
#include "policy/task.hpp"

namespace keystep {
namespace {

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

/// "1e-40", which std::to_string writes as 0.
std::string scientific(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

// ---- normalisation, action, observation

/// A map that single precision holds: what networks read and write.
bool is_usable(const Affine& map) {
  constexpr double kMost = std::numeric_limits<float>::max();
  return map.scale != 0 && std::abs(map.scale) <= kMost && std::abs(map.shift) <= kMost;
}

}  // namespace

void check_statistics(const Normalization& stats, std::size_t length, const std::string& field) {
  if (stats.mode == "identity") return;
  const bool range = stats.mode != "mean_std";
  const auto [low_key, high_key] = statistics_keys(stats.mode);
  const std::string low = field + "." + low_key, high = field + "." + high_key;
  check_length(stats.low_or_mean, length, low);
  check_length(stats.high_or_std, length, high);
  for (std::size_t i = 0; i < length; ++i) {
    const double width = stats.high_or_std[i] - (range ? stats.low_or_mean[i] : 0.0);
    if (!(width > 0 && std::isfinite(width))) {
      refuse(at(high, i),
             range ? std::string("more than the ") + (stats.mode == "quantile" ? "low one" : "minimum") +
                         " (a width that is not zero)"
                   : "a positive deviation",
             std::to_string(stats.high_or_std[i]));
    }
    // Normalisation multiplies by the reciprocal: a width that is too small is as good as none.
    if (is_usable(affine(stats, i))) continue;
    refuse(at(high, i), "a width whose reciprocal, and the offset times it, are finite floats",
           scientific(stats.high_or_std[i]));
  }
}

namespace {

void check_action(const ActionSpec& action) {
  check_unique(action.names, "action.names");
  const std::size_t dim = action.names.size();
  if (dim == 0) refuse("action.names", "at least one name", "none");
  check_length(action.units, dim, "action.units");
  check_length(action.min, dim, "action.min");
  check_length(action.max, dim, "action.max");
  const bool holds_values = action.hold_mode == "values";
  if (holds_values) check_length(action.hold, dim, "action.hold.values");
  if (!action.rate_limit.empty()) check_length(action.rate_limit, dim, "action.rate_limit");
  for (std::size_t i = 0; i < dim; ++i) {
    const std::string min = std::to_string(action.min[i]), max = std::to_string(action.max[i]);
    if (!(action.min[i] < action.max[i])) refuse(at("action.max", i), "more than the minimum " + min, max);
    if (holds_values && !(action.min[i] <= action.hold[i] && action.hold[i] <= action.max[i])) {
      refuse(at("action.hold.values", i), "a value in " + min + ".." + max, std::to_string(action.hold[i]));
    }
    if (!action.rate_limit.empty() && !(action.rate_limit[i] > 0)) {
      refuse(at("action.rate_limit", i), "a positive change per action",
             std::to_string(action.rate_limit[i]));
    }
  }
  check_statistics(action.normalization, dim, "action.normalization");
}

/// What actions are relative to is a vector that is observed, with a value at every place.
void check_relative(const RelativeSpec& relative, const Bundle& bundle) {
  const auto found = std::ranges::find(bundle.observation, relative.feature, &FeatureSpec::key);
  if (found == bundle.observation.end() || kind_of(*found).channels != 0) {
    refuse("action.relative.feature", "the key of a vector of this bundle", "'" + relative.feature + "'");
  }
  check_length(relative.values, bundle.action.names.size(), "action.relative.values");
  for (std::size_t i = 0; i < relative.values.size(); ++i) {
    if (relative.values[i] < found->shape[0]) continue;
    refuse(at("action.relative.values", i),
           "below " + std::to_string(found->shape[0]) + " (" + found->key + ")",
           std::to_string(relative.values[i]));
  }
}

void check_feature(const FeatureSpec& feature, const std::string& field) {
  const bool vector = kind_of(feature).channels == 0;
  check_unique(feature.names, field + ".names");
  if (vector) check_length(feature.names, static_cast<std::size_t>(feature.shape[0]), field + ".names");
  check_statistics(feature.normalization, statistics_width(feature), field + ".normalization");
}

void check_observation(const std::vector<FeatureSpec>& features) {
  if (features.empty()) refuse("observation", "at least one feature", "none");
  std::set<std::string> keys;
  for (std::size_t i = 0; i < features.size(); ++i) {
    const std::string field = at("observation", i);
    if (!keys.insert(features[i].key).second) {
      refuse(field + ".key", "unique keys", "'" + features[i].key + "' again");
    }
    check_feature(features[i], field);
  }
}

// ---- tasks

/// What `reset` takes: names that are there, each once, and no NUL, which no text handed over can hold.
void check_tasks(const std::vector<TaskSpec>& tasks) {
  const auto check = [](const std::string& text, const std::string& field) {
    const std::size_t nul = text.find('\0');
    if (nul != std::string::npos) refuse(field, "text", "a NUL at " + std::to_string(nul));
  };
  std::vector<std::string> names;
  for (const TaskSpec& task : tasks) {
    const std::string field = at("tasks", names.size());
    check(task.instruction, field + ".instruction");
    check(task.name, field + ".name");
    names.push_back(task.name);
  }
  check_unique(names, "tasks");
}

// ---- sampler and planner

void check_sampler(const SamplerSpec& sampler, const std::string& field) {
  try {
    validate(sampler);
  } catch (const ArgumentError& error) {
    throw BundleError(field + "." + error.what());
  }
}

/// A subgoal goes from the planner's units to the controller's.
void check_subgoal_units(const PlannerSpec& planner, const FeatureSpec& feature) {
  for (std::size_t i = 0; i < statistics_width(feature); ++i) {
    const Affine map = composed(affine(planner.normalization, i), affine(feature.normalization, i));
    if (is_usable(map)) continue;
    refuse("planner.normalization",
           "widths that the normalization of " + feature.key + " can follow in single precision",
           "a scale of " + scientific(map.scale) + " between them at " + std::to_string(i));
  }
}

void check_instruction(const Bundle& bundle, std::size_t task) {
  try {
    check_text(bundle.tasks[task].instruction, bundle.planner->max_text_bytes,
               at("tasks", task) + ".instruction");
  } catch (const ArgumentError& error) {
    throw BundleError(error.what());
  }
}

void check_planner(const Bundle& bundle) {
  const PlannerSpec& planner = *bundle.planner;
  const auto found = std::ranges::find(bundle.observation, planner.subgoal, &FeatureSpec::key);
  if (found == bundle.observation.end() || !kind_of(*found).subgoal) {
    refuse("planner.subgoal", "the key of a vector or an RGB image of this bundle",
           "'" + planner.subgoal + "'");
  }
  check_statistics(planner.normalization, statistics_width(*found), "planner.normalization");
  check_subgoal_units(planner, *found);
  for (std::size_t i = 0; i < bundle.tasks.size(); ++i) check_instruction(bundle, i);
  check_sampler(planner.sampler, "planner.sampler");
  if (!planner.guided && planner.sampler.guidance != 0) {
    refuse("planner.sampler.guidance", "0 (trained without dropout: guided is false)",
           std::to_string(planner.sampler.guidance));
  }
  if (planner.text_encoder.empty()) refuse("planner.text.encoder", "a name", "\"\"");
  if (bundle.chunk.execute > planner.steps_per_subgoal) {
    refuse("planner.steps_per_subgoal",
           "at least " + std::to_string(bundle.chunk.execute) +
               " (chunk.execute: a chunk ends with its subgoal)",
           std::to_string(planner.steps_per_subgoal));
  }
}

/// A planner and the goal "text" come together.
void check_family(const Bundle& bundle) {
  const bool subgoal = bundle.family == "subgoal", told = subgoal || bundle.code;
  const std::string because = " (family " + bundle.family + ")";
  if (told != (bundle.goal == "text")) {
    refuse("goal", (told ? "text" : "none or observation") + because, bundle.goal);
  }
  if (subgoal != bundle.planner.has_value()) {
    refuse("planner", (subgoal ? "an object" : "null") + because, subgoal ? "null" : "an object");
  }
}

}  // namespace

void check_consistency(const Bundle& bundle) {
  if (bundle.name.empty()) refuse("name", "a name", "\"\"");
  if (!(bundle.control_rate_hz > 0 && bundle.control_rate_hz <= 1e6)) {
    refuse("control_rate_hz", "a rate in (0, 1e6]", std::to_string(bundle.control_rate_hz));
  }
  check_observation(bundle.observation);
  check_tasks(bundle.tasks);
  if (!bundle.code) check_action(bundle.action);
  if (bundle.action.relative) check_relative(*bundle.action.relative, bundle);
  if (bundle.sampler) check_sampler(*bundle.sampler, "sampler");
  check_family(bundle);
  if (bundle.planner) check_planner(bundle);
  if (bundle.code) check_code(bundle);
  check_graphs(bundle);
}

}  // namespace keystep
