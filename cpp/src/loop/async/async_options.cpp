#include "loop/async/async_options.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "bundle/bundle_check.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

constexpr std::array<std::pair<std::string_view, UnderrunPolicy>, 4> kUnderrunPolicies = {
    {{"hold", UnderrunPolicy::hold},
     {"decelerate", UnderrunPolicy::decelerate},
     {"repeat", UnderrunPolicy::repeat},
     {"fault", UnderrunPolicy::fault}}};

constexpr std::string_view kEnsemble = "temporal_ensemble";

/// What is merged in the sampler only has to replace the old chunk afterwards.
struct NamedMerge {
  std::string_view name;
  MergeRule queue;
  Continuation::Rule sampler;
};
constexpr std::array<NamedMerge, 5> kMerges = {
    {{"trained", MergeRule::replace, Continuation::Rule::trained},
     {"x0blend", MergeRule::replace, Continuation::Rule::x0blend},
     {"blend", MergeRule::blend, Continuation::Rule::none},
     {"replace", MergeRule::replace, Continuation::Rule::none},
     {kEnsemble, MergeRule::temporal_ensemble, Continuation::Rule::none}}};

constexpr std::array<std::pair<std::string_view, Continuation::Decay>, 2> kDecays = {
    {{"exponential", Continuation::Decay::exponential}, {"linear", Continuation::Decay::linear}}};

bool allows(const Bundle& bundle, const NamedMerge& merge) noexcept {
  switch (merge.sampler) {
    case Continuation::Rule::trained:
      return bundle.chunk.max_delay > 0;
    case Continuation::Rule::x0blend:
      return bundle.sampler.has_value();
    case Continuation::Rule::none:
      break;
  }
  return true;
}

/// What is asked for, or what the bundle says.
std::string_view merge_name(const AsyncOptions& options, const Bundle& bundle) noexcept {
  return options.merge.empty() && bundle.chunk.merge == kEnsemble ? kEnsemble : options.merge;
}

/// By default the first that the bundle allows.
auto find_merge(const AsyncOptions& options, const Bundle& bundle) noexcept {
  const std::string_view name = merge_name(options, bundle);
  return std::ranges::find_if(kMerges, [&](const NamedMerge& merge) {
    return allows(bundle, merge) && (name.empty() || merge.name == name);
  });
}

void check_merge(const AsyncOptions& options, const Bundle& bundle) {
  if (find_merge(options, bundle) != kMerges.end()) return;
  std::string known;
  for (const NamedMerge& merge : kMerges) {
    if (allows(bundle, merge)) known += (known.empty() ? "" : " | ") + std::string(merge.name);
  }
  const bool exists = std::ranges::find(kMerges, options.merge, &NamedMerge::name) != kMerges.end();
  if (exists && bundle.sampler) known += " (the controller was not trained with --rtc)";
  if (exists && !bundle.sampler) known += " (the controller is one graph, act)";
  throw ArgumentError(expected("merge", known, in_quotes(options.merge)));
}

/// The first where none is named.
template <class T, std::size_t N>
auto find_named(const std::array<std::pair<std::string_view, T>, N>& all, const std::string& name) noexcept {
  if (name.empty()) return all.begin();
  return std::ranges::find(all, name, [](const auto& entry) { return entry.first; });
}

template <class T, std::size_t N>
void check_named(const char* field, const std::array<std::pair<std::string_view, T>, N>& all,
                 const std::string& name) {
  if (find_named(all, name) != all.end()) return;
  std::string known;
  for (const auto& entry : all) known += (known.empty() ? "" : " | ") + std::string(entry.first);
  throw ArgumentError(expected(field, known, in_quotes(name)));
}

void check_range(const char* field, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return;
  throw ArgumentError(
      expected(field, std::to_string(least) + ".." + std::to_string(most), std::to_string(value)));
}

int rows_of(const Bundle& bundle) noexcept { return bundle.chunk.horizon - bundle.chunk.start; }

/// What weighs the old chunk, where one is weighed.
void check_weights(const AsyncOptions& options, const Bundle& bundle) {
  check_named("merge_decay", kDecays, options.merge_decay);
  check_range("merge_overlap", options.merge_overlap.value_or(0), 0, rows_of(bundle));
  const NamedMerge& merge = *find_merge(options, bundle);
  if (merge.sampler != Continuation::Rule::none) return;
  const std::string none = "none (merge is " + std::string(merge.name) + ")";
  if (!options.merge_decay.empty()) {
    throw ArgumentError(expected("merge_decay", none, in_quotes(options.merge_decay)));
  }
  if (options.merge_overlap) {
    throw ArgumentError(expected("merge_overlap", none, std::to_string(*options.merge_overlap)));
  }
}

/// exp(500) times an action is still finite.
void check_ensemble_decay(const AsyncOptions& options, const Bundle& bundle) {
  const int most = most_ensemble_decay(bundle.chunk);
  const double decay = options.ensemble_decay.value_or(0);
  if (std::abs(decay) <= most) return;
  const std::string range = "-" + std::to_string(most) + ".." + std::to_string(most);
  throw ArgumentError(expected("ensemble_decay", range, std::to_string(decay)));
}

