// The loop over the stub engine, whose graphs are closed forms: every action is predicted here by hand.
#include <atomic>
#include <thread>

#include "bundle_fixture.hpp"
#include "check.hpp"
#include "keystep/keystep.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr std::size_t kHorizon = 4, kDim = 2, kChunk = kHorizon * kDim;
const std::vector<float> kState = {1.5f, 2.5f, 5.0f};  // normalised: 0.5, 0.25, 0.5
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
  Status tick() { return runtime->tick({.state = kState}, action); }
  void reset(std::uint64_t seed = 7, std::uint32_t episode = 1) {
    runtime->reset({"push", {}, seed, episode});
  }

  TemporaryFolder folder;
  std::unique_ptr<Runtime> runtime;
  Action action;
};

/// The chunk the stub's closed forms give, by the public sampler and noise. `bias` and `null_bias`: the
/// condition of the two branches.
std::vector<double> predicted(const SamplerSpec& spec, double bias, NoiseKey key, double null_bias = 0) {
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

void check_action(const Action& action, const std::vector<double>& chunk, std::size_t row) {
  for (std::size_t d = 0; d < kDim; ++d) CHECK_NEAR(action.values[d], chunk[row * kDim + d], 1e-5);
}

bool holds(const Policy& policy) { return policy.action.values == policy.runtime->bundle().action.hold; }

// ---- the loop

void follows_the_closed_form(const std::string& manifest) {
  Policy policy(manifest);
  policy.reset();
  const SamplerSpec& spec = policy.runtime->bundle().sampler;
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

void one_graph_form() {
  Policy policy(guided_one_graph(kManifest, 2));
  policy.reset();
  std::vector<float> noise(kChunk);
  fill_normal({7, 1, 0, 0}, noise);
  CHECK(policy.tick() == Status::ok);
  const double bias = kStateMean + 1;  // the guided condition's row 0
  CHECK_NEAR(policy.action.values[0], (0.5 * noise[0] + bias + 1) / 2 * 4 - 2, 1e-5);
  CHECK_NEAR(policy.action.values[1], (0.5 * noise[1] + bias + 1) / 2 * 10, 1e-5);
}

void inference_steps_are_an_option() {
  Policy policy(kManifest, {}, {.inference_steps = 5});
  policy.reset();
  SamplerSpec spec = policy.runtime->bundle().sampler;
  spec.inference_steps = 5;
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(spec, kStateMean + 1, {7, 1, 0, 0}), 0);
  CHECK_THROWS(ArgumentError, "inference_steps: expected", Policy(kManifest, {}, {.inference_steps = 11}));
  CHECK_THROWS(ArgumentError, "inference_steps: expected", Policy(kManifest, {}, {.inference_steps = -1}));
  CHECK_THROWS(ArgumentError, "inference_steps: expected 3 (unrolled",
               Policy(one_graph(kManifest), {}, {.inference_steps = 2}));
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
  const std::vector<std::uint8_t> pixels(2 * 3 * 3, 255), dark(2 * 3 * 3, 0);
  const ImageView image{pixels.data(), 2, 3}, black{dark.data(), 2, 3};
  policy.runtime->reset({"lift", Observation{.state = kState, .images = {&black, 1}}, 7, 1});
  CHECK(policy.runtime->tick({.state = kState, .images = {&image, 1}}, policy.action) == Status::ok);
  // White: (1 - 0.5) / 0.5, 1, 1 by channel; black: -1, 0, 0. The stub adds up the means of all inputs.
  const double bias = 2 * kStateMean + 1 - 1.0 / 3;
  check_action(policy.action, predicted(policy.runtime->bundle().sampler, bias, {7, 1, 0, 0}), 0);

  CHECK_THROWS(ArgumentError, "goal: expected a goal observation, got none",
               policy.runtime->reset({"lift", {}, 0, 0}));
  CHECK_THROWS(ArgumentError, "goal.images: expected 1 images, got 0",
               policy.runtime->reset({"lift", Observation{.state = kState}, 0, 0}));
  const ImageView small{pixels.data(), 1, 3};
  CHECK(policy.runtime->tick({.state = kState, .images = {&small, 1}}, policy.action) ==
        Status::bad_observation);
  CHECK(policy.runtime->last_error() ==
        "observation.images.static: expected 2 x 3 x 3 bytes, got 1 x 3 x 3 bytes");
  const ImageView missing{nullptr, 2, 3};
  CHECK(policy.runtime->tick({.state = kState, .images = {&missing, 1}}, policy.action) ==
        Status::bad_observation);
}

void predict_chunk_changes_nothing() {
  Policy policy, other;
  policy.reset();
  other.reset();
  std::vector<float> chunk(kChunk), noise(kChunk);
  fill_normal({99, 0, 0, 0}, noise);
  for (int i = 0; i < 10; ++i) {
    CHECK(policy.runtime->predict_chunk({.state = kState}, noise, chunk) == Status::ok);
    const auto wanted = predicted(policy.runtime->bundle().sampler, kStateMean + 1, {99, 0, 0, 0});
    for (std::size_t k = 0; k < kChunk; ++k) CHECK_NEAR(chunk[k], wanted[k], 1e-5);
    CHECK(policy.tick() == Status::ok && other.tick() == Status::ok);
    CHECK(policy.action.values == other.action.values);
  }
  CHECK(policy.runtime->latency().stages[static_cast<int>(Stage::encode)].count == 4);
  CHECK(policy.runtime->predict_chunk({.state = kState}, std::span(noise).first(3), chunk) ==
        Status::bad_observation);
  CHECK(policy.runtime->last_error() == "noise: expected 8 values, got 3");
}

void takes_step_noise_from_the_caller() {
  Policy policy(replaced(kManifest, "\"ddim\"", "\"ddpm\""));
  policy.reset();
  std::vector<float> chunk(kChunk), noise(3 * kChunk);  // initial, and two of three steps
  for (std::uint32_t step = 0; step < 3; ++step) {
    fill_normal({5, 6, 7, step}, std::span(noise).subspan(step * kChunk, kChunk));
  }
  CHECK(policy.runtime->predict_chunk({.state = kState}, noise, chunk) == Status::ok);
  const auto wanted = predicted(policy.runtime->bundle().sampler, kStateMean + 1, {5, 6, 7, 0});
  for (std::size_t k = 0; k < kChunk; ++k) CHECK_NEAR(chunk[k], wanted[k], 1e-5);
}

// ---- what goes wrong

void refuses_bad_observations() {
  Policy policy;
  CHECK(policy.tick() == Status::not_reset && holds(policy));
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  const std::vector<float> two = {1, 2}, nan = {1, std::nanf(""), 3};
  CHECK(policy.runtime->tick({.state = two}, policy.action) == Status::bad_observation && holds(policy));
  CHECK(policy.runtime->last_error() == "observation.state: expected 3 values, got 2");
  CHECK(policy.runtime->tick({.state = nan}, policy.action) == Status::bad_observation);
  CHECK(policy.runtime->last_error() == "observation.state[1] (y): expected a finite value, got nan");
  CHECK(policy.tick() == Status::ok);  // the second action of the same chunk
  check_action(policy.action, predicted(policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 0, 0}), 1);
}

