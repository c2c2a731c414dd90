// What the robot is given while there is no action of the policy.
#pragma once

#include <span>
#include <vector>

#include "keystep/async.hpp"
#include "keystep/bundle.hpp"

namespace keystep {

enum class UnderrunPolicy { hold, decelerate, repeat, fault };

class Underrun {
 public:
  /// `repeats`: at most so many in a row.
  Underrun(UnderrunPolicy policy, const ActionSpec& spec, int repeats);

  void reset() noexcept;  ///< nothing was given yet
  /// `action` was given: what comes next goes on from it.
  void given(std::span<const float> action) noexcept;
  /// Writes what is to be given in place of an action of the policy; NaN where there is nothing to hold.
  /// `repeatable`: the last action is one of this epoch, which no fault has put in doubt.
  void act(bool repeatable, std::span<float> action) noexcept;
  UnderrunPolicy policy() const noexcept { return policy_; }

 private:
  void hold(std::span<float> action) const noexcept;
  void decelerate(std::span<float> action) const noexcept;

  const UnderrunPolicy policy_;
  const std::vector<float> rest_;  // the bundle's hold; empty: the last action stands
  std::vector<float> step_;        // greatest change per action
  std::vector<float> last_;        // given
  bool has_last_ = false;
  const int repeats_;
  int repeated_ = 0;
};

}  // namespace keystep
