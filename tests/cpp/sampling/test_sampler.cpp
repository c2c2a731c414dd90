// The samplers against a slow reference written from the papers; exact parity with diffusers is tested in
// tests/parity/test_sampler.py.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "check.hpp"
#include "keystep/sampler.hpp"
#include "keystep/status.hpp"
#include "reference_sampler.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

using Random = std::mt19937;

static_assert(noexcept(std::declval<const Sampler&>().step(0, {}, {}, {})));
static_assert(noexcept(std::declval<const Sampler&>().guide({}, {})));

std::vector<float> normals(Random& random, std::size_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

/// Betas of a few per cent: there single precision costs nothing and the tolerance can be tight.
std::vector<double> random_betas(Random& random, int steps) {
  std::uniform_real_distribution<double> uniform(0.02, 0.2);
  std::vector<double> betas;
  for (int i = 0; i < steps; ++i) betas.push_back(uniform(random));
  return betas;
}

template <class T>
const T& pick(Random& random, const std::vector<T>& choices) {
  return choices[random() % choices.size()];
}

SamplerSpec random_spec(Random& random) {
  SamplerSpec spec;
  spec.kind = pick<std::string>(random, {"ddpm", "ddim"});
  spec.train_steps = 1 + static_cast<int>(random() % 40);
  spec.inference_steps = 1 + static_cast<int>(random() % static_cast<unsigned>(spec.train_steps));
  spec.beta_schedule = "table";
  spec.betas = random_betas(random, spec.train_steps);
  spec.prediction = pick<std::string>(random, {"epsilon", "sample", "v_prediction"});
  spec.clip_sample = random() % 2 == 0;
  spec.clip_range = pick<double>(random, {0.5, 1.0, 2.0});
  spec.timestep_rule = pick<std::string>(random, {"leading", "trailing", "linspace", "hd_expit"});
  spec.set_alpha_to_one = random() % 2 == 0;
  spec.eta = pick<double>(random, {0.0, 0.5, 0.9});
  return spec;
}

void steps_equal_the_reference() {
  Random random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    const Sampler sampler(random_spec(random));
    const int index = static_cast<int>(random() % sampler.timesteps().size());
    const auto output = normals(random, 13), noise = normals(random, 13), before = normals(random, 13);
    std::vector<float> sample = before;
    sampler.step(index, output, noise, sample);
    for (std::size_t i = 0; i < sample.size(); ++i) {
      const double z = sampler.needs_noise(index) ? noise[i] : 0.0;
      const double wanted = reference_step(sampler, index, output[i], z, before[i]);
      CHECK_NEAR(sample[i], wanted, 2e-5 * (1 + std::abs(wanted)));
    }
  }
}

void a_perfect_denoiser_ends_at_the_clean_sample() {
  Random random(2);
  for (int trial = 0; trial < 300; ++trial) {
    SamplerSpec spec = random_spec(random);
    spec.clip_sample = false;
    spec.set_alpha_to_one = true;
    const Sampler sampler(spec);
    // The fixed stride of diffusers' DDIM can end short of the clean sample, e.g. trailing, 7 of 40 steps.
    if (alpha_bar_after(sampler, spec.inference_steps - 1) != 1) continue;
    const auto clean = normals(random, 5);
    auto sample = normals(random, 5);
    for (std::size_t k = 0; k < sampler.timesteps().size(); ++k) {
      const double alpha_bar = sampler.alphas_cumprod()[static_cast<std::size_t>(sampler.timesteps()[k])];
      std::vector<float> output;
      for (std::size_t i = 0; i < clean.size(); ++i) {
        const double noise = (sample[i] - std::sqrt(alpha_bar) * clean[i]) / std::sqrt(1 - alpha_bar);
        const double v = std::sqrt(alpha_bar) * noise - std::sqrt(1 - alpha_bar) * clean[i];
        const double target = spec.prediction == "sample" ? clean[i] : v;
        output.push_back(static_cast<float>(spec.prediction == "epsilon" ? noise : target));
      }
      sampler.step(static_cast<int>(k), output, normals(random, 5), sample);
    }
    for (std::size_t i = 0; i < clean.size(); ++i) CHECK_NEAR(sample[i], clean[i], 2e-5);
  }
}