void refuses_stale_observations() {
  Policy policy(kManifest, {}, {.max_observation_age_us = 50'000});
  policy.reset();
  CHECK(policy.runtime->tick({.state = kState, .timestamp_us = now_us() - 60'000}, policy.action) ==
        Status::stale_observation);
  CHECK(holds(policy) && policy.runtime->latency().gate.stale_observations == 1);
  CHECK(policy.tick() == Status::ok);  // not stamped
  CHECK(policy.runtime->tick({.state = kState, .timestamp_us = now_us() + 1'000'000}, policy.action) ==
        Status::ok);
}

void survives_nan_and_failure() {
  Policy policy(kManifest, {{"stub.nan_at_run", "5"}, {"stub.fail_at_run", "9"}});  // 3 runs a chunk
  policy.reset();
  for (int i = 0; i < 3; ++i) CHECK(policy.tick() == Status::ok);
  CHECK(policy.tick() == Status::rejected_chunk && holds(policy));
  CHECK(policy.runtime->latency().gate.rejected_chunks == 1);
  CHECK(policy.tick() == Status::engine_failure && holds(policy));
  CHECK(policy.runtime->last_error() == "stub.fail_at_run 9");
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 3, 0}), 0);
}

void refuses_wrong_episodes() {
  Policy policy;
  CHECK_THROWS(ArgumentError, "task: expected one of lift, push, got 'fly'",
               policy.runtime->reset({"fly", {}, 0, 0}));
  CHECK_THROWS(ArgumentError, "task: expected one of lift, push, got none",
               policy.runtime->reset({"", {}, 0, 0}));
  CHECK_THROWS(ArgumentError, "goal: expected none",
               policy.runtime->reset({"lift", Observation{.state = kState}, 0, 0}));
  policy.runtime->reset({"Push it.", {}, 7, 1});
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 0, 0}), 0);
  CHECK_THROWS(ArgumentError, "'fly'", policy.runtime->reset({"fly", {}, 0, 0}));  // the episode goes on
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(policy.runtime->bundle().sampler, kStateMean + 1, {7, 1, 0, 0}), 1);
}

void abbreviates_long_task_lists() {
  std::string tasks;
  for (int i = 0; i < 30; ++i) {
    const std::string name = "t" + std::to_string(i);
    tasks += (i ? ", " : "") + ("{\"name\": \"" + name + "\", \"instruction\": \"" + name + "\"}");
  }
  const auto from = kManifest.find("[{\"name\": \"lift\""), to = kManifest.find("]", from);
  Policy policy(std::string(kManifest).replace(from, to - from + 1, "[" + tasks + "]"));
  CHECK_THROWS(ArgumentError, "t18, t19 and 10 more, got 'x'", policy.runtime->reset({"x", {}, 0, 0}));
}

