#include "keystep/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numbers>

#include "keystep/sampler_fields.hpp"
#include "keystep/status.hpp"

namespace keystep {
namespace {

// ---- checking a specification

std::string text(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", value);
  return buffer;
}

void check_choice(const char* field, const std::string& value, Choices choices) {
  std::string wanted;
  for (const char* choice : choices) {
    if (value == choice) return;
    wanted += (wanted.empty() ? "" : " | ") + std::string(choice);
  }
  throw ArgumentError(expected(field, wanted, "'" + value + "'"));
}

void check(bool good, const std::string& field, const std::string& wanted, double got) {
  if (!good) throw ArgumentError(expected(field, wanted, text(got)));
}

void spoil(std::span<float> values) noexcept {
  std::ranges::fill(values, std::numeric_limits<float>::quiet_NaN());
}

void check_betas(const SamplerSpec& spec) {
  const auto steps = static_cast<std::size_t>(spec.train_steps);
  if (spec.beta_schedule == "table") {
    const auto length = static_cast<double>(spec.betas.size());
    return check(spec.betas.size() == steps, "betas", std::to_string(steps) + " values (train_steps)",
                 length);
  }
  check(spec.betas.empty(), "betas", "no values, beta_schedule is not 'table'",
        static_cast<double>(spec.betas.size()));
  if (spec.beta_schedule == "squaredcos_cap_v2") return;
  check(spec.beta_start > 0 && spec.beta_start < 1, "beta_start", "a value in (0, 1)", spec.beta_start);
  check(spec.beta_end >= spec.beta_start && spec.beta_end < 1, "beta_end", "a value in [beta_start, 1)",
        spec.beta_end);
}

// ---- of one field: by the table

void check_value(const std::string& value, const char* name, const SamplerField<std::string>& field) {
  check_choice(name, value, field.choices);
}

void check_value(bool, const char*, const SamplerField<bool>&) {}

void check_value(int value, const char* name, const SamplerField<int>& field) {
  const std::string wanted = "an integer in " + text(field.bounds.low) + ".." + text(field.bounds.high);
  check(value >= field.bounds.low && value <= field.bounds.high, name, wanted, value);
}

std::string interval(const Bounds& bounds) {
  constexpr double kMost = std::numeric_limits<double>::max();
  if (bounds.low == -kMost) return "a finite number";
  if (bounds.high >= kMost) return "a finite number above " + text(bounds.low);
  const char* ends = bounds.open ? "()" : "[]";
  return std::string("a value in ") + ends[0] + text(bounds.low) + ", " + text(bounds.high) + ends[1];
}

void check_number(double value, const std::string& name, const Bounds& bounds) {
  const bool inside =
      bounds.open ? value > bounds.low && value < bounds.high : value >= bounds.low && value <= bounds.high;
  check(inside, name, interval(bounds), value);
}

void check_value(double value, const char* name, const SamplerField<double>& field) {
  check_number(value, name, field.bounds);
}

void check_value(const std::vector<double>& values, const char* name,
                 const SamplerField<std::vector<double>>& field) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    check_number(values[i], name + ("[" + std::to_string(i) + "]"), field.bounds);
  }
}

// ---- between fields

const SamplerKind& kind_of(const SamplerSpec& spec) { return *find_sampler_kind(spec.kind); }

/// What has no meaning for a kind must not be set as if it had.
void check_kind(const SamplerSpec& spec) {
  const SamplerKind& kind = kind_of(spec);
  check_choice("prediction", spec.prediction, kind.predictions);
  check_choice("timestep_rule", spec.timestep_rule, kind.timestep_rules);
  if (!kind.flow) return;
  check(!spec.clip_sample, "clip_sample", "false (" + spec.kind + " clips nothing)", spec.clip_sample);
  check(spec.eta == 0, "eta", "0 (" + spec.kind + " adds no noise)", spec.eta);
}

void check_fields(const SamplerSpec& spec) {
  for_each_sampler_field([&](const auto& field) { check_value(spec.*field.member, field.name, field); });
  check_kind(spec);
  check(spec.inference_steps >= 1 && spec.inference_steps <= spec.train_steps, "inference_steps",
        "1.." + std::to_string(spec.train_steps) + " (train_steps)", spec.inference_steps);
  const int last = (spec.inference_steps - 1) * (spec.train_steps / spec.inference_steps);
  const int greatest = spec.timestep_rule == "leading" ? spec.train_steps - 1 - last : spec.train_steps - 1;
  check(spec.steps_offset >= 0 && spec.steps_offset <= greatest, "steps_offset",
        "0.." + std::to_string(greatest) + " (time-steps stay below train_steps)", spec.steps_offset);
  check_betas(spec);
}

// ---- beta schedules