void timesteps_of_every_rule() {
  const auto times = [](const char* rule, int train, int count, int offset = 0) {
    SamplerSpec spec;
    spec.timestep_rule = rule;
    spec.train_steps = train;
    spec.inference_steps = count;
    spec.steps_offset = offset;
    return Sampler(spec).timesteps();
  };
  using Times = std::vector<int>;
  CHECK(times("leading", 100, 4) == (Times{75, 50, 25, 0}));
  CHECK(times("leading", 100, 3, 1) == (Times{67, 34, 1}));
  CHECK(times("trailing", 100, 4) == (Times{99, 74, 49, 24}));
  CHECK(times("trailing", 100, 8) == (Times{99, 87, 74, 61, 49, 37, 24, 11}));  // 87.5 and 62.5 round to even
  CHECK(times("linspace", 100, 4) == (Times{99, 66, 33, 0}));
  CHECK(times("linspace", 100, 3) == (Times{99, 50, 0}));  // 49.5 rounds to even
  CHECK(times("linspace", 100, 1) == Times{0});
  CHECK(times("hd_expit", 100, 4) == (Times{99, 74, 49, 24}));
  CHECK(times("hd_expit", 100, 3) == (Times{99, 65, 32}));  // 65.67 and 32.33 are cut
  for (const char* rule : {"leading", "trailing", "linspace", "hd_expit"}) {
    for (int train = 1; train <= 120; ++train) {
      for (int count = 1; count <= train; ++count) {
        const Times visited = times(rule, train, count);
        bool good =
            static_cast<int>(visited.size()) == count && visited.front() < train && visited.back() >= 0;
        for (std::size_t i = 1; i < visited.size(); ++i) good &= visited[i] < visited[i - 1];
        CHECK(good);
      }
    }
  }
}

void beta_schedules() {
  const auto first_and_last = [](const char* schedule) {
    SamplerSpec spec;
    spec.beta_schedule = schedule;
    const auto alpha_bars = Sampler(spec).alphas_cumprod();
    return std::pair{1 - alpha_bars.front(), 1 - alpha_bars.back() / alpha_bars[alpha_bars.size() - 2]};
  };
  CHECK_NEAR(first_and_last("linear").first, 1e-4, 1e-7);
  CHECK_NEAR(first_and_last("linear").second, 0.02, 1e-6);
  CHECK_NEAR(first_and_last("scaled_linear").first, 1e-4, 1e-7);
  CHECK_NEAR(first_and_last("scaled_linear").second, 0.02, 1e-6);
  CHECK_NEAR(first_and_last("squaredcos_cap_v2").second, 0.999, 1e-6);  // the cap
  const Sampler cosine{SamplerSpec{}};
  const auto alpha_bar = [](double t) {
    return std::pow(std::cos((t + 0.008) / 1.008 * std::acos(-1) / 2), 2);
  };
  for (int t = 0; t < 99; ++t) {
    CHECK_NEAR(cosine.alphas_cumprod()[static_cast<std::size_t>(t)],
               alpha_bar((t + 1) / 100.0) / alpha_bar(0), 2e-6);
  }
}

void noise_is_needed_exactly_where_there_is_variance() {
  SamplerSpec spec;
  for (int k = 0; k < 10; ++k) CHECK(!Sampler(spec).needs_noise(k));
  spec.eta = 0.5;
  for (int k = 0; k < 10; ++k) CHECK(Sampler(spec).needs_noise(k) == (k < 9));
  spec.kind = "ddpm";
  for (const char* rule : {"leading", "trailing", "linspace", "hd_expit"}) {
    spec.timestep_rule = rule;
    for (int k = 0; k < 10; ++k) CHECK(Sampler(spec).needs_noise(k) == (k < 9));
  }
}

