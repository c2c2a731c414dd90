// How chunks are merged, against slow words for the same.
#include <algorithm>
#include <random>

#include "check.hpp"
#include "loop/async/action_queue.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

std::vector<float> constant(int rows, float value) {
  return std::vector<float>(static_cast<std::size_t>(rows), value);
}

/// ACT's weights by hand: the oldest chunk has exp(0).
void the_ensemble_s_oldest_chunk_weighs_most() {
  ActionQueue queue({MergeRule::temporal_ensemble, 4, 1, 1, 0.01});
  CHECK(queue.install(0, constant(4, 0), true) && queue.take()[0] == 0);
  CHECK(queue.install(1, constant(4, 1), true));
  CHECK_NEAR(queue.take()[0], std::exp(-0.01) / (1 + std::exp(-0.01)), 1e-6);
  CHECK(queue.install(2, constant(4, 2), true));
  const double w1 = std::exp(-0.01), w2 = std::exp(-0.02);
  CHECK_NEAR(queue.take()[0], (w1 + 2 * w2) / (1 + w1 + w2), 1e-6);
  // The oldest ends with index 3, where three chunks know the action; then it counts no more.
  CHECK_NEAR(queue.take()[0], (w1 + 2 * w2) / (1 + w1 + w2), 1e-6);
  CHECK_NEAR(queue.take()[0], (1 + 2 * w1) / (1 + w1), 1e-6);
  CHECK_NEAR(queue.take()[0], 2, 1e-6);
  CHECK(queue.left() == 0 && queue.take().empty());
}

void more_chunks_than_rows_are_no_error() {
  ActionQueue queue({MergeRule::temporal_ensemble, 5, 1, 1, 0.01});
  for (int i = 0; i < 10; ++i) CHECK(queue.install(0, constant(5, static_cast<float>(i)), true));
  double sum = 0, weights = 0;
  for (int i = 0; i < 5; ++i) {  // the last five are kept
    sum += std::exp(-0.01 * i) * (5 + i);
    weights += std::exp(-0.01 * i);
  }
  CHECK_NEAR(queue.take()[0], sum / weights, 1e-6);
}

/// A smooth chunk: a random walk with small steps, and beside each value the index it is for.
std::vector<float> walk(std::mt19937_64& random, int rows, std::int64_t start) {
  std::uniform_real_distribution<float> offset(-1, 1), step(-0.01f, 0.01f);
  std::vector<float> chunk;
  float value = offset(random);
  for (int h = 0; h < rows; ++h) {
    chunk.push_back(value += step(random));
    chunk.push_back(static_cast<float>(start + h));
  }
  return chunk;
}

/// Every rule, random chunks at random delays: each index once, in order, whatever chunk it is taken from.
void no_action_is_skipped_or_taken_twice(MergeRule rule, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const int rows = 2 + static_cast<int>(random() % 15), blend = 1 + static_cast<int>(random() % 15);
  ActionQueue queue({rule, rows, 2, blend, 0.05});
  std::int64_t consumed = 0, newest = 0;
  for (int i = 0; i < 400; ++i) {
    const std::int64_t start = consumed - static_cast<std::int64_t>(random() % static_cast<unsigned>(rows));
    if (start >= newest && (queue.left() == 0 || random() % 4 == 0)) {
      CHECK(queue.install(start, walk(random, rows, start), random() % 8 != 0));
      CHECK(queue.left() == start + rows - consumed);
      newest = start;
    }
    const std::span<const float> action = queue.take();
    if (action.empty()) continue;
    CHECK_NEAR(action[1], static_cast<double>(consumed), 1e-3);
    CHECK(queue.consumed() == ++consumed);
  }
  CHECK(consumed > 100);
}

/// The jump where a new chunk begins is at most 1 / (B + 1) of what lies between the two, beside their own
/// steps; B: the actions over which it fades.
void seams_of_a_blend_are_bounded(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const int rows = 2 + static_cast<int>(random() % 15), blend = 1 + static_cast<int>(random() % 15);
  const int used = static_cast<int>(random() % static_cast<unsigned>(rows - 1)) + 1;
  const int delay = static_cast<int>(random() % static_cast<unsigned>(used + 1));
  ActionQueue queue({MergeRule::blend, rows, 2, blend, 0});
  CHECK(queue.install(0, walk(random, rows, 0), true));
  float last = 0;
  for (int i = 0; i < used; ++i) last = queue.take()[0];
  const int fading = std::min(blend, queue.left());
  const bool joined = queue.left() > 0;
  CHECK(queue.install(used - delay, walk(random, rows, used - delay), true));
  const double between = 2 + 2 * 0.01 * rows, bound = 0.04 + between / (fading + 1);
  while (queue.left() > 0) {
    const float value = queue.take()[0];
    if (joined) CHECK(std::abs(value - last) <= bound);
    last = value;
  }
}

void a_blend_fades_in_equal_steps() {
  ActionQueue queue({MergeRule::blend, 6, 1, 3, 0});
  CHECK(queue.install(0, constant(6, 0), true));
  queue.take();
  queue.take();
  CHECK(queue.install(1, constant(6, 4), true));
  for (const double wanted : {1.0, 2.0, 3.0, 4.0, 4.0}) CHECK_NEAR(queue.take()[0], wanted, 1e-6);
  CHECK(queue.left() == 0 && queue.consumed() == 7);
  // Fewer actions are left than it would fade over; and what was made for another goal does not fade at all.
  ActionQueue other({MergeRule::blend, 4, 1, 3, 0});
  CHECK(other.install(0, constant(4, 0), true));
  for (int i = 0; i < 3; ++i) other.take();
  CHECK(other.install(2, constant(4, 4), true));
  for (const double wanted : {2.0, 4.0}) CHECK_NEAR(other.take()[0], wanted, 1e-6);
  CHECK(other.install(5, constant(4, 8), false) && other.take()[0] == 8);
}

void what_is_past_or_to_come_is_refused() {
  ActionQueue queue({MergeRule::replace, 3, 1, 1, 0});
  CHECK(!queue.install(1, constant(3, 1), true));  // in the future
  CHECK(!queue.install(0, constant(4, 1), true) && queue.left() == 0);
  CHECK(queue.install(0, constant(3, 1), true));
  for (int i = 0; i < 3; ++i) queue.take();
  CHECK(!queue.install(0, constant(3, 2), true));  // all of it is past
  CHECK(queue.install(1, constant(3, 2), true) && queue.left() == 1);
  CHECK(queue.rest().size() == 1 && queue.rest()[0] == 2);
  queue.drop();
  CHECK(queue.left() == 0 && queue.consumed() == 3 && queue.rest().empty());
}

}  // namespace

int main() {
  the_ensemble_s_oldest_chunk_weighs_most();
  more_chunks_than_rows_are_no_error();
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    for (const MergeRule rule : {MergeRule::replace, MergeRule::blend, MergeRule::temporal_ensemble}) {
      no_action_is_skipped_or_taken_twice(rule, seed);
    }
    seams_of_a_blend_are_bounded(seed);
  }
  a_blend_fades_in_equal_steps();
  what_is_past_or_to_come_is_refused();
  return result();
}
