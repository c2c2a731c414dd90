// The one table of a sampler's settings: the manifest's reader, the checks of their ranges and the Python
// bindings derive from it. Written twice beside it, for people: SamplerConfig (Python) and the manifest's
// schema, which tests hold against it.
#pragma once

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "keystep/sampler.hpp"

namespace keystep {

using Choices = std::span<const char* const>;

// ---- kinds

inline constexpr const char* kDiffusionPredictions[] = {"epsilon", "sample", "v_prediction"};
inline constexpr const char* kFlowPredictions[] = {"velocity"};
inline constexpr const char* kTimestepRules[] = {"leading", "trailing", "linspace", "hd_expit"};
inline constexpr const char* kFlowTimestepRules[] = {"trailing"};  // the first step starts at pure noise

/// One network can be sampled by every kind that takes its prediction.
struct SamplerKind {
  const char* name;
  bool flow;  ///< integrates a velocity: no betas, no clipping, no noise but the first
  Choices predictions;
  Choices timestep_rules;
};

inline constexpr SamplerKind kSamplerKinds[] = {
    {"ddpm", false, kDiffusionPredictions, kTimestepRules},
    {"ddim", false, kDiffusionPredictions, kTimestepRules},
    {"flow_euler", true, kFlowPredictions, kFlowTimestepRules},
};

inline constexpr auto kSamplerKindNames = [] {
  std::array<const char*, std::size(kSamplerKinds)> names{};
  std::ranges::transform(kSamplerKinds, names.begin(), &SamplerKind::name);
  return names;
}();

/// nullptr: there is none of this name.
constexpr const SamplerKind* find_sampler_kind(std::string_view name) {
  const auto* found = std::ranges::find(kSamplerKinds, name,
                                        [](const SamplerKind& kind) { return std::string_view(kind.name); });
  return found == std::end(kSamplerKinds) ? nullptr : found;
}

// ---- fields

inline constexpr const char* kPredictions[] = {"epsilon", "sample", "v_prediction", "velocity"};
inline constexpr const char* kBetaSchedules[] = {"linear", "scaled_linear", "squaredcos_cap_v2", "table"};
inline constexpr const char* kNoiseLaws[] = {"philox4x32-10"};

/// Of a number, or of each of a list; what other fields allow is in `validate`.
struct Bounds {
  double low = std::numeric_limits<double>::lowest();
  double high = std::numeric_limits<double>::max();
  bool open = false;  ///< the ends are excluded
};

template <class T>
struct SamplerField {
  const char* name;
  T SamplerSpec::* member;
  const char* meaning;
  Choices choices = {};  ///< of a text
  Bounds bounds = {};
};

/// Far beyond any use, so that memory and time of a hostile manifest are bounded.
inline constexpr double kMaxTrainSteps = 1e6;
/// Likewise (the papers' are below 10), and finite in single precision, in which it is applied.
inline constexpr double kMaxGuidance = 1e6;

/// In the order of SamplerSpec; the defaults are there.
inline constexpr std::tuple kSamplerFields = {
    SamplerField<std::string>{"kind", &SamplerSpec::kind, "ddpm, ddim or flow_euler.", kSamplerKindNames},
    SamplerField<int>{
        "train_steps", &SamplerSpec::train_steps, "Length of the beta schedule.", {}, {1, kMaxTrainSteps}},
    SamplerField<int>{"inference_steps",
                      &SamplerSpec::inference_steps,
                      "Denoise steps per sample, 1..train_steps.",
                      {},
                      {1, kMaxTrainSteps}},
    SamplerField<std::string>{"beta_schedule", &SamplerSpec::beta_schedule,
                              "linear, scaled_linear, squaredcos_cap_v2 or table.", kBetaSchedules},
    SamplerField<double>{"beta_start", &SamplerSpec::beta_start, "Of linear and scaled_linear."},
    SamplerField<double>{"beta_end", &SamplerSpec::beta_end, "Of linear and scaled_linear."},
    SamplerField<std::vector<double>>{
        "betas", &SamplerSpec::betas, "Of table: train_steps values in (0, 1).", {}, {0, 1, true}},
    SamplerField<std::string>{
        "prediction", &SamplerSpec::prediction,
        "What the network predicts: epsilon, sample or v_prediction; of flows velocity.", kPredictions},
    SamplerField<bool>{"clip_sample", &SamplerSpec::clip_sample,
                       "Clip the predicted clean sample to +-clip_range."},
    SamplerField<double>{"clip_range",
                         &SamplerSpec::clip_range,
                         "See clip_sample.",
                         {},
                         {0, std::numeric_limits<double>::infinity(), true}},
    SamplerField<std::string>{"timestep_rule", &SamplerSpec::timestep_rule,
                              "Which training steps are visited: leading, trailing, linspace or hd_expit.",
                              kTimestepRules},
    SamplerField<int>{"steps_offset",
                      &SamplerSpec::steps_offset,
                      "Added to the time-steps of leading.",
                      {},
                      {0, kMaxTrainSteps}},
    SamplerField<bool>{"set_alpha_to_one", &SamplerSpec::set_alpha_to_one,
                       "DDIM: alpha-bar before the first step is 1."},
    SamplerField<double>{"eta", &SamplerSpec::eta, "DDIM: 0 deterministic .. 1 like DDPM.", {}, {0, 1}},
    SamplerField<double>{"guidance",
                         &SamplerSpec::guidance,
                         "lambda, 0..1e6: eps = (1 + lambda) eps_c - lambda eps_u; 0: one branch.",
                         {},
                         {0, kMaxGuidance}},
    SamplerField<std::string>{"noise", &SamplerSpec::noise, "Law of the generated noise, philox4x32-10.",
                              kNoiseLaws},
};

/// Calls `visit` with every SamplerField, in order.
template <class Visit>
constexpr void for_each_sampler_field(Visit visit) {
  std::apply([&](const auto&... field) { (visit(field), ...); }, kSamplerFields);
}

}  // namespace keystep
