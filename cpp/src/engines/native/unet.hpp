// The U-Net at work: one denoise step, and the FiLM projection of a condition.
#pragma once

#include <memory>
#include <vector>

#include "engines/native/network.hpp"

namespace keystep::native {

/// condition [batch, C] -> its FiLM vectors [batch, F].
class Film final : private Team::Job {
 public:
  Film(std::shared_ptr<const FilmNetwork> network, std::shared_ptr<Team> team, int batch);
  ~Film() override;
  void run(const float* condition, float* film) noexcept;

 private:
  void walk(Team::Member& member) noexcept override;

  std::shared_ptr<const FilmNetwork> network_;
  std::shared_ptr<Team> team_;
  int batch_;
  Activation condition_, film_;
  std::vector<Worker> workers_;
  float* output_ = nullptr;  // of this run
};

/// Noisy actions [batch, H, A], perhaps the mask [batch, H, 1] of rows that are given, and FiLM vectors
/// [batch, F] -> the prediction [batch, H, A].
class DenoiseStep final : private Team::Job {
 public:
  DenoiseStep(std::shared_ptr<const Network> network, std::shared_ptr<Team> team, int batch);
  ~DenoiseStep() override;
  /// `mask`: exactly where the network takes one. `timestep`: in 0 .. train_steps - 1.
  void run(const float* sample, const float* mask, std::int64_t timestep, const float* film,
           float* output) noexcept;

 private:
  class Path;
  void walk(Team::Member& member) noexcept override;

  std::shared_ptr<const Network> network_;
  std::shared_ptr<Team> team_;
  int batch_;
  Activation sample_, last_, output_;
  std::vector<float> masked_;                  // [batch, H, A + 1]; empty without a mask
  std::vector<Activation> blocks_;             // of each residual block, in the order in which they run
  std::vector<Activation> hidden_, shortcut_;  // inside them
  std::vector<Activation> shrunk_, grown_;
  std::vector<Worker> workers_;
  const float *film_ = nullptr, *film_step_ = nullptr;  // of this run
};

}  // namespace keystep::native
