// One compiled policy, ticked once per control period. Lockstep: everything is computed inside the tick,
// so a run is bit-reproducible from (bundle, seed, observations) on one machine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "keystep/bundle.hpp"
#include "keystep/engine.hpp"
#include "keystep/latency.hpp"
#include "keystep/observation.hpp"
#include "keystep/status.hpp"

namespace keystep {

struct RuntimeOptions {
  EngineOptions engine{};
  int inference_steps = 0;                  ///< denoise steps; 0: as the manifest says
  double deadline_us = 0;                   ///< of a tick; 0: the control period
  std::int64_t max_observation_age_us = 0;  ///< older stamped observations are refused; 0: no limit
};

/// What an episode is about.
struct EpisodeContext {
  std::string task{};                 ///< a task's name or its instruction; empty if the policy takes none
  std::optional<Observation> goal{};  ///< required exactly when `Bundle::goal` is "observation"
  std::uint64_t seed = 0;
  std::uint32_t episode = 0;
};

class Runtime {
 public:
  /// Loads and checks the bundle, opens the engine, sizes all memory. Throws BundleError, ProviderError,
  /// ArgumentError.
  explicit Runtime(const std::filesystem::path& bundle, RuntimeOptions options = {});
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const Bundle& bundle() const noexcept;
  const RuntimeOptions& options() const noexcept;
  std::string engine_description() const;
  Action make_action() const;

  /// Starts an episode. Throws ArgumentError (unknown task, goal missing or unwanted), Error (closed, busy).
  void reset(const EpisodeContext& context);
  /// One control period. Allocates nothing in our own code.
  Status tick(const Observation& observation, Action& action) noexcept;
  /// Drops the rest of the chunk and aborts a sample in flight. Any thread.
  void interrupt() noexcept;
  /// One whole chunk for one observation, outside the loop: nothing of the episode changes.
  /// `noise`: see Controller::sample. `chunk`: horizon x action dim, physical units, before the gate's
  /// bounds.
  Status predict_chunk(const Observation& observation, std::span<const float> noise,
                       std::span<float> chunk) noexcept;

  /// These three between ticks: they are not synchronised with a tick on another thread.
  LatencyReport latency() const noexcept;
  void reset_latency() noexcept;
  const std::string& last_error() const noexcept;  ///< of the last tick that was not ok
  void close() noexcept;  ///< frees the engine; everything afterwards is Status::closed

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keystep
