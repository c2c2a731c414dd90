#include <deque>
#include <limits>
#include <random>
#include <utility>

#include "check.hpp"
#include "keystep/chunk_buffer.hpp"
#include "keystep/status.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

static_assert(noexcept(std::declval<ChunkBuffer&>().install(0, {})));
static_assert(noexcept(std::declval<ChunkBuffer&>().take()));

/// Every executable action as (index, first value), in a queue.
struct NaiveBuffer {
  int horizon, execute, dim;
  std::int64_t consumed = 0;
  std::deque<std::pair<std::int64_t, float>> queue;

  bool install(std::int64_t start, const std::vector<float>& chunk) {
    std::deque<std::pair<std::int64_t, float>> next;
    for (int row = 0; row < execute; ++row) {
      if (start + row >= consumed) next.emplace_back(start + row, chunk[static_cast<std::size_t>(row * dim)]);
    }
    if (next.empty() || next.front().first != consumed) return false;
    queue = next;
    return true;
  }
};

std::vector<float> random_chunk(std::mt19937& random, int values) {
  std::vector<float> chunk;
  for (int i = 0; i < values; ++i) chunk.push_back(static_cast<float>(random() % 1000));
  return chunk;
}

/// What was installed last, to compare whole rows with.
struct Installed {
  std::int64_t start = 0;
  std::vector<float> chunk;
};

void one_operation(std::mt19937& random, ChunkBuffer& buffer, NaiveBuffer& model, Installed& last) {
  const auto dim = static_cast<std::size_t>(model.dim);
  switch (random() % 8) {
    case 0:
      if (random() % 10 != 0) break;
      buffer.reset();
      model.consumed = 0;
      model.queue.clear();
      break;
    case 1:
      if (random() % 3 != 0) break;
      buffer.drop();
      model.queue.clear();
      break;
    case 2: {
      const std::int64_t start = buffer.consumed() + static_cast<int>(random() % 12) - 9;
      const auto chunk = random_chunk(random, model.horizon * model.dim);
      const bool taken = model.install(start, chunk);
      CHECK(buffer.install(start, chunk) == taken);
      if (taken) last = {start, chunk};
      break;
    }
    default: {
      const auto action = buffer.take();
      CHECK(action.size() == (model.queue.empty() ? 0 : dim));
      if (action.empty() || model.queue.empty()) break;
      CHECK(action[0] == model.queue.front().second);
      const auto row = static_cast<std::size_t>(model.consumed - last.start);
      for (std::size_t i = 0; i < dim; ++i) CHECK(action[i] == last.chunk[row * dim + i]);
      model.queue.pop_front();
      ++model.consumed;
    }
  }
}

void random_operations_agree_with_a_queue() {
  std::mt19937 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    const int horizon = 1 + static_cast<int>(random() % 9);
    const int execute = 1 + static_cast<int>(random() % static_cast<unsigned>(horizon));
    const int dim = 1 + static_cast<int>(random() % 4);
    ChunkBuffer buffer(horizon, execute, dim);
    NaiveBuffer model{horizon, execute, dim, 0, {}};
    Installed last;
    for (int i = 0; i < 500; ++i) {
      one_operation(random, buffer, model, last);
      CHECK(buffer.consumed() == model.consumed);
      CHECK(buffer.remaining() == static_cast<int>(model.queue.size()));
      CHECK(buffer.needs_renewal() == model.queue.empty());
    }
  }
}

void a_late_chunk_skips_what_was_executed_meanwhile() {
  ChunkBuffer buffer(4, 4, 1);
  CHECK(buffer.install(0, std::vector<float>{0, 1, 2, 3}));
  buffer.take();
  buffer.take();
  CHECK(buffer.install(1, std::vector<float>{11, 12, 13, 14}));  // was computed from the observation at 1
  CHECK(buffer.remaining() == 3);
  CHECK(buffer.take()[0] == 12);
  buffer.drop();
  CHECK(buffer.needs_renewal() && buffer.consumed() == 3 && buffer.take().empty());
  CHECK(!buffer.install(4, std::vector<float>(4)));   // from the future
  CHECK(!buffer.install(-1, std::vector<float>(4)));  // all of it over
  CHECK(!buffer.install(3, std::vector<float>(3)));   // wrong size
  for (const std::int64_t far :
       {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::min() + 3,
        std::numeric_limits<std::int64_t>::max()}) {
    CHECK(!buffer.install(far, std::vector<float>(4)));
  }
  CHECK(buffer.needs_renewal());
}

void bad_sizes_are_refused() {
  CHECK_THROWS(ArgumentError, "chunk.horizon: expected at least 1, got 0", ChunkBuffer(0, 1, 1));
  CHECK_THROWS(ArgumentError, "chunk.execute: expected 1..4, got 5", ChunkBuffer(4, 5, 1));
  CHECK_THROWS(ArgumentError, "chunk.execute: expected 1..4, got 0", ChunkBuffer(4, 0, 1));
  CHECK_THROWS(ArgumentError, "action dimension", ChunkBuffer(4, 4, 0));
}

}  // namespace

int main() {
  random_operations_agree_with_a_queue();
  a_late_chunk_skips_what_was_executed_meanwhile();
  bad_sizes_are_refused();
  return result();
}