void non_finite_outputs_are_never_clipped_away() {
  Random random(3);
  const float inf = std::numeric_limits<float>::infinity();
  for (int trial = 0; trial < 500; ++trial) {
    SamplerSpec spec = random_spec(random);
    spec.clip_sample = true;
    const Sampler sampler(spec);
    for (const float bad : {inf, -inf, std::numeric_limits<float>::quiet_NaN()}) {
      std::vector<float> sample = {0.5f, 0.5f};
      for (std::size_t k = 0; k < sampler.timesteps().size(); ++k) {
        const std::vector<float> output = {k == 0 ? bad : 0.1f, 0.1f};
        sampler.step(static_cast<int>(k), output, std::vector<float>{0.2f, 0.2f}, sample);
      }
      CHECK(!std::isfinite(sample[0]));
      CHECK(std::isfinite(sample[1]));
    }
  }
}

void guidance_extrapolates() {
  SamplerSpec spec;
  spec.guidance = 3;
  std::vector<float> conditional = {1.0f, -2.0f};
  Sampler(spec).guide(conditional, std::vector<float>{0.5f, 1.0f});
  CHECK(conditional == (std::vector<float>{4 * 1.0f - 3 * 0.5f, 4 * -2.0f - 3 * 1.0f}));
}

template <class Change>
std::string refusal(Change change) {
  SamplerSpec spec;
  change(spec);
  try {
    validate(spec);
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "accepted";
}

void bad_fields_are_named() {
  const auto named = [](const std::string& field, auto change) {
    const std::string message = refusal(change);
    CHECK(message.starts_with(field) && message.find("expected") != std::string::npos);
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  named("kind", [](SamplerSpec& s) { s.kind = "pndm"; });
  named("prediction", [](SamplerSpec& s) { s.prediction = "v"; });
  named("timestep_rule", [](SamplerSpec& s) { s.timestep_rule = ""; });
  named("beta_schedule", [](SamplerSpec& s) { s.beta_schedule = "cosine"; });
  named("noise", [](SamplerSpec& s) { s.noise = "mt19937"; });
  named("train_steps", [](SamplerSpec& s) { s.train_steps = 0; });
  named("inference_steps", [](SamplerSpec& s) { s.inference_steps = 0; });
  named("inference_steps", [](SamplerSpec& s) { s.inference_steps = 101; });
  named("steps_offset", [](SamplerSpec& s) { s.steps_offset = 10; });  // 90 + 10 is beyond the last step
  named("steps_offset", [](SamplerSpec& s) { s.steps_offset = -1; });
  named("clip_range", [](SamplerSpec& s) { s.clip_range = 0; });
  named("clip_range", [nan](SamplerSpec& s) { s.clip_range = nan; });
  named("eta", [](SamplerSpec& s) { s.eta = 1.5; });
  named("eta", [nan](SamplerSpec& s) { s.eta = nan; });
  named("guidance", [](SamplerSpec& s) { s.guidance = -1; });
  named("betas", [](SamplerSpec& s) { s.betas = {0.1}; });
  named("betas", [](SamplerSpec& s) { s.beta_schedule = "table"; });
  named("betas[99]", [](SamplerSpec& s) {
    s.beta_schedule = "table";
    s.betas.assign(100, 0.01);
    s.betas.back() = 1;
  });
  named("beta_schedule", [](SamplerSpec& s) {  // alpha-bar rounds to 1 in single precision
    s.beta_schedule = "table";
    s.betas.assign(100, 1e-12);
  });
  named("beta_end", [](SamplerSpec& s) {
    s.beta_schedule = "linear";
    s.beta_end = 1e-5;
  });
  CHECK(refusal([](SamplerSpec& s) { s.steps_offset = 9; }) == "accepted");
  SamplerSpec steps;
  steps.inference_steps = 101;
  CHECK_THROWS(ArgumentError, "inference_steps: expected 1..100 (train_steps), got 101", Sampler{steps});
  steps.inference_steps = 0;
  CHECK_THROWS(ArgumentError, "inference_steps: expected an integer in 1..1000000, got 0", Sampler{steps});
}

void other_sizes_give_nan() {
  SamplerSpec spec;
  spec.kind = "ddpm";
  Sampler sampler(spec);
  const std::vector<float> three(3), four(4), none;
  const auto spoiled = [&](int index, const std::vector<float>& output, const std::vector<float>& noise) {
    std::vector<float> sample(4, 0.5f);
    sampler.step(index, output, noise, sample);
    return std::ranges::all_of(sample, [](float value) { return std::isnan(value); });
  };
  for (const int index : {-1, 10, std::numeric_limits<int>::min(), std::numeric_limits<int>::max()}) {
    CHECK(spoiled(index, four, four) && !sampler.needs_noise(index));
  }
  CHECK(spoiled(0, three, four) && spoiled(0, four, three) && spoiled(0, four, none) &&
        spoiled(0, none, four));
  CHECK(!spoiled(0, four, four) && !spoiled(9, four, none));  // the last needs no noise
  std::vector<float> guided(4);
  sampler.guide(guided, three);
  CHECK(std::isnan(guided[0]) && std::isnan(guided[3]));
}

SamplerSpec flow(int steps) {
  SamplerSpec spec;
  spec.kind = "flow_euler";
  spec.prediction = "velocity";
  spec.timestep_rule = "trailing";
  spec.clip_sample = false;
  spec.inference_steps = steps;
  return spec;
}

/// The velocity of a straight line from the noise to the clean sample leads there, whatever the steps.
void a_flow_ends_at_the_clean_sample() {
  for (const int steps : {1, 3, 7, 10, 100}) {
    const Sampler sampler(flow(steps));
    CHECK(sampler.timesteps().front() == 99 && sampler.alphas_cumprod().empty());
    std::vector<float> sample = {3.0f, -2.0f, 0.25f};
    const std::vector<float> clean = {5.0f, 0.5f, -7.0f};  // beyond any clip range
    std::vector<float> velocity(3);
    for (std::size_t i = 0; i < 3; ++i) velocity[i] = sample[i] - clean[i];
    for (int k = 0; k < steps; ++k) {
      CHECK(!sampler.needs_noise(k));
      sampler.step(k, velocity, {}, sample);
    }
    for (std::size_t i = 0; i < 3; ++i) CHECK(std::abs(sample[i] - clean[i]) < 1e-5f * steps + 1e-5f);
  }
}

void a_flow_refuses_what_it_has_not() {
  const auto refused = [](const char* message, const auto& change) {
    SamplerSpec spec = flow(10);
    change(spec);
    CHECK_THROWS(ArgumentError, message, Sampler{spec});
  };
  refused("prediction: expected velocity", [](SamplerSpec& s) { s.prediction = "sample"; });
  refused("timestep_rule: expected trailing", [](SamplerSpec& s) { s.timestep_rule = "linspace"; });
  refused("clip_sample: expected false", [](SamplerSpec& s) { s.clip_sample = true; });
  refused("eta: expected 0", [](SamplerSpec& s) { s.eta = 1; });
  refused("prediction: expected epsilon", [](SamplerSpec& s) { s.kind = "ddpm"; });
}

}  // namespace

int main() {
  steps_equal_the_reference();
  a_perfect_denoiser_ends_at_the_clean_sample();
  timesteps_of_every_rule();
  beta_schedules();
  noise_is_needed_exactly_where_there_is_variance();
  non_finite_outputs_are_never_clipped_away();
  guidance_extrapolates();
  bad_fields_are_named();
  other_sizes_give_nan();
  a_flow_ends_at_the_clean_sample();
  a_flow_refuses_what_it_has_not();
  return result();
}