/// Lockstep averages where a chunk is made at every tick; else chunks come one after the other.
void check_lockstep_merge(const AsyncOptions& options, const Bundle& bundle) {
  check_ensemble_decay(options, bundle);
  const bool averages = merge_name(options, bundle) == kEnsemble;
  if (!averages && !options.merge.empty() && options.merge != "replace") {
    throw ArgumentError(
        expected("merge", "replace | temporal_ensemble (mode is lockstep)", in_quotes(options.merge)));
  }
  if (averages && bundle.chunk.execute != 1) {
    throw ArgumentError(expected("merge",
                                 "replace (mode is lockstep, and the bundle's chunk.execute is not 1)",
                                 "'temporal_ensemble'"));
  }
  if (!averages && options.ensemble_decay) {
    throw ArgumentError(expected("ensemble_decay", "none (mode is lockstep, merge is replace)",
                                 std::to_string(*options.ensemble_decay)));
  }
}

void refuse_in_lockstep(const AsyncOptions& options) {
  const AsyncOptions none;
  const auto refuse = [](bool given, const char* field, const std::string& got) {
    if (given) throw ArgumentError(expected(field, "none (mode is lockstep)", got));
  };
  refuse(!options.underrun.empty(), "underrun", in_quotes(options.underrun));
  refuse(options.request_below != none.request_below, "request_below", std::to_string(options.request_below));
  refuse(options.blend_actions != none.blend_actions, "blend_actions", std::to_string(options.blend_actions));
  refuse(!options.merge_decay.empty(), "merge_decay", in_quotes(options.merge_decay));
  refuse(options.merge_overlap.has_value(), "merge_overlap",
         std::to_string(options.merge_overlap.value_or(0)));
  refuse(options.plan_ahead.has_value(), "plan_ahead", std::to_string(options.plan_ahead.value_or(0)));
  refuse(options.watchdog_us != none.watchdog_us, "watchdog_us", std::to_string(options.watchdog_us));
}

}  // namespace

void check_async(const std::string& mode, const AsyncOptions& options, const Bundle& bundle) {
  if (mode == "lockstep") {
    check_lockstep_merge(options, bundle);
    return refuse_in_lockstep(options);
  }
  if (mode != "async") throw ArgumentError(expected("mode", "lockstep | async", in_quotes(mode)));
  check_named("underrun", kUnderrunPolicies, options.underrun);
  check_merge(options, bundle);
  check_weights(options, bundle);
  if (options.underrun == "decelerate" && bundle.action.hold_mode != "values") {
    throw ArgumentError(expected(
        "underrun", "hold | repeat | fault (the bundle's action.hold is the last action)", "'decelerate'"));
  }
  const int rows = rows_of(bundle);
  check_range("request_below", options.request_below, 0, rows);
  check_range("blend_actions", options.blend_actions, 0, rows);
  check_ensemble_decay(options, bundle);
  check_range("plan_ahead", options.plan_ahead.value_or(0), -1, 1'000'000);
  check_range("watchdog_us", options.watchdog_us, 0, std::int64_t{1} << 50);
}

ActionQueue::Settings queue_settings(const AsyncOptions& options, const Bundle& bundle) {
  const int rows = rows_of(bundle);
  return {find_merge(options, bundle)->queue, rows, static_cast<int>(bundle.action.names.size()),
          options.blend_actions != 0 ? options.blend_actions : (rows + 1) / 2,
          options.ensemble_decay.value_or(bundle.chunk.ensemble_decay)};
}

std::optional<ActionQueue> lockstep_ensemble(const std::string& mode, const AsyncOptions& options,
                                             const Bundle& bundle) {
  if (mode != "lockstep" || merge_name(options, bundle) != kEnsemble) return std::nullopt;
  return ActionQueue(queue_settings(options, bundle));
}

UnderrunPolicy underrun_policy(const AsyncOptions& options) noexcept {
  return find_named(kUnderrunPolicies, options.underrun)->second;
}

Continuing continuing(const AsyncOptions& options, const Bundle& bundle) noexcept {
  return {.rule = find_merge(options, bundle)->sampler,
          .rows = rows_of(bundle),
          .dim = static_cast<int>(bundle.action.names.size()),
          .max_delay = bundle.chunk.max_delay,
          .overlap = options.merge_overlap,
          .decay = find_named(kDecays, options.merge_decay)->second};
}

int plan_ahead(const AsyncOptions& options, const Bundle& bundle) noexcept {
  return options.plan_ahead.value_or(bundle.planner ? bundle.planner->plan_ahead : -1);
}

int request_below(const AsyncOptions& options, const Bundle& bundle) noexcept {
  if (options.request_below != 0) return options.request_below;
  const int rows = rows_of(bundle);
  if (merge_name(options, bundle) == kEnsemble) return rows;  // the more chunks know an action, the better
  return std::max(rows - bundle.chunk.execute + 1, std::min(rows / 2 + 1, rows));
}

}  // namespace keystep
