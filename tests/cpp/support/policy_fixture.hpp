// A runtime over the stub engine, whose graphs are closed forms, and the actions they must give.
#pragma once

#include "bundle_fixture.hpp"
#include "check.hpp"
#include "keystep/keystep.hpp"

namespace keystep::test {

constexpr std::size_t kHorizon = 4, kDim = 2, kChunk = kHorizon * kDim;
inline const std::vector<float> kState = {1.5f, 2.5f, 5.0f};  // normalised: 0.5, 0.25, 0.5
constexpr double kStateMean = 1.25 / 3;

/// A bundle in its own folder and a runtime over the stub engine.
struct Policy {
  explicit Policy(const std::string& manifest = kManifest, std::map<std::string, std::string> injected = {},
                  RuntimeOptions options = {}) {
    write_bundle(folder.path(), manifest);
    options.engine.engine = "stub";
    options.engine.provider_options = std::move(injected);
    runtime = std::make_unique<Runtime>(folder.path(), options);
    action = runtime->make_action();
  }
  Status tick() { return runtime->tick(seen(kState), action); }
  void reset(std::uint64_t seed = 7, std::uint32_t episode = 1) {
    runtime->reset({"push", {}, seed, episode});
  }

  TemporaryFolder folder;
  std::unique_ptr<Runtime> runtime;
  Action action;
};

/// The chunk the stub's closed forms give, by the public sampler and noise. `bias` and `null_bias`: the
/// condition of the two branches.
inline std::vector<double> predicted(const SamplerSpec& spec, double bias, NoiseKey key,
                                     double null_bias = 0) {
  Sampler sampler(spec);
  std::vector<float> x(kChunk), eps(kChunk), null_eps(kChunk), noise(kChunk);
  fill_normal(key, x);
  for (std::size_t k = 0; k < sampler.timesteps().size(); ++k) {
    for (std::size_t i = 0; i < kChunk; ++i) {
      const double common = 0.1 * x[i] + 0.001 * sampler.timesteps()[k];
      eps[i] = static_cast<float>(common + bias);
      null_eps[i] = static_cast<float>(common + null_bias);
    }
    if (spec.guidance != 0) sampler.guide(eps, null_eps);
    key.step = static_cast<std::uint32_t>(k + 1);
    fill_normal(key, noise);
    sampler.step(static_cast<int>(k), eps, noise, x);
  }
  std::vector<double> chunk(x.begin(), x.end());
  for (std::size_t i = 0; i < kChunk; ++i) {  // min_max: [-2, 2] and [0, 10]
    chunk[i] = i % kDim == 0 ? (chunk[i] + 1) / 2 * 4 - 2 : (chunk[i] + 1) / 2 * 10;
  }
  return chunk;
}

inline void check_action(const Action& action, const std::vector<double>& chunk, std::size_t row) {
  for (std::size_t d = 0; d < kDim; ++d) CHECK_NEAR(action.values[d], chunk[row * kDim + d], 1e-5);
}

inline bool holds(const Policy& policy) {
  return policy.action.values == policy.runtime->bundle().action.hold;
}

}  // namespace keystep::test
