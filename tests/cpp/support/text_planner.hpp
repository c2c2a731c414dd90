// A planner that writes: each text takes a random number of ticks, and may be a key-step or not. It stands in
// for one that writes code.
#pragma once

#include <array>
#include <cstdio>
#include <random>
#include <vector>

#include "loop/runtime_internals.hpp"

namespace keystep::test {

class TextPlanner final : public Planner {
 public:
  /// What happened, for the test to look at; sized once, so that writing allocates nothing.
  struct Log {
    std::vector<int> answered = {}, aborted = {};     ///< numbers of texts, counted over all episodes
    bool answered_now = false, key_step_now = false;  ///< at the last poll
  };

  static constexpr std::size_t kCapacity = 48;
  static constexpr int kLongestWait = 5;

  /// `tensor`: the controller's goal input that gets three numbers made of each text; empty: it gets none.
  TextPlanner(Log& log, std::string tensor, std::uint64_t seed)
      : log_(log), tensor_(std::move(tensor)), random_(seed) {
    log_.answered.reserve(kRoom);
    log_.aborted.reserve(kRoom);
  }

  static std::string text_of(int number) { return "text number " + std::to_string(number); }
  static std::array<float, 3> tensor_of(int number) {
    const auto n = static_cast<float>(number);
    return {0.01f * n, -0.02f * n, 0.04f * n};
  }

  void check(const EpisodeContext&, const Aim&) const override {}
  void reset(const EpisodeContext&, const Aim&, const Epoch&) override { abort(); }

  void start(const PlanRequest& request) noexcept override {
    if (request.replan) abort();
    if (making_) return;
    making_ = true;
    number_ = next_++;
    waits_ = static_cast<int>(random_() % (kLongestWait + 1));
    key_step_ = random_() % 2 == 0;
  }

  PlanReply poll(const PlanRequest& request) noexcept override {
    log_.answered_now = log_.key_step_now = false;
    if (!making_) return {};
    if (request.epoch.over()) return {.status = Status::interrupted};
    if (waits_-- > 0) return {};
    making_ = false;
    const int length = std::snprintf(text_.data(), text_.size(), "text number %d", number_);
    values_ = tensor_of(number_);
    tensors_[0] = {tensor_, values_};
    log_.answered.push_back(number_);
    log_.answered_now = true;
    log_.key_step_now = key_step_;
    const std::string_view text(text_.data(), static_cast<std::size_t>(length));
    return {.planned = true,
            .key_step = key_step_,
            .stale = key_step_ ? Stale::everything : Stale::goal,
            .goal = InstructionGoal{text, {tensors_.data(), tensor_.empty() ? 0u : 1u}}};
  }

  void abort() noexcept override {
    if (making_) log_.aborted.push_back(number_);
    making_ = false;
  }

  void terminate() noexcept override {}
  const std::string& error() const noexcept override { return error_; }
  std::size_t text_capacity() const noexcept override { return kCapacity; }
  Status can_predict(std::size_t) noexcept override { return Status::bad_observation; }

 private:
  static constexpr std::size_t kRoom = 1 << 14;

  Log& log_;
  const std::string tensor_, error_ = "plan: expected a planner that imagines, got one that writes";
  std::mt19937_64 random_;
  std::array<char, kCapacity> text_{};
  std::array<float, 3> values_{};
  std::array<GoalTensor, 1> tensors_{};
  bool making_ = false, key_step_ = false;
  int number_ = 0, next_ = 1, waits_ = 0;
};

/// A runtime over the stub engine whose planner writes. The bundle's own planner is never made.
struct Written {
  explicit Written(const std::string& manifest, std::string tensor = {}, std::uint64_t seed = 1,
                   std::map<std::string, std::string> injected = {}, RuntimeOptions options = {}) {
    write_bundle(folder.path(), manifest);
    options.engine.engine = "stub";
    options.engine.provider_options = std::move(injected);
    runtime =
        RuntimeInternals::open(folder.path(), options, [&, tensor, seed](const keystep::Policy&, Tensors&) {
          return std::make_unique<TextPlanner>(log, tensor, seed);
        });
    action = runtime->make_action();
    runtime->reset({.task = "push", .seed = 7, .episode = 1});
  }
  Status tick() { return runtime->tick(seen(kState), action); }
  std::string_view instruction() const { return RuntimeInternals::controller(*runtime).instruction(); }

  TemporaryFolder folder;
  TextPlanner::Log log;
  std::unique_ptr<Runtime> runtime;
  Action action;
};

}  // namespace keystep::test
