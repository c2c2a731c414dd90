// A chunk that continues the one before, through the runtime: what is kept, what is refused, and that nothing
// else of an episode changes.
#include <limits>

#include "policy_fixture.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

using Rule = Continuation::Rule;

std::vector<float> predicted_chunk(Policy& policy, const Continuation& continuation = {}) {
  std::vector<float> chunk(kChunk);
  std::string message;
  CHECK(policy.runtime->predict_chunk(seen(kState), {}, chunk, &message, continuation) == Status::ok);
  CHECK(message.empty());
  return chunk;
}

const std::vector<float> kOld = {0.5f, 4.0f, 0.6f, 4.5f, 0.7f, 5.0f, 0.8f, 5.5f};

void rows_below_the_delay_are_the_old_ones() {
  Policy policy;
  policy.reset();
  const std::vector<float> alone = predicted_chunk(policy);
  for (int delay = 0; delay <= static_cast<int>(kHorizon); ++delay) {
    for (std::size_t rows = 0; rows <= kHorizon; ++rows) {
      const auto chunk = predicted_chunk(policy, {.previous = std::span(kOld).first(rows * kDim),
                                                  .delay = delay,
                                                  .overlap = delay,
                                                  .rule = Rule::x0blend});
      const std::size_t kept = std::min(static_cast<std::size_t>(delay), rows) * kDim;
      CHECK(std::equal(chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(kept), kOld.begin()));
      // The stub's rows do not see each other: what is not continued is made as ever, bit for bit.
      CHECK(std::equal(chunk.begin() + static_cast<std::ptrdiff_t>(kept), chunk.end(),
                       alone.begin() + static_cast<std::ptrdiff_t>(kept)));
    }
  }
}

void between_it_falls() {
  Policy policy;
  policy.reset();
  const std::vector<float> alone = predicted_chunk(policy);
  const auto chunk = predicted_chunk(policy, {.previous = kOld,
                                              .delay = 1,
                                              .overlap = 3,
                                              .rule = Rule::x0blend,
                                              .decay = Continuation::Decay::linear});
  for (std::size_t i = kDim; i < 3 * kDim; ++i) {  // rows 1 and 2, between the old and what they would be
    const float low = std::min(alone[i], kOld[i]), high = std::max(alone[i], kOld[i]);
    CHECK(low < chunk[i] && chunk[i] < high);
  }
  for (std::size_t i = 3 * kDim; i < kChunk; ++i) CHECK(chunk[i] == alone[i]);
}

void no_weight_is_no_call() {
  Policy policy;
  policy.reset();
  const std::vector<float> alone = predicted_chunk(policy);
  CHECK(predicted_chunk(policy, {.previous = kOld, .rule = Rule::x0blend}) == alone);
  CHECK(predicted_chunk(policy, {.previous = kOld, .delay = 3, .overlap = 4, .rule = Rule::none}) == alone);
  CHECK(predicted_chunk(policy, {.delay = 3, .overlap = 4, .rule = Rule::x0blend}) == alone);  // no old rows
  CHECK(predicted_chunk(policy) == alone);
}

/// Of every kind of sampler; continued chunks in between leave no trace in the ticks.
void lockstep_is_as_it_was() {
  for (const char* kind : {"\"ddim\"", "\"ddpm\""}) {
    Policy policy(replaced(kManifest, "\"ddim\"", kind)), other(replaced(kManifest, "\"ddim\"", kind));
    policy.reset();
    other.reset();
    for (int i = 0; i < 10; ++i) {
      predicted_chunk(policy, {.previous = kOld, .delay = 2, .overlap = 4, .rule = Rule::x0blend});
      CHECK(policy.tick() == Status::ok && other.tick() == Status::ok);
      CHECK(policy.action.values == other.action.values);
    }
  }
}

void refuses(Policy& policy, const Continuation& continuation, const std::string& message) {
  std::vector<float> chunk(kChunk);
  std::string told;
  CHECK(policy.runtime->predict_chunk(seen(kState), {}, chunk, &told, continuation) ==
        Status::bad_observation);
  CHECK(told == message);
  if (told != message) std::fprintf(stderr, "%s\n", told.c_str());
}

void what_cannot_be_is_refused() {
  Policy policy;
  policy.reset();
  const std::vector<float> alone = predicted_chunk(policy);
  std::vector<float> bad = kOld, longer(kChunk + kDim);
  bad[3] = std::numeric_limits<float>::quiet_NaN();
  const auto x0blend = [](std::span<const float> previous, int delay, int overlap) {
    return Continuation{.previous = previous, .delay = delay, .overlap = overlap, .rule = Rule::x0blend};
  };
  refuses(policy, x0blend(bad, 1, 2), "previous: expected finite numbers, got NaN or Inf");
  refuses(policy, x0blend(longer, 1, 2), "previous: expected up to 4 rows of 2 values, got 10 values");
  refuses(policy, x0blend(std::span(kOld).first(3), 1, 2),
          "previous: expected up to 4 rows of 2 values, got 3 values");
  refuses(policy, x0blend(kOld, -1, 2), "delay: expected 0..4, got -1");
  refuses(policy, x0blend(kOld, 5, 5), "delay: expected 0..4, got 5");
  refuses(policy, x0blend(kOld, 2, 1), "overlap: expected 2..4 (from delay to the end of the chunk), got 1");
  refuses(policy, {.previous = kOld, .delay = 1, .rule = Rule::trained},
          "rule: expected x0blend (the controller was not trained with --rtc), got trained");
  CHECK(predicted_chunk(policy) == alone);  // nothing of it is left
}

