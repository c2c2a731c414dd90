#include "policy/candidates.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "policy/run_graph.hpp"
#include "support/finite.hpp"

namespace keystep {
namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

/// Euclidean, in network units. Several sums, as no compiler may split one of doubles into lanes.
double distance(std::span<const float> a, std::span<const float> b) noexcept {
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  const auto add = [&](std::size_t i, std::size_t lane) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sums[lane] += difference * difference;
  };
  std::size_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (; i < a.size(); ++i) add(i, 0);
  return std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0));
}

}  // namespace

Candidates::Candidates(const Policy& policy, Tensors& tensors, std::size_t size)
    : count_(policy.options().planner_candidates),
      size_(size),
      scores_(static_cast<std::size_t>(count_), kNone),
      distances_(static_cast<std::size_t>(count_)),
      usable_(static_cast<std::size_t>(count_)) {
  if (count_ == 1) return;
  const GraphSpec& denoise = policy.bundle()->graphs.at("plan_denoise");
  for (const TensorSpec& input : denoise.inputs) {
    if (input.role != "condition") continue;
    conditions_.push_back({&tensors.at(input), input.elements() / static_cast<std::size_t>(denoise.rows)});
  }
  if (policy.options().planner_score != "learned") return;
  graph_ = policy.bind("score", tensors);
  plans_ = tensors.find(policy.graph("score"), "sample");
  logits_ = tensors.find(policy.graph("score"), "score");
}

/// Rows stand one candidate after the other, those of its branches together: the first candidate's are where
/// a single plan has them, and what is read again for the next plan stays.
Status Candidates::spread(const DenoiseLoop& loop, std::string& error) noexcept {
  const std::size_t branches = loop.guided() ? 2 : 1;
  for (const Condition& condition : conditions_) {
    if (const Status status = without_message(condition.tensor->download(), error); status != Status::ok) {
      return status;
    }
    auto* values = static_cast<float*>(condition.tensor->data);
    const std::size_t of_one = branches * condition.row;
    for (std::size_t i = 1; i < static_cast<std::size_t>(count_); ++i) {
      std::copy_n(values, of_one, values + i * of_one);
    }
    if (const Status status = without_message(condition.tensor->upload(), error); status != Status::ok) {
      return status;
    }
  }
  return Status::ok;
}

Status Candidates::score(const DenoiseLoop& loop, const Epoch& epoch, std::string& error) noexcept {
  std::ranges::fill(scores_, kNone);
  if (count_ == 1) return Status::ok;
  for (int i = 0; i < count_; ++i) usable_[static_cast<std::size_t>(i)] = all_finite(loop.result(i));
  if (graph_ != nullptr) return learned(loop, epoch, error);
  return without_message(density(loop, epoch), error);
}

/// By the graph `score`.
Status Candidates::learned(const DenoiseLoop& loop, const Epoch& epoch, std::string& error) noexcept {
  auto* plans = static_cast<float*>(plans_->data);
  for (int i = 0; i < count_; ++i) {
    std::ranges::copy(loop.result(i), plans + static_cast<std::size_t>(i) * size_);
  }
  if (const Status status = without_message(plans_->upload(), error); status != Status::ok) return status;
  if (const Status status = run_graph(*graph_, count_, epoch, error); status != Status::ok) return status;
  if (const Status status = without_message(logits_->download(), error); status != Status::ok) return status;
  const auto* logits = static_cast<const float*>(logits_->data);
  for (std::size_t i = 0; i < scores_.size(); ++i) {
    if (usable_[i] && std::isfinite(logits[i])) scores_[i] = logits[i];
  }
  return Status::ok;
}

/// Minus the mean distance to the others: the best is the medoid (Kaufman and Rousseeuw 1987), the plan of
/// least expected distance to what the planner may imagine (minimum Bayes risk, Kumar and Byrne 2004).
/// Each pair is measured once. Of images a row takes milliseconds, so an interrupt is looked at in between.
Status Candidates::density(const DenoiseLoop& loop, const Epoch& epoch) noexcept {
  std::ranges::fill(distances_, 0.0);
  for (std::size_t i = 0; i < usable_.size(); ++i) {
    if (!usable_[i]) continue;
    for (std::size_t j = i + 1; j < usable_.size(); ++j) {
      if (!usable_[j]) continue;
      const double apart = distance(loop.result(static_cast<int>(i)), loop.result(static_cast<int>(j)));
      distances_[i] += apart;
      distances_[j] += apart;
    }
    if (epoch.over()) return Status::interrupted;
  }
  const auto others = static_cast<double>(std::ranges::count(usable_, char{1}) - 1);
  for (std::size_t i = 0; i < usable_.size(); ++i) {
    if (usable_[i]) scores_[i] = static_cast<float>(others > 0 ? -distances_[i] / others : 0.0);
  }
  return Status::ok;
}

int Candidates::best() const noexcept {
  if (count_ == 1) return 0;
  int best = -1;
  for (int i = 0; i < count_; ++i) {
    const float score = scores_[static_cast<std::size_t>(i)];
    if (std::isnan(score)) continue;
    if (best == -1 || score > scores_[static_cast<std::size_t>(best)]) best = i;
  }
  return best;
}

void Candidates::pass_over(int index) noexcept { scores_[static_cast<std::size_t>(index)] = kNone; }

void Candidates::terminate() noexcept {
  if (graph_ != nullptr) graph_->terminate();
}

}  // namespace keystep
