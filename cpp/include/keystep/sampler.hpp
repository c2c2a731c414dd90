// DDPM, DDIM and flow matching. Formulas of the first two and names follow diffusers' DDPMScheduler and
// DDIMScheduler (Ho et al. 2020, arXiv:2006.11239; Song et al. 2021, arXiv:2010.02502).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace keystep {

/// All the settings of a sampler; the manifest's "sampler" object has exactly these keys.
struct SamplerSpec {
  std::string kind = "ddim";  ///< ddpm | ddim | flow_euler (velocity, trailing, no clipping)
  int train_steps = 100;      ///< length of the beta schedule
  int inference_steps = 10;   ///< denoise steps per sample, 1..train_steps
  std::string beta_schedule = "squaredcos_cap_v2";  ///< linear | scaled_linear | squaredcos_cap_v2 | table
  double beta_start = 1e-4;                         ///< linear and scaled_linear only
  double beta_end = 0.02;                           ///< linear and scaled_linear only
  std::vector<double> betas;                        ///< table only: train_steps values in (0, 1)
  std::string prediction = "epsilon";  ///< epsilon | sample | v_prediction; of flow_euler: velocity
  bool clip_sample = true;             ///< clip the predicted x0 to +-clip_range
  double clip_range = 1.0;
  std::string timestep_rule = "leading";  ///< leading | trailing | linspace | hd_expit
  int steps_offset = 0;                   ///< added to the time-steps of `leading`
  bool set_alpha_to_one = true;           ///< DDIM: alpha-bar before the first step is 1
  double eta = 0.0;                       ///< DDIM: 0 deterministic .. 1 like DDPM
  double guidance = 0.0;  ///< lambda, 0..1e6: eps = (1+lambda) eps_c - lambda eps_u; 0: one branch
  std::string noise = "philox4x32-10";  ///< law of the generated noise
};

/// Throws ArgumentError naming the first field that is out of range.
void validate(const SamplerSpec& spec);

/// Precomputes every coefficient; `step` is one short loop over the elements and allocates nothing.
/// Schedules and coefficients are rounded to single precision exactly where diffusers rounds them: near t = 0
/// the difference 1 - alpha-bar keeps few digits there, and more exact values would be another sampler.
class Sampler {
 public:
  /// Throws ArgumentError, see `validate`.
  explicit Sampler(SamplerSpec spec);

  const SamplerSpec& spec() const noexcept { return spec_; }
  /// Another lambda than the specification's, in 0..1e6.
  void set_guidance(double lambda) noexcept { spec_.guidance = lambda; }
  /// Training time-steps visited, from noisy to clean; `inference_steps` long.
  const std::vector<int>& timesteps() const noexcept { return timesteps_; }
  /// alpha-bar for every training step, length train_steps; none of flow_euler.
  const std::vector<double>& alphas_cumprod() const noexcept { return alphas_cumprod_; }
  /// Whether step `index` adds noise (never when the DDIM variance is zero nor at the last DDPM step, nor
  /// where there is no such step).
  bool needs_noise(int index) const noexcept;

  /// x_t -> x_{t-1} in place, for the `index`-th of `timesteps()`. `noise` may be empty where
  /// `needs_noise(index)` is false. No span overlaps another. NaN and Inf in `model_output` are never clipped
  /// away. For another index, or
  /// spans of different lengths, the sample becomes NaN, which no gate admits.
  void step(int index, std::span<const float> model_output, std::span<const float> noise,
            std::span<float> sample) const noexcept;

  /// After step `index` of a sample whose rows are partly known, such as the actions of the chunk before:
  /// every row i becomes (1 - w) x_i + w k_i with w = `weights[i]`, where k_i is what the step gives if the
  /// clean sample that the network predicts is `known`, and its noise what remains. That is x0 += w (known -
  /// x0) with the noise recomputed, where nothing is clipped; a row of weight 0 stays as it is, to the bit,
  /// and one of weight 1 ends at `known`. `before`: the sample before the step; `noise`: as the step had it.
  /// All spans but `weights`, which has a value in [0, 1] for each row, are as long as the sample; else it
  /// becomes NaN. Rows without a known value need one that is finite, and weight 0.
  void merge(int index, std::span<const float> weights, std::span<const float> known,
             std::span<const float> before, std::span<const float> noise,
             std::span<float> sample) const noexcept;

  /// (1+lambda) * conditional - lambda * unconditional, written over `conditional`; NaN if their
  /// lengths differ.
  void guide(std::span<float> conditional, std::span<const float> unconditional) const noexcept;

 private:
  /// Of one denoise step, for every kind and prediction (x: the sample, m: the model output):
  ///   x0 = clamp((x0_x * x + x0_m * m) / x0_divisor, -clip, clip)
  ///   direction = (direction_x * x + direction_m * m) / direction_divisor
  ///   x' = scale_x0 * x0 + scale_direction * direction + sigma * noise
  struct Coefficients {
    float x0_x = 0, x0_m = 0, x0_divisor = 1, clip = 0;
    float direction_x = 0, direction_m = 0, direction_divisor = 1;
    float scale_x0 = 0, scale_direction = 0, sigma = 0;
  };
  /// Of the step of a sample whose clean end y is known: x' = x * sample + clean * y + sigma * noise.
  struct KnownStep {
    float x = 0, clean = 1, sigma = 0;
  };
  Coefficients coefficients(std::size_t index) const;
  KnownStep known_step(std::size_t index) const;
  Coefficients flow_coefficients(std::size_t index) const;
  double previous_alpha_cumprod(std::size_t index) const;

  SamplerSpec spec_;
  std::vector<int> timesteps_;
  std::vector<double> alphas_cumprod_;
  std::vector<Coefficients> coefficients_;
  std::vector<KnownStep> known_;
};

}  // namespace keystep