/// torch.linspace(start, end, count)[index] over float32: from both ends, one rounding (fused multiply-add).
float linspace(double start, double end, int index, int count) {
  const auto first = static_cast<float>(start), last = static_cast<float>(end);
  if (count == 1) return first;
  const double step = (last - first) / static_cast<float>(count - 1);
  return static_cast<float>(index < count / 2 ? first + step * index : last - step * (count - 1 - index));
}

float beta_of(const SamplerSpec& spec, int t) {
  const int steps = spec.train_steps;
  if (spec.beta_schedule == "table") return static_cast<float>(spec.betas[static_cast<std::size_t>(t)]);
  if (spec.beta_schedule == "linear") return linspace(spec.beta_start, spec.beta_end, t, steps);
  if (spec.beta_schedule == "scaled_linear") {
    const float root = linspace(std::sqrt(spec.beta_start), std::sqrt(spec.beta_end), t, steps);
    return root * root;
  }
  // Nichol and Dhariwal 2021 (arXiv:2102.09672), eq. 17, s = 0.008; betas are capped at 0.999.
  const auto alpha_bar = [steps](int i) {
    const double cosine = std::cos((static_cast<double>(i) / steps + 0.008) / 1.008 * std::numbers::pi / 2);
    return cosine * cosine;
  };
  return static_cast<float>(std::min(1 - alpha_bar(t + 1) / alpha_bar(t), 0.999));
}

/// As torch.cumprod over float32: the product runs in double, every factor and result is rounded to float.
std::vector<double> alphas_cumprod_of(const SamplerSpec& spec) {
  std::vector<double> result;
  if (kind_of(spec).flow) return result;  // which has no betas
  double product = 1;
  for (int t = 0; t < spec.train_steps; ++t) {
    product *= 1.0f - beta_of(spec, t);
    result.push_back(static_cast<float>(product));
    check(result.back() > 0 && result.back() < 1, "beta_schedule",
          "alpha-bar inside (0, 1) in single precision at step " + std::to_string(t), result.back());
  }
  return result;
}

// ---- time-step rules

/// From noisy to clean; as diffusers' set_timesteps, and for hd_expit reversed(int(linspace(-1, T-1, S+1)))
/// without the final -1, in exact arithmetic.
std::vector<int> timesteps_of(const SamplerSpec& spec) {
  const int train = spec.train_steps, count = spec.inference_steps;
  // numpy.arange steps by the difference of its first two values, which is not quite the step it was given.
  const double trailing_step = train - (train - static_cast<double>(train) / count);
  std::vector<int> result;
  for (int i = 0; i < count; ++i) {
    const int from_clean = count - 1 - i;
    double t = 0;
    if (spec.timestep_rule == "leading") {
      t = from_clean * (train / count) + spec.steps_offset;
    } else if (spec.timestep_rule == "trailing") {
      t = std::nearbyint(train - i * trailing_step) - 1;  // ties to even, as numpy
    } else if (spec.timestep_rule == "linspace") {
      t = count == 1 ? 0 : std::nearbyint(from_clean * (static_cast<double>(train - 1) / (count - 1)));
    } else {
      t = static_cast<double>((from_clean + 1LL) * train / count - 1);
    }
    result.push_back(static_cast<int>(t));
  }
  return result;
}

}  // namespace

void validate(const SamplerSpec& spec) {
  check_fields(spec);
  alphas_cumprod_of(spec);
}

Sampler::Sampler(SamplerSpec spec) : spec_(std::move(spec)) {
  check_fields(spec_);
  alphas_cumprod_ = alphas_cumprod_of(spec_);
  timesteps_ = timesteps_of(spec_);
  for (std::size_t i = 0; i < timesteps_.size(); ++i) coefficients_.push_back(coefficients(i));
  for (std::size_t i = 0; i < timesteps_.size(); ++i) known_.push_back(known_step(i));
}

/// alpha-bar of the time-step that denoise step `index` leads to; 1 is the clean end.
double Sampler::previous_alpha_cumprod(std::size_t index) const {
  // diffusers' DDIM steps back by T // S whatever the rule; DDPM and HD-ExpIt go to the next visited step.
  const bool fixed_stride = spec_.kind == "ddim" && spec_.timestep_rule != "hd_expit";
  int previous = index + 1 < timesteps_.size() ? timesteps_[index + 1] : -1;
  if (fixed_stride) previous = timesteps_[index] - spec_.train_steps / spec_.inference_steps;
  if (previous >= 0) return alphas_cumprod_[static_cast<std::size_t>(previous)];
  return fixed_stride && !spec_.set_alpha_to_one ? alphas_cumprod_.front() : 1.0;
}

