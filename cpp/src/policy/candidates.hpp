// Several plans for one observation: their rows in a batch, and which of them is the best.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "keystep/engine.hpp"
#include "loop/epoch.hpp"
#include "policy/policy.hpp"
#include "sampling/denoise_loop.hpp"

namespace keystep {

class Candidates {
 public:
  /// `size`: values of a plan. The policy's options say how many plans there are, and which is best.
  Candidates(const Policy& policy, Tensors& tensors, std::size_t size);

  int count() const noexcept { return count_; }
  /// Before the steps of `loop`: what was made once of the observation and the text, for each candidate.
  Status spread(const DenoiseLoop& loop, std::string& error) noexcept;
  /// After them. A single plan is compared with nothing. A plan with NaN or Inf has the score NaN.
  Status score(const DenoiseLoop& loop, const Epoch& epoch, std::string& error) noexcept;
  /// Of each, the more the better.
  std::span<const float> scores() const noexcept { return scores_; }
  /// Index of the greatest score, the first of equal ones, -1 where every one is NaN. Of a single plan 0.
  int best() const noexcept;
  /// It is not to be followed after all.
  void pass_over(int index) noexcept;
  /// Any thread.
  void terminate() noexcept;

 private:
  /// What all rows of a batch see.
  struct Condition {
    Tensor* tensor;
    std::size_t row;  ///< values
  };
  Status learned(const DenoiseLoop& loop, const Epoch& epoch, std::string& error) noexcept;
  Status density(const DenoiseLoop& loop, const Epoch& epoch) noexcept;

  const int count_;
  const std::size_t size_;
  std::vector<Condition> conditions_;
  std::unique_ptr<Graph> graph_;  ///< none: by density
  Tensor *plans_ = nullptr, *logits_ = nullptr;
  std::vector<float> scores_;
  std::vector<double> distances_;  ///< of each to all others, summed
  std::vector<char> usable_;
};

}  // namespace keystep
