// Histories, the row that a chunk starts at, depth: what the network sees and what is executed.
#include <cmath>

#include "policy_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

using State = std::vector<float>;

/// The mean of the normalised values of these frames: what the stub makes of the input.
double mean_of(const std::vector<State>& frames) {
  const double mean[] = {1, 2, 3}, deviation[] = {1, 2, 4};
  double sum = 0;
  for (const State& frame : frames) {
    for (std::size_t d = 0; d < frame.size(); ++d) sum += (frame[d] - mean[d]) / deviation[d];
  }
  return sum / static_cast<double>(3 * frames.size());
}

/// Two frames, a chunk for every action.
std::string renewing(const std::string& manifest) {
  return replaced(manifest, "\"execute\": 3", "\"execute\": 1");
}

std::vector<double> wanted(const Policy& policy, const std::vector<State>& frames, std::uint32_t chunk) {
  // The task "push" is number 1.
  return predicted(*policy.runtime->bundle().sampler, mean_of(frames) + 1, {7, 1, chunk, 0});
}

void check_chunk(const Policy& policy, const State& newest, const std::vector<State>& frames,
                 std::uint32_t next) {
  std::vector<float> chunk(kChunk);
  CHECK(policy.runtime->predict_chunk(seen(newest), {}, chunk) == Status::ok);
  const auto right = wanted(policy, frames, next);
  for (std::size_t i = 0; i < kChunk; ++i) CHECK_NEAR(chunk[i], right[i], 1e-5);
}

const State kA = {1, 2, 3}, kB = {2, 0, 5}, kC = {0, 1, -1}, kD = {4, 4, 4};

void the_network_sees_the_last_frames() {
  Policy policy(renewing(with_history(kManifest)));
  for (int episode = 0; episode < 2; ++episode) {
    policy.reset();
    check_chunk(policy, kD, {kD, kD}, 0);  // nothing was seen yet
    CHECK(policy.runtime->tick(seen(kA), policy.action) == Status::ok);
    check_action(policy.action, wanted(policy, {kA, kA}, 0), 0);  // the first stands for all before it
    CHECK(policy.runtime->tick(seen(kB), policy.action) == Status::ok);
    check_action(policy.action, wanted(policy, {kA, kB}, 1), 0);
    check_chunk(policy, kD, {kB, kD}, 2);  // and is forgotten
    check_chunk(policy, kC, {kB, kC}, 2);
    CHECK(policy.runtime->tick(seen(kC), policy.action) == Status::ok);
    check_action(policy.action, wanted(policy, {kB, kC}, 2), 0);
  }
}

void every_accepted_frame_counts_and_no_other() {
  Policy policy(with_history(kManifest));  // a chunk lasts for 3 actions
  policy.reset();
  for (const State& state : {kA, kB, kC}) {
    CHECK(policy.runtime->tick(seen(state), policy.action) == Status::ok);
  }
  const State nan = {1, std::nanf(""), 3};
  CHECK(policy.runtime->tick(seen(nan), policy.action) == Status::bad_observation);
  CHECK(policy.runtime->tick(seen(kD).at(now_us() + 60'000'000), policy.action) == Status::bad_observation);
  CHECK(policy.runtime->tick(seen(kD), policy.action) == Status::ok);
  check_action(policy.action, wanted(policy, {kC, kD}, 1), 0);
}

/// A longer history than ticks, then more ticks than history.
void longer_histories() {
  std::string manifest =
      replaced(with_history(kManifest), "\"shape\": [3], \"history\": 2", "\"shape\": [3], \"history\": 5");
  manifest = replaced(manifest, "[1, 2, 3], \"role\"", "[1, 5, 3], \"role\"");
  Policy policy(renewing(manifest));
  policy.reset();
  std::vector<State> frames;
  for (std::uint32_t tick = 0; tick < 14; ++tick) {
    const auto value = static_cast<float>(tick * tick % 7);
    const State state = {value, 1 - value, 2};
    if (frames.empty()) frames.assign(5, state);
    frames.erase(frames.begin());
    frames.push_back(state);
    CHECK(policy.runtime->tick(seen(state), policy.action) == Status::ok);
    check_action(policy.action, wanted(policy, frames, tick), 0);
  }
}

