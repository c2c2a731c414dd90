// The controller's thread: an observation and a goal to a chunk.
#pragma once

#include <cstdint>
#include <optional>

#include "keystep/noise.hpp"
#include "loop/async/exchange.hpp"
#include "loop/latency_recorder.hpp"
#include "policy/controller.hpp"

namespace keystep {

/// How a chunk continues the one before; the rule `none`: it does not.
struct Continuing {
  Continuation::Rule rule = Continuation::Rule::none;
  int rows = 1, dim = 1;         ///< of a chunk, from its first row that is executed
  int max_delay = 0;             ///< that `trained` knows
  std::optional<int> overlap{};  ///< of x0blend; none: what leaves `delay` rows that are wholly new
  Continuation::Decay decay = Continuation::Decay::exponential;
};

class ChunkMaker {
 public:
  ChunkMaker(Exchange& exchange, const Interrupts& interrupts, Controller& controller,
             LatencyRecorder& recorder, std::atomic<bool>& replan_wanted, const Continuing& continuing)
      : exchange_(exchange),
        interrupts_(interrupts),
        controller_(controller),
        recorder_(recorder),
        replan_wanted_(replan_wanted),
        continuing_(continuing) {}

  void reset(const NoiseKey& key) noexcept;  ///< an episode begins; before the thread does
  /// Takes the newest observation and the goal that will stand when the chunk begins to act. False: there is
  /// nothing to do.
  bool begin() noexcept;
  /// Computes, and hands over what came of it, unless an interrupt ended it.
  void finish() noexcept;
  bool busy() const noexcept { return exchange_.controller_alive != 0; }  ///< between the two; any thread

 private:
  void choose_goal(const Snapshot& seen) noexcept;
  Status observe(const Snapshot& seen) noexcept;
  Continuation continuation_of(const Snapshot& seen) const noexcept;
  Status sample(const Snapshot& seen, ChunkMessage& made) noexcept;

  Exchange& exchange_;
  const Interrupts& interrupts_;
  Controller& controller_;
  LatencyRecorder& recorder_;
  std::atomic<bool>& replan_wanted_;
  const Continuing continuing_;

  NoiseKey key_;
  std::uint64_t epoch_ = 0;  // of the chunk begun last
  std::uint64_t sent_ = 0;
  std::uint64_t goal_ = 0, goals_taken_ = 0;
  std::int64_t goal_from_ = 0;
  Status goal_status_ = Status::ok;
};

}  // namespace keystep
