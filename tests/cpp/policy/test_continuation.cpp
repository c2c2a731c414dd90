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

}  // namespace

int main() {
  rows_below_the_delay_are_the_old_ones();
  between_it_falls();
  no_weight_is_no_call();
  lockstep_is_as_it_was();
  what_cannot_be_is_refused();
  return result();
}
