#include "policy/continuation.hpp"

#include <algorithm>

#include "keystep/status.hpp"
#include "support/finite.hpp"

namespace keystep {
namespace {

using Rule = Continuation::Rule;

void check_range(const char* field, int value, int low, int high, const char* why = "") {
  if (value >= low && value <= high) return;
  throw ArgumentError(
      expected(field, std::to_string(low) + ".." + std::to_string(high) + why, std::to_string(value)));
}

}  // namespace

ContinuedChunk::ContinuedChunk(const Bundle& bundle, Tensor* mask)
    : dim_(static_cast<int>(bundle.action.names.size())),
      start_(bundle.chunk.start),
      rows_(bundle.chunk.horizon - bundle.chunk.start),
      max_delay_(bundle.chunk.max_delay),
      known_(static_cast<std::size_t>(rows_ * dim_)),
      merge_(static_cast<std::size_t>(bundle.chunk.horizon), static_cast<std::size_t>(dim_), mask) {}

void ContinuedChunk::check(const Continuation& given) const {
  const std::size_t most = static_cast<std::size_t>(start_ + rows_) * static_cast<std::size_t>(dim_);
  const std::size_t size = given.previous.size();
  if (size % static_cast<std::size_t>(dim_) != 0 || size > most) {
    throw ArgumentError(
        expected("previous",
                 "up to " + std::to_string(start_ + rows_) + " rows of " + std::to_string(dim_) + " values",
                 std::to_string(size) + " values"));
  }
  if (!all_finite(given.previous)) throw ArgumentError(expected("previous", "finite numbers", "NaN or Inf"));
  if (given.rule == Rule::trained) {
    if (!merge_.takes_prefix()) {
      throw ArgumentError(expected("rule", "x0blend (the controller was not trained with --rtc)", "trained"));
    }
    return check_range("delay", given.delay, 0, max_delay_, " (chunk.max_delay)");
  }
  check_range("delay", given.delay, 0, rows_);
  check_range("overlap", given.overlap, given.delay, rows_, " (from delay to the end of the chunk)");
}

Status ContinuedChunk::take(const Continuation& given, std::string& error) noexcept {
  forget();
  if (given.rule == Rule::none) return Status::ok;
  try {
    check(given);
  } catch (const ArgumentError& refused) {
    error = refused.what();
    return Status::bad_observation;
  } catch (...) {
    error.clear();  // out of memory: the status still tells
    return Status::bad_observation;
  }
  const int rows = std::min(static_cast<int>(given.previous.size()) / dim_, rows_);
  const auto first = static_cast<std::size_t>(start_);
  known_count_ = static_cast<std::size_t>(rows * dim_);
  std::ranges::copy(given.previous.first(known_count_), known_.begin());
  const auto kept = static_cast<std::size_t>(std::min(given.delay, rows));
  if (given.rule == Rule::trained) {
    merge_.give(first, kept);
  } else {
    merge_weights(given.delay, given.overlap, rows, given.decay, merge_.weights().subspan(first));
    merge_.blend();
  }
  kept_count_ = kept * static_cast<std::size_t>(dim_);
  return Status::ok;
}

Merge* ContinuedChunk::merge(const ActionMap& map) noexcept {
  if (!merge_.active()) return nullptr;
  // Rows that do not exist stay zero, and count nothing.
  const auto first = static_cast<std::size_t>(start_ * dim_);
  map.to_network(std::span(known_).first(known_count_), merge_.known().subspan(first, known_count_));
  return &merge_;
}

void ContinuedChunk::finish(std::span<float> chunk) noexcept {
  std::copy_n(known_.begin(), kept_count_, chunk.begin() + static_cast<std::ptrdiff_t>(start_) * dim_);
  forget();
}

void ContinuedChunk::forget() noexcept {
  known_count_ = kept_count_ = 0;
  merge_.clear();
}

}  // namespace keystep
