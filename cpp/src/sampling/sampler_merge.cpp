// A sample of which some rows are known, without gradients: at every step the predicted clean sample is drawn
// towards them (as inpainting by RePaint, Lugmayr et al. 2022, arXiv:2201.09865, but of the prediction, so
// that rows of any weight agree with their neighbours; for chunks of actions Black et al. 2025,
// arXiv:2506.07339).
#include <algorithm>
#include <cmath>
#include <limits>

#include "keystep/sampler.hpp"
#include "keystep/sampler_fields.hpp"

namespace keystep {

/// Of the pair (x0, noise) = (y, (x - signal y) / spread). The last step ends at y itself: also where its
/// alpha-bar is not quite 1 (`set_alpha_to_one` false), for these rows are decided.
Sampler::KnownStep Sampler::known_step(std::size_t index) const {
  if (index + 1 == timesteps_.size()) return {};
  const Coefficients& c = coefficients_[index];
  const int timestep = timesteps_[index];
  if (find_sampler_kind(spec_.kind)->flow) {  // x = t noise + (1 - t) y: the velocity is (x - y) / t
    const float rate =
        c.scale_direction * static_cast<float>(spec_.train_steps) / static_cast<float>(timestep + 1);
    return {1 + rate, -rate, 0};
  }
  if (spec_.kind == "ddpm") return {c.scale_direction, c.scale_x0, c.sigma};  // the direction is x itself
  const auto alpha_bar = static_cast<float>(alphas_cumprod_[static_cast<std::size_t>(timestep)]);
  const float signal = std::sqrt(alpha_bar), spread = std::sqrt(1 - alpha_bar);
  const float direction = c.scale_direction / spread;
  return {direction, c.scale_x0 - direction * signal, c.sigma};
}

void Sampler::merge(int index, std::span<const float> weights, std::span<const float> known,
                    std::span<const float> before, std::span<const float> noise,
                    std::span<float> sample) const noexcept {
  const bool fits = index >= 0 && index < std::ssize(known_) && known.size() == sample.size() &&
                    before.size() == sample.size() && !weights.empty() &&
                    sample.size() % weights.size() == 0 &&
                    (!needs_noise(index) || noise.size() == sample.size());
  if (!fits) {
    std::ranges::fill(sample, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  const KnownStep step = known_[static_cast<std::size_t>(index)];
  const std::size_t width = sample.size() / weights.size();
  for (std::size_t row = 0; row < weights.size(); ++row) {
    const float weight = weights[row];
    if (weight == 0) continue;
    for (std::size_t i = row * width; i < (row + 1) * width; ++i) {
      const float added = step.sigma > 0 ? step.sigma * noise[i] : 0.0f;
      sample[i] = (1 - weight) * sample[i] + weight * (step.x * before[i] + step.clean * known[i] + added);
    }
  }
}

}  // namespace keystep