// ---- actions that are relative to the state

std::vector<float> at(float z) { return {1.5f, 2.5f, z}; }

/// What is executed at `state`: the whole chunk where `continuation` is none.
std::vector<float> chunk_at(Policy& policy, const std::vector<float>& state,
                            const Continuation& continuation = {}) {
  std::vector<float> chunk(kChunk);
  CHECK(policy.runtime->predict_chunk(seen(state), {}, chunk, nullptr, continuation) == Status::ok);
  return chunk;
}

void relative_chunks_are_absolute_outside() {
  Policy relative(kRelativeManifest), plain;
  relative.reset();
  plain.reset();
  for (const float z : {5.0f, -3.0f, 11.0f}) {
    const auto made = chunk_at(relative, at(z)), network = chunk_at(plain, at(z));
    for (std::size_t i = 0; i < kChunk; ++i) CHECK(made[i] == network[i] + (i % kDim == 0 ? z : 0));
  }
}

/// All rows of a chunk belong to the state that it was made at, whatever is observed meanwhile.
void rows_keep_the_state_of_their_chunk() {
  Policy relative(kRelativeManifest), plain;
  relative.reset();
  plain.reset();
  float made_at = 0;
  for (int i = 0; i < 12; ++i) {
    const float z = 5.0f + 3.0f * static_cast<float>(i % 2) + static_cast<float>(i);
    if (i % 3 == 0) made_at = z;  // chunk.execute
    const auto state = at(z);
    CHECK(relative.runtime->tick(seen(state), relative.action) == Status::ok);
    CHECK(plain.runtime->tick(seen(state), plain.action) == Status::ok);
    CHECK(relative.action.values[0] == plain.action.values[0] + made_at);
    CHECK(relative.action.values[1] == plain.action.values[1]);
  }
}

/// An old chunk is what it says, absolute actions, though the new one is made at another state: the same as a
/// policy of absolute actions that is told the old ones less the new state.
void chunks_of_other_states_are_merged_as_absolute() {
  Policy relative(kRelativeManifest), plain;
  relative.reset();
  plain.reset();
  for (const float z : {5.0f, -3.0f}) {
    std::vector<float> moved = kOld;
    for (std::size_t i = 0; i < kChunk; i += kDim) moved[i] -= z;
    for (int delay = 0; delay < 4; ++delay) {
      const auto told = [&](std::span<const float> previous) {
        return Continuation{.previous = previous, .delay = delay, .overlap = 4, .rule = Rule::x0blend};
      };
      const auto made = chunk_at(relative, at(z), told(kOld)), network = chunk_at(plain, at(z), told(moved));
      for (std::size_t i = 0; i < kChunk; ++i) {
        const bool kept = i < static_cast<std::size_t>(delay) * kDim;
        if (kept) CHECK(made[i] == kOld[i]);  // to the bit
        CHECK_NEAR(made[i], network[i] + (i % kDim == 0 ? z : 0), 1e-5);
      }
    }
  }
}

void what_is_relative_to_nothing_is_refused() {
  const auto refused = [](const std::string& from, const std::string& to, const std::string& message) {
    try {
      check_manifest(replaced(kRelativeManifest, from, to));
      CHECK(false);
    } catch (const BundleError& error) {
      CHECK(std::string(error.what()).find(message) != std::string::npos);
    }
  };
  refused("[2, null]", "[3, null]", "action.relative.values[0]: expected below 3 (observation.state), got 3");
  refused("[2, null]", "[2]", "action.relative.values: expected 2 values, got 1");
  refused("[2, null]", "[null, null]", "action.relative.values: expected at least one that is not null");
  refused(R"({"feature": "observation.state")", R"({"feature": "observation.joints")",
          "action.relative.feature: expected the key of a vector of this bundle, got 'observation.joints'");
}

}  // namespace

int main() {
  relative_chunks_are_absolute_outside();
  rows_keep_the_state_of_their_chunk();
  chunks_of_other_states_are_merged_as_absolute();
  what_is_relative_to_nothing_is_refused();
  rows_below_the_delay_are_the_old_ones();
  between_it_falls();
  no_weight_is_no_call();
  lockstep_is_as_it_was();
  what_cannot_be_is_refused();
  return result();
}
