// The lower level: an observation (and task, goal or subgoal) to a chunk of actions.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "keystep/bundle.hpp"
#include "keystep/engine.hpp"
#include "keystep/latency.hpp"
#include "keystep/noise.hpp"
#include "keystep/observation.hpp"
#include "loop/epoch.hpp"

namespace keystep {

class Controller {
 public:
  /// Loads the graphs, sizes every buffer. `inference_steps` 0 and `sampler` "": as the manifest says; both
  /// are refused where nothing is denoised step by step. Throws.
  Controller(const Bundle& bundle, Engine& engine, int inference_steps, const std::string& sampler = {});
  ~Controller();

  /// The task's index in `Bundle::tasks`; ignored by policies without a task input.
  void set_task(int index) noexcept;
  /// Normalises and stores the goal observation. Throws ArgumentError.
  void set_goal(const Observation& goal);
  /// Of family subgoal: the goal as normalised values, `subgoal_shape` of them; without effect otherwise.
  void set_subgoal(std::span<const float> values) noexcept;
  /// Sizes and finiteness; on failure `error()` names the field.
  Status check(const Observation& observation) noexcept;
  /// Checks, then normalises into the engine's inputs.
  Status observe(const Observation& observation) noexcept;
  /// encode (and `film`), then every denoise step (or `act` alone), then un-normalise into `chunk` (horizon x
  /// action dim, physical units). Returns `interrupted` as soon as the epoch is over. `noise`
  /// empty: Philox with `key`; otherwise horizon x dim initial noise, followed by as much again for each step
  /// that needs noise. `act` is timed as encode and takes no noise.
  Status sample(const NoiseKey& key, std::span<const float> noise, const Epoch& epoch, Histogram& encode,
                Histogram& denoise, std::span<float> chunk) noexcept;
  void terminate() noexcept;  ///< any thread

  const std::string& error() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keystep
