// The samplers written as the papers write them: slow, in double, one element at a time, nothing precomputed.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "keystep/sampler.hpp"

namespace keystep::test {

struct Prediction {
  double x0, noise;
};

/// What the model's output says about the clean sample and the noise in x = sqrt(abar) x0 + sqrt(1-abar)
/// noise.
inline Prediction predict(const std::string& kind, double alpha_bar, double x, double output) {
  const double signal = std::sqrt(alpha_bar), spread = std::sqrt(1 - alpha_bar);
  if (kind == "epsilon") return {(x - spread * output) / signal, output};
  if (kind == "sample") return {output, (x - signal * output) / spread};
  return {signal * x - spread * output, spread * x + signal * output};  // v = signal * noise - spread * x0
}

/// Song et al. 2021, eq. 12 and 16.
inline double ddim(double alpha_bar, double previous, double eta, double x0, double noise, double z) {
  const double sigma =
      eta * std::sqrt((1 - previous) / (1 - alpha_bar)) * std::sqrt(1 - alpha_bar / previous);
  const double direction = std::sqrt(std::max(1 - previous - sigma * sigma, 0.0));
  return std::sqrt(previous) * x0 + direction * noise + sigma * z;
}

/// Ho et al. 2020, eq. 6 and 7.
inline double ddpm(double alpha_bar, double previous, double x, double x0, double z) {
  const double alpha = alpha_bar / previous, beta = 1 - alpha;
  const double mean = std::sqrt(previous) * beta / (1 - alpha_bar) * x0 +
                      std::sqrt(alpha) * (1 - previous) / (1 - alpha_bar) * x;
  return mean + std::sqrt((1 - previous) / (1 - alpha_bar) * beta) * z;
}

/// alpha-bar after denoise step `index`: diffusers' DDIM steps back by a fixed stride, all else by visited
/// steps.
inline double alpha_bar_after(const Sampler& sampler, int index) {
  const SamplerSpec& spec = sampler.spec();
  const auto& times = sampler.timesteps();
  const auto at = static_cast<std::size_t>(index);
  if (spec.kind == "ddim" && spec.timestep_rule != "hd_expit") {
    const int previous = times[at] - spec.train_steps / spec.inference_steps;
    if (previous >= 0) return sampler.alphas_cumprod()[static_cast<std::size_t>(previous)];
    return spec.set_alpha_to_one ? 1.0 : sampler.alphas_cumprod()[0];
  }
  if (at + 1 == times.size()) return 1.0;
  return sampler.alphas_cumprod()[static_cast<std::size_t>(times[at + 1])];
}

inline double reference_step(const Sampler& sampler, int index, double output, double z, double x) {
  const SamplerSpec& spec = sampler.spec();
  const int time = sampler.timesteps()[static_cast<std::size_t>(index)];
  const double alpha_bar = sampler.alphas_cumprod()[static_cast<std::size_t>(time)];
  const double previous = alpha_bar_after(sampler, index);
  Prediction predicted = predict(spec.prediction, alpha_bar, x, output);
  if (spec.clip_sample) predicted.x0 = std::clamp(predicted.x0, -spec.clip_range, spec.clip_range);
  if (spec.kind == "ddpm") return ddpm(alpha_bar, previous, x, predicted.x0, z);
  return ddim(alpha_bar, previous, spec.eta, predicted.x0, predicted.noise, z);
}

}  // namespace keystep::test