void refuses_use_after_close() {
  Policy policy;
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  policy.runtime->close();
  policy.runtime->close();
  policy.runtime->interrupt();
  CHECK(policy.tick() == Status::closed && holds(policy));
  std::vector<float> chunk(kChunk);
  CHECK(policy.runtime->predict_chunk({.state = kState}, {}, chunk) == Status::closed);
  CHECK_THROWS(Error, "closed", policy.reset());
  CHECK(policy.runtime->bundle().name == "test" &&
        policy.runtime->engine_description() == "stub, cpu, 1 thread");
}

void refuses_wrong_options() {
  CHECK_THROWS(ArgumentError, "deadline_us: expected", Policy(kManifest, {}, {.deadline_us = -1}));
  CHECK_THROWS(ArgumentError, "max_observation_age_us: expected",
               Policy(kManifest, {}, {.max_observation_age_us = -1}));
  CHECK_THROWS(ArgumentError, "threads: expected", Policy(kManifest, {}, {.engine = {.threads = -1}}));
  CHECK_THROWS(ArgumentError, "provider_options: expected", Policy(kManifest, {{"stub.x", "1"}}));
  CHECK_THROWS(ArgumentError, "provider_options.stub.sleep_us: expected",
               Policy(kManifest, {{"stub.sleep_us", "1s"}}));
}

// ---- interrupts and threads

void interrupt_drops_the_rest() {
  Policy policy;
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  policy.runtime->interrupt();
  CHECK(policy.tick() == Status::ok);
  const auto& spec = policy.runtime->bundle().sampler;
  check_action(policy.action, predicted(spec, kStateMean + 1, {7, 1, 1, 0}), 0);
  CHECK(policy.runtime->latency().interrupts == 1 && policy.runtime->latency().chunks == 2);
  policy.runtime->interrupt();
  policy.reset();  // a new episode starts clean, with its first chunk
  CHECK(policy.tick() == Status::ok);
  check_action(policy.action, predicted(spec, kStateMean + 1, {7, 1, 0, 0}), 0);
  policy.runtime->reset_latency();
  CHECK(policy.runtime->latency().interrupts == 0 && policy.runtime->latency().actions == 0);
}

void interrupt_aborts_a_sample_in_flight() {
  Policy policy(kManifest, {{"stub.sleep_us", "1000000000"}});  // without the abort this test never ends
  policy.reset();
  for (int round = 0; round < 3; ++round) {
    std::atomic<bool> done = false;
    Status status = Status::ok;
    std::thread loop([&] {
      status = policy.tick();
      done = true;
    });
    while (!done) {
      policy.runtime->interrupt();
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    loop.join();
    CHECK(status == Status::interrupted && holds(policy));
  }
  CHECK(policy.runtime->latency().chunks == 0);
}

void close_aborts_a_sample_in_flight() {
  Policy policy(kManifest, {{"stub.sleep_us", "1000000000"}});
  policy.reset();
  Status status = Status::ok;
  std::thread loop([&] { status = policy.tick(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  policy.runtime->close();
  loop.join();
  CHECK(status == Status::interrupted || status == Status::closed);
}

void a_second_thread_is_told_busy() {
  Policy policy(kManifest, {{"stub.sleep_us", "2000"}});
  bool refused = false;
  for (int round = 0; round < 100 && !refused; ++round) {
    policy.reset();
    Action mine = policy.runtime->make_action(), theirs = policy.runtime->make_action();
    Status first = Status::closed, second = Status::closed;
    std::thread loop([&] { first = policy.runtime->tick({.state = kState}, theirs); });
    second = policy.runtime->tick({.state = kState}, mine);
    loop.join();
    CHECK(first == Status::ok || second == Status::ok);
    CHECK(first == Status::ok || first == Status::busy);
    CHECK(second == Status::ok || second == Status::busy);
    refused = first == Status::busy || second == Status::busy;
    if (second == Status::busy) CHECK(mine.values == policy.runtime->bundle().action.hold);
  }
  CHECK(refused);
}

void counts_deadline_misses() {
  Policy policy(kManifest, {{"stub.sleep_us", "100"}}, {.deadline_us = 50});
  policy.reset();
  CHECK(policy.tick() == Status::ok);
  CHECK(policy.runtime->latency().deadline_misses == 1);
}

}  // namespace

int main() {
  follows_the_closed_form(kManifest);
  follows_the_closed_form(guided(kManifest, 1.5));
  follows_the_closed_form(replaced(kManifest, "\"ddim\"", "\"ddpm\""));
  follows_the_closed_form(replaced(kManifest, "\"eta\": 0.0", "\"eta\": 0.7"));
  one_graph_form();
  inference_steps_are_an_option();
  bounds_actions();
  images_and_goals_reach_the_engine();
  predict_chunk_changes_nothing();
  takes_step_noise_from_the_caller();
  refuses_bad_observations();
  refuses_stale_observations();
  survives_nan_and_failure();
  refuses_wrong_episodes();
  abbreviates_long_task_lists();
  refuses_use_after_close();
  refuses_wrong_options();
  interrupt_drops_the_rest();
  interrupt_aborts_a_sample_in_flight();
  close_aborts_a_sample_in_flight();
  a_second_thread_is_told_busy();
  counts_deadline_misses();
  return result();
}
