// The loop over the stub engine: every action is predicted by hand.
#include "policy_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

void follows_the_closed_form(const std::string& manifest) {
  Policy policy(manifest);
  policy.reset();
  const SamplerSpec& spec = *policy.runtime->bundle().sampler;
  for (std::uint32_t chunk = 0; chunk < 3; ++chunk) {
    const auto wanted = predicted(spec, kStateMean + 1, {7, 1, chunk, 0});  // task 1: "push"
    for (std::size_t row = 0; row < 3; ++row) {                             // execute 3 of 4
      CHECK(policy.tick() == Status::ok);
      check_action(policy.action, wanted, row);
    }
  }
  const LatencyReport report = policy.runtime->latency();
  CHECK(report.actions == 9 && report.chunks == 3);
  CHECK(report.stages[static_cast<int>(Stage::tick)].count == 9);
  CHECK(report.stages[static_cast<int>(Stage::denoise)].count == 3);
  CHECK(report.time_per_action_us > 0 && report.deadline_us == 2e4);
}

/// FiLM as a graph of its own is the same computation, bit for bit, in the same stages.
void film_apart_changes_nothing(const std::string& whole, const std::string& split) {
  Policy policy(whole), other(split);
  policy.reset();
  other.reset();
  for (int i = 0; i < 7; ++i) {
    CHECK(policy.tick() == Status::ok && other.tick() == Status::ok);
    CHECK(policy.action.values == other.action.values);
  }
  CHECK(other.runtime->latency().stages[static_cast<int>(Stage::encode)].count == 3);
  CHECK(policy.runtime->engine_choices().size() == 2 && other.runtime->engine_choices().size() == 3);
  const EngineChoice& film = other.runtime->engine_choices()[1];
  CHECK(film.file == "film.onnx" && film.engine == "stub" && film.reason == "engine: stub");
}

void inference_steps_are_an_option() {
  Policy policy(kManifest, {}, {.inference_steps = 5});
  policy.reset();
  SamplerSpec spec = *policy.runtime->bundle().sampler;
  spec.inference_steps = 5;
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(spec, kStateMean + 1, {7, 1, 0, 0}), 0);
  CHECK_THROWS(ArgumentError, "inference_steps: expected", Policy(kManifest, {}, {.inference_steps = 11}));
  CHECK_THROWS(ArgumentError, "inference_steps: expected", Policy(kManifest, {}, {.inference_steps = -1}));
}

void bounds_actions() {
  Policy policy(replaced(replaced(kManifest, "[-100, -100]", "[-0.01, 0]"), "[100, 100]", "[0.01, 1]"));
  policy.reset();
  for (int i = 0; i < 30; ++i) {
    CHECK(policy.tick() == Status::ok);
    CHECK(std::abs(policy.action.values[0]) <= 0.01f && policy.action.values[1] <= 1);
  }
  CHECK(policy.runtime->latency().gate.bounded_values > 0);
}

void images_and_goals_reach_the_engine() {
  Policy policy(with_camera_and_goal(kManifest));
  std::vector<std::uint8_t> pixels(2 * 3 * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = i % 3 == 0 ? 255 : i % 3 == 2 ? 51 : 0;
  const std::vector<std::uint8_t> dark(pixels.size(), 0);
  const FeatureView image(pixels.data(), 2, 3), black(dark.data(), 2, 3);
  policy.runtime->reset({"lift", Observation(seen(kState, black)), 7, 1});
  CHECK(policy.runtime->tick(seen(kState, image), policy.action) == Status::ok);
  // By channel (x / 255 - mean) / std is 1, 0, 0.2, black is -1, 0, 0. The stub adds up the means of all
  // inputs.
  const double bias = 2 * kStateMean + 0.4 - 1.0 / 3;
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, bias, {7, 1, 0, 0}), 0);

  CHECK_THROWS(ArgumentError, "goal: expected a goal observation, got none",
               policy.runtime->reset({"lift", {}, 0, 0}));
  CHECK_THROWS(ArgumentError,
               "goal: expected 2 features (observation.state, observation.images.static), got 1",
               policy.runtime->reset({"lift", Observation(seen(kState)), 0, 0}));
  const FeatureView small(pixels.data(), 1, 3), none(static_cast<const std::uint8_t*>(nullptr), 2, 3);
  CHECK(policy.runtime->tick(seen(kState, small), policy.action) == Status::bad_observation);
  CHECK(policy.runtime->last_error() ==
        "observation.images.static: expected 2 x 3 x 3 bytes, got 1 x 3 x 3 bytes");
  CHECK(policy.runtime->tick(seen(kState, none), policy.action) == Status::bad_observation);
}

