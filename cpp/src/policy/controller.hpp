// The lower level: an observation (and task, goal or subgoal) to a chunk of actions.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "keystep/continuation.hpp"
#include "keystep/latency.hpp"
#include "keystep/noise.hpp"
#include "keystep/observation.hpp"
#include "loop/epoch.hpp"
#include "policy/goal.hpp"
#include "policy/policy.hpp"

namespace keystep {

class Controller {
 public:
  /// Binds the policy's graphs to the tensors of a session, sizes every buffer. The tensors outlive it.
  Controller(const Policy& policy, Tensors& tensors);
  ~Controller();

  /// Room for the text of goals; nothing is allocated by `set_goal` up to it.
  void reserve_text(std::size_t bytes);
  /// The goal of the next chunks. Each kind has inputs of its own, and leaves those of the others as they
  /// are: a policy may take a task and an observation. What no network takes is ignored. `bad_observation`,
  /// `error()` names the field; `rejected_plan`: a text without room, tensors that are no inputs of this
  /// size.
  Status set_goal(const Goal& goal) noexcept;
  /// The text of the last instruction, empty before one.
  std::string_view instruction() const noexcept;
  /// Sizes and finiteness; on failure `error()` names the field. What follows takes what this accepted.
  Status check(const Observation& observation) noexcept;
  bool remembers() const noexcept;  ///< some feature has a history
  /// Keeps the frames that later chunks need. Where the policy sees one frame of everything nothing is
  /// copied.
  Status note(const Observation& observation) noexcept;
  void forget() noexcept;  ///< all that was noted: an episode begins
  /// Normalises into the network's inputs, with the frames before it; relative actions of the next chunk are
  /// relative to it. `is_noted`: it is the one noted last; else it counts as the newest, and is not kept.
  Status observe(const Observation& observation, bool is_noted) noexcept;
  /// The next chunk continues the one before; that one alone, whatever becomes of it. Copies what it needs.
  /// Without a call, or with the rule none, a chunk is made as ever, bit for bit. `bad_observation`: it
  /// cannot be (`error()` names the field), and the next chunk continues nothing.
  Status continue_from(const Continuation& continuation) noexcept;
  /// encode (and `film`), then every denoise step (or `act` alone), then un-normalise into `chunk` (horizon x
  /// action dim, physical units). Returns `interrupted` as soon as the epoch is over. `noise`
  /// empty: Philox with `key`; otherwise horizon x dim initial noise, followed by as much again for each step
  /// that needs noise. `act` is timed as encode and takes no noise.
  Status sample(const NoiseKey& key, std::span<const float> noise, const Epoch& epoch, Histogram& encode,
                Histogram& denoise, std::span<float> chunk) noexcept;
  void terminate() noexcept;  ///< any thread

  const std::string& error() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace keystep
