// A planner whose goals are due at known indices, and that answers a call to plan anew at a later ask.
#pragma once

#include "counting_planner.hpp"

namespace keystep::test {

class LatePlanner final : public Planner {
 public:
  static constexpr int kAsks = 3;  ///< the one that calls for it, and two more

  LatePlanner(CountingPlanner::Log& log, int steps) : inner_(log, steps) {}

  void check(const EpisodeContext&, const Aim&) const override {}
  void reset(const EpisodeContext& context, const Aim& aim, const Epoch& epoch) override {
    left_ = 0;
    inner_.reset(context, aim, epoch);
  }
  void start(const PlanRequest& request) noexcept override {
    if (request.replan) left_ = kAsks;
    silent_ = left_ > 1;
    const bool answers = left_ == 1;
    left_ -= left_ > 0;
    if (silent_) return;
    inner_.start(
        {request.observation, request.consumed, answers, request.epoch, request.timing, request.scoring});
  }
  PlanReply poll(const PlanRequest& request) noexcept override {
    return silent_ ? PlanReply{} : inner_.poll(request);
  }
  void abort() noexcept override {
    left_ = 0;
    inner_.abort();
  }
  void terminate() noexcept override {}
  std::int64_t due() const noexcept override { return inner_.due(); }
  void postpone(std::int64_t actions) noexcept override { inner_.postpone(actions); }
  const char* lacks_goal() const noexcept override { return inner_.lacks_goal(); }
  const std::string& error() const noexcept override { return inner_.error(); }
  Status can_predict(std::size_t) noexcept override { return Status::bad_observation; }

 private:
  CountingPlanner inner_;
  int left_ = 0;  // asks until the answer, with the one of now
  bool silent_ = false;
};

}  // namespace keystep::test
