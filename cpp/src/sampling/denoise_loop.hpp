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
#include "sampling/merge.hpp"

namespace keystep {

/// The manifest's sampler with the kind and the steps chosen at load ("" and 0: the manifest's). `prefix` of
/// the options' names in messages: "" or "planner_". Throws ArgumentError.
SamplerSpec choose_sampler(SamplerSpec spec, const std::string& kind, int steps, const std::string& prefix);

class DenoiseLoop {
 public:
  /// `graph` denoises, bound to `tensors`, `count` samples in one batch. With guidance each has two rows of
  /// it, one after the other, the conditional one first. `size`: values of one sample.
  DenoiseLoop(SamplerSpec spec, const GraphSpec& graph, const Tensors& tensors, std::size_t size,
              int count = 1);

  const Sampler& sampler() const noexcept { return sampler_; }
  void set_guidance(double lambda) noexcept { sampler_.set_guidance(lambda); }
  bool guided() const noexcept { return sampler_.spec().guidance != 0; }
  int count() const noexcept { return count_; }

  /// Whether `noise` is empty or has one sample (of each of them) for the start and for each step that needs
  /// noise; if not, `error` says so.
  bool fits(std::span<const float> noise, std::string& error) const noexcept;
  /// Puts the initial noise into the sample, that of `key` at step 0 or the first of `noise`, then runs
  /// `graph` and steps until the sample is clean. `noise` empty: Philox with `key`; else what `fits` takes.
  /// `merge`: what is known of the (only) sample; nullptr: nothing.
  /// Returns `interrupted` as soon as the epoch is over.
  Status run(Graph& graph, const NoiseKey& key, std::span<const float> noise, const Epoch& epoch,
             std::string& error, Merge* merge = nullptr) noexcept;
  /// The clean sample, of those there are.
  std::span<const float> result(int index = 0) const noexcept { return row(sample_, index); }

 private:
  std::size_t branches() const noexcept { return guided() ? 2 : 1; }
  /// Of sample `index`, the conditional row.
  std::span<float> row(const Tensor& of, int index) const noexcept {
    const std::size_t first = static_cast<std::size_t>(index) * branches() * size_;
    return {static_cast<float*>(of.data) + first, size_};
  }
  void start(NoiseKey key, std::span<const float> noise, const Epoch& epoch) noexcept;
  Status predict(Graph& graph, std::int64_t timestep, const Epoch& epoch, std::string& error) noexcept;
  void step(int k, const NoiseKey& key, bool generated, std::span<const float>& noise, const Epoch& epoch,
            Merge* merge) noexcept;

  Sampler sampler_;
  Tensor &sample_, &output_, &timestep_;
  const std::size_t size_;
  const int count_;
  std::vector<float> step_noise_;
};

}  // namespace keystep
