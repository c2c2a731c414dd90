// From noise to a clean sample, for the chunks of a controller and the plans of a planner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "keystep/engine.hpp"
#include "keystep/noise.hpp"
#include "keystep/sampler.hpp"
#include "loop/epoch.hpp"

namespace keystep {

/// The manifest's sampler with the kind and the steps chosen at load ("" and 0: the manifest's). `prefix` of
/// the options' names in messages: "" or "planner_". Throws ArgumentError.
SamplerSpec choose_sampler(SamplerSpec spec, const std::string& kind, int steps, const std::string& prefix);

class DenoiseLoop {
 public:
  /// `graph` denoises, bound to `tensors`. With guidance two rows are denoised in one batch, the conditional
  /// one first. `size`: values of one sample.
  DenoiseLoop(SamplerSpec spec, const GraphSpec& graph, const Tensors& tensors, std::size_t size);

  const Sampler& sampler() const noexcept { return sampler_; }
  void set_guidance(double lambda) noexcept { sampler_.set_guidance(lambda); }
  bool guided() const noexcept { return sampler_.spec().guidance != 0; }

  /// Whether `noise` is empty or has one sample for the start and one for each step that needs noise; if not,
  /// `error` says so.
  bool fits(std::span<const float> noise, std::string& error) const noexcept;
  /// Puts the initial noise into the sample, that of `key` at step 0 or the first of `noise`, then runs
  /// `graph` and steps until the sample is clean. `noise` empty: Philox with `key`; else what `fits` takes.
  /// Returns `interrupted` as soon as the epoch is over.
  Status run(Graph& graph, const NoiseKey& key, std::span<const float> noise, const Epoch& epoch,
             std::string& error) noexcept;
  /// The clean sample.
  std::span<const float> result() const noexcept { return latent(); }

 private:
  std::span<float> latent() const noexcept { return {static_cast<float*>(sample_.data), size_}; }
  void start(NoiseKey key, std::span<const float> noise) noexcept;
  Status predict(Graph& graph, std::int64_t timestep, const Epoch& epoch, std::string& error) noexcept;
  std::span<const float> added_noise(std::size_t step, NoiseKey key, bool generated,
                                     std::span<const float>& noise) noexcept;

  Sampler sampler_;
  Tensor &sample_, &output_, &timestep_;
  std::size_t size_;
  std::vector<float> step_noise_;
};

}  // namespace keystep
