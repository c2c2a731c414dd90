// The asynchronous mode: its options, and what it tells about itself. docs/real_time.md explains both.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "keystep/latency.hpp"

namespace keystep {

/// Of `RuntimeOptions::mode` async. All are counted in actions consumed: no clock estimates a delay.
struct AsyncOptions {
  /// What a tick gives while there is no action of the policy. hold: the bundle's `action.hold`; decelerate:
  /// towards its values, within the rate limits (only where it has values: relative actions); repeat: the
  /// last action, at most `chunk.execute` times in a row and never one from before an interrupt, then hold;
  /// fault: hold, and the tick is not ok. Empty: hold.
  std::string underrun{};
  /// How a new chunk joins what is left of the one before. In the sampler (docs/merging.md): trained: the
  /// network is given what is executed meanwhile, where the bundle has `chunk.max_delay`; x0blend: every
  /// denoise step draws it towards the old one, where the controller has a sampler. Afterwards: blend: over
  /// `blend_actions`; replace: at once; temporal_ensemble: the weighted mean of all chunks that know an
  /// action (ACT). Empty: temporal_ensemble where it is `chunk.merge` of the bundle, else trained, else
  /// x0blend, else blend. Lockstep takes temporal_ensemble where `chunk.execute` is 1, and replace, its own
  /// rule.
  std::string merge{};
  /// Of what is merged by x0blend (of `trained`: chunks beyond `chunk.max_delay`): how the weight of the old
  /// chunk falls, exponential or linear, and the first row that is wholly new, 0..rows of a chunk, which is
  /// never below the delay. Empty: exponential. None: what leaves the delay's rows to the chunk after it.
  std::string merge_decay{};
  std::optional<int> merge_overlap{};
  /// A new chunk is asked for when fewer actions than this are left, 1..rows of a chunk. 0: after
  /// `chunk.execute` actions or half a chunk, whatever comes first; always with temporal_ensemble.
  int request_below = 0;
  int blend_actions = 0;  ///< over which the old chunk fades, 0: half of the rows of a chunk
  /// m of the weights exp(-m i), i = 0 the oldest chunk (ACT). None: `chunk.ensemble_decay` of the bundle,
  /// 0.01 where it has none.
  std::optional<double> ensemble_decay{};
  /// A planner is asked so many actions before the goal of now is used up; -1: as many as recent plans and
  /// chunks took. None: `planner.plan_ahead` of the bundle, -1 where it has none.
  std::optional<int> plan_ahead{};
  /// An engine's call that takes longer is a hung one; 0: never.
  std::int64_t watchdog_us = 2'000'000;
};

/// Why a tick had no action of the policy.
enum class Cause {
  starting,     ///< no chunk yet in this episode
  interrupted,  ///< no chunk yet since an interrupt or a key-step
  late,         ///< the chunk in the making took longer than the actions lasted
  stale,        ///< nothing new is asked for, because observations are stale
  refused,      ///< the observation is bad
  failed,       ///< the last chunk or plan failed
  hung,         ///< the engine's call takes longer than the watchdog allows
};
inline constexpr int kCauses = 7;
const char* name(Cause cause) noexcept;

/// What the asynchronous loop did since loading or `Runtime::reset_latency`, and how it stands now. Whole:
/// all of one tick.
struct Telemetry {
  std::uint64_t ticks = 0;
  std::uint64_t actions = 0;                       ///< of the policy
  std::array<std::uint64_t, kCauses> underruns{};  ///< ticks without one, by `Cause`
  std::uint64_t chunks = 0;                        ///< that came and could be executed
  std::uint64_t chunks_outdated = 0;               ///< that came for a goal, or from an epoch, that is past
  std::uint64_t chunks_continued = 0;              ///< of `chunks`: merged with the one before in the sampler
  std::uint64_t chunks_beyond_max_delay = 0;  ///< of those: by x0blend, for `trained` knows no such delay
  std::uint64_t chunks_failed = 0, plans_failed = 0;
  std::uint64_t plans = 0;
  std::uint64_t late_goals = 0;  ///< actions towards a subgoal whose time was over
  std::uint64_t hangs = 0;       ///< times that the watchdog struck
  std::uint64_t interrupts = 0;
  std::int64_t consumed = 0;  ///< actions taken since reset
  std::int64_t left = 0;      ///< actions that can still be taken
  std::int64_t delay = 0;     ///< actions consumed while the last chunk was made
  std::int64_t max_delay = 0;
  std::int64_t expected_delay = 0;  ///< in ticks: the most of the last eight; a chunk is asked for so early
  std::int64_t usual_delay = 0;     ///< the most but one: what a chunk repeats of the one before
  std::int64_t hung = 0;            ///< 1: now
  GateCounts gate{};
};

}  // namespace keystep