/// Of images the bytes are kept, at the feature's own size; a vector beside them has a history of its own.
void images_have_a_history() {
  std::string camera = replaced(kCamera, "\"history\": 1", "\"history\": 3");
  camera = replaced(camera, "\"resize\": false", "\"resize\": true");
  Policy policy(renewing(with_feature(
      kManifest, camera,
      R"({"name": "image", "dtype": "float32", "shape": [1, 3, 3, 2, 3], "role": "observation.images.static"})")));
  policy.reset();
  std::vector<double> before;
  std::vector<std::uint8_t> pixels(4 * 6 * 3);
  for (std::uint32_t tick = 0; tick < 5; ++tick) {
    const auto grey = static_cast<std::uint8_t>(50 * tick);
    std::ranges::fill(pixels, grey);  // the caller's memory is the caller's
    const double value = grey / 255.0, mean = ((value - 0.5) / 0.5 + value + value) / 3;
    if (before.empty()) before.assign(3, mean);
    before.erase(before.begin());
    before.push_back(mean);
    const bool large = tick % 2 == 1;
    const FeatureView image(pixels.data(), large ? 4 : 2, large ? 6 : 3);
    CHECK(policy.runtime->tick(seen(kState, image), policy.action) == Status::ok);
    const double bias = kStateMean + 1 + (before[0] + before[1] + before[2]) / 3;
    check_action(policy.action, predicted(*policy.runtime->bundle().sampler, bias, {7, 1, tick, 0}), 0);
  }
}

void chunks_start_at_their_row() {
  Policy policy(replaced(kManifest, "\"execute\": 3, \"start\": 0", "\"execute\": 2, \"start\": 2"));
  policy.reset();
  std::vector<float> all(kChunk);
  for (std::uint32_t chunk = 0; chunk < 3; ++chunk) {
    const auto right = wanted(policy, {kState}, chunk);
    CHECK(policy.runtime->predict_chunk(seen(kState), {}, all) == Status::ok);
    for (std::size_t i = 0; i < kChunk; ++i) CHECK_NEAR(all[i], right[i], 1e-5);
    for (std::size_t row = 2; row < 4; ++row) {
      CHECK(policy.tick() == Status::ok);
      check_action(policy.action, right, row);
    }
  }
}

void depth_reaches_the_engine() {
  Policy policy(with_depth(kManifest));
  policy.reset();
  std::vector<float> metres(2 * 4);
  double bias = kStateMean + 1;
  for (std::size_t i = 0; i < metres.size(); ++i) {
    metres[i] = 0.25f * static_cast<float>(i);
    bias += (metres[i] - 1.0) / 8;  // 0..2 m to -1..1
  }
  CHECK(policy.runtime->tick(seen(kState, FeatureView(metres.data(), 2, 4)), policy.action) == Status::ok);
  check_action(policy.action, predicted(*policy.runtime->bundle().sampler, bias, {7, 1, 0, 0}), 0);

  const auto refused = [&](const FeatureView& depth, const std::string& message) {
    CHECK(policy.runtime->tick(seen(kState, depth), policy.action) == Status::bad_observation);
    CHECK(policy.runtime->last_error() == "observation.depth.wrist" + message);
  };
  refused(FeatureView(metres.data(), 4, 2), ": expected 2 x 4 values, got 4 x 2 values");
  refused(FeatureView(metres), ": expected 2 x 4 values, got 8");
  const std::vector<std::uint8_t> bytes(2 * 4 * 3);
  refused(FeatureView(bytes.data(), 2, 4), ": expected float32, got uint8");
  refused({}, ": expected 2 x 4 values, got no data");
  metres[6] = std::numeric_limits<float>::infinity();
  refused(FeatureView(metres.data(), 2, 4), "[1, 2]: expected a finite value, got inf");
  CHECK(policy.tick() == Status::bad_observation);
  CHECK(policy.runtime->last_error() ==
        "observation: expected 2 features (observation.state, observation.depth.wrist), got 1");
}

}  // namespace

int main() {
  the_network_sees_the_last_frames();
  every_accepted_frame_counts_and_no_other();
  longer_histories();
  images_have_a_history();
  chunks_start_at_their_row();
  depth_reaches_the_engine();
  return result();
}