/// x_t = t noise + (1 - t) clean with t = (time-step + 1) / T, and the velocity dx/dt = noise - clean is
/// integrated from 1 to 0 (Lipman et al. 2023, arXiv:2210.02747; the convention of pi0 and SmolVLA).
Sampler::Coefficients Sampler::flow_coefficients(std::size_t index) const {
  const auto time_of = [this](int timestep) {
    return static_cast<float>(static_cast<double>(timestep + 1) / spec_.train_steps);
  };
  const float now = time_of(timesteps_[index]);
  const float next = index + 1 < timesteps_.size() ? time_of(timesteps_[index + 1]) : 0.0f;
  return {.x0_x = 1,
          .clip = std::numeric_limits<float>::infinity(),
          .direction_m = 1,
          .scale_x0 = 1,
          .scale_direction = next - now};
}

Sampler::Coefficients Sampler::coefficients(std::size_t index) const {
  if (kind_of(spec_).flow) return flow_coefficients(index);
  const auto alpha_bar = static_cast<float>(alphas_cumprod_[static_cast<std::size_t>(timesteps_[index])]);
  const auto alpha_bar_prev = static_cast<float>(previous_alpha_cumprod(index));
  const float beta_bar = 1 - alpha_bar, beta_bar_prev = 1 - alpha_bar_prev;
  const float alpha = alpha_bar / alpha_bar_prev, beta = 1 - alpha;  // of this one (possibly long) step
  const float signal = std::sqrt(alpha_bar), noise = std::sqrt(beta_bar);
  const bool ddim = spec_.kind == "ddim";

  Coefficients c;
  // The predicted x0 and, for DDIM, the predicted noise ("direction"), both linear in x and m. Division and
  // order of operations are those of diffusers, to give the same floats.
  if (spec_.prediction == "epsilon") {
    c = {.x0_x = 1, .x0_m = -noise, .x0_divisor = signal, .direction_m = 1};
  } else if (spec_.prediction == "sample") {
    c = {.x0_m = 1, .direction_x = 1, .direction_m = -signal, .direction_divisor = noise};
  } else {
    c = {.x0_x = signal, .x0_m = -noise, .direction_x = noise, .direction_m = signal};
  }
  c.clip = spec_.clip_sample ? static_cast<float>(spec_.clip_range) : std::numeric_limits<float>::infinity();
  if (ddim) {  // Song et al. 2021, eq. 12 and 16
    const float deviation = static_cast<float>(spec_.eta) * std::sqrt(beta_bar_prev / beta_bar * beta);
    c.sigma = deviation;
    c.scale_x0 = std::sqrt(alpha_bar_prev);
    c.scale_direction = std::sqrt(std::max(beta_bar_prev - deviation * deviation, 0.0f));
  } else {  // Ho et al. 2020, eq. 7, variance "fixed_small"; the direction is x itself
    c.direction_x = 1;
    c.direction_m = 0;
    c.direction_divisor = 1;
    c.scale_x0 = std::sqrt(alpha_bar_prev) * beta / beta_bar;
    c.scale_direction = std::sqrt(alpha) * beta_bar_prev / beta_bar;
    c.sigma = beta_bar_prev > 0 ? std::sqrt(std::max(beta_bar_prev / beta_bar * beta, 1e-20f)) : 0.0f;
  }
  return c;
}

bool Sampler::needs_noise(int index) const noexcept {
  const auto step = static_cast<std::size_t>(index);
  return step < coefficients_.size() && coefficients_[step].sigma > 0;
}

void Sampler::step(int index, std::span<const float> model_output, std::span<const float> noise,
                   std::span<float> sample) const noexcept {
  const bool fits = index >= 0 && index < std::ssize(coefficients_) && model_output.size() == sample.size() &&
                    (!needs_noise(index) || noise.size() == sample.size());
  if (!fits) return spoil(sample);
  const Coefficients c = coefficients_[static_cast<std::size_t>(index)];
  const float* __restrict m = model_output.data();
  float* __restrict x = sample.data();
  const auto mean = [&c](float xi, float mi) noexcept {
    float x0 = (c.x0_x * xi + c.x0_m * mi) / c.x0_divisor;
    x0 = x0 < -c.clip ? -c.clip : (x0 > c.clip ? c.clip : x0);  // NaN stays NaN
    const float direction = (c.direction_x * xi + c.direction_m * mi) / c.direction_divisor;
    return c.scale_x0 * x0 + c.scale_direction * direction;
  };
  if (c.sigma > 0) {
    const float* __restrict z = noise.data();
    for (std::size_t i = 0; i < sample.size(); ++i) x[i] = mean(x[i], m[i]) + c.sigma * z[i];
  } else {
    for (std::size_t i = 0; i < sample.size(); ++i) x[i] = mean(x[i], m[i]);
  }
}

void Sampler::guide(std::span<float> conditional, std::span<const float> unconditional) const noexcept {
  if (unconditional.size() != conditional.size()) return spoil(conditional);
  const auto lambda = static_cast<float>(spec_.guidance);
  for (std::size_t i = 0; i < conditional.size(); ++i) {
    conditional[i] = (1 + lambda) * conditional[i] - lambda * unconditional[i];
  }
}

}  // namespace keystep
