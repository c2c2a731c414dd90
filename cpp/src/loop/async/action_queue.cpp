#include "loop/async/action_queue.hpp"

#include <algorithm>
#include <cmath>

namespace keystep {
namespace {

/// More chunks than rows know no action in common, unless nothing was consumed between them.
std::size_t chunks_kept(const ActionQueue::Settings& settings) {
  return settings.rule == MergeRule::temporal_ensemble ? static_cast<std::size_t>(settings.rows) : 1;
}

}  // namespace

ActionQueue::ActionQueue(const Settings& settings)
    : settings_(settings),
      chunks_(chunks_kept(settings)),
      weights_(chunks_.size()),
      sum_(static_cast<std::size_t>(settings.dim)),
      action_(static_cast<std::size_t>(settings.dim)) {
  const std::size_t values = static_cast<std::size_t>(settings.rows) * static_cast<std::size_t>(settings.dim);
  for (Chunk& chunk : chunks_) chunk.values.resize(values);
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    weights_[i] = std::exp(-settings.ensemble_decay * static_cast<double>(i));
  }
}

void ActionQueue::reset() noexcept {
  drop();
  consumed_ = 0;
}

void ActionQueue::drop() noexcept { count_ = 0; }

int ActionQueue::left() const noexcept {
  if (count_ == 0) return 0;
  return static_cast<int>(std::max<std::int64_t>(at(count_ - 1).start + settings_.rows - consumed_, 0));
}

bool ActionQueue::install(std::int64_t start, std::span<const float> chunk, bool joins) noexcept {
  const bool has_next = start <= consumed_ && start > consumed_ - settings_.rows;  // no start overflows
  if (!has_next || chunk.size() != chunks_[0].values.size()) return false;
  if (!joins || left() == 0 || start < at(count_ - 1).start) drop();
  if (count_ == 1 && settings_.rule == MergeRule::blend) {
    blend(chunks_[first_], start, chunk);
    return true;
  }
  if (count_ == chunks_.size()) {  // the oldest goes
    first_ = (first_ + 1) % chunks_.size();
    --count_;
  }
  Chunk& into = chunks_[(first_ + count_++) % chunks_.size()];
  into.start = start;
  std::ranges::copy(chunk, into.values.begin());
  return true;
}

/// The old chunk's weight falls from B / (B + 1) at the next action to 1 / (B + 1), B actions long, or as
/// many as it has left: no two actions are further apart than those of a chunk and 1 / (B + 1) of the
/// difference between the chunks.
void ActionQueue::blend(Chunk& into, std::int64_t start, std::span<const float> chunk) const noexcept {
  const auto dim = static_cast<std::size_t>(settings_.dim);
  const auto skipped = static_cast<std::size_t>(consumed_ - start) * dim;
  const auto used = static_cast<std::size_t>(consumed_ - into.start) * dim;
  const auto fading = static_cast<std::size_t>(std::min(settings_.blend, left()));
  // In place: what is read of the old chunk is at or behind what is written, for it is the older one.
  for (std::size_t k = 0; skipped + k * dim < chunk.size(); ++k) {
    const float old_weight =
        k < fading ? static_cast<float>(fading - k) / static_cast<float>(fading + 1) : 0.0f;
    for (std::size_t d = 0; d < dim; ++d) {
      const float fresh = chunk[skipped + k * dim + d];
      float& value = into.values[skipped + k * dim + d];
      value = k < fading ? fresh + old_weight * (into.values[used + k * dim + d] - fresh) : fresh;
    }
  }
  into.start = start;
}

bool ActionQueue::knows(const Chunk& chunk, std::int64_t index) const noexcept {
  return chunk.start <= index && index < chunk.start + settings_.rows;
}

std::span<const float> ActionQueue::row(const Chunk& chunk, std::int64_t index) const noexcept {
  const auto dim = static_cast<std::size_t>(settings_.dim);
  return std::span(chunk.values).subspan(static_cast<std::size_t>(index - chunk.start) * dim, dim);
}

std::span<const float> ActionQueue::take() noexcept {
  if (left() == 0) return {};
  if (settings_.rule == MergeRule::temporal_ensemble) {
    average();
  } else {
    std::ranges::copy(row(at(0), consumed_), action_.begin());
  }
  ++consumed_;
  return action_;
}

/// ACT, Algorithm 2: w_i = exp(-m i), i = 0 the oldest of the chunks that know this action.
void ActionQueue::average() noexcept {
  std::ranges::fill(sum_, 0);
  double total = 0;
  std::size_t known = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    if (!knows(at(i), consumed_)) continue;
    const double weight = weights_[known++];
    const std::span<const float> values = row(at(i), consumed_);
    for (std::size_t d = 0; d < sum_.size(); ++d) sum_[d] += weight * static_cast<double>(values[d]);
    total += weight;
  }
  for (std::size_t d = 0; d < sum_.size(); ++d) action_[d] = static_cast<float>(sum_[d] / total);
}

std::span<const float> ActionQueue::rest() const noexcept {
  if (left() == 0) return {};
  const Chunk& newest = at(count_ - 1);
  const auto used =
      static_cast<std::size_t>(consumed_ - newest.start) * static_cast<std::size_t>(settings_.dim);
  return std::span(newest.values).subspan(used);
}

}  // namespace keystep
