// What a planner of subgoals is made of. subgoal_plan.cpp has how a plan is made, subgoal_planner.cpp the
// public face.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "policy/candidates.hpp"
#include "policy/normalizer.hpp"
#include "policy/observation_inputs.hpp"
#include "policy/subgoal_planner.hpp"
#include "policy/vocabulary.hpp"
#include "sampling/denoise_loop.hpp"

namespace keystep {

struct SubgoalPlanner::Impl {
  Impl(const Policy& policy, Tensors& tensors);

  float* place(const std::string& name, void* memory) const;
  Renormalizer renormalizer(const Normalization& from, const Normalization& to) const;
  void encode_text(const std::string& of_episode, const Epoch& epoch);
  void take(const std::vector<Observation>& subgoals);
  Status imagine(const Observation& observation, const NoiseKey& with, std::span<const float> noise,
                 const Epoch& epoch) noexcept;
  Status score(const Epoch& epoch, Histogram& timing) noexcept;
  Status choose(const Renormalizer& units, std::span<float> out, int& best) noexcept;
  Status make_plan(const PlanRequest& request) noexcept;
  void keep(int best) noexcept;
  std::span<const float> current() const noexcept;
  /// The last subgoal of a plan stays.
  bool stays() const noexcept { return subgoal + 1 >= spec.subgoals && (is_given || !replan); }
  enum class Due { nothing, next, plan };
  Due due_at(std::int64_t consumed, bool replan_wanted) const noexcept {
    if (!planned || (replan_wanted && !is_given)) return Due::plan;
    if (consumed - since < spec.steps_per_subgoal) return Due::nothing;
    if (subgoal + 1 < spec.subgoals) return Due::next;
    return stays() ? Due::nothing : Due::plan;
  }

  const Bundle& bundle;
  const PlannerSpec& spec;
  const Vocabulary& vocabulary;
  const bool replan, strict_text;
  const std::size_t size, plane;              // values of a subgoal, and of each of its channels
  std::unique_ptr<Graph> text, encode, film;  // encode, film: may be none
  std::unique_ptr<Graph> denoise;
  const int rows;  // of these; denoise runs the conditional ones alone where guidance is 0
  Tensor &words, &seen;
  Candidates choice;
  DenoiseLoop loop;
  ObservationInputs inputs;
  std::vector<float> given;  // room for one subgoal handed in, as the controller takes it
  ObservationInputs given_inputs;
  Renormalizer to_controller, to_physical, controller_to_physical;

  // The episode.
  std::vector<float> plan;  // M subgoals as the controller takes them
  std::vector<float> made;  // room for the next one
  bool has_text = false;
  bool planned = false, is_given = false;
  Due due = Due::nothing;  // within a tick
  int subgoal = 0;         // index of the current one
  std::int64_t since = 0;  // consumed index at which it became so
  std::uint64_t plans = 0;
  NoiseKey key;  // of the next plan
  // The candidates that the plan was chosen from, in physical units; of a single one the plan is all.
  std::vector<float> tried, scores;
  int chosen = 0;
  Histogram unrecorded;  // of predict, which is outside the loop
  std::string error;
};

}  // namespace keystep