void predict_chunk_changes_nothing() {
  Policy policy, other;
  policy.reset();
  other.reset();
  std::vector<float> chunk(kChunk), noise(kChunk);
  fill_normal({99, 0, 0, 0}, noise);
  for (int i = 0; i < 10; ++i) {
    CHECK(policy.runtime->predict_chunk(seen(kState), noise, chunk) == Status::ok);
    const auto wanted = predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {99, 0, 0, 0});
    for (std::size_t k = 0; k < kChunk; ++k) CHECK_NEAR(chunk[k], wanted[k], 1e-5);
    CHECK(policy.tick() == Status::ok && other.tick() == Status::ok);
    CHECK(policy.action.values == other.action.values);
  }
  CHECK(policy.runtime->latency().stages[static_cast<int>(Stage::encode)].count == 4);
  CHECK(policy.runtime->predict_chunk(seen(kState), std::span(noise).first(3), chunk) ==
        Status::bad_observation);
  CHECK(policy.runtime->last_error() == "noise: expected 8 values, got 3");
  CHECK(policy.runtime->predict_chunk(seen(kState), noise, std::span(chunk).first(3)) ==
        Status::bad_observation);
  CHECK(policy.runtime->last_error() == "chunk: expected 8 values, got 3");
}

void takes_step_noise_from_the_caller() {
  Policy policy(replaced(kManifest, "\"ddim\"", "\"ddpm\""));
  policy.reset();
  std::vector<float> chunk(kChunk), noise(3 * kChunk);  // initial, and two of three steps
  for (std::uint32_t step = 0; step < 3; ++step) {
    fill_normal({5, 6, 7, step}, std::span(noise).subspan(step * kChunk, kChunk));
  }
  CHECK(policy.runtime->predict_chunk(seen(kState), noise, chunk) == Status::ok);
  const auto wanted = predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {5, 6, 7, 0});
  for (std::size_t k = 0; k < kChunk; ++k) CHECK_NEAR(chunk[k], wanted[k], 1e-5);
}

/// ACT, Algorithm 2, slowly: the mean of all chunks since the last interrupt that know the action of now.
void averages_the_chunks_that_know_an_action(const RuntimeOptions& options, double decay) {
  Policy policy(ensembled(kManifest), {}, options);
  policy.reset();
  std::vector<std::vector<double>> chunks;
  for (std::uint32_t tick = 0; tick < 12; ++tick) {
    if (tick == 7) {
      policy.runtime->interrupt();
      chunks.clear();
    }
    chunks.push_back(predicted(*policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, tick, 0}));
    if (chunks.size() > kHorizon) chunks.erase(chunks.begin());
    std::vector<double> mean(kDim);
    double total = 0;
    for (std::size_t i = 0; i < chunks.size(); ++i) {  // 0: the oldest
      const double weight = std::exp(-decay * static_cast<double>(i));
      const std::size_t row = chunks.size() - 1 - i;
      for (std::size_t d = 0; d < kDim; ++d) mean[d] += weight * chunks[i][row * kDim + d];
      total += weight;
    }
    for (double& value : mean) value /= total;
    CHECK(policy.tick() == Status::ok);
    check_action(policy.action, mean, 0);
  }
  CHECK(policy.runtime->latency().chunks == 12);
}

void lockstep_averages_as_the_bundle_or_the_caller_says() {
  averages_the_chunks_that_know_an_action({}, 0.3);
  averages_the_chunks_that_know_an_action({.async = {.ensemble_decay = -0.2}}, -0.2);
  averages_the_chunks_that_know_an_action({.async = {.merge = "temporal_ensemble"}}, 0.3);
  Policy each(ensembled(kManifest), {}, {.async = {.merge = "replace"}});
  each.reset();
  for (std::uint32_t tick = 0; tick < 3; ++tick) {
    CHECK(each.tick() == Status::ok);
    const SamplerSpec& spec = *each.runtime->bundle().sampler;
    check_action(each.action, predicted(spec, kStateMean + 1, {7, 1, tick, 0}), 0);
  }
}

/// Chunks from before somebody else took actions are of other indices: no tick averages them.
void what_was_served_is_not_averaged() {
  Policy policy(ensembled(kManifest));
  policy.reset();
  CHECK(policy.tick() == Status::ok && policy.tick() == Status::ok);
  std::vector<float> rows(kChunk);
  ServedChunk served;
  const ChunkRequest request{.consumed = 9};
  const auto view = seen(kState);
  const Observation frames[] = {view};
  CHECK(policy.runtime->serve_chunk(frames, request, rows, served) == Status::ok);
  CHECK(policy.tick() == Status::ok);
  const SamplerSpec& spec = *policy.runtime->bundle().sampler;
  check_action(policy.action, predicted(spec, kStateMean + 1, {7, 1, 3, 0}), 0);
}

}  // namespace

int main() {
  what_was_served_is_not_averaged();
  lockstep_averages_as_the_bundle_or_the_caller_says();
  follows_the_closed_form(kManifest);
  follows_the_closed_form(guided(kManifest, 1.5));
  follows_the_closed_form(replaced(kManifest, "\"ddim\"", "\"ddpm\""));
  follows_the_closed_form(replaced(kManifest, "\"eta\": 0.0", "\"eta\": 0.7"));
  const std::string split = with_film(kManifest);
  film_apart_changes_nothing(kManifest, split);
  film_apart_changes_nothing(guided(kManifest, 2),
                             two_rows(replaced(split, "\"guidance\": 0.0", "\"guidance\": 2.0"),
                                      {"condition", "condition", "film", "noisy", "film", "eps"}));
  inference_steps_are_an_option();
  bounds_actions();
  images_and_goals_reach_the_engine();
  predict_chunk_changes_nothing();
  takes_step_noise_from_the_caller();
  return result();
}
